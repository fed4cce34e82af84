//! Plugins through the admin API: a real one is installed, granted, swapped while requests run, and taken out of use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::support::{Answer, Site};

const GATE: &str = "/v1/tenants/default/plugins/enrollment-gate";

fn component() -> Vec<u8> {
    std::fs::read(russet_plugin_build::artifact("enrollment-gate")).unwrap()
}

async fn put(site: &Site, body: Value) -> Answer {
    site.admin(Method::PUT, GATE, Some(body)).await
}

/// Settings that refuse whoever downloads a profile by hand, in these words.
fn refusing(words: &str) -> Value {
    json!({"ownership": ["organization"], "messages": {"ownership": words}})
}

#[tokio::test]
async fn a_plugin_waits_for_its_grants_and_keeps_what_a_change_leaves_out() {
    let site = Site::new().await;
    let bytes = Request::put(GATE)
        .header("authorization", format!("Bearer {}", site.token))
        .header("content-type", "application/wasm")
        .body(Body::from(component()))
        .unwrap();
    let stored = site.send(bytes).await;
    assert_eq!(stored.status, StatusCode::CREATED, "{}", stored.text());
    let report = stored.json();
    assert_eq!(
        (&report["state"], &report["revision"]),
        (&json!("pending"), &json!(null))
    );
    let flags: Vec<_> = report["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| &missing["flag"])
        .collect();
    assert_eq!(flags, ["--grant log.write", "--grant settings.get"]);
    assert_eq!(site.get("/enroll").await.status, StatusCode::OK);

    let grants = json!({"capabilities": ["log.write", "settings.get"]});
    let granted = put(&site, json!({"grants": grants, "settings": refusing("No.")})).await;
    assert_eq!(granted.status, StatusCode::OK, "{}", granted.text());
    assert_eq!(
        (&granted.json()["state"], &granted.json()["created"]),
        (&json!("active"), &json!(false))
    );
    assert_eq!(site.get("/enroll").await.text(), "No.\n");

    let problems = put(&site, json!({"settings": {"ownership": "mine", "colour": "red"}})).await;
    assert_eq!(problems.status, StatusCode::UNPROCESSABLE_ENTITY);
    let details = problems.json()["error"]["details"].to_string();
    assert!(
        details.contains("/ownership") && details.contains("colour"),
        "{details}"
    );
    assert_eq!(site.get("/enroll").await.text(), "No.\n");

    let moved = put(&site, json!({"position": 7})).await;
    assert_eq!(moved.status, StatusCode::OK, "{}", moved.text());
    let shown = site.admin(Method::GET, GATE, None).await.json();
    assert_eq!((&shown["state"], &shown["position"]), (&json!("active"), &json!(7)));
    assert_eq!(
        (&shown["settings"], &shown["grants"]["capabilities"]),
        (&refusing("No."), &grants["capabilities"])
    );

    let disabled = site.admin(Method::DELETE, GATE, None).await;
    assert_eq!(disabled.status, StatusCode::OK);
    assert!(disabled.json()["generation"].as_u64() > moved.json()["generation"].as_u64());
    assert_eq!(site.get("/enroll").await.status, StatusCode::OK);
    assert_ne!(site.admin(Method::GET, GATE, None).await.json()["state"], "active");
}

/// Installs a component whose bytes come when they are let go. The first answer says that the server reads them.
fn slow_upload(site: &Site) -> (Request<Body>, oneshot::Receiver<()>, oneshot::Sender<Bytes>) {
    let (begun, reads) = oneshot::channel();
    let (let_go, bytes) = oneshot::channel();
    let body = futures::stream::once(async move {
        begun.send(()).ok();
        bytes.await.map_err(std::io::Error::other)
    });
    let request = Request::put(GATE)
        .header("authorization", format!("Bearer {}", site.token))
        .header("content-type", "application/wasm")
        .body(Body::from_stream(body))
        .unwrap();
    (request, reads, let_go)
}

#[tokio::test]
async fn four_plugins_are_taken_in_at_once_and_the_next_is_put_off() {
    let site = Arc::new(Site::new().await);
    let mut uploads = Vec::new();
    for _ in 0..4 {
        let (request, reads, let_go) = slow_upload(&site);
        let site = Arc::clone(&site);
        let answer = tokio::spawn(async move { site.send(request).await });
        reads.await.unwrap();
        uploads.push((let_go, answer));
    }
    // It is refused before a byte of it is read.
    let (request, reads, _let_go) = slow_upload(&site);
    let put_off = site.send(request).await;
    assert_eq!(put_off.status, StatusCode::SERVICE_UNAVAILABLE, "{}", put_off.text());
    assert_eq!(put_off.json()["error"]["code"], "busy");
    assert_eq!(put_off.header("retry-after"), Some("2"));
    assert!(reads.await.is_err(), "its body was read");
    // What holds no component is not in the way of anybody.
    assert_eq!(site.admin(Method::GET, GATE, None).await.status, StatusCode::NOT_FOUND);

    // One is done, and there is a place for the next.
    let (let_go, answer) = uploads.remove(0);
    let_go.send(component().into()).unwrap();
    assert_eq!(answer.await.unwrap().status, StatusCode::CREATED);
    let (request, reads, let_go) = slow_upload(&site);
    let_go.send(component().into()).unwrap();
    assert_eq!(site.send(request).await.status, StatusCode::OK);
    reads.await.unwrap();
    // One that breaks off gives its place back too.
    let (let_go, answer) = uploads.remove(0);
    drop(let_go);
    assert_eq!(answer.await.unwrap().status, StatusCode::BAD_REQUEST);
    let (request, _reads, let_go) = slow_upload(&site);
    let_go.send(component().into()).unwrap();
    assert_eq!(site.send(request).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_fails_no_request_and_none_is_answered_by_both() {
    let site = Arc::new(Site::new().await);
    let installed = put(
        &site,
        json!({
            "component": STANDARD.encode(component()),
            "grants": {"capabilities": ["log.write", "settings.get"]},
            "settings": refusing("before"),
        }),
    )
    .await;
    assert_eq!(installed.status, StatusCode::CREATED, "{}", installed.text());

    let done = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (site, done) = (Arc::clone(&site), Arc::clone(&done));
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let answer = site.get("/enroll").await;
                    answers.push((answer.status, answer.text()));
                }
                answers
            })
        })
        .collect();
    let swapped = put(&site, json!({"settings": refusing("after")})).await;
    assert_eq!(swapped.status, StatusCode::OK, "{}", swapped.text());
    assert_ne!(swapped.json()["revision"], installed.json()["revision"]);
    // Who asks from now on is answered by the new revision.
    assert_eq!(site.get("/enroll").await.text(), "after\n");
    done.store(true, Ordering::Relaxed);
    let mut before = 0;
    for asker in askers {
        let answers = asker.await.unwrap();
        let mut swapped = false;
        for (status, text) in answers {
            assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
            // Each asker sees the one, then the other, and never goes back.
            assert!(text == "after\n" || (text == "before\n" && !swapped), "{text}");
            swapped = text == "after\n";
            before += usize::from(!swapped);
        }
    }
    assert!(before > 0, "nothing was asked while the new revision was made ready");
}
