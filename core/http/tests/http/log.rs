//! The log: one line per request, with what an operator needs and nothing that is secret.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::support::{Site, basic, client};
use axum::body::Body;
use http::{Method, Request};
use russet_http::Peer;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What was logged, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The lines since the last call.
    fn take(&self) -> Vec<Value> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines about whole requests since the last call.
    fn requests(&self) -> Vec<Value> {
        let mut lines = self.take();
        lines.retain(|line| line["fields"]["message"] == "request");
        lines
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Everything of ours, at the finest level, for this thread: each test runs its tasks on its own.
fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_env_filter(EnvFilter::new("russet=trace"))
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    (log, guard)
}

#[tokio::test]
async fn each_request_has_one_line_that_says_what_and_for_whom() {
    let (log, _guard) = listen();
    let site = Site::new().await;
    let device = site.enrolled("C02LOG").await;
    log.take();

    let mut request = device.signed("/mdm/connect", &device.idle());
    request.extensions_mut().insert(Peer::new(client(), None));
    let answer = site.send(request).await;
    let lines = log.requests();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let fields = &lines[0]["fields"];
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(fields["http.method"], "PUT");
    assert_eq!(fields["http.route"], "/mdm/connect");
    assert_eq!(fields["http.status"], 200);
    assert_eq!(fields["tenant.name"], "default");
    assert_eq!(fields["client"], "203.0.113.7");
    assert!(
        fields["enrollment.key"].as_str().unwrap().contains("UDID-C02LOG"),
        "{fields}"
    );
    assert!(fields["duration_us"].is_u64());
    // The answer names the line, and a client cannot choose the name.
    assert_eq!(lines[0]["span"]["request.id"], answer.header("x-request-id").unwrap());
    let mut request = Request::get("/enroll").body(Body::empty()).unwrap();
    request.headers_mut().insert("x-request-id", "chosen".parse().unwrap());
    assert_ne!(site.send(request).await.header("x-request-id"), Some("chosen"));

    log.take();
    site.admin(Method::GET, "/v1/tenants/default/devices/NONE", None).await;
    let lines = log.requests();
    assert_eq!(lines.len(), 1);
    let fields = &lines[0]["fields"];
    assert_eq!(fields["http.route"], "/v1/tenants/{tenant}/devices/{id}");
    assert_eq!(
        (&fields["administrator"], &fields["error"]),
        (&json!("root"), &json!("not-found: no such device"))
    );

    site.get("/nowhere?secret=1").await;
    assert_eq!(log.requests()[0]["fields"]["http.route"], "unknown");
}

#[tokio::test]
async fn a_failure_inside_is_logged_once_with_its_cause_and_answered_without() {
    let (log, _guard) = listen();
    let site = Site::new().await;
    let device = site.enrolled("C02CAUSE").await;
    site.store.close().await.unwrap();
    log.take();
    let answer = site.send(device.signed("/mdm/connect", &device.idle())).await;
    let lines = log.take();
    let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "{lines:?}");
    let error = errors[0]["fields"]["error"].as_str().unwrap();
    assert!(error.starts_with("unavailable: "), "{error}");
    assert!(error.contains("closed") || error.contains("database"), "{error}");
    assert!(!answer.text().contains("database"), "{}", answer.text());
}

#[tokio::test]
async fn no_secret_and_no_payload_gets_into_the_log() {
    let (log, _guard) = listen();
    let site = Site::new().await;
    let device = site.enrolled("C02QUIET").await;
    let sign_in = Request::get("/enroll")
        .header("authorization", basic("anna", &"the-password".to_owned().into()))
        .body(Body::empty())
        .unwrap();
    site.send(sign_in).await;
    site.get("/scep?operation=PKIOperation&message=THEMESSAGE").await;
    let token = "russet_the-wrong-token";
    site.admin_as(token, Method::GET, "/v1/tokens", None).await;
    let path = "/v1/tenants/default/push-certificates";
    let push = json!({"certificate_pem": "the-certificate", "private_key_pem": "the-private-key"});
    site.admin(Method::PUT, path, Some(push)).await;
    let body = json!({"devices": ["C02QUIET"], "command": {"RequestType": "DeviceLock", "PIN": "987654"}});
    site.admin(Method::POST, "/v1/tenants/default/commands", Some(body))
        .await;
    let broken = Request::put("/mdm/connect")
        .header("mdm-signature", "THESIGNATURE")
        .body(Body::from("the-payload"))
        .unwrap();
    site.send(broken).await;
    site.send(device.signed("/mdm/connect", &device.idle())).await;

    let lines = log.take();
    assert!(
        lines
            .iter()
            .filter(|line| line["fields"]["message"] == "request")
            .count()
            >= 10
    );
    let text = Value::from(lines).to_string();
    for secret in [
        site.token.as_str(),
        token,
        "the-password",
        "THEMESSAGE",
        "the-certificate",
        "the-private-key",
        "987654",
        "THESIGNATURE",
        "the-payload",
        "the-push-magic",
        "BEGIN",
    ] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}
