//! What a request is when it arrives, whose credentials it has, and where redirects lead.

use russet_plugin_host::{HttpAuthentication, HttpConnection};
use serde_json::{Value, json};

use super::{Server, echoed, get, probe};

#[tokio::test]
async fn a_request_arrives_as_it_was_asked_for() {
    let server = Server::start().await;
    let probe = probe(server.connection()).await;
    let given = probe
        .one(json!({
            "do": "http", "connection": "api", "method": "POST", "path": "/Users?filter=a%20eq%20%22b%22",
            "headers": [["Content-Type", "application/json"], ["X-Mine", "yes"], ["Authorization", "Bearer mine"]],
            "body": "{\"a\":1}",
        }))
        .await;
    assert_eq!(given["status"], json!(200));
    let headers = given["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["x-echo", "yes"])), "{given}");
    let echo = echoed(&given);
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["uri"], "/base/Users?filter=a%20eq%20%22b%22");
    assert_eq!(echo["body"], "{\"a\":1}");
    assert_eq!(echo["headers"]["content-type"], "application/json");
    assert_eq!(echo["headers"]["x-mine"], "yes");
    // A connection without credentials leaves the plugin to bring its own.
    assert_eq!(echo["headers"]["authorization"], "Bearer mine");
    for (method, status) in [
        ("GET", 404),
        ("PUT", 201),
        ("PATCH", 409),
        ("DELETE", 204),
        ("HEAD", 500),
    ] {
        let path = format!("/status/{status}");
        let step = json!({"do": "http", "connection": "api", "method": method, "path": path});
        assert_eq!(
            probe.one(step).await["status"],
            json!(status),
            "any status is an answer"
        );
    }
    assert!(!probe.one(get("/cookie")).await.to_string().contains("session"));
}

#[tokio::test]
async fn credentials_are_the_connections_and_never_the_plugins() {
    let server = Server::start().await;
    for (authentication, header, value) in [
        (
            HttpAuthentication::Bearer("token".to_owned().into()),
            "authorization",
            "Bearer token",
        ),
        (
            HttpAuthentication::Basic {
                user_name: "Aladdin".to_owned(),
                password: "open sesame".to_owned().into(),
            },
            "authorization",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
        (
            HttpAuthentication::Header {
                name: "X-Api-Key".to_owned(),
                value: "key".to_owned().into(),
            },
            "x-api-key",
            "key",
        ),
    ] {
        let connection = HttpConnection {
            authentication,
            ..server.connection()
        };
        assert!(!format!("{connection:?}").contains(value.split(' ').next_back().unwrap()));
        let probe = probe(connection).await;
        assert_eq!(echoed(&probe.one(get("/x")).await)["headers"][header], value);
        // Also where the connection itself leads on.
        assert_eq!(echoed(&probe.one(get("/to-here")).await)["headers"][header], value);
        let before = server.asked().len();
        let over = json!({
            "do": "http", "connection": "api", "path": "/x", "headers": [[header.to_uppercase(), "mine"]],
        });
        let error = probe.error(over).await;
        assert!(error.starts_with("Invalid") && error.contains(header), "{error}");
        assert_eq!(server.asked().len(), before);
    }
}

#[tokio::test]
async fn what_is_not_well_formed_is_not_sent() {
    let server = Server::start().await;
    let connection = HttpConnection {
        max_request_bytes: 100,
        ..server.connection()
    };
    let probe = probe(connection).await;
    for path in [
        "x",
        "/../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/a/..;/outside",
        "/a\r\nHost: other.test\r\n\r\nGET /outside",
        "/a%0d%0aX:y",
        "/a b",
        "/#x",
        "/\\..\\outside",
        "@other.test/",
        ".other.test/",
        "http://other.test/",
    ] {
        let error = probe.error(get(path)).await;
        assert!(error.starts_with("Invalid"), "{path:?}: {error}");
    }
    for headers in [
        json!([["Host", "other.test"]]),
        json!([["Content-Length", "0"]]),
        json!([["Transfer-Encoding", "chunked"]]),
        json!([["Connection", "upgrade"]]),
        json!([["a", "b\r\nHost: other.test"]]),
        json!([["a\r\nHost", "other.test"]]),
        json!([["", "b"]]),
        json!([["a", "x".repeat(20_000)]]),
        Value::from(vec![json!(["a", "b"]); 65]),
    ] {
        let step = json!({"do": "http", "connection": "api", "path": "/x", "headers": headers});
        let error = probe.error(step).await;
        assert!(error.starts_with("Invalid"), "{headers}: {error}");
    }
    for (method, body) in [
        ("CONNECT", ""),
        ("TRACE", ""),
        ("get", ""),
        ("GET /x HTTP/1.1\r\nX:", ""),
        ("POST", &"x".repeat(101)),
    ] {
        let step = json!({"do": "http", "connection": "api", "method": method, "path": "/x", "body": body});
        let error = probe.error(step).await;
        assert!(error.starts_with("Invalid"), "{method}: {error}");
    }
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn redirects_are_followed_below_the_base_and_nowhere_else() {
    let server = Server::start().await;
    let probe = probe(server.connection()).await;
    assert_eq!(echoed(&probe.one(get("/to-here")).await)["uri"], "/base/target?x=1");
    assert_eq!(echoed(&probe.one(get("/to-relative")).await)["uri"], "/base/target");
    for path in [
        "/to-out",
        "/to-dots",
        "/to-dots-encoded",
        "/to-other",
        "/to-metadata",
        "/to-port",
        "/to-user",
        "/to-file",
    ] {
        let error = probe.error(get(path)).await;
        assert!(error.starts_with("Forbidden"), "{path}: {error}");
    }
    assert!(probe.error(get("/to-itself")).await.contains("redirects"));
    assert!(
        server.asked().iter().all(|asked| !asked.contains("outside")),
        "{:?}",
        server.asked()
    );

    // What happens to other methods is as RFC 9110 section 15.4 has it; where it leaves a choice, the plugin has it.
    let post = |path: &str| json!({"do": "http", "connection": "api", "method": "POST", "path": path, "body": "b"});
    let echo = echoed(&probe.one(post("/temporary")).await);
    assert_eq!((&echo["method"], &echo["body"]), (&json!("POST"), &json!("b")));
    let echo = echoed(&probe.one(post("/see-other")).await);
    assert_eq!((&echo["method"], &echo["body"]), (&json!("GET"), &json!("")));
    assert_eq!(probe.one(post("/found")).await["status"], json!(302));
}
