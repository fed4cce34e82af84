//! Groups: named sets of devices, for commands to many.

use jiff::Timestamp;
use russet_store::GroupRecord;

use crate::{Engine, EngineError, TenantRef};

/// The longest name of a group.
const MAX_NAME: usize = 128;

/// What is to become of a group's members: enrollment keys, serial numbers or UDIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// These and nobody else are in it.
    Set(Vec<String>),
    /// These are in it too.
    Add(Vec<String>),
    /// These are not in it any more.
    Remove(Vec<String>),
}

impl Engine {
    /// Makes a group, or changes who is in it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] with each name that is none of a device; nothing is changed then.
    /// [`EngineError::NotFound`] if devices are to be taken out of a group that there is not.
    pub async fn change_group(
        &self,
        tenant: &TenantRef,
        name: &str,
        change: GroupChange,
        now: Timestamp,
    ) -> Result<GroupRecord, EngineError> {
        let letters = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(letters) {
            return Err(EngineError::invalid(format!(
                "the name of a group has 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores"
            )));
        }
        let store = &self.inner.store;
        match change {
            GroupChange::Set(devices) => {
                let members = if devices.is_empty() {
                    Vec::new()
                } else {
                    self.named(tenant, &devices).await?
                };
                store.put_group(tenant.id, name, members, true, now).await?;
            }
            GroupChange::Add(devices) => {
                let members = self.named(tenant, &devices).await?;
                store.put_group(tenant.id, name, members, false, now).await?;
            }
            GroupChange::Remove(devices) => {
                let group = store
                    .group(tenant.id, name)
                    .await?
                    .ok_or(EngineError::NotFound("group"))?;
                let members = self.named(tenant, &devices).await?;
                store.remove_from_group(group.id, members).await?;
            }
        }
        let group = store.group(tenant.id, name).await?;
        group.ok_or(EngineError::NotFound("group"))
    }

    /// Deletes a group; its devices stay.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`].
    pub async fn delete_group(&self, tenant: &TenantRef, name: &str) -> Result<(), EngineError> {
        if self.inner.store.delete_group(tenant.id, name).await? {
            Ok(())
        } else {
            Err(EngineError::NotFound("group"))
        }
    }
}
