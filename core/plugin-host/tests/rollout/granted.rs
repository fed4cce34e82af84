//! A revision that waits for grants: once it has them, what was asked for when it was installed is done with it.

use russet_hooks::FaultKind;
use russet_plugin_host::{
    GrantRequest, InstallError, InstallReport, InstallRequest, InstalledState, RevisionState, RolloutPhase,
    RolloutRequest, Staging,
};
use serde_json::json;

use crate::common::{artifact, grants, mode};
use crate::support::{HOSTILE, SMALLEST, Server, TENANT, compare, gates};

/// Installs the smallest gate without a grant that it asks for.
async fn waiting(server: &Server, staging: Staging) -> InstallReport {
    let request = InstallRequest {
        component: Some(artifact("smallest-gate")),
        settings: Some(json!({ "prefix": "C02A" })),
        grants: Some(grants(&["settings.get"], &[])),
        staging,
        ..InstallRequest::default()
    };
    let report = server.manager.install(TENANT, request).await.unwrap();
    assert_eq!((report.state, report.missing.len()), (InstalledState::Pending, 1));
    report
}

async fn grant(server: &Server, plugin: &str, capability: &str, keep: bool) -> Result<InstallReport, InstallError> {
    let request = GrantRequest {
        grants: grants(&[capability], &[]),
        keep,
        ..GrantRequest::default()
    };
    server.manager.grant(TENANT, plugin, request).await
}

#[tokio::test]
async fn a_revision_that_was_to_be_compared_is_compared_once_it_has_its_grants() {
    let server = Server::new();
    let active = server.prefix("C02", Staging::Activate).await;
    let asked = Staging::Compare(RolloutRequest {
        permille: 500,
        gates: Some(gates()),
        automatic: true,
        ..RolloutRequest::default()
    });
    let report = waiting(&server, asked).await;
    assert_eq!(report.once_granted, Some(InstalledState::Canary));
    let still = grant(&server, SMALLEST, "clock.now-ms", false).await.unwrap();
    assert_eq!(
        (still.state, still.once_granted),
        (InstalledState::Pending, Some(InstalledState::Canary))
    );
    let granted = grant(&server, SMALLEST, "log.write", false).await.unwrap();
    assert_eq!((granted.state, granted.once_granted), (InstalledState::Canary, None));
    let status = server.status(SMALLEST).await;
    assert_eq!(
        (status.phase, status.permille, status.automatic),
        (RolloutPhase::Canary, 500, true)
    );
    assert_eq!(status.gates, gates());
    assert_eq!(status.other.unwrap().revision, granted.revision);
    assert_eq!(
        server.state_of(SMALLEST, active.revision.as_deref()).await,
        RevisionState::Active
    );
}

#[tokio::test]
async fn a_shadow_that_gets_its_grants_answers_nobody() {
    let server = Server::new();
    let active = server.prefix("C02", Staging::Activate).await;
    let report = waiting(&server, compare(0)).await;
    assert_eq!(report.once_granted, Some(InstalledState::Shadow));
    let granted = grant(&server, SMALLEST, "log.write", false).await.unwrap();
    assert_eq!(granted.state, InstalledState::Shadow);
    assert_eq!(Some(server.ask("C02B00000").await.1.revision), active.revision);
}

#[tokio::test]
async fn a_revision_that_was_to_be_kept_is_kept_once_it_has_its_grants() {
    let server = Server::new();
    let active = server.prefix("C02", Staging::Activate).await;
    for (staging, keep) in [(Staging::Keep, false), (compare(0), true)] {
        waiting(&server, staging).await;
        let granted = grant(&server, SMALLEST, "log.write", keep).await.unwrap();
        assert_eq!(granted.state, InstalledState::Ready);
        assert_eq!(
            server.state_of(SMALLEST, granted.revision.as_deref()).await,
            RevisionState::Probed
        );
        assert_eq!(Some(server.ask("C02B00000").await.1.revision), active.revision);
    }
}

#[tokio::test]
async fn a_comparison_with_nothing_is_refused_and_the_revision_waits_on() {
    let server = Server::new();
    server.hostile(mode("panic"), Staging::Activate).await.unwrap();
    let request = InstallRequest {
        plugin: Some(HOSTILE.to_owned()),
        settings: Some(mode("allow")),
        grants: Some(grants(&["log.write", "settings.get"], &["corp"])),
        staging: compare(0),
        ..InstallRequest::default()
    };
    let report = server.manager.install(TENANT, request).await.unwrap();
    assert_eq!(report.state, InstalledState::Pending);
    for _ in 0..5 {
        let _ = server.ask("C02XY").await;
    }
    server.manager.tick().await;
    let refused = grant(&server, HOSTILE, "ldap.search", false).await;
    assert!(matches!(refused, Err(InstallError::NothingActive(_))), "{refused:?}");
    assert_eq!(server.state_of(HOSTILE, None).await, RevisionState::Pending);
    assert_eq!(
        server.ask("C02XY").await.0.unwrap_err().kind,
        FaultKind::Quarantined,
        "it was not put into use"
    );
    let granted = grant(&server, HOSTILE, "ldap.search", true).await.unwrap();
    assert_eq!(granted.state, InstalledState::Ready);
}
