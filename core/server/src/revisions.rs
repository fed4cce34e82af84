//! The plugin manager's port to the store: names of tenants become their numbers, and digests their bytes.

mod rollouts;

use async_trait::async_trait;
use jiff::Timestamp;
use russet_plugin_host::{
    Activation, ActiveRevisions, Actor, NewRevision, Quarantined, RevisionEvent, RevisionState, RevisionStore,
    RevisionStoreError, StagedRollout, StoredPlugin, StoredRevision,
};
use russet_store::{RevisionId, RevisionRecord, Sha256, Store, StoreError, TenantId};
use serde_json::Value;

/// Keeps revisions of plugins in the store.
#[derive(Debug, Clone)]
pub(crate) struct StoreRevisions {
    store: Store,
}

impl StoreRevisions {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    async fn tenant(&self, name: &str) -> Result<TenantId, RevisionStoreError> {
        let tenant = self.store.tenant_by_name(name).await.map_err(failed)?;
        tenant
            .map(|tenant| tenant.id)
            .ok_or(RevisionStoreError::NotFound("tenant"))
    }
}

fn failed(error: StoreError) -> RevisionStoreError {
    match error {
        StoreError::NotFound(what) => RevisionStoreError::NotFound(what),
        StoreError::Quarantined => RevisionStoreError::Quarantined,
        other => RevisionStoreError::Failed(Box::new(other)),
    }
}

fn unreadable(error: serde_json::Error) -> RevisionStoreError {
    RevisionStoreError::Failed(Box::new(error))
}

/// A generation counts up from zero.
fn generation(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

fn digest_of(hexadecimal: &str) -> Result<Sha256, RevisionStoreError> {
    let mut digest = Sha256::default();
    // A digest that is none names nothing.
    hex::decode_to_slice(hexadecimal, &mut digest).map_err(|_| RevisionStoreError::NotFound("plugin component"))?;
    Ok(digest)
}

fn actor(actor: Actor) -> russet_store::Actor {
    russet_store::Actor {
        name: actor.name,
        reason: actor.reason,
    }
}

/// Both sides have the same states, under the same names.
macro_rules! states {
    ($($state:ident),+ $(,)?) => {
        fn state(stored: russet_store::RevisionState) -> RevisionState {
            match stored {
                $(russet_store::RevisionState::$state => RevisionState::$state,)+
            }
        }

        fn to_store(state: RevisionState) -> russet_store::RevisionState {
            match state {
                $(RevisionState::$state => russet_store::RevisionState::$state,)+
            }
        }
    };
}

states![
    Pending,
    Verified,
    Compiled,
    Probed,
    Shadow,
    Canary,
    Active,
    Retired,
    Quarantined,
    Rejected,
];

fn stored(record: RevisionRecord) -> StoredRevision {
    StoredRevision {
        id: record.id.0,
        plugin: record.plugin,
        position: record.position,
        version: record.version,
        digest: hex::encode(record.digest),
        revision: record.revision,
        manifest: record.manifest,
        settings: record.settings,
        grants: record.grants,
        signature: record.signature,
        staging: record.staging,
        state: state(record.state),
        reason: record.reason,
        created_at: record.created_at,
        activated_at: record.activated_at,
    }
}

#[async_trait]
impl RevisionStore for StoreRevisions {
    async fn tenants(&self) -> Result<Vec<String>, RevisionStoreError> {
        let tenants = self.store.tenants().await.map_err(failed)?;
        Ok(tenants.into_iter().map(|tenant| tenant.name).collect())
    }

    async fn generation(&self, tenant: &str) -> Result<u64, RevisionStoreError> {
        let tenant = self.store.tenant_by_name(tenant).await.map_err(failed)?;
        let tenant = tenant.ok_or(RevisionStoreError::NotFound("tenant"))?;
        Ok(generation(tenant.plugin_generation))
    }

    async fn active(&self, tenant: &str) -> Result<ActiveRevisions, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let active = self.store.active_plugins(tenant).await.map_err(failed)?;
        let rollouts = active.rollouts.into_iter().map(|staged| {
            Ok(StagedRollout {
                rollout: rollouts::stored(staged.rollout)?,
                other: stored(staged.other),
            })
        });
        Ok(ActiveRevisions {
            generation: generation(active.generation),
            revisions: active.revisions.into_iter().map(stored).collect(),
            rollouts: rollouts.collect::<Result<_, RevisionStoreError>>()?,
            warm: active.warm.into_iter().map(stored).collect(),
        })
    }

    async fn plugins(&self, tenant: &str) -> Result<Vec<StoredPlugin>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let plugins = self.store.plugins(tenant).await.map_err(failed)?;
        Ok(plugins
            .into_iter()
            .map(|plugin| StoredPlugin {
                name: plugin.name,
                position: plugin.position,
            })
            .collect())
    }

    async fn revisions(&self, tenant: &str, plugin: &str) -> Result<Vec<StoredRevision>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let revisions = self.store.revisions(tenant, plugin).await.map_err(failed)?;
        Ok(revisions.into_iter().map(stored).collect())
    }

    async fn history(&self, tenant: &str, plugin: &str, limit: u32) -> Result<Vec<RevisionEvent>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let events = self
            .store
            .revision_events(tenant, plugin, limit)
            .await
            .map_err(failed)?;
        Ok(events
            .into_iter()
            .map(|event| RevisionEvent {
                id: event.revision.0,
                version: event.version,
                digest: hex::encode(event.digest),
                from: event.from.map(state),
                to: state(event.to),
                by: event.actor,
                reason: event.reason,
                at: event.at,
            })
            .collect())
    }

    async fn component(&self, tenant: &str, digest: &str) -> Result<Vec<u8>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let component = self
            .store
            .plugin_component(tenant, &digest_of(digest)?)
            .await
            .map_err(failed)?;
        component.ok_or(RevisionStoreError::NotFound("plugin component"))
    }

    async fn insert(&self, tenant: &str, revision: NewRevision) -> Result<i64, RevisionStoreError> {
        let revision = russet_store::NewRevision {
            tenant: self.tenant(tenant).await?,
            plugin: revision.plugin,
            version: revision.version,
            digest: digest_of(&revision.digest)?,
            component: revision.component.map(|component| component.to_vec()),
            manifest: revision.manifest,
            settings: revision.settings,
            grants: revision.grants,
            signature: revision.signature,
            staging: revision.staging,
            revision: revision.revision,
            steps: revision.steps.into_iter().map(to_store).collect(),
            actor: actor(revision.actor),
        };
        let id = self
            .store
            .insert_revision(revision, Timestamp::now())
            .await
            .map_err(failed)?;
        Ok(id.0)
    }

    async fn grant(
        &self,
        tenant: &str,
        revision: i64,
        grants: Value,
        probed: Option<String>,
        by: Actor,
    ) -> Result<(), RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let (revision, now) = (RevisionId(revision), Timestamp::now());
        self.store
            .grant_revision(tenant, revision, grants, probed, actor(by), now)
            .await
            .map_err(failed)
    }

    async fn activate(&self, tenant: &str, activation: Activation) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let watch = activation
            .watch
            .map(|(until, gates)| Ok((until, serde_json::to_value(gates).map_err(unreadable)?)))
            .transpose()?;
        let activation = russet_store::Activation {
            revision: RevisionId(activation.revision),
            actor: actor(activation.actor),
            force: activation.force,
            watch,
        };
        self.store
            .activate_revision(tenant, activation, Timestamp::now())
            .await
            .map(generation)
            .map_err(failed)
    }

    async fn rollback(&self, tenant: &str, plugin: &str, by: Actor) -> Result<(i64, u64), RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let (revision, stored) = self
            .store
            .rollback_plugin(tenant, plugin, actor(by), Timestamp::now())
            .await
            .map_err(failed)?;
        Ok((revision.0, generation(stored)))
    }

    async fn quarantine(&self, tenant: &str, revision: i64, by: Actor) -> Result<Quarantined, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let done = self
            .store
            .quarantine_revision(tenant, RevisionId(revision), actor(by), Timestamp::now())
            .await
            .map_err(failed)?;
        Ok(Quarantined {
            generation: generation(done.generation),
            was_active: done.was_active,
            instead: done.instead.map(|instead| instead.0),
        })
    }

    async fn disable(&self, tenant: &str, plugin: &str, by: Actor) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        self.store
            .disable_plugin(tenant, plugin, actor(by), Timestamp::now())
            .await
            .map(generation)
            .map_err(failed)
    }

    async fn set_position(&self, tenant: &str, plugin: &str, position: i64) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        self.store
            .set_plugin_position(tenant, plugin, position)
            .await
            .map(generation)
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use russet_store::{DEFAULT_TENANT, MasterKey, StoreConfig};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_store_keeps_what_the_manager_hands_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("db").display());
        let store = Store::open(StoreConfig::new(url), &MasterKey::from_bytes([1; 32]))
            .await
            .unwrap();
        let revisions = StoreRevisions::new(store.clone());

        assert_eq!(revisions.tenants().await.unwrap(), [DEFAULT_TENANT]);
        let before = revisions.generation(DEFAULT_TENANT).await.unwrap();
        let digest = "ab".repeat(32);
        let new = NewRevision {
            plugin: "gate".to_owned(),
            version: "1.0.0".to_owned(),
            digest: digest.clone(),
            component: Some(vec![1, 2, 3].into()),
            manifest: json!({"name": "gate"}),
            settings: json!({"a": 1}),
            grants: json!({"capabilities": ["log.write"]}),
            signature: Some(json!({"state": "unsigned"})),
            staging: Some(json!("keep")),
            revision: Some("r1".to_owned()),
            steps: vec![RevisionState::Verified, RevisionState::Compiled, RevisionState::Probed],
            actor: Actor::new("anna"),
        };
        let id = revisions.insert(DEFAULT_TENANT, new).await.unwrap();
        let kept = &revisions.revisions(DEFAULT_TENANT, "gate").await.unwrap()[0];
        assert_eq!(kept.staging, Some(json!("keep")));
        assert_eq!(revisions.generation(DEFAULT_TENANT).await.unwrap(), before);
        assert_eq!(revisions.component(DEFAULT_TENANT, &digest).await.unwrap(), [1, 2, 3]);

        let activation = |revision| Activation {
            revision,
            actor: Actor::new("anna").because("tested"),
            force: false,
            watch: None,
        };
        let after = revisions.activate(DEFAULT_TENANT, activation(id)).await.unwrap();
        assert!(after > before);
        let active = revisions.active(DEFAULT_TENANT).await.unwrap();
        assert_eq!((active.generation, active.revisions.len()), (after, 1));
        let revision = &active.revisions[0];
        assert_eq!(
            (revision.id, revision.digest.as_str(), revision.state),
            (id, digest.as_str(), RevisionState::Active)
        );
        assert_eq!(
            (&revision.settings, &revision.grants["capabilities"]),
            (&json!({"a": 1}), &json!(["log.write"]))
        );

        let moved = revisions.set_position(DEFAULT_TENANT, "gate", 7).await.unwrap();
        assert_eq!(revisions.plugins(DEFAULT_TENANT).await.unwrap()[0].position, 7);
        let disabled = revisions
            .disable(DEFAULT_TENANT, "gate", Actor::new("anna"))
            .await
            .unwrap();
        assert!(disabled > moved && moved > after);
        assert_eq!(
            revisions.revisions(DEFAULT_TENANT, "gate").await.unwrap()[0].state,
            RevisionState::Retired
        );

        let history = revisions.history(DEFAULT_TENANT, "gate", 10).await.unwrap();
        let steps: Vec<_> = history.iter().rev().map(|event| event.to.as_str()).collect();
        assert_eq!(
            steps,
            ["pending", "verified", "compiled", "probed", "active", "retired"]
        );
        assert_eq!(
            (history[1].by.as_str(), history[1].reason.as_deref()),
            ("anna", Some("tested"))
        );
        assert_eq!(history[0].from, Some(RevisionState::Active));

        let unknown = revisions.generation("nobody").await;
        assert!(matches!(unknown, Err(RevisionStoreError::NotFound("tenant"))));
        let unknown = revisions.component(DEFAULT_TENANT, "no digest").await;
        assert!(matches!(unknown, Err(RevisionStoreError::NotFound(_))));
        store.close().await.unwrap();
    }
}
