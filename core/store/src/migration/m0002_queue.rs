//! The queue at scale: commands that wait for approval, offers with a backoff, groups, re-pushes, and tables that are
//! cheap to fill and to clean.
//!
//! `queue_entries` and `push_outbox` lose their foreign keys: a check for each of a million new rows takes longer than
//! writing them, and on PostgreSQL it locks the enrollment's row against the batched last-seen times. What is inserted is
//! selected from the tables that the keys named, and neither enrollments nor commands with entries are ever deleted.

pub(super) const SQL: &str = "
ALTER TABLE commands ADD COLUMN origin TEXT NOT NULL DEFAULT 'administrator';
ALTER TABLE commands ADD COLUMN creator_token BIGINT;
ALTER TABLE commands ADD COLUMN pace BIGINT;
ALTER TABLE commands ADD COLUMN approval TEXT;
ALTER TABLE commands ADD COLUMN hold_reason TEXT;
ALTER TABLE commands ADD COLUMN hold_message TEXT;
ALTER TABLE commands ADD COLUMN decided_by TEXT;
ALTER TABLE commands ADD COLUMN decided_at BIGINT;
UPDATE commands SET origin = 'server' WHERE created_by = 'russet';
CREATE INDEX commands_held ON commands (tenant_id, id) WHERE approval = 'held';
CREATE INDEX commands_age ON commands (created_at);

{sqlite}
CREATE TABLE queue_entries_2 (
    id {row_id},
    tenant_id BIGINT NOT NULL,
    enrollment_id BIGINT NOT NULL,
    command_id BIGINT NOT NULL,
    state TEXT NOT NULL,
    priority BIGINT NOT NULL,
    not_before BIGINT,
    expires_at BIGINT,
    dedupe_key TEXT,
    attempts BIGINT NOT NULL,
    defer_reason TEXT,
    created_at BIGINT NOT NULL,
    sent_at BIGINT,
    answered_at BIGINT,
    finished_at BIGINT,
    status TEXT,
    error_chain TEXT,
    result {bytes},
    retry_at BIGINT,
    unanswered BIGINT NOT NULL DEFAULT 0,
    put_off BIGINT NOT NULL DEFAULT 0,
    stuck_at BIGINT,
    UNIQUE (command_id, enrollment_id)
);
INSERT INTO queue_entries_2 (id, tenant_id, enrollment_id, command_id, state, priority, not_before, expires_at, dedupe_key,
    attempts, defer_reason, created_at, sent_at, answered_at, finished_at, status, error_chain, result)
    SELECT id, tenant_id, enrollment_id, command_id, state, priority, not_before, expires_at, dedupe_key, attempts,
    defer_reason, created_at, sent_at, answered_at, finished_at, status, error_chain, result FROM queue_entries;
DROP TABLE queue_entries;
ALTER TABLE queue_entries_2 RENAME TO queue_entries;
CREATE INDEX queue_open ON queue_entries (enrollment_id, priority, id) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX queue_dedupe ON queue_entries (enrollment_id, dedupe_key)
    WHERE finished_at IS NULL AND dedupe_key IS NOT NULL;
CREATE INDEX queue_expiry ON queue_entries (expires_at) WHERE finished_at IS NULL AND expires_at IS NOT NULL;

CREATE TABLE push_outbox_2 (
    enrollment_id BIGINT PRIMARY KEY,
    tenant_id BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    claim {uuid},
    lease_until BIGINT,
    again BOOLEAN NOT NULL DEFAULT FALSE,
    rounds BIGINT NOT NULL DEFAULT 0,
    pushed_at BIGINT,
    day_start BIGINT,
    day_count BIGINT NOT NULL DEFAULT 0
);
INSERT INTO push_outbox_2 (enrollment_id, tenant_id, seq, due_at, attempts, claim, lease_until)
    SELECT enrollment_id, tenant_id, seq, due_at, attempts, claim, lease_until FROM push_outbox;
DROP TABLE push_outbox;
ALTER TABLE push_outbox_2 RENAME TO push_outbox;
CREATE INDEX push_outbox_due ON push_outbox (due_at) WHERE lease_until IS NULL;
CREATE INDEX push_outbox_lease ON push_outbox (lease_until) WHERE lease_until IS NOT NULL;
{/sqlite}

{postgres}
ALTER TABLE queue_entries DROP CONSTRAINT queue_entries_tenant_id_fkey, DROP CONSTRAINT queue_entries_enrollment_id_fkey,
    DROP CONSTRAINT queue_entries_command_id_fkey, ADD COLUMN retry_at BIGINT,
    ADD COLUMN unanswered BIGINT NOT NULL DEFAULT 0, ADD COLUMN put_off BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN stuck_at BIGINT;
DROP INDEX queue_finished;
ALTER TABLE push_outbox DROP CONSTRAINT push_outbox_tenant_id_fkey, DROP CONSTRAINT push_outbox_enrollment_id_fkey,
    ADD COLUMN again BOOLEAN NOT NULL DEFAULT FALSE, ADD COLUMN rounds BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN pushed_at BIGINT, ADD COLUMN day_start BIGINT, ADD COLUMN day_count BIGINT NOT NULL DEFAULT 0;

-- Room on each page for the next version of its rows, and a look at what changed long before a fifth of it has.
ALTER TABLE queue_entries SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 500);
ALTER TABLE push_outbox SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 500);
ALTER TABLE enrollments SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 500);
ALTER TABLE commands SET (autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 500);
{/postgres}

-- A finished entry is in one of the two: its report goes first, its line later.
CREATE INDEX queue_results ON queue_entries (finished_at) WHERE finished_at IS NOT NULL AND result IS NOT NULL;
CREATE INDEX queue_lines ON queue_entries (finished_at) WHERE finished_at IS NOT NULL AND result IS NULL;
-- By stuck_at and not by state: PostgreSQL updates a row in place only if no column of any index changes.
CREATE INDEX queue_stuck ON queue_entries (tenant_id, id) WHERE stuck_at IS NOT NULL AND finished_at IS NULL;

-- The selective column first: a planner that knows nothing of the tables yet cannot take the tenant alone for one.
DROP INDEX enrollments_serial;
DROP INDEX enrollments_udid;
CREATE INDEX enrollments_serial ON enrollments (serial_number, tenant_id) WHERE serial_number IS NOT NULL;
CREATE INDEX enrollments_udid ON enrollments (udid, tenant_id) WHERE udid IS NOT NULL;

-- A command for so many that the requests for their pushes are written as they fall due, in the order of the enrollments.
CREATE TABLE push_waves (
    command_id BIGINT PRIMARY KEY,
    after_enrollment BIGINT NOT NULL,
    due_at BIGINT NOT NULL
);
CREATE INDEX push_waves_due ON push_waves (due_at);

CREATE TABLE device_groups (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE group_members (
    group_id BIGINT NOT NULL REFERENCES device_groups (id) ON DELETE CASCADE,
    enrollment_id BIGINT NOT NULL,
    PRIMARY KEY (group_id, enrollment_id)
);
CREATE INDEX group_members_enrollment ON group_members (enrollment_id);
";
