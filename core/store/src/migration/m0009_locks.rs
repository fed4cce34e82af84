//! Fewer locks on the way of devices, on PostgreSQL. A foreign key there locks the row that it names: every enrollment and
//! every decision of a tenant locked the tenant's one row, and a row that several transactions lock at once is written anew
//! for each. Tenants are never deleted, so these keys guarded nothing. Those that name an enrollment stay.

pub(super) const SQL: &str = "
{postgres}
ALTER TABLE enrollments DROP CONSTRAINT enrollments_tenant_id_fkey;
ALTER TABLE certificates DROP CONSTRAINT certificates_tenant_id_fkey;
ALTER TABLE scep_challenges DROP CONSTRAINT scep_challenges_tenant_id_fkey;
ALTER TABLE decisions DROP CONSTRAINT decisions_tenant_id_fkey;
ALTER TABLE events DROP CONSTRAINT events_tenant_id_fkey;
ALTER TABLE declaration_plan_requests DROP CONSTRAINT declaration_plan_requests_tenant_id_fkey;
{/postgres}
";
