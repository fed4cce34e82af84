//! Revisions that can not decide: nobody's own fault, and a fault of the one that fails alone.

use russet_plugin_host::{RevisionState, RolloutRequest, RolloutStatus, Staging};
use serde_json::json;

use crate::common::mode;
use crate::support::{HOSTILE, HOUR, Server, compare, gates};

fn automatic() -> Staging {
    Staging::Compare(RolloutRequest {
        automatic: true,
        gates: Some(gates()),
        ..RolloutRequest::default()
    })
}

async fn ask(server: &Server, calls: u64) -> RolloutStatus {
    for _ in 0..calls {
        let _ = server.ask("C02XY").await;
    }
    server.compared(HOSTILE, calls).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_can_not_decide_is_not_promoted_by_itself() {
    let server = Server::new();
    server.hostile(mode("allow"), Staging::Activate).await.unwrap();
    let bad = server.hostile(mode("error"), automatic()).await.unwrap();
    let status = ask(&server, 12).await;
    assert_eq!(
        (status.comparison.candidate.faults, status.comparison.new_faults),
        (0, 12),
        "{status:?}"
    );
    assert_eq!(status.summary, "0 of 12 would be refused, 12 would fail");
    let failures: Vec<_> = status.failures.iter().map(|failure| failure.gate.as_str()).collect();
    assert_eq!(failures, ["max_faults_permille"]);
    server.manager.tick().await;
    assert_eq!(
        server.state_of(HOSTILE, bad.revision.as_deref()).await,
        RevisionState::Shadow
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_can_not_decide_is_put_into_quarantine() {
    let server = Server::new();
    server.hostile(mode("allow"), Staging::Activate).await.unwrap();
    let bad = server.hostile(mode("error"), compare(1_000)).await.unwrap();
    let status = ask(&server, 4).await;
    assert_eq!(status.comparison.new_faults, 4, "{status:?}");
    server.manager.tick().await;
    assert_eq!(
        server.state_of(HOSTILE, bad.revision.as_deref()).await,
        RevisionState::Quarantined
    );
    assert!(server.ask("C02XY").await.0.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_revision_that_can_not_decide_is_taken_back_by_itself() {
    let server = Server::new();
    let good = server.hostile(mode("allow"), Staging::Activate).await.unwrap();
    let bad = server.hostile(mode("error"), compare(0)).await.unwrap();
    // By force, so that it is only held to not failing.
    server.promote(HOSTILE, true, HOUR).await.unwrap();
    let status = ask(&server, 4).await;
    assert_eq!(status.comparison.new_faults, 4, "{status:?}");
    let sample = &status.samples[0];
    assert_eq!((sample.active.as_str(), sample.candidate.as_str()), ("allow", "fault"));
    server.manager.tick().await;
    let (verdict, record) = server.ask("C02XY").await;
    assert!(verdict.is_ok(), "{verdict:?}");
    assert_eq!(Some(record.revision), good.revision);
    assert_eq!(server.status(HOSTILE).await.outcome.as_deref(), Some("rolled-back"));
    assert_eq!(
        server.state_of(HOSTILE, bad.revision.as_deref()).await,
        RevisionState::Quarantined
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_decides_where_the_one_before_could_not_is_kept() {
    let server = Server::new();
    server.hostile(mode("error"), Staging::Activate).await.unwrap();
    let good = server.hostile(mode("allow"), automatic()).await.unwrap();
    let status = ask(&server, 12).await;
    assert_eq!((status.comparison.compared, status.comparison.new_faults), (12, 0));
    server.manager.tick().await;
    // It is watched by the one that fails.
    let status = ask(&server, 4).await;
    assert_eq!((status.comparison.compared, status.comparison.new_faults), (4, 0));
    server.manager.tick().await;
    assert_eq!(
        server.state_of(HOSTILE, good.revision.as_deref()).await,
        RevisionState::Active
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_both_fail_by_is_no_fault_of_the_candidate() {
    let server = Server::new();
    server.hostile(mode("error"), Staging::Activate).await.unwrap();
    let other = json!({ "mode": "error", "label": "other" });
    let candidate = server.hostile(other, automatic()).await.unwrap();
    let status = ask(&server, 12).await;
    assert_eq!((status.comparison.same, status.comparison.new_faults), (12, 0));
    server.manager.tick().await;
    assert_eq!(
        server.state_of(HOSTILE, candidate.revision.as_deref()).await,
        RevisionState::Active
    );
}
