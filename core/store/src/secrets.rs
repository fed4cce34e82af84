//! Sealed secrets by tenant, kind and name: CA keys, plugin secrets and the like.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::db::{Db, ms, values};
use crate::error::StoreError;
use crate::ids::{TenantId, words};
use crate::store::Store;
use crate::vault::{Binding, Kind};

words! {
    /// What a secret is for. Part of what it is sealed to.
    SecretKind {
        /// A certificate authority's private key.
        CaKey = "ca-key",
        /// A TLS server's private key.
        TlsKey = "tls-key",
        /// A key that signs profiles.
        ProfileSigningKey = "profile-signing-key",
        /// A value that an administrator gave to a plugin.
        PluginSecret = "plugin-secret",
        /// Anything else that the server keeps for itself.
        Server = "server",
    }
}

impl Store {
    /// Stores a secret, in place of the one that has this name.
    ///
    /// # Errors
    /// When sealing or the database fails.
    pub async fn put_secret(
        &self,
        tenant: TenantId,
        kind: SecretKind,
        name: &str,
        secret: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sealed = self.vault().seal(binding(tenant, kind, name), secret)?;
        self.write(
            (tenant, kind, name.to_owned(), sealed, now),
            |db, (tenant, kind, name, sealed, now)| {
                Box::pin(async move {
                    db.exec(
                        "INSERT INTO secrets (tenant_id, kind, name, sealed, updated_at) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT (tenant_id, kind, name) \
                     DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at",
                        values![*tenant, *kind, name.clone(), sealed.clone(), ms(*now)],
                    )
                    .await
                    .map(|_| ())
                })
            },
        )
        .await
    }

    /// Stores a secret unless the name is taken, and returns the one that is stored now: servers that start at the
    /// same time agree on one.
    ///
    /// # Errors
    /// When sealing or the database fails.
    pub async fn put_secret_if_absent(
        &self,
        tenant: TenantId,
        kind: SecretKind,
        name: &str,
        secret: &[u8],
        now: Timestamp,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let sealed = self.vault().seal(binding(tenant, kind, name), secret)?;
        let winner = self
            .write(
                (tenant, kind, name.to_owned(), sealed, now),
                |db, (tenant, kind, name, sealed, now)| {
                    Box::pin(async move {
                        db.exec(
                            "INSERT INTO secrets (tenant_id, kind, name, sealed, updated_at) \
                         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                            values![*tenant, *kind, name.clone(), sealed.clone(), ms(*now)],
                        )
                        .await?;
                        sealed_secret(db, *tenant, *kind, name).await
                    })
                },
            )
            .await?;
        let winner = winner.ok_or(StoreError::NotFound("secret"))?;
        self.vault().open(binding(tenant, kind, name), &winner)
    }

    /// The secret of a name.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the stored value was changed or moved.
    pub async fn secret(
        &self,
        tenant: TenantId,
        kind: SecretKind,
        name: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sealed = sealed_secret(self.read(), tenant, kind, name).await?;
        sealed
            .map(|sealed| self.vault().open(binding(tenant, kind, name), &sealed))
            .transpose()
    }

    /// Deletes a secret; whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_secret(&self, tenant: TenantId, kind: SecretKind, name: &str) -> Result<bool, StoreError> {
        self.write((tenant, kind, name.to_owned()), |db, (tenant, kind, name)| {
            Box::pin(async move {
                let sql = "DELETE FROM secrets WHERE tenant_id = $1 AND kind = $2 AND name = $3";
                Ok(db.exec(sql, values![*tenant, *kind, name.clone()]).await? > 0)
            })
        })
        .await
    }
}

fn binding(tenant: TenantId, kind: SecretKind, name: &str) -> Binding<'_> {
    Binding {
        tenant,
        kind: Kind::Secret(kind),
        row: name,
    }
}

async fn sealed_secret(db: &Db, tenant: TenantId, kind: SecretKind, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT sealed FROM secrets WHERE tenant_id = $1 AND kind = $2 AND name = $3";
    db.one(sql, values![tenant, kind, name.to_owned()])
        .await?
        .map(|row| row.get(0))
        .transpose()
}
