-- What one allocation of a scheduler config offers, as its backend says: planning counts with it.
ALTER TABLE scheduler_config ADD COLUMN shape TEXT;
-- The revision of the config that it is true for.
ALTER TABLE scheduler_config ADD COLUMN shape_rev BIGINT;
ALTER TABLE scheduler_config ADD COLUMN shape_ms BIGINT;
-- Since when planning waits for it; 0 when the backend was asked in vain.
ALTER TABLE scheduler_config ADD COLUMN shape_asked_ms BIGINT;
