//! More than one data key, and a second master key while it is changed.

pub(super) const SQL: &str = "
-- state: sealing (one of them), readable, retired. next_wrapped: by the master key that is to come.
ALTER TABLE vault_keys ADD COLUMN number BIGINT NOT NULL DEFAULT 1;
ALTER TABLE vault_keys ADD COLUMN state TEXT NOT NULL DEFAULT 'sealing';
ALTER TABLE vault_keys ADD COLUMN next_wrapped {bytes};

-- Which data keys the node has: see vault::keys::generation. Null for a program that knows of one data key only.
ALTER TABLE nodes ADD COLUMN vault_generation BIGINT;
";
