//! What the command line says when something is wrong. The binary runs as a process, against a stand-in that gives one
//! answer to everything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener as AsyncListener;
use tokio_rustls::TlsAcceptor;

/// What a run of the binary gave.
struct Ran {
    code: Option<i32>,
    out: String,
    /// The standard error output as one line, because it is broken to the terminal's width.
    err: String,
    /// Its last line, as it is.
    last: String,
}

impl Ran {
    /// The error that the last line of the standard error output tells in JSON.
    #[track_caller]
    fn error(&self) -> Value {
        let line: Value = serde_json::from_str(&self.last).unwrap_or_else(|error| panic!("{error}: {}", self.last));
        assert_eq!(line.as_object().unwrap().len(), 1, "{line}");
        let error = line["error"].clone();
        assert!(error["message"].is_string() && error["causes"].is_array(), "{error}");
        error
    }
}

/// Runs `russet` in `folder`, with nothing of this process's environment.
async fn russet(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_russet"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("NO_COLOR", "1");
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let err = String::from_utf8(stderr).unwrap();
    let words: Vec<&str> = err
        .split_whitespace()
        .filter(|word| !matches!(*word, "│" | "╰─▶" | "├─▶"))
        .collect();
    Ran {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        last: err.lines().last().unwrap_or_default().to_owned(),
        err: words.join(" "),
    }
}

/// A server on loopback that answers everything with this.
async fn answering(status: u16, kind: &'static str, body: &'static str) -> String {
    let status = StatusCode::from_u16(status).unwrap();
    let app = Router::new().fallback(move || async move { (status, [(header::CONTENT_TYPE, kind)], body) });
    let listener = AsyncListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// A TLS server on loopback that ends each connection after the handshake; with the certificate to trust.
async fn with_own_certificate() -> (SocketAddr, String) {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = AsyncListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
        }
    });
    (address, own.cert.pem())
}

fn empty() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn each_answer_of_a_server_has_its_message() {
    const HTML: &str = "<html>hello</html>";
    const ERROR: &str = r#"{"error":{"code":"x","message":"because of that","details":["one",
        {"path":"/a","problem":"two"},{"what":"ldap.search","flag":"--grant ldap.search"}]}}"#;
    let folder = empty();
    for (status, body, message, help) in [
        (
            200,
            HTML,
            "answers (status 200), but not as a russet server does",
            "--server or RUSSET_SERVER",
        ),
        (
            200,
            "{}",
            "answers (status 200), but not as a russet server does",
            "--server or RUSSET_SERVER",
        ),
        (
            307,
            HTML,
            "answers (status 307), but not as a russet server does",
            "--server or RUSSET_SERVER",
        ),
        (
            404,
            HTML,
            "answers (status 404), but not as a russet server does",
            "--server or RUSSET_SERVER",
        ),
        (
            401,
            ERROR,
            "the server refused the token: because of that",
            "--token or RUSSET_TOKEN",
        ),
        (
            403,
            ERROR,
            "the token may not do that: because of that",
            "--tenant names the tenant",
        ),
        (404, ERROR, "not found: because of that", "`list` shows what there is"),
        (
            422,
            ERROR,
            "refused: because of that - one - /a: two - ldap.search (add --grant ldap.search)",
            "",
        ),
        (
            500,
            ERROR,
            "the server failed: because of that (status 500)",
            "its log says why",
        ),
        (
            503,
            HTML,
            "the server failed: it is not available (status 503)",
            "its log says why",
        ),
    ] {
        let server = answering(status, "application/json", body).await;
        let ran = russet(folder.path(), &["device", "list", "--server", &server, "--token", "t"]).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        assert!(ran.err.contains(message), "{status}: {}", ran.err);
        assert!(ran.err.contains(help), "{status}: {}", ran.err);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = format!("https://127.0.0.1:{port}");
    let ran = russet(empty().path(), &["token", "list", "--server", &server, "--token", "t"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .contains(&format!("no answer from {server}: Connection refused")),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("start the server there with `russet serve`"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_certificate_has_to_be_trusted() {
    let (address, certificate) = with_own_certificate().await;
    let server = format!("https://{address}");
    let folder = empty();
    let arguments = ["device", "list", "--server", &server];

    let ran = russet(folder.path(), &[&arguments[..], &["--token", "t"]].concat()).await;
    assert!(
        ran.err.contains(&format!("the certificate of {server} is not trusted")),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("--ca or RUSSET_CA"), "{}", ran.err);

    // Trusted, the connection gets as far as the stand-in lets it.
    let trusted = format!("no answer from {server}");
    std::fs::write(folder.path().join("trusted.pem"), &certificate).unwrap();
    let ran = russet(
        folder.path(),
        &[&arguments[..], &["--token", "t", "--ca", "trusted.pem"]].concat(),
    )
    .await;
    assert!(ran.err.contains(&trusted), "{}", ran.err);

    // The data directory of a server on this machine has both the certificate and a token.
    let data = folder.path().join("russet-data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("ca.pem"), &certificate).unwrap();
    std::fs::write(data.join("admin-token"), "t\n").unwrap();
    let ran = russet(folder.path(), &arguments).await;
    assert!(ran.err.contains(&trusted), "{}", ran.err);

    std::fs::write(folder.path().join("trusted.pem"), "nothing").unwrap();
    let ran = russet(folder.path(), &[&arguments[..], &["--ca", "trusted.pem"]].concat()).await;
    assert!(ran.err.contains("trusted.pem: it holds no certificate"), "{}", ran.err);
}

#[tokio::test]
async fn a_token_is_looked_for_in_the_data_directory_and_kept_from_strangers() {
    let folder = empty();
    std::fs::write(folder.path().join("russet.toml"), "data_dir = \"elsewhere\"\n").unwrap();
    let ran = russet(folder.path(), &["device", "list"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .contains("no API token: none is given, and elsewhere/admin-token can not be read"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("--token or RUSSET_TOKEN"), "{}", ran.err);

    for (server, message) in [
        (
            "http://mdm.example.com",
            "the token would be sent to http://mdm.example.com without encryption",
        ),
        ("mdm.example.com", "`mdm.example.com` is no address of a server"),
        (
            "ldap://mdm.example.com",
            "`ldap://mdm.example.com` is no address of a server",
        ),
    ] {
        let ran = russet(folder.path(), &["device", "list", "--token", "t", "--server", server]).await;
        assert!(ran.err.contains(message), "{}", ran.err);
    }

    let ran = russet(folder.path(), &["device", "list", "--token", "hunter2\u{7}"]).await;
    assert!(
        ran.err.contains("the token holds characters that no token has"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
}

#[tokio::test]
async fn a_command_that_a_device_refuses_is_a_failure() {
    let server = answering(
        200,
        "application/json",
        r#"{"command_uuid": "u-1", "request_type": "DeviceLock", "queued": 1, "warnings": ["an old key"], "devices": [
            {"id": "e", "serial_number": "C02XK1", "state": "failed", "attempts": 1, "error_chain": [
                {"ErrorDomain": "MDMErrorDomain", "ErrorCode": 12021, "USEnglishDescription": "Unknown command"}]}]}"#,
    )
    .await;
    let arguments = [
        "command",
        "send",
        "--device",
        "C02XK1",
        "DeviceLock",
        "--server",
        &server,
        "--token",
        "t",
    ];
    let ran = russet(empty().path(), &[&arguments[..], &["--wait"]].concat()).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("warning: an old key"), "{}", ran.err);
    assert!(ran.err.contains("not done by C02XK1"), "{}", ran.err);
    assert!(
        ran.out
            .contains("C02XK1 reports: Unknown command (MDMErrorDomain 12021)"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn waiting_for_an_answer_ends() {
    let server = answering(
        200,
        "application/json",
        r#"{"command_uuid": "u-1", "devices": [{"serial_number": "C02XK1", "state": "sent"}]}"#,
    )
    .await;
    let arguments = [
        "command",
        "send",
        "--device",
        "C02XK1",
        "ProfileList",
        "--server",
        &server,
        "--token",
        "t",
    ];
    let ran = russet(empty().path(), &[&arguments[..], &["--wait=0"]].concat()).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("not answered within 0 s by C02XK1"), "{}", ran.err);
    assert!(
        ran.err.contains("`russet command show u-1` shows it later"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn the_configuration_is_checked_as_a_whole() {
    let folder = empty();
    let file = folder.path().join("russet.toml");
    std::fs::write(&file, "[server]\npublic_url = \"http://mdm\"\n[push]\nbatch = 0\n").unwrap();
    let ran = russet(folder.path(), &["config", "check"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    for part in [
        "2 keys are wrong",
        "server.public_url: must begin with https://",
        "push.batch: must be between",
    ] {
        assert!(ran.err.contains(part), "{}", ran.err);
    }

    let ran = russet(folder.path(), &["config", "check", "--config", "other.toml"]).await;
    assert!(
        ran.err.contains("the configuration file other.toml can not be read"),
        "{}",
        ran.err
    );

    let ran = russet(folder.path(), &["config", "example", "--write", "russet.toml"]).await;
    assert_eq!(ran.code, Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), russet::config::example());
    let ran = russet(folder.path(), &["config", "check"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "russet.toml can be used\n"));
}

#[tokio::test]
async fn what_is_no_plugin_is_explained_before_a_server_is_asked() {
    let folder = empty();
    std::fs::write(folder.path().join("gate.wasm"), "no component").unwrap();
    // An empty core module.
    std::fs::write(folder.path().join("module.wasm"), b"\0asm\x01\0\0\0").unwrap();
    for (arguments, message) in [
        (
            &["plugin", "inspect", "gate.wasm"][..],
            "gate.wasm: not a WebAssembly component",
        ),
        (
            &["plugin", "install", "module.wasm"],
            "module.wasm: a core WebAssembly module, not a component",
        ),
        (
            &["plugin", "inspect", "missing.wasm"],
            "missing.wasm can not be read: No such file",
        ),
        (&["plugin", "build", "nowhere"], "nowhere"),
    ] {
        let ran = russet(folder.path(), arguments).await;
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        assert!(ran.err.contains(message), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_line_that_can_not_be_understood_ends_with_two() {
    for arguments in [
        &[][..],
        &["device"],
        &["devices"],
        &["command", "send"],
        &["plugin", "new", "x", "--hook", "y"],
    ] {
        let ran = russet(empty().path(), arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(
            ran.err.contains("Usage: russet") || ran.err.contains("try '--help'"),
            "{}",
            ran.err
        );
    }
}

#[tokio::test]
async fn with_json_the_last_line_is_the_error_of_whichever_verb() {
    const REFUSAL: &str =
        r#"{"error": {"code": "gates", "message": "not kept", "details": [{"gate": "min_samples"}]}}"#;
    let folder = empty();
    std::fs::write(folder.path().join("gate.wasm"), "no component").unwrap();
    std::fs::write(folder.path().join("russet.toml"), "[push]\nbatch = 0\n").unwrap();
    let refusing = answering(409, "application/json", REFUSAL).await;
    let strange = answering(200, "text/html", "<html>").await;
    let missing = answering(
        404,
        "application/json",
        r#"{"error": {"code": "not-found", "message": "no plugin"}}"#,
    )
    .await;
    let closed = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        format!("https://{}", listener.local_addr().unwrap())
    };
    let registry = closed.replace("https://127.0.0.1", "localhost");
    let pull = format!("{registry}/plugins/gate:1");
    let at = |server: &str, verb: &[&str]| -> Vec<String> {
        let online = ["--server", server, "--token", "t"];
        let online = if server.is_empty() { &[][..] } else { &online[..] };
        verb.iter()
            .chain(online)
            .chain(&["--json"])
            .map(|&word| word.to_owned())
            .collect()
    };
    for (server, verb, code, kind) in [
        ("", &["plugin", "inspect", "gate.wasm"][..], 1, "not-a-plugin"),
        ("", &["plugin", "inspect", "missing.wasm"], 1, "file"),
        ("", &["plugin", "verify", "missing.wasm"], 1, "file"),
        ("", &["plugin", "check", "gate.wasm"], 1, "not-a-plugin"),
        ("", &["plugin", "build", "nowhere"], 1, "not-built"),
        ("", &["plugin", "pull", &pull, "-o", "back.wasm"], 1, "registry"),
        ("", &["plugin", "pull", "gate:1", "-o", "back.wasm"], 1, "reference"),
        ("", &["config", "check"], 1, "configuration"),
        (
            "",
            &["device", "list", "--server", "mdm.example.com", "--token", "t"],
            1,
            "address",
        ),
        ("", &["device", "show"], 2, "usage"),
        ("", &["plugin", "promote", "--other"], 2, "usage"),
        (&closed, &["device", "list"], 1, "unreachable"),
        (&strange, &["token", "list"], 1, "not-russet"),
        (&missing, &["plugin", "show", "gate"], 1, "not-found"),
        (&missing, &["plugin", "explain", "7"], 1, "not-found"),
        (&missing, &["plugin", "disable", "gate"], 1, "not-found"),
        (&refusing, &["plugin", "promote", "gate"], 1, "refused"),
        (&refusing, &["plugin", "rollback", "gate"], 1, "refused"),
        (&refusing, &["plugin", "canary", "5%", "gate"], 1, "refused"),
        (&refusing, &["plugin", "shadow", "start", "gate"], 1, "refused"),
        (&refusing, &["plugin", "grant", "gate", "--grant-asked"], 1, "refused"),
        (&refusing, &["group", "list"], 1, "refused"),
        (&refusing, &["publisher", "list"], 1, "refused"),
        (&refusing, &["push-cert", "show"], 1, "refused"),
        (&refusing, &["declaration", "list"], 1, "refused"),
    ] {
        let arguments = at(server, verb);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = russet(folder.path(), &arguments).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{verb:?}: {}", ran.err);
        let error = ran.error();
        assert_eq!(error["kind"], kind, "{verb:?}: {error}");
        if kind == "refused" {
            assert_eq!(
                error["server"],
                json!({"status": 409, "code": "gates", "details": [{"gate": "min_samples"}]}),
            );
        } else {
            assert!(
                error["help"].is_string() || kind == "not-a-plugin" || kind == "not-built",
                "{verb:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn what_was_found_before_a_failure_is_a_document_of_its_own() {
    let server = answering(
        200,
        "application/json",
        r#"{"command_uuid": "u-1", "devices": [{"serial_number": "C02XK1", "state": "failed", "error_chain": []}]}"#,
    )
    .await;
    let mut arguments = vec![
        "command",
        "send",
        "--device",
        "C02XK1",
        "ProfileList",
        "--wait",
        "--json",
    ];
    arguments.extend(["--server", &server, "--token", "t"]);
    let ran = russet(empty().path(), &arguments).await;
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.error()["kind"], "not-done");
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(found["devices"][0]["state"], "failed");
    // Without the flag, people read what they always read.
    arguments.retain(|argument| *argument != "--json");
    let ran = russet(empty().path(), &arguments).await;
    assert!(
        ran.err.ends_with("not done by C02XK1") && !ran.err.contains("not-done"),
        "{}",
        ran.err
    );
}
