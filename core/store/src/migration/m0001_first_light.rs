//! The first tables: tenancy, identities, enrollments, the queue, pushes, plugins and decisions.

pub(super) const SQL: &str = "
CREATE TABLE tenants (
    id {row_id},
    name TEXT NOT NULL UNIQUE,
    plugin_generation BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);

-- The data key, wrapped by the master key.
CREATE TABLE vault_keys (
    name TEXT PRIMARY KEY,
    wrapped {bytes} NOT NULL
);

-- No tenant: the token is good for the whole server.
CREATE TABLE api_tokens (
    id {row_id},
    tenant_id BIGINT REFERENCES tenants (id),
    name TEXT NOT NULL,
    token_sha256 {bytes} NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE secrets (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed {bytes} NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, kind, name)
);

CREATE TABLE enrollments (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    enrollment_key TEXT NOT NULL,
    channel TEXT NOT NULL,
    parent_id BIGINT REFERENCES enrollments (id),
    state TEXT NOT NULL,
    udid TEXT,
    serial_number TEXT,
    model TEXT,
    model_name TEXT,
    product_name TEXT,
    os_version TEXT,
    build_version TEXT,
    device_name TEXT,
    imei TEXT,
    meid TEXT,
    user_id TEXT,
    user_short_name TEXT,
    user_long_name TEXT,
    person TEXT,
    attributes TEXT NOT NULL,
    certificate_sha256 {bytes},
    push_topic TEXT,
    push_token {bytes},
    push_magic TEXT,
    token_parked_at BIGINT,
    awaiting_configuration BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    enrolled_at BIGINT,
    token_updated_at BIGINT,
    last_seen_at BIGINT,
    removed_at BIGINT,
    UNIQUE (tenant_id, enrollment_key)
);
CREATE UNIQUE INDEX enrollments_certificate ON enrollments (certificate_sha256) WHERE certificate_sha256 IS NOT NULL;
CREATE INDEX enrollments_serial ON enrollments (tenant_id, serial_number);
CREATE INDEX enrollments_udid ON enrollments (tenant_id, udid);
CREATE INDEX enrollments_parent ON enrollments (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE scep_challenges (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    challenge_sha256 {bytes} NOT NULL UNIQUE,
    person TEXT,
    attributes TEXT NOT NULL,
    bound_serial TEXT,
    bound_udid TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    consumed_at BIGINT,
    public_key_sha256 {bytes},
    certificate_sha256 {bytes}
);
CREATE INDEX scep_challenges_expiry ON scep_challenges (expires_at);

CREATE TABLE certificates (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    sha256 {bytes} NOT NULL UNIQUE,
    serial_number TEXT NOT NULL,
    subject TEXT NOT NULL,
    der {bytes} NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    person TEXT,
    attributes TEXT NOT NULL,
    bound_serial TEXT,
    bound_udid TEXT,
    renews_sha256 {bytes},
    enrollment_id BIGINT REFERENCES enrollments (id),
    revoked_at BIGINT,
    revoke_reason TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX certificates_enrollment ON certificates (enrollment_id) WHERE enrollment_id IS NOT NULL;
CREATE INDEX certificates_tenant ON certificates (tenant_id, id);

CREATE TABLE escrow (
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id),
    kind TEXT NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    sealed {bytes} NOT NULL,
    deposited_at BIGINT NOT NULL,
    held_reason TEXT,
    PRIMARY KEY (enrollment_id, kind)
);

CREATE TABLE commands (
    id {row_id},
    uuid {uuid} NOT NULL UNIQUE,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    request_type TEXT NOT NULL,
    payload {bytes} NOT NULL,
    profile_name TEXT,
    priority BIGINT NOT NULL,
    not_before BIGINT,
    expires_at BIGINT,
    dedupe_key TEXT,
    created_by TEXT NOT NULL,
    warnings TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX commands_tenant ON commands (tenant_id, id);

-- finished_at is null while the entry may still be delivered or answered: the partial indexes rest on it.
CREATE TABLE queue_entries (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id),
    command_id BIGINT NOT NULL REFERENCES commands (id),
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
    UNIQUE (command_id, enrollment_id)
);
CREATE INDEX queue_open ON queue_entries (enrollment_id, priority, id) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX queue_dedupe ON queue_entries (enrollment_id, dedupe_key)
    WHERE finished_at IS NULL AND dedupe_key IS NOT NULL;
CREATE INDEX queue_expiry ON queue_entries (expires_at) WHERE finished_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX queue_finished ON queue_entries (finished_at) WHERE finished_at IS NOT NULL;

-- One row per enrollment that is to be woken. seq counts the requests: a push that was in flight when another one was
-- requested does not answer for it.
CREATE TABLE push_outbox (
    enrollment_id BIGINT PRIMARY KEY REFERENCES enrollments (id),
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    seq BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    claim {uuid},
    lease_until BIGINT
);
CREATE INDEX push_outbox_due ON push_outbox (due_at) WHERE lease_until IS NULL;
CREATE INDEX push_outbox_lease ON push_outbox (lease_until) WHERE lease_until IS NOT NULL;

CREATE TABLE push_certificates (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    topic TEXT NOT NULL,
    certificate {bytes} NOT NULL,
    sealed_key {bytes} NOT NULL,
    subject TEXT NOT NULL,
    not_after BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (tenant_id, topic)
);

CREATE TABLE plugins (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE plugin_components (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    digest {bytes} NOT NULL,
    component {bytes} NOT NULL,
    PRIMARY KEY (tenant_id, digest)
);

CREATE TABLE plugin_revisions (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin_id BIGINT NOT NULL REFERENCES plugins (id),
    version TEXT NOT NULL,
    digest {bytes} NOT NULL,
    manifest TEXT NOT NULL,
    settings TEXT NOT NULL,
    grants TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL,
    activated_at BIGINT
);
CREATE INDEX plugin_revisions_plugin ON plugin_revisions (plugin_id, id);
CREATE UNIQUE INDEX plugin_revisions_active ON plugin_revisions (plugin_id) WHERE state = 'active';

CREATE TABLE profiles (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    content {bytes} NOT NULL,
    template TEXT,
    settings TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE decisions (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    enrollment_id BIGINT REFERENCES enrollments (id),
    hook TEXT NOT NULL,
    plugin TEXT,
    revision TEXT,
    subject TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT,
    fault TEXT,
    failure_rule TEXT,
    duration_us BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX decisions_tenant ON decisions (tenant_id, id);
CREATE INDEX decisions_enrollment ON decisions (enrollment_id, id) WHERE enrollment_id IS NOT NULL;
CREATE INDEX decisions_age ON decisions (created_at);
";
