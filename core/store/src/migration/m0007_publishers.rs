//! Whom a tenant trusts to publish plugins, and how each revision was signed.

pub(super) const SQL: &str = "
CREATE TABLE plugin_publishers (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    public_key {bytes} NOT NULL,
    plugins TEXT NOT NULL,
    added_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name),
    UNIQUE (tenant_id, public_key)
);

-- Null for what was installed before signatures were checked.
ALTER TABLE plugin_revisions ADD COLUMN signature TEXT;
";
