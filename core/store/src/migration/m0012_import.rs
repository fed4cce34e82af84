//! Enrollments that come from another server, the authorities of their certificates, and the oldest program that these
//! tables can be used with.

pub(super) const SQL: &str = "
-- Set where an enrollment was made by an import. Such a one that is bound to no certificate yet, or to one that is not
-- stored, is bound to the first good one of an authority of identity_authorities that its device comes with.
ALTER TABLE enrollments ADD COLUMN imported_at BIGINT;
CREATE INDEX enrollments_imported ON enrollments (tenant_id, id) WHERE imported_at IS NOT NULL;

-- Authorities of other servers, which issued the certificates of imported devices.
CREATE TABLE identity_authorities (
    id {row_id},
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    sha256 {bytes} NOT NULL,
    subject TEXT NOT NULL,
    der {bytes} NOT NULL,
    not_after BIGINT NOT NULL,
    added_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, sha256)
);

-- One row: the lowest level (the number of its last step) of a program that can use these tables.
CREATE TABLE schema_floor (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    level BIGINT NOT NULL
);
INSERT INTO schema_floor (one, level) VALUES (1, 8);
";
