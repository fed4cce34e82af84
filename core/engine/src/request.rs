//! One request: its tenant, its identifier, and the generation of hooks that it sees from first to last.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use russet_hooks::{HookSet, Scope};
use russet_store::TenantId;

use crate::{Engine, EngineError};

/// A tenant, as requests carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRef {
    /// Its row.
    pub id: TenantId,
    /// Its name, as in URLs.
    pub name: Arc<str>,
}

/// What one request carries through the engine.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tenant that it is for.
    pub tenant: TenantRef,
    /// Its identifier, for logs.
    pub id: Arc<str>,
    pub(crate) hooks: Arc<HookSet>,
    pub(crate) scope: Scope,
}

/// Tenants by name: they are few, change rarely, and are needed on every request.
#[derive(Debug, Default)]
pub(crate) struct TenantCache(RwLock<HashMap<String, TenantRef>>);

impl TenantCache {
    fn get(&self, name: &str) -> Option<TenantRef> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn put(&self, tenant: &TenantRef) {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tenants.insert(tenant.name.to_string(), tenant.clone());
    }
}

impl Engine {
    /// Starts a request: finds the tenant and pins the generation of its hooks.
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownTenant`], or a failure of the store.
    pub async fn begin(&self, tenant: &str, request_id: &str) -> Result<Request, EngineError> {
        let tenant = self.tenant(tenant).await?;
        let hooks = self.inner.hooks.pin(&tenant.name);
        let id: Arc<str> = request_id.into();
        let scope = Scope::new(
            Arc::clone(&tenant.name),
            Arc::clone(&id),
            self.inner.settings.hook_budget,
        )
        .recording(self.records_calls(tenant.id));
        Ok(Request {
            tenant,
            id,
            hooks,
            scope,
        })
    }

    /// Finds a tenant by its name.
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownTenant`], or a failure of the store.
    pub async fn tenant(&self, name: &str) -> Result<TenantRef, EngineError> {
        if let Some(tenant) = self.inner.tenants.get(name) {
            return Ok(tenant);
        }
        let found = self
            .inner
            .store
            .tenant_by_name(name)
            .await?
            .ok_or(EngineError::UnknownTenant)?;
        let tenant = TenantRef {
            id: found.id,
            name: found.name.into(),
        };
        self.inner.tenants.put(&tenant);
        self.inner.observing.tenant(&tenant);
        Ok(tenant)
    }
}
