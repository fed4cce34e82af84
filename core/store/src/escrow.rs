//! Escrowed secrets of enrollments: bootstrap and unlock tokens, recovery keys. Sealed to their row; each deposit and
//! each release carries the decisions that allowed it.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::db::{Db, ms, values};
use crate::decisions::{NewDecision, record};
use crate::error::StoreError;
use crate::events::{self, NewEvent};
use crate::ids::{EnrollmentId, TenantId, words};
use crate::page::{Cursor, Page, probe};
use crate::store::Store;
use crate::vault::{Binding, Kind, Vault};

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
    /// Deposits a secret, in place of the last one of this kind, with what was decided about it. `held` marks one that no
    /// policy could decide about, for somebody to look at.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn escrow_put(
        &self,
        enrollment: EnrollmentId,
        kind: EscrowKind,
        secret: Zeroizing<Vec<u8>>,
        held: Option<String>,
        decided: Decided,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let input = (self.clone(), enrollment, kind, secret, held, decided, now);
        self.write(input, |db, (store, enrollment, kind, secret, held, decided, now)| {
            Box::pin(async move {
                let tenant = tenant_of(db, *enrollment).await?;
                let deposit = Deposit {
                    tenant,
                    enrollment: *enrollment,
                    kind: *kind,
                    held: held.as_deref(),
                };
                deposit.store(store.vault(), db, secret, *now).await?;
                decided.store(db, tenant, *enrollment, *now).await
            })
        })
        .await
    }

    /// Takes a held deposit as decided now: the mark goes, and `replacement` is kept in its place if there is one. `false`,
    /// and nothing happens, if it is not the one of that time any more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn escrow_accept(
        &self,
        enrollment: EnrollmentId,
        kind: EscrowKind,
        deposited_at: Timestamp,
        replacement: Option<Zeroizing<Vec<u8>>>,
        decided: Decided,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let input = (self.clone(), enrollment, kind, deposited_at, replacement, decided, now);
        self.write(
            input,
            |db, (store, enrollment, kind, deposited_at, replacement, decided, now)| {
                Box::pin(async move {
                    let tenant = tenant_of(db, *enrollment).await?;
                    let row = enrollment.to_string();
                    let sealed = replacement
                        .as_ref()
                        .map(|secret| store.vault().seal(binding(tenant, *kind, &row), secret))
                        .transpose()?;
                    let changed = db
                        .exec(
                            "UPDATE escrow SET held_reason = NULL, sealed = COALESCE($4, sealed) WHERE enrollment_id = $1 \
                             AND kind = $2 AND deposited_at = $3 AND held_reason IS NOT NULL",
                            values![*enrollment, *kind, ms(*deposited_at), sealed],
                        )
                        .await?;
                    if changed > 0 {
                        decided.store(db, tenant, *enrollment, *now).await?;
                    }
                    Ok(changed > 0)
                })
            },
        )
        .await
    }

    /// Records that a secret was handed out, or was not, with what was decided about it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn escrow_decided(
        &self,
        enrollment: EnrollmentId,
        decided: Decided,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if decided.decisions.is_empty() && decided.events.is_empty() {
            return Ok(());
        }
        self.write((enrollment, decided, now), |db, (enrollment, decided, now)| {
            Box::pin(async move {
                let tenant = tenant_of(db, *enrollment).await?;
                decided.store(db, tenant, *enrollment, *now).await
            })
        })
        .await
    }

    /// Opens a secret: for whoever asks the policies about it. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the stored value was changed or moved.
    pub async fn escrow_get(
        &self,
        enrollment: EnrollmentId,
        kind: EscrowKind,
    ) -> Result<Option<(Zeroizing<Vec<u8>>, EscrowInfo)>, StoreError> {
        let sql =
            "SELECT tenant_id, sealed, deposited_at, held_reason FROM escrow WHERE enrollment_id = $1 AND kind = $2";
        let Some(row) = self.read().one(sql, values![enrollment, kind]).await? else {
            return Ok(None);
        };
        let binding_row = enrollment.to_string();
        let sealed: Vec<u8> = row.get(1)?;
        let secret = self
            .vault()
            .open(binding(TenantId(row.get(0)?), kind, &binding_row), &sealed)?;
        let info = EscrowInfo {
            deposited_at: row.time(2)?,
            held: row.get(3)?,
        };
        Ok(Some((secret, info)))
    }

    /// Forgets a secret, with what was decided about it; whether there was one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn escrow_clear(
        &self,
        enrollment: EnrollmentId,
        kind: EscrowKind,
        decided: Decided,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(
            (enrollment, kind, decided, now),
            |db, (enrollment, kind, decided, now)| {
                Box::pin(async move {
                    let tenant = tenant_of(db, *enrollment).await?;
                    decided.store(db, tenant, *enrollment, *now).await?;
                    let sql = "DELETE FROM escrow WHERE enrollment_id = $1 AND kind = $2";
                    Ok(db.exec(sql, values![*enrollment, *kind]).await? > 0)
                })
            },
        )
        .await
    }

    /// The secrets that are kept of an enrollment, without opening them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn escrow_list(&self, enrollment: EnrollmentId) -> Result<Vec<(EscrowKind, EscrowInfo)>, StoreError> {
        let sql = "SELECT kind, deposited_at, held_reason FROM escrow WHERE enrollment_id = $1 ORDER BY kind";
        let rows = self.read().all(sql, values![enrollment]).await?;
        rows.iter()
            .map(|row| {
                let info = EscrowInfo {
                    deposited_at: row.time(1)?,
                    held: row.get(2)?,
                };
                Ok((row.word(0, EscrowKind::from_word, "escrow kind")?, info))
            })
            .collect()
    }

    /// The deposits of a tenant that no policy could decide about, by enrollment. A page holds whole enrollments.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn escrow_held(
        &self,
        tenant: TenantId,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<HeldDeposit>, StoreError> {
        let sql = "SELECT e.id, e.enrollment_key, s.kind, s.deposited_at, s.held_reason FROM escrow s \
                   JOIN enrollments e ON e.id = s.enrollment_id WHERE s.held_reason IS NOT NULL AND s.enrollment_id IN \
                   (SELECT DISTINCT enrollment_id FROM escrow WHERE tenant_id = $1 AND held_reason IS NOT NULL \
                    AND enrollment_id > $2 ORDER BY enrollment_id LIMIT $3) ORDER BY e.id, s.kind";
        let after = after.map_or(0, |cursor| cursor.0);
        let rows = self.read().all(sql, values![tenant, after, probe(limit)]).await?;
        let mut held = Vec::with_capacity(rows.len());
        for row in &rows {
            held.push((
                row.get::<i64>(0)?,
                HeldDeposit {
                    enrollment_key: row.get(1)?,
                    kind: row.word(2, EscrowKind::from_word, "escrow kind")?,
                    deposited_at: row.time(3)?,
                    reason: row.get(4)?,
                },
            ));
        }
        let whole = probe(limit) - 1;
        let mut enrollments: Vec<i64> = held.iter().map(|(id, _)| *id).collect();
        enrollments.dedup();
        let last = usize::try_from(whole).ok().filter(|whole| enrollments.len() > *whole);
        let next = last.and_then(|whole| enrollments.get(whole - 1)).copied();
        held.retain(|(id, _)| next.is_none_or(|next| *id <= next));
        Ok(Page {
            items: held.into_iter().map(|(_, held)| held).collect(),
            next: next.map(Cursor),
        })
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
        kind: Kind::Escrow(kind),
        row,
    }
}

async fn tenant_of(db: &Db, enrollment: EnrollmentId) -> Result<TenantId, StoreError> {
    let row = db
        .one("SELECT tenant_id FROM enrollments WHERE id = $1", values![enrollment])
        .await?;
    row.ok_or(StoreError::NotFound("enrollment"))?.get(0).map(TenantId)
}

/// What was decided about a secret: recorded in the transaction of what follows.
#[derive(Clone, Debug, Default)]
pub struct Decided {
    /// The decisions of the policies.
    pub decisions: Vec<NewDecision>,
    /// What observers are told.
    pub events: Vec<NewEvent>,
}

impl Decided {
    async fn store(
        &self,
        db: &Db,
        tenant: TenantId,
        enrollment: EnrollmentId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        record(db, tenant, Some(enrollment), &self.decisions, now).await?;
        events::record(db, tenant, Some(enrollment), &self.events, now).await
    }
}

/// A deposit that no policy could decide about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldDeposit {
    /// The key of the enrollment.
    pub enrollment_key: String,
    /// Which secret.
    pub kind: EscrowKind,
    /// When it was deposited.
    pub deposited_at: Timestamp,
    /// Why nobody could decide.
    pub reason: String,
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
