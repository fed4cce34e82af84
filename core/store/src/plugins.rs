//! Plugins and their revisions. At most one revision of a plugin is active; each change of a tenant's active set adds one
//! to its generation, in the same transaction.

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::db::{Db, Row, ms, values};
use crate::error::StoreError;
use crate::ids::{RevisionId, Sha256, TenantId, words};
use crate::store::Store;

words! {
    /// Where a revision stands.
    RevisionState {
        /// Uploaded, not yet compiled and checked.
        Pending = "pending",
        /// In use.
        Active = "active",
        /// Was in use; may be activated again.
        Retired = "retired",
        /// Did not pass.
        Rejected = "rejected",
    }
}

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
    /// The component. Stored once per digest.
    pub component: Vec<u8>,
    /// What the plugin says about itself.
    pub manifest: Json,
    /// The administrator's settings for it.
    pub settings: Json,
    /// What the administrator lets it reach.
    pub grants: Json,
}

/// A stored revision, without its component.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionRecord {
    /// Its row.
    pub id: RevisionId,
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's place in the order in which a tenant's plugins are asked; lower first.
    pub position: i64,
    /// The author's version.
    pub version: String,
    /// Digest of the component: see [`Store::plugin_component`].
    pub digest: Sha256,
    /// What the plugin says about itself.
    pub manifest: Json,
    /// The administrator's settings for it.
    pub settings: Json,
    /// What the administrator lets it reach.
    pub grants: Json,
    /// Where it stands.
    pub state: RevisionState,
    /// Why it was rejected or retired.
    pub reason: Option<String>,
    /// When it was uploaded.
    pub created_at: Timestamp,
    /// When it was activated last.
    pub activated_at: Option<Timestamp>,
}

/// A plugin of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRecord {
    /// Its name.
    pub name: String,
    /// Its place in the order; lower first.
    pub position: i64,
    /// The revision in use; `None` when it is disabled or has not had one yet.
    pub active: Option<RevisionId>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The plugins that a tenant uses, at one generation.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivePlugins {
    /// Counts the changes of the set.
    pub generation: i64,
    /// The active revisions, in order.
    pub revisions: Vec<RevisionRecord>,
}

const COLUMNS: &str = "r.id, p.name, p.position, r.version, r.digest, r.manifest, r.settings, r.grants, r.state, \
     r.reason, r.created_at, r.activated_at";

impl Store {
    /// Stores a revision as pending, and makes the plugin (last in the order) when it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_revision(&self, revision: NewRevision, now: Timestamp) -> Result<RevisionId, StoreError> {
        self.write((revision, now), |db, (revision, now)| {
            Box::pin(insert(db, revision, *now))
        })
        .await
    }

    /// Puts a revision into use: the plugin's active one is retired, this one is active, the generation is one higher.
    /// Returns the new generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such revision, or it was rejected.
    pub async fn activate_revision(
        &self,
        tenant: TenantId,
        revision: RevisionId,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        self.write((tenant, revision, now), |db, (tenant, revision, now)| {
            Box::pin(async move {
                // First, as it locks the tenant's row: two activations follow one another.
                let generation = bump(db, *tenant).await?;
                db.exec(
                    "UPDATE plugin_revisions SET state = 'retired', reason = NULL WHERE state = 'active' \
                     AND tenant_id = $1 AND plugin_id = (SELECT plugin_id FROM plugin_revisions WHERE id = $2)",
                    values![*tenant, *revision],
                )
                .await?;
                let changed = db
                    .exec(
                        "UPDATE plugin_revisions SET state = 'active', reason = NULL, activated_at = $3 \
                         WHERE tenant_id = $1 AND id = $2 AND state <> 'rejected'",
                        values![*tenant, *revision, ms(*now)],
                    )
                    .await?;
                if changed == 0 {
                    Err(StoreError::NotFound("revision to activate"))
                } else {
                    Ok(generation)
                }
            })
        })
        .await
    }

    /// Marks a pending revision as rejected.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such pending revision.
    pub async fn reject_revision(
        &self,
        tenant: TenantId,
        revision: RevisionId,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.write(
            (tenant, revision, reason.to_owned()),
            |db, (tenant, revision, reason)| {
                Box::pin(async move {
                    let changed = db
                        .exec(
                            "UPDATE plugin_revisions SET state = 'rejected', reason = $3 \
                         WHERE tenant_id = $1 AND id = $2 AND state = 'pending'",
                            values![*tenant, *revision, reason.clone()],
                        )
                        .await?;
                    if changed == 0 {
                        Err(StoreError::NotFound("pending revision"))
                    } else {
                        Ok(())
                    }
                })
            },
        )
        .await
    }

    /// Takes a plugin out of use. Returns the new generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no revision of such a plugin is active.
    pub async fn disable_plugin(&self, tenant: TenantId, plugin: &str, reason: &str) -> Result<i64, StoreError> {
        self.write(
            (tenant, plugin.to_owned(), reason.to_owned()),
            |db, (tenant, plugin, reason)| {
                Box::pin(async move {
                    let generation = bump(db, *tenant).await?;
                    let changed = db
                        .exec(
                            "UPDATE plugin_revisions SET state = 'retired', reason = $3 WHERE state = 'active' \
                         AND plugin_id = (SELECT id FROM plugins WHERE tenant_id = $1 AND name = $2)",
                            values![*tenant, plugin.clone(), reason.clone()],
                        )
                        .await?;
                    if changed == 0 {
                        Err(StoreError::NotFound("active plugin"))
                    } else {
                        Ok(generation)
                    }
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

    /// How often the tenant's active set changed: cheap to ask often.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such tenant.
    pub async fn plugin_generation(&self, tenant: TenantId) -> Result<i64, StoreError> {
        let row = self
            .read()
            .one("SELECT plugin_generation FROM tenants WHERE id = $1", values![tenant])
            .await?;
        row.ok_or(StoreError::NotFound("tenant"))?.get(0)
    }

    /// The active set and its generation, read together.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such tenant.
    pub async fn active_plugins(&self, tenant: TenantId) -> Result<ActivePlugins, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {COLUMNS}, t.plugin_generation FROM tenants t \
                     LEFT JOIN plugin_revisions r ON r.tenant_id = t.id AND r.state = 'active' \
                     LEFT JOIN plugins p ON p.id = r.plugin_id WHERE t.id = $1 ORDER BY p.position, p.id"
                ),
                values![tenant],
            )
            .await?;
        let generation = rows.first().ok_or(StoreError::NotFound("tenant"))?.get(12)?;
        let mut revisions = Vec::with_capacity(rows.len());
        for row in &rows {
            // A tenant without plugins has one row of nulls.
            if row.get::<Option<i64>>(0)?.is_some() {
                revisions.push(revision_of(row)?);
            }
        }
        Ok(ActivePlugins { generation, revisions })
    }

    /// The plugins of a tenant, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plugins(&self, tenant: TenantId) -> Result<Vec<PluginRecord>, StoreError> {
        let rows = self
            .read()
            .all(
                "SELECT p.name, p.position, r.id, p.created_at FROM plugins p \
                 LEFT JOIN plugin_revisions r ON r.plugin_id = p.id AND r.state = 'active' \
                 WHERE p.tenant_id = $1 ORDER BY p.position, p.id",
                values![tenant],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(PluginRecord {
                    name: row.get(0)?,
                    position: row.get(1)?,
                    active: row.get::<Option<i64>>(2)?.map(RevisionId),
                    created_at: row.time(3)?,
                })
            })
            .collect()
    }

    /// The revisions of a plugin, newest first.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn revisions(&self, tenant: TenantId, plugin: &str) -> Result<Vec<RevisionRecord>, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {COLUMNS} FROM plugin_revisions r JOIN plugins p ON p.id = r.plugin_id \
                     WHERE p.tenant_id = $1 AND p.name = $2 ORDER BY r.id DESC"
                ),
                values![tenant, plugin.to_owned()],
            )
            .await?;
        rows.iter().map(revision_of).collect()
    }

    /// One revision.
    ///
    /// # Errors
    /// When the database fails or the row does not read back.
    pub async fn revision(&self, tenant: TenantId, id: RevisionId) -> Result<Option<RevisionRecord>, StoreError> {
        let row = self
            .read()
            .one(
                format!(
                    "SELECT {COLUMNS} FROM plugin_revisions r JOIN plugins p ON p.id = r.plugin_id \
                     WHERE r.tenant_id = $1 AND r.id = $2"
                ),
                values![tenant, id],
            )
            .await?;
        row.map(|row| revision_of(&row)).transpose()
    }

    /// The component of a digest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plugin_component(&self, tenant: TenantId, digest: &Sha256) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT component FROM plugin_components WHERE tenant_id = $1 AND digest = $2";
        self.read()
            .one(sql, values![tenant, digest.to_vec()])
            .await?
            .map(|row| row.get(0))
            .transpose()
    }
}

async fn insert(db: &Db, revision: &NewRevision, now: Timestamp) -> Result<RevisionId, StoreError> {
    db.exec(
        "INSERT INTO plugins (tenant_id, name, position, created_at) \
         SELECT $1, $2, COALESCE(MAX(position), 0) + 1, $3 FROM plugins WHERE tenant_id = $1 ON CONFLICT DO NOTHING",
        values![revision.tenant, revision.plugin.clone(), ms(now)],
    )
    .await?;
    db.exec(
        "INSERT INTO plugin_components (tenant_id, digest, component) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        values![revision.tenant, revision.digest.to_vec(), revision.component.clone()],
    )
    .await?;
    db.row(
        "INSERT INTO plugin_revisions (tenant_id, plugin_id, version, digest, manifest, settings, grants, state, \
         created_at) SELECT $1, p.id, $3, $4, $5, $6, $7, 'pending', $8 FROM plugins p \
         WHERE p.tenant_id = $1 AND p.name = $2 RETURNING id",
        values![
            revision.tenant,
            revision.plugin.clone(),
            revision.version.clone(),
            revision.digest.to_vec(),
            revision.manifest.to_string(),
            revision.settings.to_string(),
            revision.grants.to_string(),
            ms(now),
        ],
    )
    .await?
    .get(0)
    .map(RevisionId)
}

async fn bump(db: &Db, tenant: TenantId) -> Result<i64, StoreError> {
    let sql = "UPDATE tenants SET plugin_generation = plugin_generation + 1 WHERE id = $1 RETURNING plugin_generation";
    db.one(sql, values![tenant])
        .await?
        .ok_or(StoreError::NotFound("tenant"))?
        .get(0)
}

fn revision_of(row: &Row) -> Result<RevisionRecord, StoreError> {
    Ok(RevisionRecord {
        id: RevisionId(row.get(0)?),
        plugin: row.get(1)?,
        position: row.get(2)?,
        version: row.get(3)?,
        digest: row.sha256(4)?,
        manifest: row.json(5)?,
        settings: row.json(6)?,
        grants: row.json(7)?,
        state: row.word(8, RevisionState::from_word, "revision state")?,
        reason: row.get(9)?,
        created_at: row.time(10)?,
        activated_at: row.time_opt(11)?,
    })
}
