//! Authorities of other servers, whose certificates imported devices go on with.

use jiff::Timestamp;

use crate::db::{Row, ms, values};
use crate::error::StoreError;
use crate::ids::{Sha256, TenantId};
use crate::store::Store;

/// An authority to trust for imported devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIdentityAuthority {
    /// The tenant that trusts it.
    pub tenant: TenantId,
    /// Digest of the DER form.
    pub sha256: Sha256,
    /// Subject in the form of RFC 4514.
    pub subject: String,
    /// The certificate.
    pub der: Vec<u8>,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Who added it.
    pub added_by: String,
}

/// A stored authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityAuthority {
    /// What was stored.
    pub authority: NewIdentityAuthority,
    /// When it was stored.
    pub created_at: Timestamp,
}

const COLUMNS: &str = "tenant_id, sha256, subject, der, not_after, added_by, created_at";

impl IdentityAuthority {
    fn of(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            authority: NewIdentityAuthority {
                tenant: TenantId(row.get(0)?),
                sha256: row.sha256(1)?,
                subject: row.get(2)?,
                der: row.get(3)?,
                not_after: row.time(4)?,
                added_by: row.get(5)?,
            },
            created_at: row.time(6)?,
        })
    }
}

impl Store {
    /// Trusts an authority; whether it is new. At most `most` for one tenant.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the tenant has that many others already.
    pub async fn add_identity_authority(
        &self,
        authority: NewIdentityAuthority,
        most: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write((authority, most, now), |db, (authority, most, now)| {
            Box::pin(async move {
                let sql = "SELECT COUNT(*) FROM identity_authorities WHERE tenant_id = $1 AND sha256 <> $2";
                let others: i64 = db
                    .row(sql, values![authority.tenant, authority.sha256.to_vec()])
                    .await?
                    .get(0)?;
                if others >= i64::from(*most) {
                    return Err(StoreError::Exists("number of authorities"));
                }
                let added = db
                    .exec(
                        "INSERT INTO identity_authorities (tenant_id, sha256, subject, der, not_after, added_by, \
                         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                        values![
                            authority.tenant,
                            authority.sha256.to_vec(),
                            authority.subject.clone(),
                            authority.der.clone(),
                            ms(authority.not_after),
                            authority.added_by.clone(),
                            ms(*now),
                        ],
                    )
                    .await?;
                Ok(added > 0)
            })
        })
        .await
    }

    /// The authorities that a tenant trusts, or those of all tenants.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn identity_authorities(&self, tenant: Option<TenantId>) -> Result<Vec<IdentityAuthority>, StoreError> {
        let rows = match tenant {
            Some(tenant) => {
                let sql = format!("SELECT {COLUMNS} FROM identity_authorities WHERE tenant_id = $1 ORDER BY id");
                self.read().all(sql, values![tenant]).await?
            }
            None => {
                let sql = format!("SELECT {COLUMNS} FROM identity_authorities ORDER BY id");
                self.read().all(sql, values![]).await?
            }
        };
        rows.iter().map(IdentityAuthority::of).collect()
    }

    /// Trusts an authority no longer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant does not have it.
    pub async fn remove_identity_authority(&self, tenant: TenantId, sha256: &Sha256) -> Result<(), StoreError> {
        self.write((tenant, *sha256), |db, (tenant, sha256)| {
            Box::pin(async move {
                let sql = "DELETE FROM identity_authorities WHERE tenant_id = $1 AND sha256 = $2";
                match db.exec(sql, values![*tenant, sha256.to_vec()]).await? {
                    0 => Err(StoreError::NotFound("authority")),
                    _ => Ok(()),
                }
            })
        })
        .await
    }
}
