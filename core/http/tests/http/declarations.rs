//! Sets of declarations, profiles that devices keep, renewals and held deposits, at the admin API.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use russet_hooks::FaultKind;
use russet_protocol::plist::Value;
use serde_json::json;

use crate::support::Site;

const ROUTES: [(&str, &str); 19] = [
    ("GET", "declaration-sets"),
    ("GET", "declaration-sets/base"),
    ("PUT", "declaration-sets/base"),
    ("DELETE", "declaration-sets/base"),
    ("GET", "devices/C02/declarations"),
    ("GET", "devices/C02/status"),
    ("PUT", "devices/C02/declaration-sets/base"),
    ("DELETE", "devices/C02/declaration-sets/base"),
    ("GET", "devices/C02/profiles"),
    ("PUT", "devices/C02/profiles/wifi"),
    ("DELETE", "devices/C02/profiles/wifi"),
    ("GET", "profiles/wifi/devices"),
    ("POST", "devices/C02/renew"),
    ("GET", "devices/C02/escrow"),
    ("GET", "devices/C02/escrow/unlock-token"),
    ("DELETE", "devices/C02/escrow/unlock-token"),
    ("POST", "devices/C02/escrow/unlock-token/accept"),
    ("GET", "escrow/held"),
    ("GET", "devices/C02/escrow/no-such-kind"),
];

#[tokio::test]
async fn none_of_these_routes_answers_without_a_token_or_for_another_tenant() {
    let site = Site::new().await;
    site.admin(Method::POST, "/v1/tenants", Some(json!({"name": "acme"})))
        .await;
    let token = json!({"name": "acme-admin", "tenant": "acme"});
    let made = site.admin(Method::POST, "/v1/tokens", Some(token)).await.json();
    let acme = made["token"].as_str().unwrap();
    for (method, route) in ROUTES {
        let path = format!("/v1/tenants/default/{route}");
        let send = |token: Option<&str>| {
            let mut request = Request::builder().method(method).uri(&path);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            site.send(request.body(Body::empty()).unwrap())
        };
        assert_eq!(send(None).await.status, StatusCode::UNAUTHORIZED, "{method} {path}");
        assert_eq!(send(Some(acme)).await.status, StatusCode::FORBIDDEN, "{method} {path}");
        let answer = site.admin(method.parse().unwrap(), &path, None).await;
        assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        if answer.status == StatusCode::NOT_FOUND {
            assert_ne!(answer.json()["error"]["message"], "no such page", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_set_is_stored_shown_given_and_taken_away() {
    let site = Site::new().await;
    let device = site.enrolled("C02A").await;
    let put = |set| site.admin(Method::PUT, "/v1/tenants/default/declaration-sets/base", Some(set));
    let wrong = put(json!({"declarations": [{"identifier": "a", "type": "com.example.a", "payload": {}}]})).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let details = wrong.json()["error"]["details"].clone();
    assert!(
        details[0]
            .as_str()
            .unwrap()
            .starts_with("declarations[0]: the type of a"),
        "{details}"
    );
    let unknown = put(json!({"declarations": [], "other": 1})).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);

    let kind = "com.apple.configuration.passcode.settings";
    let set = json!({"declarations": [{"identifier": "a", "type": kind, "payload": {"MinimumLength": 6}}]});
    let stored = put(set.clone()).await;
    assert_eq!(stored.status, StatusCode::CREATED);
    assert_eq!(stored.json()["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(put(set.clone()).await.status, StatusCode::OK);
    let shown = site
        .admin(Method::GET, "/v1/tenants/default/declaration-sets/base", None)
        .await;
    assert_eq!(shown.json()["declarations"], set["declarations"]);

    let path = "/v1/tenants/default/devices/C02A/declaration-sets/base";
    let assign = || site.admin(Method::PUT, path, None);
    assert_eq!(assign().await.status, StatusCode::ACCEPTED);
    assert_eq!(assign().await.status, StatusCode::NO_CONTENT);
    let none = site
        .admin(
            Method::PUT,
            "/v1/tenants/default/devices/C02A/declaration-sets/none",
            None,
        )
        .await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    let plan = site
        .admin(Method::GET, "/v1/tenants/default/devices/C02A/declarations", None)
        .await
        .json();
    assert_eq!((&plan["planning"], &plan["token"]), (&json!(true), &json!(null)));
    assert_eq!(plan["sets"][0]["name"], "base");

    // The device asks before the background has made its plan.
    let message = device.message(&[
        ("MessageType", "DeclarativeManagement".into()),
        ("Endpoint", "declaration-items".into()),
    ]);
    let items = site.send(device.signed("/mdm/checkin", &message)).await;
    assert_eq!(items.header("content-type"), Some("application/json"));
    assert_eq!(items.json()["Declarations"]["Configurations"][0]["Identifier"], "a");
    let report = json!({"StatusItems": {"passcode": {"is-present": true}}, "Errors": []});
    let message = device.message(&[
        ("MessageType", "DeclarativeManagement".into()),
        ("Endpoint", "status".into()),
        ("Data", Value::Data(report.to_string().into_bytes())),
    ]);
    let taken = site.send(device.signed("/mdm/checkin", &message)).await;
    assert_eq!((taken.status, taken.body.len()), (StatusCode::OK, 0));
    let status = site
        .admin(Method::GET, "/v1/tenants/default/devices/C02A/status", None)
        .await;
    assert_eq!(status.json()["items"][0]["item"], "passcode.is-present");

    let base = "/v1/tenants/default/declaration-sets/base";
    assert_eq!(
        site.admin(Method::DELETE, base, None).await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(
        site.admin(Method::DELETE, path, None).await.status,
        StatusCode::ACCEPTED
    );
    assert_eq!(
        site.admin(Method::DELETE, path, None).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        site.admin(Method::DELETE, base, None).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_renewal_waits_once() {
    let site = Site::new().await;
    site.enrolled("C02A").await;
    let renew = || site.admin(Method::POST, "/v1/tenants/default/devices/C02A/renew", None);
    let queued = renew().await;
    assert_eq!(queued.status, StatusCode::ACCEPTED);
    assert!(queued.json()["command_uuid"].is_string());
    assert_eq!(renew().await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_held_deposit_is_listed_accepted_and_dropped() {
    let site = Site::new().await;
    let device = site.enrolled("C02A").await;
    *site.script.escrow.lock().unwrap() = Some(Err(FaultKind::Trap));
    let message = device.message(&[
        ("MessageType", "SetBootstrapToken".into()),
        ("BootstrapToken", Value::Data(b"token".to_vec())),
    ]);
    let taken = site.send(device.signed("/mdm/checkin", &message)).await;
    assert_eq!(taken.status, StatusCode::OK);
    let held = || async {
        let listed = site.admin(Method::GET, "/v1/tenants/default/escrow/held", None).await;
        listed.json()["items"].as_array().unwrap().clone()
    };
    assert_eq!(held().await[0]["kind"], "bootstrap-token");
    let path = "/v1/tenants/default/devices/C02A/escrow/bootstrap-token";
    let accept = || {
        site.admin(
            Method::POST,
            "/v1/tenants/default/devices/C02A/escrow/bootstrap-token/accept",
            None,
        )
    };
    assert_eq!(accept().await.status, StatusCode::SERVICE_UNAVAILABLE);
    *site.script.escrow.lock().unwrap() = None;
    assert_eq!(accept().await.status, StatusCode::NO_CONTENT);
    assert!(held().await.is_empty());
    assert_eq!(accept().await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.admin(Method::GET, path, None).await.status, StatusCode::OK);
    assert_eq!(
        site.admin(Method::DELETE, path, None).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        site.admin(Method::DELETE, path, None).await.status,
        StatusCode::NOT_FOUND
    );
}
