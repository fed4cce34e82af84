//! Devices of a tenant, as plugins see them.

use async_trait::async_trait;
use russet_plugin_host::ports::{CallError, FoundDevice, InventoryPort};
use russet_store::{EnrollmentRecord, StoreError};

use super::{Tenants, failed};

#[derive(Debug)]
pub(super) struct StoreInventory(pub(super) Tenants);

fn found(enrollment: &EnrollmentRecord) -> FoundDevice {
    let (device, person) = russet_engine::as_hooks_see(enrollment);
    FoundDevice { device, person }
}

#[async_trait]
impl InventoryPort for StoreInventory {
    async fn find_device(&self, tenant: &str, name: &str) -> Result<Option<FoundDevice>, CallError> {
        let tenant = self.0.id(tenant).await?;
        match self.0.store.enrolled_device(tenant, name).await {
            Ok(device) => Ok(device.as_ref().map(found)),
            Err(StoreError::Ambiguous(_)) => Err(CallError::Invalid(
                "several devices claim this name; use the enrollment identifier".to_owned(),
            )),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn devices_with_attribute(
        &self,
        tenant: &str,
        name: &str,
        value: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<FoundDevice>, CallError> {
        let tenant = self.0.id(tenant).await?;
        let devices = self
            .0
            .store
            .devices_with_attribute(tenant, name, value, after, limit)
            .await;
        Ok(devices.map_err(|error| failed(&error))?.iter().map(found).collect())
    }

    async fn devices_of_person(
        &self,
        tenant: &str,
        user_name: &str,
        limit: u32,
    ) -> Result<Vec<FoundDevice>, CallError> {
        let tenant = self.0.id(tenant).await?;
        let devices = self.0.store.devices_of_person(tenant, user_name, limit).await;
        Ok(devices.map_err(|error| failed(&error))?.iter().map(found).collect())
    }
}
