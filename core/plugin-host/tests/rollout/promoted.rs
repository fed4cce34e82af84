//! Promoting, watching, going back: by an operator, and by itself.

use std::sync::Arc;
use std::time::Duration;

use russet_hooks::{FaultKind, GateVerdict};
use russet_plugin_host::{
    Actor, InstallError, InstallRequest, InstalledState, PluginState, PromoteRequest, RevisionState,
    RevisionStoreError, RolloutError, RolloutPhase, RolloutRequest, Staging,
};
use serde_json::json;

use crate::common::{artifact, mode};
use crate::support::{HOSTILE, HOUR, NO_WATCH, SMALLEST, Server, TENANT, compare, gates};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_waits_is_not_in_the_way_of_an_automatic_promotion() {
    let server = Server::new();
    server.prefix("C02", Staging::Activate).await;
    let automatic = Staging::Compare(RolloutRequest {
        automatic: true,
        gates: Some(gates()),
        ..RolloutRequest::default()
    });
    let compared = server.prefix("C02A", automatic).await;
    server.prefix("C02B", Staging::Keep).await;
    for number in 0..10 {
        let _ = server.ask(&format!("C02A{number:05}")).await;
    }
    server.compared(SMALLEST, 10).await;
    server.manager.tick().await;
    assert_eq!(
        server.state_of(SMALLEST, compared.revision.as_deref()).await,
        RevisionState::Active
    );
}

#[tokio::test]
async fn the_one_that_is_compared_is_promoted_unless_another_is_named() {
    let server = Server::new();
    server.prefix("C02", Staging::Activate).await;
    let compared = server.prefix("C02A", compare(0)).await;
    let waiting = server.prefix("C02B", Staging::Keep).await;
    server.promote(SMALLEST, true, NO_WATCH).await.unwrap();
    assert_eq!(
        server.state_of(SMALLEST, compared.revision.as_deref()).await,
        RevisionState::Active
    );
    let request = PromoteRequest {
        revision: waiting.revision.clone(),
        force: true,
        ..PromoteRequest::default()
    };
    server
        .manager
        .promote(TENANT, SMALLEST, request, Actor::default())
        .await
        .unwrap();
    assert_eq!(
        server.state_of(SMALLEST, waiting.revision.as_deref()).await,
        RevisionState::Active
    );
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
