//! What administrators do that is no command: tenants, devices, certificates.

use jiff::Timestamp;
use russet_store::{EnrollmentLookup, EnrollmentRecord, EnrollmentState, StoreError};

use crate::{Engine, EngineError, TenantRef};

/// The longest name of a tenant.
const MAX_TENANT_NAME: usize = 63;

impl Engine {
    /// Makes a tenant.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] if the name is taken or cannot be part of an address.
    pub async fn create_tenant(&self, name: &str, now: Timestamp) -> Result<TenantRef, EngineError> {
        let good = !name.is_empty()
            && name.len() <= MAX_TENANT_NAME
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !good {
            return Err(EngineError::invalid(format!(
                "the name of a tenant has 1 to {MAX_TENANT_NAME} lower-case letters, digits and hyphens"
            )));
        }
        let id = self.inner.store.create_tenant(name, now).await?;
        let tenant = TenantRef { id, name: name.into() };
        self.inner.observing.tenant(&tenant);
        Ok(tenant)
    }

    /// Finds a device by its enrollment key, serial number or UDID.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`], or [`EngineError::Invalid`] if several enrolled devices go by that name.
    pub async fn device(&self, tenant: &TenantRef, id: &str) -> Result<EnrollmentRecord, EngineError> {
        let mut found: Option<EnrollmentRecord> = None;
        for lookup in [
            EnrollmentLookup::Key(id),
            EnrollmentLookup::Serial(id),
            EnrollmentLookup::Udid(id),
        ] {
            let Some(other) = self.inner.store.enrollment(tenant.id, lookup).await? else {
                continue;
            };
            found = match found {
                Some(first) if first.id == other.id || other.state == EnrollmentState::Removed => Some(first),
                Some(first) if first.state != EnrollmentState::Removed => {
                    return Err(StoreError::Ambiguous("device").into());
                }
                _ => Some(other),
            };
        }
        found.ok_or(EngineError::NotFound("device"))
    }

    /// Wakes a device.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`], or [`EngineError::Invalid`] if it has no push token that works.
    pub async fn push(&self, tenant: &TenantRef, device: &str, now: Timestamp) -> Result<(), EngineError> {
        let device = self.device(tenant, device).await?;
        if device.push.is_none_or(|push| push.parked_at.is_some()) {
            return Err(EngineError::invalid(
                "the device has no push token that works; it has to check in by itself",
            ));
        }
        self.inner.store.push_request(device.id, now).await?;
        Ok(())
    }

    /// Revokes an identity certificate: requests with it are refused from now on.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`].
    pub async fn revoke_certificate(
        &self,
        tenant: &TenantRef,
        sha256: &[u8; 32],
        reason: &str,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        Ok(self
            .inner
            .store
            .revoke_certificate(tenant.id, sha256, reason, now)
            .await?)
    }
}
