//! Which addresses a connection may have, whatever its name says.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use russet_plugin_host::{HttpConnection, HttpConnections, NameResolver};
use serde_json::json;

use super::{Names, Server, echoed, get, probe, probe_with};

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_unless_named() {
    let server = Server::start().await;
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
    ] {
        let connection = HttpConnection {
            base_url: format!("http://{host}:{port}/base"),
            allowed_networks: Vec::new(),
            ..server.connection()
        };
        let error = probe(connection).await.error(get("/x")).await;
        assert!(error.starts_with("Forbidden"), "{host}: {error}");
        assert!(error.contains("allowed_networks"), "it says what to do: {error}");
    }
    assert_eq!(server.asked(), [""; 0]);
    // The same address, named.
    let connection = HttpConnection {
        base_url: format!("http://127.1:{port}/base"),
        ..server.connection()
    };
    assert_eq!(probe(connection).await.one(get("/x")).await["status"], json!(200));
}

#[tokio::test]
async fn every_address_of_a_name_is_checked() {
    let server = Server::start().await;
    let named: &[&[&str]] = &[&["127.0.0.1"]];
    let names = Names::new(&[
        ("named.test", named),
        ("private.test", &[&["10.1.2.3"]]),
        ("metadata.test", &[&["169.254.169.254"]]),
        ("mapped.test", &[&["::ffff:10.1.2.3"]]),
        ("nat64.test", &[&["64:ff9b::10.1.2.3"]]),
        ("local6.test", &[&["fe80::1"]]),
        // One that is public does not excuse the other, whichever comes first.
        ("mixed.test", &[&["93.184.216.34", "10.1.2.3"]]),
        ("mixed2.test", &[&["127.0.0.1", "127.0.0.2"]]),
    ]);
    let mut http = HttpConnections::with_resolver(names);
    for name in [
        "named", "private", "metadata", "mapped", "nat64", "local6", "mixed", "mixed2", "unknown",
    ] {
        let connection = HttpConnection {
            base_url: format!("http://{name}.test:{}/base", server.address.port()),
            ..server.connection()
        };
        http.insert(name, connection).unwrap();
    }
    let probe = probe_with(http).await;
    let to = |name: &str| json!({"do": "http", "connection": name, "path": "/x"});
    let given = probe.one(to("named")).await;
    assert_eq!(
        echoed(&given)["headers"]["host"],
        format!("named.test:{}", server.address.port())
    );
    for name in ["private", "metadata", "mapped", "nat64", "local6", "mixed", "mixed2"] {
        let error = probe.error(to(name)).await;
        assert!(error.starts_with("Forbidden"), "{name}: {error}");
    }
    let error = probe.error(to("unknown")).await;
    assert!(error.starts_with("Unavailable"), "{error}");
    assert_eq!(server.asked(), ["GET /base/x"]);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_looked_up_once() {
    let server = Server::start().await;
    // Fine when it is checked, and somewhere else when it would be asked again.
    let names = Names::new(&[("rebind.test", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let mut http = HttpConnections::with_resolver(Arc::clone(&names) as Arc<dyn NameResolver>);
    let connection = HttpConnection {
        base_url: format!("http://rebind.test:{}/base", server.address.port()),
        ..server.connection()
    };
    http.insert("api", connection).unwrap();
    let probe = probe_with(http).await;
    assert_eq!(probe.one(get("/x")).await["status"], json!(200));
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);
    assert_eq!(server.asked(), ["GET /base/x"]);
}
