//! Sizes, times and how often.

use std::time::Duration;

use russet_plugin_host::{Connections, HttpConnection, HttpConnections};
use serde_json::json;

use super::{Server, get, probe, probe_with};
use crate::probe::{Load, nowhere};

#[tokio::test]
async fn answers_have_a_size_and_a_time() {
    let server = Server::start().await;
    let patient = HttpConnection {
        max_response_bytes: 10_000,
        ..server.connection()
    };
    let impatient = HttpConnection {
        timeout: Duration::from_millis(300),
        ..server.connection()
    };
    let mut http = HttpConnections::new();
    http.insert("api", patient).unwrap();
    http.insert("impatient", impatient).unwrap();
    let probe = probe_with(http).await;
    assert_eq!(
        probe.one(get("/large/10000")).await["body"].as_str().unwrap().len(),
        10_000
    );
    assert_eq!(
        probe.one(get("/stream/10")).await["body"].as_str().unwrap().len(),
        10_000
    );
    for path in ["/large/10001", "/stream/11", "/stream/10000000"] {
        let error = probe.error(get(path)).await;
        assert!(error.starts_with("TooLarge"), "{path}: {error}");
    }
    let impatiently = |path: &str| json!({"do": "http", "connection": "impatient", "path": path});
    for path in ["/slow", "/slow-body"] {
        let error = probe.error(impatiently(path)).await;
        assert!(
            error.starts_with("Unavailable") && error.contains("in time"),
            "{path}: {error}"
        );
    }
    // The call goes on after all of that.
    let given = probe.run(json!([impatiently("/slow"), get("/x")])).await;
    assert_eq!(given[1]["status"], json!(200));
}

#[tokio::test]
async fn a_request_ends_with_the_deadline_of_its_call() {
    let server = Server::start().await;
    let probe = probe(server.connection()).await;
    let began = std::time::Instant::now();
    let scope = russet_hooks::Scope::new("default", "test", Duration::from_millis(300));
    let (answer, _) = probe
        .ask(scope, &json!([get("/slow")]), russet_hooks::Answers::Live)
        .await;
    match answer {
        Ok(answer) => assert!(String::from_utf8(answer.0).unwrap().contains("Unavailable")),
        Err(fault) => assert_eq!(fault.kind, russet_hooks::FaultKind::Deadline),
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the connection's own limit is 10 seconds"
    );
}

#[tokio::test]
async fn a_plugin_sends_so_many_requests_in_a_minute() {
    let server = Server::start().await;
    let mut http = HttpConnections::new();
    let connection = HttpConnection {
        requests_per_minute: 3,
        ..server.connection()
    };
    http.insert("api", connection).unwrap();
    let load = |tenant| Load {
        tenant,
        connections: Connections {
            http: http.clone(),
            ..nowhere()
        },
        ..Load::default()
    };
    let probe = load("default").granted().await;
    let given = probe.run(json!([get("/1"), get("/2"), get("/3"), get("/4")])).await;
    assert_eq!(given[2]["status"], json!(200));
    let error = given[3]["error"].as_str().unwrap();
    assert!(error.starts_with("Unavailable") && error.contains("minute"), "{error}");
    // Another plugin (here: of another tenant) has its own.
    let other = load("other").granted().await;
    assert_eq!(other.one(get("/5")).await["status"], json!(200));
    assert_eq!(server.asked().len(), 4);
}
