-- Format 3: the spec that decides, where processes with an older one run beside those with a newer one.

ALTER TABLE hw_rollout ADD COLUMN IF NOT EXISTS declared TEXT   -- JSON
