//! Comparisons of a plugin's active revision with another one: a candidate that is to take its place, or, for a while
//! after a promotion, the one whose place it took.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::write::{active, candidate_state, in_quarantine, plugin_row};
use super::{Activation, Actor, RevisionRecord, RevisionState, bump, events};
use crate::db::{Db, Row, ms, ms_opt, values, words as text};
use crate::error::StoreError;
use crate::ids::{RevisionId, RolloutId, TenantId, words};
use crate::store::Store;

/// How many ended comparisons of a plugin are kept.
const KEPT: i64 = 20;

words! {
    /// What the other revision is asked.
    RolloutPhase {
        /// The candidate is asked the same, and its answers go nowhere.
        Shadow = "shadow",
        /// The candidate answers a share of the enrollments.
        Canary = "canary",
        /// The candidate was promoted: what was active before is asked the same.
        Watch = "watch",
    }
}

words! {
    /// How a comparison ended.
    Outcome {
        /// The candidate is active.
        Promoted = "promoted",
        /// The promoted revision stayed.
        Kept = "kept",
        /// The revision before is active again.
        RolledBack = "rolled-back",
        /// Somebody stopped it.
        Stopped = "stopped",
        /// Another candidate took its place.
        Replaced = "replaced",
        /// The candidate is in quarantine.
        Quarantined = "quarantined",
    }
}

/// A candidate to compare with what is active.
#[derive(Clone, Debug)]
pub struct NewRollout {
    /// The candidate.
    pub revision: RevisionId,
    /// The share of enrollments that it answers, in thousandths; with 0 it only shadows.
    pub permille: u16,
    /// What it has to keep to, as the caller understands it.
    pub gates: Json,
    /// It is promoted by itself once it keeps to them.
    pub automatic: bool,
    /// Even if it is in quarantine.
    pub force: bool,
    /// Who wants it.
    pub actor: Actor,
}

/// A stored comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutRecord {
    /// Its row.
    pub id: RolloutId,
    /// The tenant.
    pub tenant: TenantId,
    /// The plugin's name.
    pub plugin: String,
    /// What the other revision is asked.
    pub phase: RolloutPhase,
    /// The revision that is active meanwhile.
    pub base: RevisionId,
    /// The other one.
    pub other: RevisionId,
    /// The share of enrollments that the candidate answers, in thousandths.
    pub permille: u16,
    /// What is held against it.
    pub gates: Json,
    /// The candidate is promoted by itself.
    pub automatic: bool,
    /// Who started it.
    pub started_by: String,
    /// When.
    pub started_at: Timestamp,
    /// When watching ends.
    pub watch_until: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<String>,
}

/// A comparison that goes on, with the revision that is not active.
#[derive(Clone, Debug, PartialEq)]
pub struct StagedRollout {
    /// The comparison.
    pub rollout: RolloutRecord,
    /// The other revision.
    pub other: RevisionRecord,
}

/// The columns of [`rollout_of`].
pub(super) const COLUMNS: &str = "o.id, o.tenant_id, p.name, o.phase, o.base_id, o.other_id, o.permille, o.gates, \
     o.automatic, o.started_by, o.started_at, o.watch_until, o.ended_at, o.outcome";

pub(super) fn rollout_of(row: &Row, at: usize) -> Result<RolloutRecord, StoreError> {
    Ok(RolloutRecord {
        id: RolloutId(row.get(at)?),
        tenant: TenantId(row.get(at + 1)?),
        plugin: row.get(at + 2)?,
        phase: row.word(at + 3, RolloutPhase::from_word, "phase of a rollout")?,
        base: RevisionId(row.get(at + 4)?),
        other: RevisionId(row.get(at + 5)?),
        permille: u16::try_from(row.get::<i64>(at + 6)?).map_err(|_| StoreError::Corrupt("share of a rollout"))?,
        gates: row.json(at + 7)?,
        automatic: row.get(at + 8)?,
        started_by: row.get(at + 9)?,
        started_at: row.time(at + 10)?,
        watch_until: row.time_opt(at + 11)?,
        ended_at: row.time_opt(at + 12)?,
        outcome: row.get(at + 13)?,
    })
}

impl Store {
    /// Starts to compare a candidate with what is active, or changes its share and gates if it is compared already.
    /// Another candidate of the plugin is retired. Returns the new generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such revision, it did not pass its probe or is active, or the
    /// plugin has no active revision; [`StoreError::Quarantined`].
    pub async fn start_rollout(
        &self,
        tenant: TenantId,
        rollout: NewRollout,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        self.write((tenant, rollout, now), |db, (tenant, rollout, now)| {
            Box::pin(start(db, *tenant, rollout, *now))
        })
        .await
    }

    /// Ends the comparison of a plugin. A candidate is retired; what was promoted stays. Returns the new generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such plugin, or nothing of it is compared.
    pub async fn stop_rollout(
        &self,
        tenant: TenantId,
        plugin: &str,
        actor: Actor,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        self.write(
            (tenant, plugin.to_owned(), actor, now),
            |db, (tenant, plugin, actor, now)| {
                Box::pin(async move {
                    let generation = bump(db, *tenant).await?;
                    let plugin = plugin_row(db, *tenant, plugin).await?;
                    if end(db, plugin, None, Outcome::Stopped, actor, *now).await? {
                        Ok(generation)
                    } else {
                        Err(StoreError::NotFound("rollout of the plugin"))
                    }
                })
            },
        )
        .await
    }

    /// The newest comparison of a plugin, whether it goes on or has ended.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn rollout(&self, tenant: TenantId, plugin: &str) -> Result<Option<RolloutRecord>, StoreError> {
        let row = self
            .read()
            .one(
                format!(
                    "SELECT {COLUMNS} FROM plugin_rollouts o JOIN plugins p ON p.id = o.plugin_id \
                     WHERE o.tenant_id = $1 AND p.name = $2 ORDER BY o.id DESC LIMIT 1"
                ),
                values![tenant, plugin.to_owned()],
            )
            .await?;
        row.map(|row| rollout_of(&row, 0)).transpose()
    }

    /// The comparisons of all tenants that go on, each with the name of its tenant.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn open_rollouts(&self) -> Result<Vec<(String, RolloutRecord)>, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT t.name, {COLUMNS} FROM plugin_rollouts o JOIN plugins p ON p.id = o.plugin_id \
                     JOIN tenants t ON t.id = o.tenant_id WHERE o.ended_at IS NULL ORDER BY o.id"
                ),
                values![],
            )
            .await?;
        rows.iter().map(|row| Ok((row.get(0)?, rollout_of(row, 1)?))).collect()
    }
}

async fn start(db: &Db, tenant: TenantId, new: &NewRollout, now: Timestamp) -> Result<i64, StoreError> {
    let generation = bump(db, tenant).await?;
    let phase = if new.permille == 0 {
        RolloutPhase::Shadow
    } else {
        RolloutPhase::Canary
    };
    let row = db
        .one(
            "SELECT plugin_id FROM plugin_revisions WHERE tenant_id = $1 AND id = $2 \
             AND state IN ('probed', 'shadow', 'canary', 'retired', 'quarantined')",
            values![tenant, new.revision],
        )
        .await?;
    let plugin = row
        .ok_or(StoreError::NotFound("revision that could be rolled out"))?
        .get(0)?;
    if !new.force && in_quarantine(db, new.revision).await? {
        return Err(StoreError::Quarantined);
    }
    let base = active(db, plugin)
        .await?
        .ok_or(StoreError::NotFound("active revision to compare it with"))?;
    let changed = db
        .exec(
            "UPDATE plugin_rollouts SET phase = $3, permille = $4, gates = $5, automatic = $6 \
             WHERE plugin_id = $1 AND other_id = $2 AND ended_at IS NULL AND phase <> 'watch'",
            values![
                plugin,
                new.revision,
                phase,
                i64::from(new.permille),
                new.gates.to_string(),
                new.automatic
            ],
        )
        .await?;
    if changed == 0 {
        end(db, plugin, Some(new.revision), Outcome::Replaced, &new.actor, now).await?;
        insert(
            db,
            tenant,
            plugin,
            phase,
            (base, new.revision),
            new.permille,
            &new.gates,
            new.automatic,
            &new.actor.name,
            now,
            None,
        )
        .await?;
    }
    events::transition(db, new.revision, candidate_state(phase), &new.actor, now).await?;
    Ok(generation)
}

/// Compares what was promoted with what was active before.
#[expect(clippy::too_many_arguments, reason = "one row, each column once")]
pub(super) async fn watch(
    db: &Db,
    tenant: TenantId,
    plugin: &i64,
    activation: &Activation,
    other: RevisionId,
    until: Timestamp,
    gates: &Json,
    now: Timestamp,
) -> Result<(), StoreError> {
    let phase = RolloutPhase::Watch;
    let by = &activation.actor.name;
    insert(
        db,
        tenant,
        *plugin,
        phase,
        (activation.revision, other),
        0,
        gates,
        false,
        by,
        now,
        Some(until),
    )
    .await
}

#[expect(clippy::too_many_arguments, reason = "one row, each column once")]
async fn insert(
    db: &Db,
    tenant: TenantId,
    plugin: i64,
    phase: RolloutPhase,
    (base, other): (RevisionId, RevisionId),
    permille: u16,
    gates: &Json,
    automatic: bool,
    by: &str,
    now: Timestamp,
    until: Option<Timestamp>,
) -> Result<(), StoreError> {
    db.exec(
        "INSERT INTO plugin_rollouts (tenant_id, plugin_id, phase, base_id, other_id, permille, gates, automatic, \
         started_by, started_at, watch_until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        values![
            tenant,
            plugin,
            phase,
            base,
            other,
            i64::from(permille),
            gates.to_string(),
            automatic,
            text(by),
            ms(now),
            ms_opt(until)
        ],
    )
    .await
    .map(|_| ())
}

/// Whether a revision is the candidate of the plugin's open comparison.
pub(super) async fn is_candidate(db: &Db, plugin: i64, revision: RevisionId) -> Result<bool, StoreError> {
    let row = db
        .one(
            "SELECT id FROM plugin_rollouts WHERE plugin_id = $1 AND other_id = $2 AND ended_at IS NULL \
             AND phase <> 'watch'",
            values![plugin, revision],
        )
        .await?;
    Ok(row.is_some())
}

/// Ends the open comparison of a plugin, if there is one. Its candidate is retired, unless it is `next`.
pub(super) async fn end(
    db: &Db,
    plugin: i64,
    next: Option<RevisionId>,
    outcome: Outcome,
    actor: &Actor,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let row = db
        .one(
            "SELECT id, phase, other_id, watch_until FROM plugin_rollouts WHERE plugin_id = $1 AND ended_at IS NULL",
            values![plugin],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let phase = row.word(1, RolloutPhase::from_word, "phase of a rollout")?;
    let other = RevisionId(row.get(2)?);
    let outcome = match (phase, outcome) {
        // Watching that is over, or that somebody stops, leaves the promoted revision where it is.
        (RolloutPhase::Watch, Outcome::Stopped | Outcome::Replaced) => Outcome::Kept,
        (_, Outcome::Promoted) if next != Some(other) => Outcome::Replaced,
        (_, outcome) => outcome,
    };
    db.exec(
        "UPDATE plugin_rollouts SET ended_at = $2, outcome = $3 WHERE id = $1",
        values![row.get::<i64>(0)?, ms(now), outcome],
    )
    .await?;
    if phase != RolloutPhase::Watch && next != Some(other) {
        events::transition(db, other, RevisionState::Retired, actor, now).await?;
    }
    Ok(true)
}

/// Deletes the oldest ended comparisons of a plugin.
pub(super) async fn prune(db: &Db, plugin: i64) -> Result<(), StoreError> {
    let old = "SELECT id FROM plugin_rollouts WHERE plugin_id = $1 AND ended_at IS NOT NULL AND id NOT IN \
         (SELECT id FROM plugin_rollouts WHERE plugin_id = $1 AND ended_at IS NOT NULL ORDER BY id DESC LIMIT $2)";
    for sql in [
        format!("DELETE FROM plugin_comparisons WHERE rollout_id IN ({old})"),
        format!("DELETE FROM plugin_comparison_samples WHERE rollout_id IN ({old})"),
        format!("DELETE FROM plugin_rollouts WHERE id IN ({old})"),
    ] {
        db.exec(sql, values![plugin, KEPT]).await?;
    }
    Ok(())
}
