//! Reading plugins and their revisions.

use super::rollouts::{self, rollout_of};
use super::{ActivePlugins, COLUMNS, PluginRecord, RevisionRecord, StagedRollout, WIDTH, revision_of};
use crate::db::values;
use crate::error::StoreError;
use crate::ids::{RevisionId, Sha256, TenantId};
use crate::store::Store;

impl Store {
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

    /// The active set and its generation, read together, with the comparisons and the revisions to go back to. Those are
    /// read after it: if a change came in between, the generation tells at the next look.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such tenant.
    pub async fn active_plugins(&self, tenant: TenantId) -> Result<ActivePlugins, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {COLUMNS}, t.plugin_generation FROM tenants t \
                     LEFT JOIN plugins p ON p.tenant_id = t.id \
                     LEFT JOIN plugin_revisions r ON r.plugin_id = p.id AND (r.state = 'active' OR r.id = p.halted_id) \
                     WHERE t.id = $1 ORDER BY p.position, p.id"
                ),
                values![tenant],
            )
            .await?;
        let generation = rows.first().ok_or(StoreError::NotFound("tenant"))?.get(WIDTH)?;
        let mut revisions = Vec::with_capacity(rows.len());
        for row in &rows {
            // A tenant without plugins, and a plugin that is not in use, have a row of nulls.
            if row.get::<Option<i64>>(0)?.is_some() {
                revisions.push(revision_of(row)?);
            }
        }
        let rollouts = self
            .read()
            .all(
                format!(
                    "SELECT {COLUMNS}, {} FROM plugin_rollouts o JOIN plugins p ON p.id = o.plugin_id \
                     JOIN plugin_revisions r ON r.id = o.other_id \
                     WHERE o.tenant_id = $1 AND o.ended_at IS NULL ORDER BY o.id",
                    rollouts::COLUMNS
                ),
                values![tenant],
            )
            .await?;
        let rollouts = rollouts
            .iter()
            .map(|row| {
                Ok(StagedRollout {
                    rollout: rollout_of(row, WIDTH)?,
                    other: revision_of(row)?,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        let warm = self
            .read()
            .all(
                format!(
                    "SELECT {COLUMNS} FROM plugin_revisions r JOIN plugins p ON p.id = r.plugin_id \
                     WHERE p.tenant_id = $1 AND r.state = 'retired' AND r.activated_at = \
                     (SELECT MAX(b.activated_at) FROM plugin_revisions b JOIN plugin_revisions a \
                         ON a.plugin_id = b.plugin_id AND a.state = 'active' \
                      WHERE b.plugin_id = p.id AND b.state = 'retired' AND b.activated_at < a.activated_at \
                         AND COALESCE(b.revision, '') <> COALESCE(a.revision, '-') \
                         AND NOT EXISTS (SELECT 1 FROM plugin_revisions q WHERE q.plugin_id = p.id \
                             AND q.state = 'quarantined' AND q.revision = b.revision)) ORDER BY p.position, p.id"
                ),
                values![tenant],
            )
            .await?;
        Ok(ActivePlugins {
            generation,
            revisions,
            rollouts,
            warm: warm.iter().map(revision_of).collect::<Result<_, _>>()?,
        })
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
