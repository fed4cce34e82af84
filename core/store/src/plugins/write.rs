//! Storing revisions, and putting them into and out of use.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::rollouts::{self, Outcome, RolloutPhase};
use super::{Actor, RevisionState, bump, events, lock};
use crate::db::{Db, ms, values};
use crate::error::StoreError;
use crate::ids::{RevisionId, Sha256, TenantId};
use crate::schedules::forget_schedules_of;
use crate::store::Store;

/// How many retired revisions of a plugin are kept, and as many rejected ones.
const KEPT: i64 = 5;

/// How many quarantined revisions of a plugin are kept: as long as one is, it is not activated again.
const KEPT_IN_QUARANTINE: i64 = 50;

/// A revision to store.
#[derive(Clone, Debug)]
pub struct NewRevision {
    /// The tenant that uses it.
    pub tenant: TenantId,
    /// The plugin's name, unique in the tenant; made when it is new.
    pub plugin: String,
    /// The author's version.
    pub version: String,
    /// Digest of the component.
    pub digest: Sha256,
    /// The component, stored once per digest; `None` for a revision that is only noted as rejected.
    pub component: Option<Vec<u8>>,
    /// What the plugin says about itself.
    pub manifest: Json,
    /// The administrator's settings for it.
    pub settings: Json,
    /// What the administrator lets it reach.
    pub grants: Json,
    /// How it was signed, if that was looked into.
    pub signature: Option<Json>,
    /// What is to become of it once it waits for nothing; `None` to put it into use.
    pub staging: Option<Json>,
    /// The digest of component, settings and grants, if it was probed.
    pub revision: Option<String>,
    /// The steps that it has taken, the last of which is where it stands.
    pub steps: Vec<RevisionState>,
    /// Who uploaded it; why it was rejected, if it was.
    pub actor: Actor,
}

/// What is to be put into use, and how.
#[derive(Clone, Debug)]
pub struct Activation {
    /// The revision.
    pub revision: RevisionId,
    /// Who wants it.
    pub actor: Actor,
    /// Even if it is in quarantine.
    pub force: bool,
    /// Ask the revision that was active until now as well, until then, and hold the new one to these gates.
    pub watch: Option<(Timestamp, Json)>,
}

/// What became of a plugin whose revision was put into quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The tenant's generation.
    pub generation: i64,
    /// The revision was the active one.
    pub was_active: bool,
    /// The revision that is active instead, if it was and there is one.
    pub instead: Option<RevisionId>,
}

/// A revision as the writes below need it.
struct Known {
    plugin: i64,
    state: RevisionState,
    activated_at: Option<i64>,
}

impl Store {
    /// Stores a revision, and makes the plugin (last in the order) when it is new. Revisions of the plugin that waited
    /// for a grant or to be used are rejected: this one takes their place.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_revision(&self, revision: NewRevision, now: Timestamp) -> Result<RevisionId, StoreError> {
        self.write((revision, now), |db, (revision, now)| {
            Box::pin(insert(db, revision, *now))
        })
        .await
    }

    /// Puts a revision into use: the plugin's active one is retired, this one is active, its comparison ends, the
    /// generation is one higher. Returns the new generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such revision, or it was rejected; [`StoreError::Quarantined`] when
    /// it, or one of the same digest, is in quarantine and nobody insists.
    pub async fn activate_revision(
        &self,
        tenant: TenantId,
        activation: Activation,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        self.write((tenant, activation, now), |db, (tenant, activation, now)| {
            Box::pin(async move {
                let generation = bump(db, *tenant).await?;
                let known = known(db, *tenant, activation.revision).await?;
                if known.state == RevisionState::Rejected {
                    return Err(StoreError::NotFound("revision to activate"));
                }
                if !activation.force && in_quarantine(db, activation.revision).await? {
                    return Err(StoreError::Quarantined);
                }
                let active = active(db, known.plugin).await?.filter(|id| *id != activation.revision);
                activate(db, &known, activation.revision, false, &activation.actor, *now).await?;
                if let (Some((until, gates)), Some(other)) = (&activation.watch, active) {
                    rollouts::watch(db, *tenant, &known.plugin, activation, other, *until, gates, *now).await?;
                }
                prune(db, *tenant, known.plugin).await?;
                Ok(generation)
            })
        })
        .await
    }

    /// Goes back to the revision that was active before the plugin's active one. Returns it and the new generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such plugin, or nothing to go back to.
    pub async fn rollback_plugin(
        &self,
        tenant: TenantId,
        plugin: &str,
        actor: Actor,
        now: Timestamp,
    ) -> Result<(RevisionId, i64), StoreError> {
        self.write(
            (tenant, plugin.to_owned(), actor, now),
            |db, (tenant, plugin, actor, now)| {
                Box::pin(async move {
                    let generation = bump(db, *tenant).await?;
                    let plugin = plugin_row(db, *tenant, plugin).await?;
                    let current = active(db, plugin)
                        .await?
                        .ok_or(StoreError::NotFound("active revision"))?;
                    let before = known(db, *tenant, current).await?;
                    let back = warm(db, plugin, current, before.activated_at)
                        .await?
                        .ok_or(StoreError::NotFound("earlier revision to go back to"))?;
                    let known = known(db, *tenant, back).await?;
                    activate(db, &known, back, true, actor, *now).await?;
                    Ok((back, generation))
                })
            },
        )
        .await
    }

    /// Puts a revision into quarantine. If it was active, the one before it is active again; if there is none, the
    /// plugin's hooks have to fail. If it was a candidate, its comparison ends.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such revision.
    pub async fn quarantine_revision(
        &self,
        tenant: TenantId,
        revision: RevisionId,
        actor: Actor,
        now: Timestamp,
    ) -> Result<Quarantined, StoreError> {
        self.write((tenant, revision, actor, now), |db, (tenant, revision, actor, now)| {
            Box::pin(async move {
                let generation = bump(db, *tenant).await?;
                let found = known(db, *tenant, *revision).await?;
                let was_active = found.state == RevisionState::Active;
                let mut instead = None;
                events::transition(db, *revision, RevisionState::Quarantined, actor, *now).await?;
                if was_active {
                    instead = warm(db, found.plugin, *revision, found.activated_at).await?;
                    match instead {
                        Some(back) => {
                            let known = known(db, *tenant, back).await?;
                            activate(db, &known, back, true, actor, *now).await?;
                        }
                        None => {
                            rollouts::end(db, found.plugin, None, Outcome::Quarantined, actor, *now).await?;
                            let sql = "UPDATE plugins SET halted_id = $2 WHERE id = $1";
                            db.exec(sql, values![found.plugin, *revision]).await?;
                        }
                    }
                } else if rollouts::is_candidate(db, found.plugin, *revision).await? {
                    rollouts::end(db, found.plugin, Some(*revision), Outcome::Quarantined, actor, *now).await?;
                }
                Ok(Quarantined {
                    generation,
                    was_active,
                    instead,
                })
            })
        })
        .await
    }

    /// Replaces the grants of a revision that waits for them, and notes the steps that it takes with them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such pending revision.
    pub async fn grant_revision(
        &self,
        tenant: TenantId,
        revision: RevisionId,
        grants: Json,
        probed: Option<String>,
        actor: Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(
            (tenant, revision, grants, probed, actor, now),
            |db, (tenant, revision, grants, probed, actor, now)| {
                Box::pin(async move {
                    let changed = db
                        .exec(
                            "UPDATE plugin_revisions SET grants = $3, revision = $4 \
                             WHERE tenant_id = $1 AND id = $2 AND state = 'pending'",
                            values![*tenant, *revision, grants.to_string(), probed.clone()],
                        )
                        .await?;
                    if changed == 0 {
                        return Err(StoreError::NotFound("pending revision"));
                    }
                    if probed.is_some() {
                        for step in [RevisionState::Verified, RevisionState::Compiled, RevisionState::Probed] {
                            events::transition(db, *revision, step, actor, *now).await?;
                        }
                    }
                    Ok(())
                })
            },
        )
        .await
    }

    /// Marks a revision that waits as rejected.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such waiting revision.
    pub async fn reject_revision(
        &self,
        tenant: TenantId,
        revision: RevisionId,
        actor: Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write((tenant, revision, actor, now), |db, (tenant, revision, actor, now)| {
            Box::pin(async move {
                let known = known(db, *tenant, *revision).await?;
                if !matches!(known.state, RevisionState::Pending | RevisionState::Probed) {
                    return Err(StoreError::NotFound("waiting revision"));
                }
                events::transition(db, *revision, RevisionState::Rejected, actor, *now).await
            })
        })
        .await
    }

    /// Takes a plugin out of use, with whatever of it waits or is compared. Returns the new generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no revision of such a plugin is active or makes its hooks fail.
    pub async fn disable_plugin(
        &self,
        tenant: TenantId,
        plugin: &str,
        actor: Actor,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        self.write(
            (tenant, plugin.to_owned(), actor, now),
            |db, (tenant, name, actor, now)| {
                Box::pin(async move {
                    let generation = bump(db, *tenant).await?;
                    let plugin = plugin_row(db, *tenant, name)
                        .await
                        .map_err(|_| StoreError::NotFound("active plugin"))?;
                    let halted = "UPDATE plugins SET halted_id = NULL WHERE id = $1 AND halted_id IS NOT NULL";
                    let halted = db.exec(halted, values![plugin]).await? > 0;
                    match active(db, plugin).await? {
                        Some(active) => events::transition(db, active, RevisionState::Retired, actor, *now).await?,
                        None if halted => {}
                        None => return Err(StoreError::NotFound("active plugin")),
                    }
                    rollouts::end(db, plugin, None, Outcome::Stopped, actor, *now).await?;
                    supersede(db, plugin, None, "the plugin was disabled", actor, *now).await?;
                    prune(db, *tenant, plugin).await?;
                    forget_schedules_of(db, *tenant, name).await?;
                    Ok(generation)
                })
            },
        )
        .await
    }

    /// Moves a plugin to another place in the order. Returns the new generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such plugin.
    pub async fn set_plugin_position(&self, tenant: TenantId, plugin: &str, position: i64) -> Result<i64, StoreError> {
        self.write(
            (tenant, plugin.to_owned(), position),
            |db, (tenant, plugin, position)| {
                Box::pin(async move {
                    let generation = bump(db, *tenant).await?;
                    let sql = "UPDATE plugins SET position = $3 WHERE tenant_id = $1 AND name = $2";
                    let changed = db.exec(sql, values![*tenant, plugin.clone(), *position]).await?;
                    if changed == 0 {
                        Err(StoreError::NotFound("plugin"))
                    } else {
                        Ok(generation)
                    }
                })
            },
        )
        .await
    }
}

async fn insert(db: &Db, revision: &NewRevision, now: Timestamp) -> Result<RevisionId, StoreError> {
    // Before the component is stored: a purge of components that nothing names must not come in between.
    lock(db, revision.tenant).await?;
    db.exec(
        "INSERT INTO plugins (tenant_id, name, position, created_at) \
         SELECT $1, $2, COALESCE(MAX(position), 0) + 1, $3 FROM plugins WHERE tenant_id = $1 ON CONFLICT DO NOTHING",
        values![revision.tenant, revision.plugin.clone(), ms(now)],
    )
    .await?;
    if let Some(component) = &revision.component {
        db.exec(
            "INSERT INTO plugin_components (tenant_id, digest, component) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            values![revision.tenant, revision.digest.to_vec(), component.clone()],
        )
        .await?;
    }
    let plugin = plugin_row(db, revision.tenant, &revision.plugin).await?;
    let rejected = revision.steps.last() == Some(&RevisionState::Rejected);
    if !rejected {
        supersede(
            db,
            plugin,
            None,
            "a newer revision took its place",
            &revision.actor,
            now,
        )
        .await?;
    }
    let id = db
        .row(
            "INSERT INTO plugin_revisions (tenant_id, plugin_id, version, digest, manifest, settings, grants, state, \
             revision, signature, staging, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10, $11) RETURNING id",
            values![
                revision.tenant,
                plugin,
                revision.version.clone(),
                revision.digest.to_vec(),
                revision.manifest.to_string(),
                revision.settings.to_string(),
                revision.grants.to_string(),
                revision.revision.clone(),
                revision.signature.as_ref().map(Json::to_string),
                revision.staging.as_ref().map(Json::to_string),
                ms(now),
            ],
        )
        .await?
        .get(0)
        .map(RevisionId)?;
    db.exec(
        "INSERT INTO plugin_revision_events (tenant_id, plugin_id, revision_id, version, digest, to_state, actor, \
         created_at) VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7)",
        values![
            revision.tenant,
            plugin,
            id,
            revision.version.clone(),
            revision.digest.to_vec(),
            crate::db::words(&revision.actor.name),
            ms(now)
        ],
    )
    .await?;
    for step in &revision.steps {
        events::transition(db, id, *step, &revision.actor, now).await?;
    }
    prune(db, revision.tenant, plugin).await?;
    Ok(id)
}

/// Makes a revision the active one, retires the one that was, and ends what compared them.
async fn activate(
    db: &Db,
    known: &Known,
    revision: RevisionId,
    back: bool,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let outcome = if back { Outcome::RolledBack } else { Outcome::Promoted };
    rollouts::end(db, known.plugin, Some(revision), outcome, actor, now).await?;
    // The index allows one active revision, also between two statements.
    if let Some(active) = active(db, known.plugin).await?.filter(|id| *id != revision) {
        events::transition(db, active, RevisionState::Retired, actor, now).await?;
        if back {
            // Nobody goes back to what was gone back from.
            let sql = "UPDATE plugin_revisions SET activated_at = NULL WHERE id = $1";
            db.exec(sql, values![active]).await?;
        }
    }
    events::transition(db, revision, RevisionState::Active, actor, now).await?;
    db.exec(
        "UPDATE plugins SET halted_id = NULL WHERE id = $1",
        values![known.plugin],
    )
    .await?;
    if back {
        return Ok(());
    }
    // The times order the activations, so they are never equal.
    db.exec(
        "UPDATE plugin_revisions SET activated_at = CASE WHEN $2 > (SELECT COALESCE(MAX(o.activated_at), 0) \
         FROM plugin_revisions o WHERE o.plugin_id = $3) THEN $2 ELSE (SELECT MAX(o.activated_at) + 1 \
         FROM plugin_revisions o WHERE o.plugin_id = $3) END WHERE id = $1",
        values![revision, ms(now), known.plugin],
    )
    .await?;
    supersede(
        db,
        known.plugin,
        Some(revision),
        "a newer revision is in use",
        actor,
        now,
    )
    .await
}

/// Rejects the revisions of a plugin that wait, those newer than `before` left out.
async fn supersede(
    db: &Db,
    plugin: i64,
    before: Option<RevisionId>,
    why: &str,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let actor = Actor::new(&actor.name).because(why);
    let waiting = db
        .all(
            "SELECT id FROM plugin_revisions WHERE plugin_id = $1 AND id < $2 \
             AND state IN ('pending', 'verified', 'compiled', 'probed')",
            values![plugin, before.map_or(i64::MAX, |before| before.0)],
        )
        .await?;
    for row in waiting {
        events::transition(db, RevisionId(row.get(0)?), RevisionState::Rejected, &actor, now).await?;
    }
    Ok(())
}

/// Deletes old revisions of a plugin, and the components and comparisons that nothing names any more.
async fn prune(db: &Db, tenant: TenantId, plugin: i64) -> Result<(), StoreError> {
    for (state, kept) in [
        (RevisionState::Retired, KEPT),
        (RevisionState::Rejected, KEPT),
        (RevisionState::Quarantined, KEPT_IN_QUARANTINE),
    ] {
        db.exec(
            "DELETE FROM plugin_revisions WHERE plugin_id = $1 AND state = $2 \
             AND id NOT IN (SELECT id FROM plugin_revisions WHERE plugin_id = $1 AND state = $2 \
                 ORDER BY COALESCE(activated_at, 0) DESC, id DESC LIMIT $3) \
             AND NOT EXISTS (SELECT 1 FROM plugin_rollouts o WHERE o.plugin_id = $1 AND o.ended_at IS NULL \
                 AND (o.other_id = plugin_revisions.id OR o.base_id = plugin_revisions.id)) \
             AND NOT EXISTS (SELECT 1 FROM plugins p WHERE p.halted_id = plugin_revisions.id)",
            values![plugin, state, kept],
        )
        .await?;
    }
    db.exec(
        "DELETE FROM plugin_components WHERE tenant_id = $1 AND NOT EXISTS (SELECT 1 FROM plugin_revisions r \
         WHERE r.tenant_id = $1 AND r.digest = plugin_components.digest AND r.state <> 'rejected')",
        values![tenant],
    )
    .await?;
    rollouts::prune(db, plugin).await?;
    events::prune(db, plugin).await
}

async fn known(db: &Db, tenant: TenantId, revision: RevisionId) -> Result<Known, StoreError> {
    let row = db
        .one(
            "SELECT plugin_id, state, activated_at FROM plugin_revisions WHERE tenant_id = $1 AND id = $2",
            values![tenant, revision],
        )
        .await?
        .ok_or(StoreError::NotFound("revision"))?;
    Ok(Known {
        plugin: row.get(0)?,
        state: row.word(1, RevisionState::from_word, "revision state")?,
        activated_at: row.get(2)?,
    })
}

/// The number of a plugin's row.
pub(super) async fn plugin_row(db: &Db, tenant: TenantId, plugin: &str) -> Result<i64, StoreError> {
    db.one(
        "SELECT id FROM plugins WHERE tenant_id = $1 AND name = $2",
        values![tenant, plugin.to_owned()],
    )
    .await?
    .ok_or(StoreError::NotFound("plugin"))?
    .get(0)
}

/// The active revision of a plugin.
pub(super) async fn active(db: &Db, plugin: i64) -> Result<Option<RevisionId>, StoreError> {
    db.one(
        "SELECT id FROM plugin_revisions WHERE plugin_id = $1 AND state = 'active'",
        values![plugin],
    )
    .await?
    .map(|row| row.get(0).map(RevisionId))
    .transpose()
}

/// The revision that was active before the current one, which was activated then. One of the same digest would decide and
/// fail the same.
async fn warm(
    db: &Db,
    plugin: i64,
    current: RevisionId,
    activated_at: Option<i64>,
) -> Result<Option<RevisionId>, StoreError> {
    db.one(
        "SELECT r.id FROM plugin_revisions r WHERE r.plugin_id = $1 AND r.state = 'retired' AND r.activated_at < $2 \
         AND COALESCE(r.revision, '') <> COALESCE((SELECT c.revision FROM plugin_revisions c WHERE c.id = $3), '-') \
         AND NOT EXISTS (SELECT 1 FROM plugin_revisions q WHERE q.plugin_id = $1 AND q.state = 'quarantined' \
             AND q.revision = r.revision) ORDER BY r.activated_at DESC LIMIT 1",
        values![plugin, activated_at.unwrap_or(i64::MAX), current],
    )
    .await?
    .map(|row| row.get(0).map(RevisionId))
    .transpose()
}

/// Whether a revision, or another of its digest, is in quarantine.
pub(super) async fn in_quarantine(db: &Db, revision: RevisionId) -> Result<bool, StoreError> {
    let row = db
        .one(
            "SELECT r.id FROM plugin_revisions r JOIN plugin_revisions q ON q.plugin_id = r.plugin_id \
             WHERE r.id = $1 AND q.state = 'quarantined' AND (q.id = r.id OR q.revision = r.revision) LIMIT 1",
            values![revision],
        )
        .await?;
    Ok(row.is_some())
}

/// The state that a candidate of a phase has.
pub(super) fn candidate_state(phase: RolloutPhase) -> RevisionState {
    match phase {
        RolloutPhase::Canary => RevisionState::Canary,
        RolloutPhase::Shadow | RolloutPhase::Watch => RevisionState::Shadow,
    }
}
