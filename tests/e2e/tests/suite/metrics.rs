//! Figures for monitoring: on a listener of their own, and only where one is set.

use russet_tests::{World, private_address};

use crate::registry::client;

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_push_certificates_are_shown_as_figures() {
    let listen = private_address();
    let world = World::builder().set("metrics.listen", listen.to_string()).start().await;
    world.admin.list("/devices").await;
    let missing = world.admin.request(http::Method::GET, "/nowhere");
    world.admin.send(missing).await.refused(404);

    let request = client().get(format!("http://{listen}/metrics"));
    let figures = request.send().await.unwrap().text().await.unwrap();
    for wanted in [
        r#"russet_requests_total{route="/v1/tenants/{tenant}/devices",status="200"} 1"#,
        r#"russet_requests_total{route="unknown",status="404"} 1"#,
        r#"russet_request_seconds_count{route="/v1/tenants/{tenant}/devices"} 1"#,
        "russet_push_certificate_days{tenant=\"default\",topic=",
    ] {
        assert!(figures.contains(wanted), "{wanted} is not in {figures}");
    }
}
