//! Secrets and signing keys of plugins.

use async_trait::async_trait;
use jiff::Timestamp;
use russet_plugin_host::ports::{CallError, SecretsPort, Space};
use russet_store::{MAX_PLUGIN_KEYS, MAX_PLUGIN_SECRETS, StoreError};
use zeroize::Zeroizing;

use super::{Tenants, failed};

#[derive(Debug)]
pub(super) struct StoreSecrets(pub(super) Tenants);

#[async_trait]
impl SecretsPort for StoreSecrets {
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        self.0
            .store
            .plugin_secret(tenant, &space.plugin, name)
            .await
            .map_err(|error| failed(&error))
    }

    async fn put(&self, space: &Space, name: &str, value: &[u8]) -> Result<(), CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        let stored = self
            .0
            .store
            .put_plugin_secret(tenant, &space.plugin, name, value, Timestamp::now())
            .await
            .map_err(|error| failed(&error))?;
        if stored {
            Ok(())
        } else {
            Err(CallError::Quota(format!(
                "the space may hold {MAX_PLUGIN_SECRETS} secrets"
            )))
        }
    }

    async fn delete(&self, space: &Space, name: &str) -> Result<bool, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        self.0
            .store
            .delete_plugin_secret(tenant, &space.plugin, name)
            .await
            .map_err(|error| failed(&error))
    }

    async fn seal(&self, space: &Space, value: &[u8]) -> Result<Vec<u8>, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        self.0
            .store
            .seal_for_plugin(tenant, &space.plugin, value)
            .map_err(|error| failed(&error))
    }

    async fn open(&self, space: &Space, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        match self.0.store.open_for_plugin(tenant, &space.plugin, sealed) {
            Err(StoreError::Sealed(_)) => Err(CallError::Invalid("not sealed for this plugin".to_owned())),
            other => other.map_err(|error| failed(&error)),
        }
    }

    async fn signing_key(
        &self,
        space: &Space,
        name: &str,
        fresh: Zeroizing<[u8; 32]>,
    ) -> Result<Zeroizing<[u8; 32]>, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        let key = self
            .0
            .store
            .plugin_key(tenant, &space.plugin, name, fresh.as_ref(), Timestamp::now())
            .await
            .map_err(|error| failed(&error))?
            .ok_or_else(|| CallError::Invalid(format!("the space may hold {MAX_PLUGIN_KEYS} keys")))?;
        let seed = key.as_slice().try_into().map(Zeroizing::new);
        seed.map_err(|_| CallError::Unavailable("the key can not be used".to_owned()))
    }
}
