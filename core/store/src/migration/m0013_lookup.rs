//! Fewer statements for a device that enrolls, on PostgreSQL: what devices are found by is written once for all rows of a
//! statement, and no keys are checked for it. Its rows are made from enrollments by triggers alone, and enrollments are never
//! deleted, so these keys guarded nothing; the one that named the tenant locked its one row for every device.

pub(super) const SQL: &str = "
{postgres}
ALTER TABLE enrollment_lookup DROP CONSTRAINT enrollment_lookup_tenant_id_fkey,
    DROP CONSTRAINT enrollment_lookup_enrollment_id_fkey;

-- What enrollment_lookup_fill does for a row that is inserted. The cast is in CASE, so that it is not made first.
CREATE FUNCTION enrollment_lookup_add() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO enrollment_lookup (enrollment_id, tenant_id, enrollment_key, name, value)
        SELECT e.id, e.tenant_id, e.enrollment_key, a.key, a.value #>> '{}'
        FROM added e CROSS JOIN LATERAL jsonb_each(
            CASE WHEN position('\\u0000' in e.attributes) = 0 THEN e.attributes::jsonb END) a
        WHERE jsonb_typeof(a.value) = 'string' AND length(a.key) BETWEEN 1 AND 256 AND length(a.value #>> '{}') <= 256
        UNION ALL
        SELECT e.id, e.tenant_id, e.enrollment_key, '', p.user_name
        FROM added e CROSS JOIN LATERAL (SELECT
            CASE WHEN position('\\u0000' in e.person) = 0 THEN e.person::jsonb ->> 'user_name' END AS user_name) p
        WHERE e.person IS NOT NULL AND length(p.user_name) BETWEEN 1 AND 256;
    RETURN NULL;
END
$$;

DROP TRIGGER enrollment_lookup_insert ON enrollments;
CREATE TRIGGER enrollment_lookup_insert AFTER INSERT ON enrollments REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION enrollment_lookup_add();
{/postgres}
";
