//! Secrets of plugins through the admin API: they go in, and only their names come out.

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::Site;

const SECRETS: &str = "/v1/tenants/default/plugins/webhook/secrets";

#[tokio::test]
async fn a_secret_goes_in_and_never_comes_out() {
    let site = Site::new().await;
    let key = format!("{SECRETS}/key");
    for body in [json!({"value": "hunter2"}), json!({"value_base64": "aHVudGVyMw=="})] {
        let stored = site.admin(Method::PUT, &key, Some(body)).await;
        assert_eq!(stored.status, StatusCode::OK, "{}", stored.text());
        assert!(!stored.text().contains("hunter") && !stored.text().contains("aHVudGVy"));
    }
    let listed = site.admin(Method::GET, SECRETS, None).await;
    assert_eq!(listed.status, StatusCode::OK);
    assert_eq!(listed.json()["items"][0]["name"], "key");
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 1);
    assert!(!listed.text().contains("hunter") && !listed.text().contains("aHVudGVy"));
    let other = site
        .admin(Method::GET, "/v1/tenants/default/plugins/webhook2/secrets", None)
        .await;
    assert_eq!(other.json()["items"], json!([]));
    assert_eq!(
        site.admin(Method::GET, &key, None).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        site.admin(Method::DELETE, &key, None).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        site.admin(Method::DELETE, &key, None).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_a_plugin_keeps_is_deleted_at_a_word() {
    let site = Site::new().await;
    for name in ["one", "two"] {
        let body = json!({"value": "hunter2"});
        let stored = site.admin(Method::PUT, &format!("{SECRETS}/{name}"), Some(body)).await;
        assert_eq!(stored.status, StatusCode::OK, "{}", stored.text());
    }
    let data = "/v1/tenants/default/plugins/webhook/data";
    let purged = site.admin(Method::DELETE, data, None).await;
    assert_eq!(purged.status, StatusCode::OK, "{}", purged.text());
    assert_eq!(purged.json(), json!({"values": 0, "secrets": 2, "keys": 0}));
    assert_eq!(site.admin(Method::GET, SECRETS, None).await.json()["items"], json!([]));
    let wrong = "/v1/tenants/default/plugins/No%20Name/data";
    assert_eq!(
        site.admin(Method::DELETE, wrong, None).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn what_is_no_secret_is_refused_without_being_repeated() {
    let site = Site::new().await;
    let long = "x".repeat(129);
    for (path, body) in [
        (format!("{SECRETS}/key"), json!({})),
        (format!("{SECRETS}/key"), json!({"value": ""})),
        (format!("{SECRETS}/key"), json!({"value": 8_675_309})),
        (
            format!("{SECRETS}/key"),
            json!({"value": "hunter2", "value_base64": "aHVudGVyMg=="}),
        ),
        (format!("{SECRETS}/key"), json!({"value_base64": "hunter2!"})),
        (format!("{SECRETS}/key"), json!({"value": "hunter2".repeat(3_000)})),
        (format!("{SECRETS}/{long}"), json!({"value": "hunter2"})),
        (
            "/v1/tenants/default/plugins/No%20Name/secrets/key".to_owned(),
            json!({"value": "hunter2"}),
        ),
    ] {
        let refused = site.admin(Method::PUT, &path, Some(body)).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}: {}", refused.text());
        assert!(
            !refused.text().contains("hunter") && !refused.text().contains("8675309"),
            "{}",
            refused.text()
        );
    }
    let listed = site.admin(Method::GET, SECRETS, None).await;
    assert_eq!(listed.json()["items"], json!([]));
}
