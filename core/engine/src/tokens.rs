//! Bearer tokens of the admin API.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use russet_pki::fingerprint;
use russet_store::{ApiToken, ApiTokenId};
use zeroize::Zeroizing;

use crate::{Engine, EngineError, TenantRef};

/// What a token begins with, so that scanners for leaked secrets find it.
const PREFIX: &str = "russet_";

/// May do everything in its tenant, or on the whole server.
const ADMIN: &str = "admin";

/// May import devices of another server into its tenant, and nothing else: it is given to that server's tools.
const IMPORT: &str = "import";

/// Who calls the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    /// The name of the token.
    pub name: String,
    /// Its row: two tokens may have the same name.
    pub token: ApiTokenId,
    /// The tenant that the token is good for; `None` is the whole server.
    pub tenant: Option<russet_store::TenantId>,
}

impl Administrator {
    /// Whether this administrator may act on that tenant.
    pub fn may_act_on(&self, tenant: &TenantRef) -> bool {
        self.tenant.is_none_or(|own| own == tenant.id)
    }
}

impl Engine {
    /// Makes a token. It is returned once and kept as a digest only.
    ///
    /// # Errors
    ///
    /// A failure of the store or of the source of randomness.
    pub async fn create_token(
        &self,
        tenant: Option<&TenantRef>,
        name: &str,
        now: Timestamp,
    ) -> Result<(ApiTokenId, Zeroizing<String>), EngineError> {
        self.make_token(tenant, name, ADMIN, now).await
    }

    /// Makes a token that is good for importing devices into a tenant, and for nothing else.
    ///
    /// # Errors
    ///
    /// A failure of the store or of the source of randomness.
    pub async fn create_import_token(
        &self,
        tenant: &TenantRef,
        name: &str,
        now: Timestamp,
    ) -> Result<(ApiTokenId, Zeroizing<String>), EngineError> {
        self.make_token(Some(tenant), name, IMPORT, now).await
    }

    async fn make_token(
        &self,
        tenant: Option<&TenantRef>,
        name: &str,
        role: &str,
        now: Timestamp,
    ) -> Result<(ApiTokenId, Zeroizing<String>), EngineError> {
        let random = crate::random::<32>()?;
        let token = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)));
        let digest = fingerprint::sha256(token.as_bytes());
        let id = self
            .inner
            .store
            .create_api_token(tenant.map(|tenant| tenant.id), name, digest, role, now)
            .await?;
        Ok((id, token))
    }

    /// Who a token belongs to. Looked up by its digest: no comparison with a secret takes place. Tokens that are good for
    /// imports only are nobody's here.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn administrator(&self, token: &str) -> Result<Option<Administrator>, EngineError> {
        self.owner(token, &[ADMIN]).await
    }

    /// Who may import devices with a token: an administrator, or whoever was given a token for that.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn importer(&self, token: &str) -> Result<Option<Administrator>, EngineError> {
        self.owner(token, &[ADMIN, IMPORT]).await
    }

    async fn owner(&self, token: &str, roles: &[&str]) -> Result<Option<Administrator>, EngineError> {
        if !token.starts_with(PREFIX) {
            return Ok(None);
        }
        let digest = fingerprint::sha256(token.as_bytes());
        let found = self.inner.store.find_api_token(&digest).await?;
        let found = found.filter(|token| roles.contains(&token.role.as_str()));
        Ok(found.map(|token| Administrator {
            token: token.id,
            name: token.name,
            tenant: token.tenant,
        }))
    }

    /// The tokens of a tenant, or of the whole server.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn tokens(&self, tenant: Option<&TenantRef>) -> Result<Vec<ApiToken>, EngineError> {
        Ok(self.inner.store.api_tokens(tenant.map(|tenant| tenant.id)).await?)
    }

    /// Revokes a token.
    ///
    /// # Errors
    ///
    /// Not found, or a failure of the store.
    pub async fn revoke_token(
        &self,
        tenant: Option<russet_store::TenantId>,
        id: ApiTokenId,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        Ok(self.inner.store.revoke_api_token(tenant, id, now).await?)
    }
}
