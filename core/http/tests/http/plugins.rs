//! Plugins through the admin API: a real one is installed, granted, swapped while requests run, and taken out of use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

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
