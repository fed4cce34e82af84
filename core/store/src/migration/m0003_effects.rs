//! Effects and what follows from decisions: the chain of decision records, events with their observers, scheduled work.

pub(super) const SQL: &str = "
-- tx orders rows that commit out of order: see db::HORIZON. sealed holds the recorded input, journal and verdict, and goes
-- before the row does; the digests stay. chain_seq is null until the row is in its tenant's chain.
ALTER TABLE decisions ADD COLUMN tx {tx};
ALTER TABLE decisions ADD COLUMN effects TEXT NOT NULL DEFAULT '[]';
ALTER TABLE decisions ADD COLUMN input_sha256 {bytes};
ALTER TABLE decisions ADD COLUMN journal_sha256 {bytes};
ALTER TABLE decisions ADD COLUMN verdict_sha256 {bytes};
ALTER TABLE decisions ADD COLUMN host_calls BIGINT NOT NULL DEFAULT 0;
ALTER TABLE decisions ADD COLUMN cpu_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE decisions ADD COLUMN memory_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE decisions ADD COLUMN sealed {bytes};
ALTER TABLE decisions ADD COLUMN sealed_as {uuid};
ALTER TABLE decisions ADD COLUMN chain_seq BIGINT;
ALTER TABLE decisions ADD COLUMN chain_hash {bytes};
CREATE INDEX decisions_unchained ON decisions (tx, id) WHERE chain_seq IS NULL;
CREATE UNIQUE INDEX decisions_chain ON decisions (tenant_id, chain_seq) WHERE chain_seq IS NOT NULL;
CREATE INDEX decisions_sealed ON decisions (created_at) WHERE sealed IS NOT NULL;

-- The end of each tenant's chain, and where it begins since retention took the rows before.
CREATE TABLE decision_chains (
    tenant_id BIGINT PRIMARY KEY REFERENCES tenants (id),
    seq BIGINT NOT NULL,
    hash {bytes} NOT NULL,
    anchor_seq BIGINT NOT NULL,
    anchor_hash {bytes} NOT NULL
);

-- A tenant's own retention, in place of the server's; null is the server's.
CREATE TABLE decision_retention (
    tenant_id BIGINT PRIMARY KEY REFERENCES tenants (id),
    decisions_days BIGINT,
    input_hours BIGINT
);

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder {uuid} NOT NULL,
    until BIGINT NOT NULL
);

CREATE TABLE events (
    id {row_id},
    tx {tx},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    enrollment_id BIGINT REFERENCES enrollments (id),
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    depth BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX events_order ON events (tenant_id, tx, id);
CREATE INDEX events_age ON events (created_at);

-- Up to where an observer's events were taken over into event_deliveries.
CREATE TABLE event_cursors (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin TEXT NOT NULL,
    tx BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, plugin)
);

-- What an observer has still to take, in the order of event_id for each enrollment. Parked: given up, and shown.
CREATE TABLE event_deliveries (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin TEXT NOT NULL,
    event_id BIGINT NOT NULL REFERENCES events (id),
    enrollment_id BIGINT,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    error TEXT,
    parked_at BIGINT,
    PRIMARY KEY (tenant_id, plugin, event_id)
);
CREATE INDEX event_deliveries_due ON event_deliveries (tenant_id, plugin, due_at) WHERE parked_at IS NULL;
CREATE INDEX event_deliveries_line ON event_deliveries (tenant_id, plugin, enrollment_id, event_id)
    WHERE parked_at IS NULL;
CREATE INDEX event_deliveries_event ON event_deliveries (event_id);

-- due_at is the time that the work is for, next_try_at when it is tried next.
CREATE TABLE plugin_schedules (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin TEXT NOT NULL,
    origin TEXT NOT NULL,
    name TEXT NOT NULL,
    rule TEXT NOT NULL,
    payload TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    next_try_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    depth BIGINT NOT NULL,
    error TEXT,
    parked_at BIGINT,
    claim {uuid},
    lease_until BIGINT,
    seen_at BIGINT NOT NULL,
    UNIQUE (tenant_id, plugin, origin, name)
);
CREATE INDEX plugin_schedules_due ON plugin_schedules (next_try_at) WHERE parked_at IS NULL;
";
