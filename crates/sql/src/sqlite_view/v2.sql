-- Format 2: the spec that decides.
ALTER TABLE hw_rollout ADD COLUMN declared TEXT;   -- JSON
