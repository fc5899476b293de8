-- A person lets the allocation run out: also nodes of it that come later take nothing.
ALTER TABLE scheduled_compute_node ADD COLUMN draining BOOLEAN NOT NULL DEFAULT FALSE;
