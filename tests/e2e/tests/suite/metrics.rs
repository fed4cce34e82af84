//! Figures for monitoring: on a listener of their own, and only where one is set.

use std::net::SocketAddr;

use russet_tests::{World, private_address, soon};

use crate::registry::client;

/// What the listener of this address shows.
pub(crate) async fn figures(listen: SocketAddr) -> String {
    let request = client().get(format!("http://{listen}/metrics"));
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_push_certificates_are_shown_as_figures() {
    let listen = private_address();
    let world = World::builder().set("metrics.listen", listen.to_string()).start().await;
    world.admin.list("/devices").await;
    let missing = world.admin.request(http::Method::GET, "/nowhere");
    world.admin.send(missing).await.refused(404);

    let figures = figures(listen).await;
    for wanted in [
        r#"russet_requests_total{route="/v1/tenants/{tenant}/devices",status="200"} 1"#,
        r#"russet_requests_total{route="unknown",status="404"} 1"#,
        r#"russet_request_seconds_count{route="/v1/tenants/{tenant}/devices"} 1"#,
        "russet_push_certificate_days{tenant=\"default\",topic=",
    ] {
        assert!(figures.contains(wanted), "{wanted} is not in {figures}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_is_in_nobodys_way_and_is_counted() {
    let listen = private_address();
    let world = World::builder()
        .at_a_lasting_address()
        .set("enrollment.without_gate", "allow");
    let mut world = world.set("metrics.listen", listen.to_string()).start().await;
    world.server.terminate();
    world.server.ended().await;
    world.server.through_shell(r#"exec "$0" "$@" 2>/dev/full"#);
    world.server.resume().await.unwrap();
    let logged = world.server.log();

    let mac = world.mac("C02QUIET001").build().unwrap();
    soon("a device enrolls", mac.enroll()).await.unwrap();
    world.admin.list("/devices").await;
    assert_eq!(world.server.log(), logged, "nothing of this can be in the log");
    let figures = figures(listen).await;
    let lost = figures
        .lines()
        .find_map(|line| line.strip_prefix("russet_log_lines_lost_total "));
    let lost: u64 = lost.unwrap().parse().unwrap();
    // The requests of an enrollment alone are more.
    assert!(lost > 4, "{figures}");
}
