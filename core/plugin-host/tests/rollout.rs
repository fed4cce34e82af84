//! Rolling a revision out: compared, given a share, promoted, watched, taken back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{SilentDirectory, artifact, engine, grants, hostile_grants, mode};
use russet_hooks::{DecisionRecord, FaultKind, GateVerdict, HookSource, PluginFault};
use russet_plugin_host::package::Trust;
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    Actor, BreakerSettings, Gates, InstallError, InstallRequest, InstalledState, Limits, MemoryRevisions, PluginHost,
    PluginManager, PluginState, PromoteRequest, RevisionState, RevisionStore, RevisionStoreError, RolloutError,
    RolloutPhase, RolloutRequest, RolloutStatus, Staging,
};
use serde_json::{Value, json};

const TENANT: &str = "default";
const SMALLEST: &str = "smallest-gate";
const HOSTILE: &str = "hostile";

struct Server {
    manager: PluginManager,
    store: Arc<MemoryRevisions>,
    _directory: SilentDirectory,
}

impl Server {
    fn new() -> Self {
        Self::on(Arc::new(MemoryRevisions::new([TENANT])))
    }

    fn on(store: Arc<MemoryRevisions>) -> Self {
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
            manager: manager.with_trust(Trust::unsigned()).with_breaker(BreakerSettings {
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
    async fn prefix(&self, prefix: &str, staging: Staging) -> russet_plugin_host::InstallReport {
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

    async fn hostile(
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
    async fn ask(&self, serial: &str) -> (Result<GateVerdict, PluginFault>, DecisionRecord) {
        let set = self.manager.host().pin(TENANT);
        let mut outcome = set.check_enrollment(&common::scope(), common::request(serial)).await;
        let verdict = outcome.verdict.map_err(|undecided| undecided.fault);
        (verdict, outcome.decisions.remove(0))
    }

    /// Asks about devices `C02A…` and half as many `C02B…`, all of which the active revision lets in.
    async fn ask_some(&self, pairs: usize) {
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

    async fn status(&self, plugin: &str) -> RolloutStatus {
        self.manager.rollout(TENANT, plugin).await.unwrap()
    }

    /// Waits until so many calls were compared, or not, for whatever reason.
    async fn compared(&self, plugin: &str, calls: u64) -> RolloutStatus {
        self.until(plugin, "calls are compared", |status| {
            let comparison = &status.comparison;
            comparison.compared + comparison.not_comparable + comparison.shed >= calls
        })
        .await
    }

    async fn until(&self, plugin: &str, what: &str, done: impl Fn(&RolloutStatus) -> bool) -> RolloutStatus {
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

    async fn promote(&self, plugin: &str, force: bool, watch: Duration) -> Result<(), RolloutError> {
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

    async fn state_of(&self, plugin: &str, revision: Option<&str>) -> RevisionState {
        let revisions = self.manager.revisions(TENANT, plugin).await.unwrap();
        let found = revisions.iter().find(|known| known.revision.as_deref() == revision);
        found.unwrap().state
    }
}

fn compare(permille: u16) -> Staging {
    Staging::Compare(RolloutRequest {
        permille,
        gates: Some(gates()),
        ..RolloutRequest::default()
    })
}

fn gates() -> Gates {
    Gates {
        min_samples: 10,
        watch_min_samples: 3,
        // The machine that runs the tests may be busy.
        max_p99_ratio_percent: 0,
        ..Gates::default()
    }
}

const NO_WATCH: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_says_how_many_would_be_refused_and_refuses_nobody() {
    let server = Server::new();
    let active = server.prefix("C02", Staging::Activate).await;
    let candidate = server.prefix("C02A", compare(0)).await;
    assert_eq!(candidate.state, InstalledState::Shadow);
    assert!(candidate.changes.settings.changed.contains("prefix"));
    server.ask_some(8).await;
    let (_, record) = server.ask("C02A00000").await;
    assert_eq!(Some(&record.revision), active.revision.as_ref());
    assert!(
        record.journal.is_empty(),
        "nobody asked for the journal of this decision"
    );

    let status = server.compared(SMALLEST, 25).await;
    assert_eq!(status.phase, RolloutPhase::Shadow);
    assert_eq!(
        (
            status.comparison.compared,
            status.comparison.same,
            status.comparison.new_denies
        ),
        (25, 17, 8),
        "{status:?}"
    );
    assert_eq!(status.comparison.new_allows, 0);
    assert_eq!(status.summary, "8 of 25 would be refused");
    assert_eq!(status.comparison.active.calls, 25);
    assert!(status.comparison.candidate.p99_us.is_some());
    assert_eq!(status.samples.len(), 8);
    let sample = &status.samples[0];
    assert!(sample.subject.starts_with("C02B"), "{sample:?}");
    assert_eq!((sample.active.as_str(), sample.candidate.as_str()), ("allow", "deny"));
    let failures: Vec<_> = status.failures.iter().map(|failure| failure.gate.as_str()).collect();
    assert_eq!(failures, ["max_new_denies_permille"]);

    // The gates hold, until somebody insists.
    match server.promote(SMALLEST, false, NO_WATCH).await {
        Err(RolloutError::Gates(failures)) => assert_eq!(failures.len(), 1, "{failures:?}"),
        other => panic!("{other:?}"),
    }
    server.promote(SMALLEST, true, NO_WATCH).await.unwrap();
    assert!(matches!(server.ask("C02B00000").await.0, Ok(GateVerdict::Deny(_))));
    let history = server.manager.history(TENANT, SMALLEST, 10).await.unwrap();
    assert_eq!((history[0].to, history[0].by.as_str()), (RevisionState::Active, "anna"));
    assert!(history[0].reason.as_ref().unwrap().contains("forced"), "{history:?}");

    // And back, with what is loaded already.
    let back = server
        .manager
        .rollback(TENANT, SMALLEST, Actor::default())
        .await
        .unwrap();
    assert_eq!(back.active.unwrap().revision, active.revision);
    assert!(matches!(server.ask("C02B00000").await.0, Ok(GateVerdict::Allow(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_has_its_share_and_always_the_same() {
    let server = Server::new();
    let active = server.prefix("C02", Staging::Activate).await;
    let candidate = server.prefix("C02A", compare(0)).await;
    let request = RolloutRequest {
        permille: 500,
        ..RolloutRequest::default()
    };
    let status = server
        .manager
        .roll_out(TENANT, SMALLEST, request, Actor::default())
        .await
        .unwrap();
    assert_eq!((status.phase, status.permille), (RolloutPhase::Canary, 500));
    assert_eq!(status.gates, gates(), "kept from before");
    let mut by_candidate = 0;
    for number in 0..40 {
        let serial = format!("C02A{number:05}");
        let (verdict, record) = server.ask(&serial).await;
        assert!(matches!(verdict, Ok(GateVerdict::Allow(_))));
        let revision = Some(record.revision);
        assert!(
            revision == active.revision || revision == candidate.revision,
            "{revision:?}"
        );
        by_candidate += usize::from(revision == candidate.revision);
        for _ in 0..2 {
            assert_eq!(Some(server.ask(&serial).await.1.revision), revision, "{serial}");
        }
    }
    assert!((8..=32).contains(&by_candidate), "{by_candidate} of 40");
    // Both are asked, whoever answers.
    let status = server.compared(SMALLEST, 120).await;
    assert_eq!(status.comparison.same + status.comparison.shed, 120, "{status:?}");

    // What keeps to its gates is promoted.
    server.promote(SMALLEST, false, NO_WATCH).await.unwrap();
    assert_eq!(Some(server.ask("C02A00000").await.1.revision), candidate.revision);
    let ended = server.status(SMALLEST).await;
    assert_eq!(ended.outcome.as_deref(), Some("promoted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_fails_beside_the_devices_fails_nobody() {
    let server = Server::new();
    server.hostile(mode("allow"), Staging::Activate).await.unwrap();
    server.hostile(mode("panic"), compare(0)).await.unwrap();
    for _ in 0..12 {
        assert!(server.ask("C02XY").await.0.is_ok());
    }
    let status = server.compared(HOSTILE, 12).await;
    assert_eq!(
        (status.comparison.candidate.calls, status.comparison.candidate.faults),
        (12, 12),
        "{status:?}"
    );
    assert_eq!(status.comparison.differences[0].candidate, "fault");
    assert!(
        status.samples[0].reason.as_ref().unwrap().contains("trap"),
        "{:?}",
        status.samples
    );
    assert_eq!(status.failures[0].gate, "max_faults_permille");
    server.manager.tick().await;
    assert_eq!(server.status(HOSTILE).await.ended_at, None, "nobody is hurt by it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_is_put_into_quarantine() {
    let server = Server::new();
    server.hostile(mode("allow"), Staging::Activate).await.unwrap();
    let bad = server.hostile(mode("panic"), compare(1_000)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(server.ask("C02XY").await.0.unwrap_err().kind, FaultKind::Trap);
    }
    server.manager.tick().await;
    assert!(server.ask("C02XY").await.0.is_ok());
    assert_eq!(
        server.state_of(HOSTILE, bad.revision.as_deref()).await,
        RevisionState::Quarantined
    );
    let status = server.status(HOSTILE).await;
    assert_eq!(status.outcome.as_deref(), Some("quarantined"));
    let history = server.manager.history(TENANT, HOSTILE, 1).await.unwrap();
    assert!(
        history[0].reason.as_ref().unwrap().contains("max_faults_permille"),
        "{history:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_revision_that_refuses_more_is_taken_back_by_itself() {
    let server = Server::new();
    let before = server.prefix("C02", Staging::Activate).await;
    let candidate = server.prefix("C02A", compare(0)).await;
    // While it was compared, only devices came that both let in.
    for number in 0..10 {
        let _ = server.ask(&format!("C02A{number:05}")).await;
    }
    server.compared(SMALLEST, 10).await;
    server.promote(SMALLEST, false, HOUR).await.unwrap();
    let status = server.status(SMALLEST).await;
    assert_eq!(status.phase, RolloutPhase::Watch);
    assert!(status.watch_until.is_some());
    for number in 0..4 {
        let (verdict, _) = server.ask(&format!("C02B{number:05}")).await;
        assert!(matches!(verdict, Ok(GateVerdict::Deny(_))));
    }
    let status = server.compared(SMALLEST, 4).await;
    assert_eq!(status.comparison.new_denies, 4, "{status:?}");
    assert_eq!(
        (status.samples[0].active.as_str(), status.samples[0].candidate.as_str()),
        ("allow", "deny")
    );
    server.manager.tick().await;
    let (verdict, record) = server.ask("C02B00000").await;
    assert!(matches!(verdict, Ok(GateVerdict::Allow(_))));
    assert_eq!(Some(record.revision), before.revision);
    assert_eq!(server.status(SMALLEST).await.outcome.as_deref(), Some("rolled-back"));

    // It does not come back by itself, nor by accident.
    let again = InstallRequest {
        component: Some(artifact("smallest-gate")),
        settings: Some(json!({ "prefix": "C02A" })),
        ..InstallRequest::default()
    };
    let refused = server.manager.install(TENANT, again.clone()).await.unwrap_err();
    assert!(matches!(refused, InstallError::Quarantined(_)), "{refused}");
    let request = PromoteRequest {
        revision: candidate.revision.clone(),
        ..PromoteRequest::default()
    };
    let refused = server
        .manager
        .promote(TENANT, SMALLEST, request, Actor::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, RolloutError::Gates(_)), "{refused}");
    let forced = InstallRequest { force: true, ..again };
    assert_eq!(
        server.manager.install(TENANT, forced).await.unwrap().state,
        InstalledState::Active
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_promoted_by_force_is_watched_for_faults_only() {
    let server = Server::new();
    server.prefix("C02", Staging::Activate).await;
    let candidate = server.prefix("C02A", compare(0)).await;
    server.promote(SMALLEST, true, HOUR).await.unwrap();
    for number in 0..10 {
        let _ = server.ask(&format!("C02B{number:05}")).await;
    }
    server.compared(SMALLEST, 10).await;
    server.manager.tick().await;
    assert_eq!(
        server.state_of(SMALLEST, candidate.revision.as_deref()).await,
        RevisionState::Active,
        "that it refuses more was known"
    );
    server
        .manager
        .stop_rollout(TENANT, SMALLEST, Actor::default())
        .await
        .unwrap();
    let status = server.status(SMALLEST).await;
    assert_eq!(status.outcome.as_deref(), Some("kept"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_when_its_time_is_over() {
    let server = Server::new();
    server.prefix("C02", Staging::Activate).await;
    server.prefix("C02A", compare(0)).await;
    server.promote(SMALLEST, true, Duration::from_millis(1)).await.unwrap();
    server
        .until(SMALLEST, "the time is over", |status| {
            status.watch_until.unwrap() < jiff::Timestamp::now()
        })
        .await;
    server.manager.tick().await;
    assert_eq!(server.status(SMALLEST).await.outcome.as_deref(), Some("kept"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_automatic_rollout_promotes_itself_once_the_gates_hold() {
    let server = Server::new();
    server.prefix("C02", Staging::Activate).await;
    let candidate = server
        .prefix(
            "C02A",
            Staging::Compare(RolloutRequest {
                automatic: true,
                gates: Some(gates()),
                ..RolloutRequest::default()
            }),
        )
        .await;
    for number in 0..9 {
        let _ = server.ask(&format!("C02A{number:05}")).await;
    }
    server.compared(SMALLEST, 9).await;
    server.manager.tick().await;
    assert_eq!(
        server.state_of(SMALLEST, candidate.revision.as_deref()).await,
        RevisionState::Shadow,
        "one sample is missing"
    );
    let _ = server.ask("C02A00009").await;
    server.compared(SMALLEST, 10).await;
    server.manager.tick().await;
    assert_eq!(
        server.state_of(SMALLEST, candidate.revision.as_deref()).await,
        RevisionState::Active
    );
    let history = server.manager.history(TENANT, SMALLEST, 1).await.unwrap();
    assert_eq!(history[0].by, "server");
}

#[tokio::test]
async fn a_revision_that_keeps_failing_makes_way_for_the_one_before() {
    let server = Server::new();
    let good = server.hostile(mode("allow"), Staging::Activate).await.unwrap();
    server.hostile(mode("panic"), Staging::Activate).await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..5 {
        kinds.push(server.ask("C02XY").await.0.unwrap_err().kind);
    }
    assert_eq!(kinds[..3], [FaultKind::Trap; 3]);
    assert_eq!(kinds[4], FaultKind::CircuitOpen, "{kinds:?}");
    server.manager.tick().await;
    let (verdict, record) = server.ask("C02XY").await;
    assert!(verdict.is_ok(), "{verdict:?}");
    assert_eq!(Some(record.revision), good.revision);
    let history = server.manager.history(TENANT, HOSTILE, 2).await.unwrap();
    assert!(history.iter().any(|event| {
        event.to == RevisionState::Quarantined
            && event
                .reason
                .as_ref()
                .is_some_and(|reason| reason.contains("times in a row"))
    }));
}

#[tokio::test]
async fn without_one_before_its_hooks_fail_by_their_rule() {
    let server = Server::new();
    server.hostile(mode("panic"), Staging::Activate).await.unwrap();
    for _ in 0..5 {
        server.ask("C02XY").await.0.unwrap_err();
    }
    server.manager.tick().await;
    assert_eq!(server.ask("C02XY").await.0.unwrap_err().kind, FaultKind::Quarantined);
    let status = server.manager.get(TENANT, HOSTILE).await.unwrap();
    assert_eq!(status.state, PluginState::Quarantined);
    assert!(status.problem.is_some());
    // A restart changes nothing about that, and another revision does.
    let restarted = Server::on(Arc::clone(&server.store));
    restarted.manager.load_all().await.unwrap();
    assert_eq!(restarted.ask("C02XY").await.0.unwrap_err().kind, FaultKind::Quarantined);
    server.hostile(mode("allow"), Staging::Activate).await.unwrap();
    assert!(server.ask("C02XY").await.0.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_calls_are_shed_before_they_pile_up() {
    let server = Server::new();
    server.hostile(mode("allow"), Staging::Activate).await.unwrap();
    // Each takes all the processor time that a call may.
    server.hostile(mode("loop"), compare(0)).await.unwrap();
    for _ in 0..400 {
        assert!(server.ask("C02XY").await.0.is_ok());
    }
    let status = server.status(HOSTILE).await;
    assert!(status.comparison.shed > 0, "{status:?}");
    assert_eq!(status.comparison.active.calls, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_count_together_and_tell_what_they_run() {
    let here = Server::new();
    let there = Server::on(Arc::clone(&here.store));
    here.prefix("C02", Staging::Activate).await;
    here.prefix("C02A", compare(0)).await;
    there.manager.tick().await;
    assert_eq!(
        there.manager.host().generation(TENANT),
        here.manager.host().generation(TENANT)
    );
    here.ask_some(2).await;
    there.ask_some(3).await;
    // Each writes what it has counted when it is asked.
    here.compared(SMALLEST, 6).await;
    there.compared(SMALLEST, 15).await;
    let status = here.compared(SMALLEST, 15).await;
    assert_eq!(
        (status.comparison.compared, status.comparison.new_denies),
        (15, 5),
        "{status:?}"
    );

    here.manager.tick().await;
    there.manager.tick().await;
    here.prefix("C02C", Staging::Activate).await;
    let nodes = here.manager.nodes(TENANT).await.unwrap();
    assert_eq!(nodes.len(), 2);
    for node in &nodes {
        assert_eq!(node.behind, u64::from(!node.here), "{nodes:?}");
    }
    there.manager.tick().await;
    assert!(
        here.manager
            .nodes(TENANT)
            .await
            .unwrap()
            .iter()
            .all(|node| node.behind == 0)
    );
    there.manager.leave().await.unwrap();
    assert_eq!(here.manager.nodes(TENANT).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_can_not_be_rolled_out_is_told_with_what_to_do() {
    let server = Server::new();
    let request = RolloutRequest::default();
    let roll_out = async |plugin, request| {
        let refused = server.manager.roll_out(TENANT, plugin, request, Actor::default()).await;
        refused.unwrap_err().to_string()
    };
    assert!(
        roll_out(SMALLEST, request.clone())
            .await
            .contains("russet plugin install")
    );
    let waiting = InstallRequest {
        component: Some(artifact("smallest-gate")),
        settings: Some(json!({ "prefix": "C02" })),
        ..InstallRequest::default()
    };
    server.manager.install(TENANT, waiting).await.unwrap();
    assert!(
        roll_out(SMALLEST, request.clone())
            .await
            .contains("russet plugin grant")
    );
    server.prefix("C02", Staging::Keep).await;
    assert!(roll_out(SMALLEST, request.clone()).await.contains("--force"));
    let share = RolloutRequest {
        permille: 1_001,
        ..request.clone()
    };
    assert!(roll_out(SMALLEST, share).await.contains("0 to 1000"));
    server.promote(SMALLEST, true, HOUR).await.unwrap();
    assert!(roll_out(SMALLEST, request).await.contains("no revision to roll out"));
    let back = server.manager.rollback(TENANT, SMALLEST, Actor::default()).await;
    assert!(matches!(
        back,
        Err(RolloutError::Store(RevisionStoreError::NotFound(_)))
    ));
    assert!(server.manager.rollout(TENANT, SMALLEST).await.is_err());
}

#[tokio::test]
async fn what_was_gone_back_from_is_nothing_to_go_back_to() {
    let server = Server::new();
    let first = server.prefix("C02", Staging::Activate).await;
    server.prefix("C02A", Staging::Activate).await;
    server
        .manager
        .rollback(TENANT, SMALLEST, Actor::default())
        .await
        .unwrap();
    server.prefix("C02B", Staging::Activate).await;
    let status = server.manager.get(TENANT, SMALLEST).await.unwrap();
    assert_eq!(status.previous.unwrap().revision, first.revision);
    let back = server
        .manager
        .rollback(TENANT, SMALLEST, Actor::default())
        .await
        .unwrap();
    assert_eq!(back.active.unwrap().revision, first.revision);
}
