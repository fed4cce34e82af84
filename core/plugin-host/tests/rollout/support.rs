//! A server with two plugins to roll out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russet_hooks::{DecisionRecord, GateVerdict, HookSource, PluginFault};
use russet_plugin_host::package::Trust;
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    Actor, BreakerSettings, Gates, InstallError, InstallRequest, Limits, MemoryRevisions, PluginHost, PluginManager,
    PromoteRequest, RevisionState, RevisionStore, RolloutError, RolloutRequest, RolloutStatus, Staging,
};
use serde_json::{Value, json};

use crate::common::{SilentDirectory, artifact, engine, grants, hostile_grants};

pub(crate) const TENANT: &str = "default";
pub(crate) const SMALLEST: &str = "smallest-gate";
pub(crate) const HOSTILE: &str = "hostile";

pub(crate) struct Server {
    pub(crate) manager: PluginManager,
    pub(crate) store: Arc<MemoryRevisions>,
    _directory: SilentDirectory,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(MemoryRevisions::new([TENANT])))
    }

    pub(crate) fn on(store: Arc<MemoryRevisions>) -> Self {
        let directory = SilentDirectory::start();
        let manager = PluginManager::new(
            engine(),
            Arc::new(PluginHost::new()),
            Arc::clone(&store) as Arc<dyn RevisionStore>,
            directory.connections(),
            Ports::memory(),
            Limits::default(),
        );
        Self {
            manager: manager
                .with_trust(Trust::unsigned())
                // Builds that are not optimised are slow enough.
                .with_shadow_percent(100)
                .with_breaker(BreakerSettings {
                    faults: 3,
                    first: Duration::ZERO,
                    openings: 2,
                    ..BreakerSettings::default()
                }),
            store,
            _directory: directory,
        }
    }

    /// The smallest gate lets devices in whose serial number begins so.
    pub(crate) async fn prefix(&self, prefix: &str, staging: Staging) -> russet_plugin_host::InstallReport {
        let request = InstallRequest {
            component: Some(artifact("smallest-gate")),
            settings: Some(json!({ "prefix": prefix })),
            grants: Some(grants(&["log.write", "settings.get"], &[])),
            staging,
            actor: Actor::new("anna"),
            ..InstallRequest::default()
        };
        self.manager.install(TENANT, request).await.unwrap()
    }

    pub(crate) async fn hostile(
        &self,
        settings: Value,
        staging: Staging,
    ) -> Result<russet_plugin_host::InstallReport, InstallError> {
        let request = InstallRequest {
            component: Some(artifact("hostile")),
            settings: Some(settings),
            grants: Some(hostile_grants()),
            staging,
            ..InstallRequest::default()
        };
        self.manager.install(TENANT, request).await
    }

    /// What the tenant's gates say about a device.
    pub(crate) async fn ask(&self, serial: &str) -> (Result<GateVerdict, PluginFault>, DecisionRecord) {
        let set = self.manager.host().pin(TENANT);
        let mut outcome = set
            .check_enrollment(&crate::common::scope(), crate::common::request(serial))
            .await;
        let verdict = outcome.verdict.map_err(|undecided| undecided.fault);
        (verdict, outcome.decisions.remove(0))
    }

    /// Asks about devices `C02A…` and half as many `C02B…`, all of which the active revision lets in.
    pub(crate) async fn ask_some(&self, pairs: usize) {
        for number in 0..pairs {
            for serial in [
                format!("C02A{number:05}"),
                format!("C02A1{number:04}"),
                format!("C02B{number:05}"),
            ] {
                let (verdict, _) = self.ask(&serial).await;
                assert!(matches!(verdict, Ok(GateVerdict::Allow(_))), "{serial}: {verdict:?}");
            }
        }
    }

    pub(crate) async fn status(&self, plugin: &str) -> RolloutStatus {
        self.manager.rollout(TENANT, plugin).await.unwrap()
    }

    /// Waits until so many calls were compared, or not, for whatever reason.
    pub(crate) async fn compared(&self, plugin: &str, calls: u64) -> RolloutStatus {
        self.until(plugin, "calls are compared", |status| {
            let comparison = &status.comparison;
            comparison.compared + comparison.not_comparable + comparison.shed >= calls
        })
        .await
    }

    pub(crate) async fn until(&self, plugin: &str, what: &str, done: impl Fn(&RolloutStatus) -> bool) -> RolloutStatus {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let status = self.status(plugin).await;
            if done(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn promote(&self, plugin: &str, force: bool, watch: Duration) -> Result<(), RolloutError> {
        let request = PromoteRequest {
            force,
            watch: Some(watch),
            ..PromoteRequest::default()
        };
        self.manager
            .promote(TENANT, plugin, request, Actor::new("anna"))
            .await
            .map(|_| ())
    }

    pub(crate) async fn state_of(&self, plugin: &str, revision: Option<&str>) -> RevisionState {
        let revisions = self.manager.revisions(TENANT, plugin).await.unwrap();
        let found = revisions.iter().find(|known| known.revision.as_deref() == revision);
        found.unwrap().state
    }
}

pub(crate) fn compare(permille: u16) -> Staging {
    Staging::Compare(RolloutRequest {
        permille,
        gates: Some(gates()),
        ..RolloutRequest::default()
    })
}

pub(crate) fn gates() -> Gates {
    Gates {
        min_samples: 10,
        watch_min_samples: 3,
        // The machine that runs the tests may be busy.
        max_p99_ratio_percent: 0,
        ..Gates::default()
    }
}

pub(crate) const NO_WATCH: Duration = Duration::ZERO;
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
