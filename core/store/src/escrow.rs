//! Escrowed secrets of enrollments: bootstrap and unlock tokens, recovery keys. Sealed to their row; each deposit and
//! each release carries the decisions that allowed it.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::db::{Db, ms, values};
use crate::decisions::{NewDecision, record};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId, words};
use crate::store::Store;
use crate::vault::{Binding, Vault};

words! {
    /// What is in escrow.
    EscrowKind {
        /// The bootstrap token of a Mac. Goes with the enrollment.
        BootstrapToken = "bootstrap-token",
        /// The token that clears a passcode. Goes with the enrollment.
        UnlockToken = "unlock-token",
        /// A FileVault personal recovery key. Stays: the disk outlives the enrollment.
        FileVaultKey = "filevault-key",
        /// A Recovery Lock password. Stays.
        RecoveryLock = "recovery-lock",
        /// An Activation Lock bypass code. Stays.
        ActivationLockBypass = "activation-lock-bypass",
    }
}

impl Store {
    /// Deposits a secret, in place of the last one of this kind, with the decisions that allowed it. `held` marks one
    /// that no policy could decide about, for somebody to look at.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn escrow_put(
        &self,
        enrollment: EnrollmentId,
        kind: EscrowKind,
        secret: Zeroizing<Vec<u8>>,
        held: Option<String>,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let input = (self.clone(), enrollment, kind, secret, held, decisions, now);
        self.write(input, |db, (store, enrollment, kind, secret, held, decisions, now)| {
            Box::pin(async move {
                let tenant = tenant_of(db, *enrollment).await?;
                let deposit = Deposit {
                    tenant,
                    enrollment: *enrollment,
                    kind: *kind,
                    held: held.as_deref(),
                };
                deposit.store(store.vault(), db, secret, *now).await?;
                record(db, tenant, Some(*enrollment), decisions, *now).await
            })
        })
        .await
    }

    /// Releases a secret, and records the decisions that allowed it in the same transaction. Without decisions (the
    /// server's own use) nothing is written.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the stored value was changed or moved.
    pub async fn escrow_get(
        &self,
        enrollment: EnrollmentId,
        kind: EscrowKind,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let found = if decisions.is_empty() {
            sealed(self.read(), enrollment, kind).await?
        } else {
            self.write(
                (enrollment, kind, decisions, now),
                |db, (enrollment, kind, decisions, now)| {
                    Box::pin(async move {
                        let tenant = tenant_of(db, *enrollment).await?;
                        record(db, tenant, Some(*enrollment), decisions, *now).await?;
                        sealed(db, *enrollment, *kind).await
                    })
                },
            )
            .await?
        };
        let Some((tenant, sealed)) = found else { return Ok(None) };
        self.vault()
            .open(binding(tenant, kind, &enrollment.to_string()), &sealed)
            .map(Some)
    }

    /// Forgets a secret, with the decisions that allowed it; whether there was one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn escrow_clear(
        &self,
        enrollment: EnrollmentId,
        kind: EscrowKind,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(
            (enrollment, kind, decisions, now),
            |db, (enrollment, kind, decisions, now)| {
                Box::pin(async move {
                    let tenant = tenant_of(db, *enrollment).await?;
                    record(db, tenant, Some(*enrollment), decisions, *now).await?;
                    let sql = "DELETE FROM escrow WHERE enrollment_id = $1 AND kind = $2";
                    Ok(db.exec(sql, values![*enrollment, *kind]).await? > 0)
                })
            },
        )
        .await
    }

    /// When the secret was deposited, and whether it is marked; `None` when there is none. Opens nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn escrow_info(
        &self,
        enrollment: EnrollmentId,
        kind: EscrowKind,
    ) -> Result<Option<EscrowInfo>, StoreError> {
        let sql = "SELECT deposited_at, held_reason FROM escrow WHERE enrollment_id = $1 AND kind = $2";
        let row = self.read().one(sql, values![enrollment, kind]).await?;
        row.map(|row| {
            Ok(EscrowInfo {
                deposited_at: row.time(0)?,
                held: row.get(1)?,
            })
        })
        .transpose()
    }
}

fn binding(tenant: TenantId, kind: EscrowKind, row: &str) -> Binding<'_> {
    Binding {
        tenant,
        kind: kind.as_str(),
        row,
    }
}

async fn tenant_of(db: &Db, enrollment: EnrollmentId) -> Result<TenantId, StoreError> {
    let row = db
        .one("SELECT tenant_id FROM enrollments WHERE id = $1", values![enrollment])
        .await?;
    row.ok_or(StoreError::NotFound("enrollment"))?.get(0).map(TenantId)
}

async fn sealed(
    db: &Db,
    enrollment: EnrollmentId,
    kind: EscrowKind,
) -> Result<Option<(TenantId, Vec<u8>)>, StoreError> {
    let sql = "SELECT tenant_id, sealed FROM escrow WHERE enrollment_id = $1 AND kind = $2";
    let row = db.one(sql, values![enrollment, kind]).await?;
    row.map(|row| Ok((TenantId(row.get(0)?), row.get(1)?))).transpose()
}

/// What is known of a secret without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowInfo {
    /// When it was deposited.
    pub deposited_at: Timestamp,
    /// Why it is marked: no policy could decide about the deposit.
    pub held: Option<String>,
}

/// Where a secret goes.
pub(crate) struct Deposit<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) enrollment: EnrollmentId,
    pub(crate) kind: EscrowKind,
    pub(crate) held: Option<&'a str>,
}

impl Deposit<'_> {
    /// Seals and stores a secret within a transaction.
    pub(crate) async fn store(&self, vault: &Vault, db: &Db, secret: &[u8], now: Timestamp) -> Result<(), StoreError> {
        let sealed = vault.seal(binding(self.tenant, self.kind, &self.enrollment.to_string()), secret)?;
        db.exec(
            "INSERT INTO escrow (enrollment_id, kind, tenant_id, sealed, deposited_at, held_reason) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (enrollment_id, kind) DO UPDATE SET \
             sealed = excluded.sealed, deposited_at = excluded.deposited_at, held_reason = excluded.held_reason",
            values![
                self.enrollment,
                self.kind,
                self.tenant,
                sealed,
                ms(now),
                self.held.map(str::to_owned)
            ],
        )
        .await
        .map(|_| ())
    }
}
