//! Whose certificates are trusted, and what no connection can be made of.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use russet_plugin_host::{HttpAuthentication, HttpConnection, HttpConnections};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Names, probe_with};

#[tokio::test]
async fn tls_trusts_whom_the_connection_names() {
    let key = rcgen::generate_simple_self_signed(vec!["secure.test".to_owned()]).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            key.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let other = rcgen::generate_simple_self_signed(vec!["secure.test".to_owned()]).unwrap();
    let loopback: &[&[&str]] = &[&["127.0.0.1"]];
    let names = Names::new(&[("secure.test", loopback), ("wrong.test", loopback)]);
    let mut http = HttpConnections::with_resolver(names);
    for (name, host, trusted) in [
        ("right", "secure.test", key.cert.pem()),
        ("other-ca", "secure.test", other.cert.pem()),
        ("other-name", "wrong.test", key.cert.pem()),
    ] {
        let connection = HttpConnection {
            base_url: format!("https://{host}:{port}"),
            allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
            ca_pem: Some(trusted),
            ..HttpConnection::default()
        };
        http.insert(name, connection).unwrap();
    }
    let probe = probe_with(http).await;
    let to = |name: &str| json!({"do": "http", "connection": name, "path": "/"});
    assert_eq!(probe.one(to("right")).await["body"], "ok");
    for name in ["other-ca", "other-name"] {
        let error = probe.error(to(name)).await;
        assert!(error.starts_with("Unavailable"), "{name}: {error}");
    }
}

#[test]
fn a_connection_is_checked_before_it_is_used() {
    use russet_plugin_host::HttpConfigError as Wrong;
    let with = |change: &dyn Fn(&mut HttpConnection)| {
        let mut connection = HttpConnection {
            base_url: "https://a.example/b".to_owned(),
            ..HttpConnection::default()
        };
        change(&mut connection);
        HttpConnections::new().insert("api", connection)
    };
    assert_eq!(with(&|_| {}), Ok(()));
    for url in [
        "",
        "a.example",
        "ftp://a.example",
        "https://",
        "https://u@a.example",
        "https://a.example/?q",
        "https://a.example/#f",
        "file:///etc/passwd",
        "https://a.example/a/..%2fb",
    ] {
        assert_eq!(
            with(&|connection| url.clone_into(&mut connection.base_url)),
            Err(Wrong::Url(url.to_owned()))
        );
    }
    assert_eq!(
        with(&|connection| "http://a.example".clone_into(&mut connection.base_url)),
        Err(Wrong::Plaintext)
    );
    assert_eq!(with(&|connection| connection.requests_per_minute = 0), Err(Wrong::Zero));
    assert_eq!(
        with(&|connection| connection.timeout = Duration::ZERO),
        Err(Wrong::Zero)
    );
    assert!(matches!(
        with(&|connection| connection.ca_pem = Some("no certificate".to_owned())),
        Err(Wrong::Trust(_))
    ));
    for authentication in [
        HttpAuthentication::Bearer("a\nb".to_owned().into()),
        HttpAuthentication::Basic {
            user_name: "a:b".to_owned(),
            password: "c".to_owned().into(),
        },
        HttpAuthentication::Header {
            name: "a b".to_owned(),
            value: "c".to_owned().into(),
        },
    ] {
        assert!(matches!(
            with(&|connection| connection.authentication = authentication.clone()),
            Err(Wrong::Credentials(_))
        ));
    }
}
