-- Allocations that ended without running a job, one after the other: when the next one is asked for.
ALTER TABLE scheduler_config ADD COLUMN setbacks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE scheduler_config ADD COLUMN setback_reason TEXT;
ALTER TABLE scheduler_config ADD COLUMN setback_ms BIGINT;
ALTER TABLE scheduler_config ADD COLUMN not_before_ms BIGINT;
-- How many waiting allocations were at least too many, and since when: taken back if it stays so.
ALTER TABLE scheduler_config ADD COLUMN surplus BIGINT NOT NULL DEFAULT 0;
ALTER TABLE scheduler_config ADD COLUMN surplus_ms BIGINT;
-- Why an allocation is to leave the queue, if it has not started meanwhile.
ALTER TABLE scheduled_compute_node ADD COLUMN take_back_reason TEXT;
-- Whether the node ever got a job. Of older ones nobody knows: none is taken for a setback.
ALTER TABLE compute_node ADD COLUMN has_worked BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE compute_node SET has_worked = TRUE;
