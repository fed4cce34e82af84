//! What plugins keep, and what they find devices by.

pub(super) const SQL: &str = "
-- What a plugin's store holds, so that its quota is known without counting. kv_version gives every write its number.
CREATE TABLE plugin_spaces (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin TEXT NOT NULL,
    kv_version BIGINT NOT NULL,
    kv_keys BIGINT NOT NULL,
    kv_bytes BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, plugin)
);

-- Keys are bytes: they are in the same order everywhere.
CREATE TABLE plugin_kv (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin TEXT NOT NULL,
    key {bytes} NOT NULL,
    value {bytes} NOT NULL,
    version BIGINT NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (tenant_id, plugin, key)
);
CREATE INDEX plugin_kv_expiry ON plugin_kv (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE plugin_secrets (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed {bytes} NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, plugin, name)
);

CREATE TABLE plugin_keys (
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    plugin TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed {bytes} NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, plugin, name)
);

-- Attributes of enrollments one by one, and under the empty name the user name of the person: kept by triggers, because
-- many statements write enrollments. Longer names and values can not be searched for.
CREATE TABLE enrollment_lookup (
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id) ON DELETE CASCADE,
    tenant_id BIGINT NOT NULL REFERENCES tenants (id),
    enrollment_key TEXT {postgres}COLLATE \"C\"{/postgres} NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (enrollment_id, name)
);
CREATE INDEX enrollment_lookup_value ON enrollment_lookup (tenant_id, name, value, enrollment_key);

{sqlite}
CREATE VIEW enrollment_lookup_source AS
    SELECT e.id AS enrollment_id, e.tenant_id, e.enrollment_key, a.key AS name, a.value AS value
        FROM enrollments e, json_each(e.attributes) a
        WHERE a.type = 'text' AND length(a.key) BETWEEN 1 AND 256 AND length(a.value) <= 256
    UNION ALL
    SELECT e.id, e.tenant_id, e.enrollment_key, '', json_extract(e.person, '$.user_name')
        FROM enrollments e
        WHERE json_type(e.person, '$.user_name') = 'text'
        AND length(json_extract(e.person, '$.user_name')) BETWEEN 1 AND 256;

CREATE TRIGGER enrollment_lookup_insert AFTER INSERT ON enrollments BEGIN
    INSERT INTO enrollment_lookup (enrollment_id, tenant_id, enrollment_key, name, value)
        SELECT * FROM enrollment_lookup_source WHERE enrollment_id = NEW.id;
END;

CREATE TRIGGER enrollment_lookup_update AFTER UPDATE OF attributes, person ON enrollments
WHEN OLD.attributes IS NOT NEW.attributes OR OLD.person IS NOT NEW.person BEGIN
    DELETE FROM enrollment_lookup WHERE enrollment_id = NEW.id;
    INSERT INTO enrollment_lookup (enrollment_id, tenant_id, enrollment_key, name, value)
        SELECT * FROM enrollment_lookup_source WHERE enrollment_id = NEW.id;
END;

INSERT INTO enrollment_lookup (enrollment_id, tenant_id, enrollment_key, name, value)
    SELECT * FROM enrollment_lookup_source;
{/sqlite}

{postgres}
-- JSON may hold the character zero, which no text of the database can.
CREATE FUNCTION enrollment_lookup_fill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM enrollment_lookup WHERE enrollment_id = NEW.id;
    END IF;
    IF position('\\u0000' in NEW.attributes) = 0 THEN
        INSERT INTO enrollment_lookup (enrollment_id, tenant_id, enrollment_key, name, value)
            SELECT NEW.id, NEW.tenant_id, NEW.enrollment_key, a.key, a.value #>> '{}'
            FROM jsonb_each(NEW.attributes::jsonb) a
            WHERE jsonb_typeof(a.value) = 'string' AND length(a.key) BETWEEN 1 AND 256
            AND length(a.value #>> '{}') <= 256;
    END IF;
    IF NEW.person IS NOT NULL AND position('\\u0000' in NEW.person) = 0 THEN
        INSERT INTO enrollment_lookup (enrollment_id, tenant_id, enrollment_key, name, value)
            SELECT NEW.id, NEW.tenant_id, NEW.enrollment_key, '', NEW.person::jsonb ->> 'user_name'
            WHERE length(NEW.person::jsonb ->> 'user_name') BETWEEN 1 AND 256;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER enrollment_lookup_insert AFTER INSERT ON enrollments
    FOR EACH ROW EXECUTE FUNCTION enrollment_lookup_fill();

CREATE TRIGGER enrollment_lookup_update AFTER UPDATE OF attributes, person ON enrollments
    FOR EACH ROW WHEN (OLD.attributes IS DISTINCT FROM NEW.attributes OR OLD.person IS DISTINCT FROM NEW.person)
    EXECUTE FUNCTION enrollment_lookup_fill();

INSERT INTO enrollment_lookup (enrollment_id, tenant_id, enrollment_key, name, value)
    SELECT e.id, e.tenant_id, e.enrollment_key, a.key, a.value #>> '{}'
    FROM enrollments e, jsonb_each(e.attributes::jsonb) a
    WHERE position('\\u0000' in e.attributes) = 0 AND jsonb_typeof(a.value) = 'string'
    AND length(a.key) BETWEEN 1 AND 256 AND length(a.value #>> '{}') <= 256;

INSERT INTO enrollment_lookup (enrollment_id, tenant_id, enrollment_key, name, value)
    SELECT e.id, e.tenant_id, e.enrollment_key, '', e.person::jsonb ->> 'user_name'
    FROM enrollments e
    WHERE e.person IS NOT NULL AND position('\\u0000' in e.person) = 0
    AND length(e.person::jsonb ->> 'user_name') BETWEEN 1 AND 256;
{/postgres}
";
