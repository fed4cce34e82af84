//! Bearer tokens of the admin API. Only their digests are stored.

use jiff::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::db::{from_ms, ms, values};
use crate::entity::api_token;
use crate::error::StoreError;
use crate::ids::{ApiTokenId, Sha256, TenantId};
use crate::store::Store;

/// A token's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its row.
    pub id: ApiTokenId,
    /// The tenant that it is good for; `None` is the whole server.
    pub tenant: Option<TenantId>,
    /// What its owner calls it.
    pub name: String,
    /// The name of its role. The store gives it no meaning.
    pub role: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

impl TryFrom<api_token::Model> for ApiToken {
    type Error = StoreError;

    fn try_from(row: api_token::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: ApiTokenId(row.id),
            tenant: row.tenant_id.map(TenantId),
            name: row.name,
            role: row.role,
            created_at: from_ms(row.created_at)?,
            revoked_at: row.revoked_at.map(from_ms).transpose()?,
        })
    }
}

impl Store {
    /// Stores a token by its digest.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the digest is known already.
    pub async fn create_api_token(
        &self,
        tenant: Option<TenantId>,
        name: &str,
        token_sha256: Sha256,
        role: &str,
        now: Timestamp,
    ) -> Result<ApiTokenId, StoreError> {
        let input = (tenant, name.to_owned(), token_sha256, role.to_owned(), now);
        self.write(input, |db, (tenant, name, token_sha256, role, now)| {
            Box::pin(async move {
                let row = db
                    .one(
                        "INSERT INTO api_tokens (tenant_id, name, token_sha256, role, created_at) \
                         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING id",
                        values![
                            tenant.map(|id| id.0),
                            name.clone(),
                            token_sha256.to_vec(),
                            role.clone(),
                            ms(*now)
                        ],
                    )
                    .await?;
                row.ok_or(StoreError::Exists("API token"))?.get(0).map(ApiTokenId)
            })
        })
        .await
    }

    /// The token of a digest, unless it was revoked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_api_token(&self, token_sha256: &Sha256) -> Result<Option<ApiToken>, StoreError> {
        let row = api_token::Entity::find()
            .filter(api_token::Column::TokenSha256.eq(token_sha256.to_vec()))
            .filter(api_token::Column::RevokedAt.is_null())
            .one(self.read())
            .await?;
        row.map(ApiToken::try_from).transpose()
    }

    /// The tokens of a tenant, or all tokens of the server when `tenant` is `None`; revoked ones too.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_tokens(&self, tenant: Option<TenantId>) -> Result<Vec<ApiToken>, StoreError> {
        let mut query = api_token::Entity::find();
        if let Some(tenant) = tenant {
            query = query.filter(api_token::Column::TenantId.eq(tenant.0));
        }
        let rows = query.order_by_asc(api_token::Column::Id).all(self.read()).await?;
        rows.into_iter().map(ApiToken::try_from).collect()
    }

    /// Revokes a token; revoking it again changes nothing. With a tenant, only a token of that tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such token.
    pub async fn revoke_api_token(
        &self,
        tenant: Option<TenantId>,
        id: ApiTokenId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write((tenant, id, now), |db, (tenant, id, now)| {
            Box::pin(async move {
                let changed = db
                    .exec(
                        "UPDATE api_tokens SET revoked_at = COALESCE(revoked_at, $1) \
                         WHERE id = $2 AND ($3 IS NULL OR tenant_id = $3)",
                        values![ms(*now), *id, tenant.map(|id| id.0)],
                    )
                    .await?;
                if changed == 0 {
                    Err(StoreError::NotFound("API token"))
                } else {
                    Ok(())
                }
            })
        })
        .await
    }
}
