//! What happened to the revisions of a plugin: who did it, when and why.

use jiff::Timestamp;

use super::{Actor, RevisionState};
use crate::db::{Db, ms, values, words};
use crate::error::StoreError;
use crate::ids::{RevisionId, Sha256, TenantId};
use crate::store::Store;

/// How many events of a plugin are kept.
const KEPT: i64 = 1_000;

/// A revision went from one state to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionEvent {
    /// The revision. It may be gone.
    pub revision: RevisionId,
    /// The author's version.
    pub version: String,
    /// Digest of the component.
    pub digest: Sha256,
    /// Where it stood; `None` for the first event.
    pub from: Option<RevisionState>,
    /// Where it stands.
    pub to: RevisionState,
    /// Who did it.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl Store {
    /// What happened to the revisions of a plugin, newest first.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn revision_events(
        &self,
        tenant: TenantId,
        plugin: &str,
        limit: u32,
    ) -> Result<Vec<RevisionEvent>, StoreError> {
        let rows = self
            .read()
            .all(
                "SELECT e.revision_id, e.version, e.digest, e.from_state, e.to_state, e.actor, e.reason, e.created_at \
                 FROM plugin_revision_events e JOIN plugins p ON p.id = e.plugin_id \
                 WHERE p.tenant_id = $1 AND p.name = $2 ORDER BY e.id DESC LIMIT $3",
                values![tenant, plugin.to_owned(), i64::from(limit)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(RevisionEvent {
                    revision: RevisionId(row.get(0)?),
                    version: row.get(1)?,
                    digest: row.sha256(2)?,
                    from: row
                        .get::<Option<String>>(3)?
                        .map(|word| RevisionState::from_word(&word).ok_or(StoreError::Corrupt("revision state")))
                        .transpose()?,
                    to: row.word(4, RevisionState::from_word, "revision state")?,
                    actor: row.get(5)?,
                    reason: row.get(6)?,
                    at: row.time(7)?,
                })
            })
            .collect()
    }
}

/// Puts a revision into a state, and notes it. Nothing is noted if it stands there already.
pub(super) async fn transition(
    db: &Db,
    revision: RevisionId,
    to: RevisionState,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    note(db, revision, to, actor, now).await?;
    let sql = "UPDATE plugin_revisions SET state = $2, reason = $3 WHERE id = $1 AND state <> $2";
    db.exec(sql, values![revision, to, actor.reason.as_deref().map(words)])
        .await
        .map(|_| ())
}

/// Notes a step of a revision that stands elsewhere.
pub(super) async fn note(
    db: &Db,
    revision: RevisionId,
    to: RevisionState,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    db.exec(
        "INSERT INTO plugin_revision_events (tenant_id, plugin_id, revision_id, version, digest, from_state, to_state, \
         actor, reason, created_at) SELECT tenant_id, plugin_id, id, version, digest, state, $2, $3, $4, $5 \
         FROM plugin_revisions WHERE id = $1 AND state <> $2",
        values![
            revision,
            to,
            words(&actor.name),
            actor.reason.as_deref().map(words),
            ms(now)
        ],
    )
    .await
    .map(|_| ())
}

/// Deletes all but the newest events of a plugin.
pub(super) async fn prune(db: &Db, plugin: i64) -> Result<(), StoreError> {
    db.exec(
        "DELETE FROM plugin_revision_events WHERE plugin_id = $1 AND id NOT IN \
         (SELECT id FROM plugin_revision_events WHERE plugin_id = $1 ORDER BY id DESC LIMIT $2)",
        values![plugin, KEPT],
    )
    .await
    .map(|_| ())
}
