//! Enrolled devices, as plugins look for them: by a name, by an attribute, by their person.

use super::EnrollmentRecord;
use super::read::COLUMNS;
use crate::db::values;
use crate::error::StoreError;
use crate::ids::TenantId;
use crate::store::Store;

impl Store {
    /// The enrolled device with this enrollment key, serial number or UDID. A key goes before the others, which devices say
    /// themselves.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] when several enrolled devices claim the name; otherwise when the database fails or a row does
    /// not read back.
    pub async fn enrolled_device(&self, tenant: TenantId, name: &str) -> Result<Option<EnrollmentRecord>, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {COLUMNS} FROM enrollments WHERE tenant_id = $1 AND state = 'active' AND parent_id IS NULL \
                     AND (enrollment_key = $2 OR (tenant_id = $1 AND serial_number = $2) OR (tenant_id = $1 AND udid = $2)) \
                     ORDER BY CASE WHEN enrollment_key = $2 THEN 0 ELSE 1 END, id LIMIT 2"
                ),
                values![tenant, name],
            )
            .await?;
        let mut found = rows
            .iter()
            .map(|row| self.enrollment_of(row))
            .collect::<Result<Vec<_>, _>>()?;
        if found.len() > 1 && found[0].key != name {
            return Err(StoreError::Ambiguous("device"));
        }
        found.truncate(1);
        Ok(found.pop())
    }

    /// Enrolled devices of a tenant whose attribute has this value, by their enrollment key, after this one.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn devices_with_attribute(
        &self,
        tenant: TenantId,
        name: &str,
        value: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EnrollmentRecord>, StoreError> {
        self.looked_up(tenant, name, value, after.unwrap_or_default(), limit)
            .await
    }

    /// Enrolled devices of the person with this user name, by their enrollment key.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn devices_of_person(
        &self,
        tenant: TenantId,
        user_name: &str,
        limit: u32,
    ) -> Result<Vec<EnrollmentRecord>, StoreError> {
        self.looked_up(tenant, "", user_name, "", limit).await
    }

    async fn looked_up(
        &self,
        tenant: TenantId,
        name: &str,
        value: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<EnrollmentRecord>, StoreError> {
        let columns: Vec<String> = COLUMNS.split(", ").map(|column| format!("e.{column}")).collect();
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {} FROM enrollment_lookup l JOIN enrollments e ON e.id = l.enrollment_id \
                     WHERE l.tenant_id = $1 AND l.name = $2 AND l.value = $3 AND l.enrollment_key > $4 \
                     AND e.state = 'active' AND e.parent_id IS NULL ORDER BY l.enrollment_key LIMIT $5",
                    columns.join(", ")
                ),
                values![tenant, name, value, after, i64::from(limit)],
            )
            .await?;
        rows.iter().map(|row| self.enrollment_of(row)).collect()
    }
}
