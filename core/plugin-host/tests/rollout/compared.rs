//! Comparing: what a shadow and a canary are asked, what they change, and what is told of it.

use std::sync::Arc;

use russet_hooks::GateVerdict;
use russet_plugin_host::{Actor, InstalledState, RevisionState, RolloutError, RolloutPhase, RolloutRequest, Staging};

use crate::common::mode;
use crate::support::{HOSTILE, NO_WATCH, SMALLEST, Server, TENANT, compare, gates};

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
