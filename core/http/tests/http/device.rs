//! Messages of devices: the whole round over the router, every status that a device can get, and never 401.

use crate::support::{Device, Site};
use axum::body::Body;
use axum::routing::put;
use http::{Method, Request, StatusCode};
use russet_hooks::{Denial, FaultKind, GateVerdict};
use russet_http::{HttpSettings, RateLimits, boundary, device_router};
use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value};
use serde_json::json;
use tower::ServiceExt;

#[tokio::test]
async fn a_device_enrolls_gets_a_command_and_its_answer_is_read_as_json() {
    let site = Site::new().await;
    let device = site.enrolled("C02ROUND").await;

    let none = site.send(device.signed("/mdm/connect", &device.idle())).await;
    assert_eq!((none.status, none.body.len()), (StatusCode::OK, 0));
    assert_eq!(none.header("content-type"), None);

    let command =
        json!({"devices": ["C02ROUND"], "command": {"RequestType": "DeviceInformation", "Queries": ["OSVersion"]}});
    let queued = site
        .admin(Method::POST, "/v1/tenants/default/commands", Some(command))
        .await;
    assert_eq!(queued.status, StatusCode::CREATED, "{}", queued.text());
    let uuid = queued.json()["command_uuid"].as_str().unwrap().to_owned();

    let delivered = site.send(device.signed("/mdm/connect", &device.idle())).await;
    assert_eq!(delivered.header("content-type"), Some("application/xml"));
    let sent = delivered.plist();
    let command = sent.get("Command").unwrap().as_dictionary().unwrap();
    assert_eq!(
        command.get("RequestType").unwrap().as_string(),
        Some("DeviceInformation")
    );

    let answers = Dictionary::from_iter([("OSVersion".to_owned(), Value::from("27.1"))]);
    let report = device.message(&[
        ("Status", "Acknowledged".into()),
        ("CommandUUID", sent.get("CommandUUID").unwrap().clone()),
        ("QueryResponses", answers.into()),
    ]);
    // CheckInURL may be the ServerURL, so either address takes either message.
    let done = site.send(device.signed("/mdm/checkin", &report)).await;
    assert_eq!((done.status, done.body.len()), (StatusCode::OK, 0));

    let path = format!("/v1/tenants/default/commands/{uuid}");
    let shown = site.admin(Method::GET, &path, None).await.json();
    assert_eq!(shown["request_type"], "DeviceInformation");
    assert_eq!(shown["counts"], json!({"acknowledged": 1}));
    let entry = &shown["devices"][0];
    assert_eq!(
        (&entry["serial_number"], &entry["state"]),
        (&json!("C02ROUND"), &json!("acknowledged"))
    );
    assert_eq!(entry["result"]["QueryResponses"]["OSVersion"], "27.1");
}

#[tokio::test]
async fn a_device_is_known_by_its_tls_certificate_too() {
    let site = Site::new().await;
    let device = site.identified("C02TLS").await;
    for message in [device.authenticate(), device.token_update(), device.idle()] {
        let answer = site.send(device.over_tls("/t/default/mdm/connect", &message)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    // TLS wins: a signature beside it is not needed, so a wrong one does not matter.
    let mut request = device.over_tls("/mdm/connect", &device.idle());
    request.headers_mut().insert("mdm-signature", "AAAA".parse().unwrap());
    assert_eq!(site.send(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_large_message_comes_again_when_there_is_no_room_for_it() {
    let site = Site::with(HttpSettings {
        rates: RateLimits {
            device_bodies: 64 << 10,
            ..RateLimits::default()
        },
        ..HttpSettings::default()
    })
    .await;
    let device = site.enrolled("C02LARGE").await;
    let mut message = device.idle();
    message.insert("Extra".to_owned(), Value::Data(vec![0; 128 << 10]));
    let answer = site.send(device.signed("/mdm/connect", &message)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    let answer = site.send(device.signed("/mdm/connect", &device.idle())).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

/// Everything that goes wrong with a message, and the status for it.
#[tokio::test]
async fn each_failure_has_its_status_and_none_is_401() {
    let site = Site::with(HttpSettings {
        device_body: 64 << 10,
        ..HttpSettings::default()
    })
    .await;
    let device = site.enrolled("C02TABLE").await;
    let other = site.identified("C02OTHER").await;
    let stranger = Device::stranger();
    let plain = |body: &str| Request::put("/mdm/connect").body(Body::from(body.to_owned())).unwrap();
    let raw = |body: &str| {
        let signature = russet_pki::mdm_signature::sign(body.as_bytes(), &device.signer).unwrap();
        let mut request = plain(body);
        request
            .headers_mut()
            .insert("mdm-signature", signature.parse().unwrap());
        request
    };
    let with_signature = |value: &str| {
        let mut request = plain(&String::from_utf8(codec::encode(&device.idle())).unwrap());
        request.headers_mut().insert("mdm-signature", value.parse().unwrap());
        request
    };
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE plist [<!ENTITY a \"aaaa\">]><plist><dict><key>UDID</key>\
                <string>&a;</string></dict></plist>";
    let large = " ".repeat((64 << 10) + 1);
    let nested = format!("<plist>{}{}</plist>", "<array>".repeat(100), "</array>".repeat(100));
    let check_in = |kind: &str| device.message(&[("MessageType", kind.into())]);
    let cases = [
        ("no identity", plain("<plist/>"), 400, "identity-missing"),
        ("not base64", with_signature("***"), 400, "identity-signature"),
        ("no CMS", with_signature("AAAA"), 400, "identity-signature"),
        (
            "a stranger's signature",
            stranger.signed("/mdm/connect", &stranger.idle()),
            400,
            "identity-unknown-authority",
        ),
        (
            "a stranger's certificate",
            stranger.over_tls("/mdm/connect", &stranger.idle()),
            400,
            "identity-unknown-authority",
        ),
        (
            "another device's certificate",
            other.signed("/mdm/connect", &device.idle()),
            400,
            "not-enrolled",
        ),
        (
            "never enrolled",
            other.signed("/mdm/connect", &other.idle()),
            400,
            "not-enrolled",
        ),
        ("no property list", raw("{}"), 400, "message"),
        ("empty", raw(""), 400, "message"),
        ("an entity bomb", raw(bomb), 400, "message"),
        ("nested", raw(&nested), 400, "message"),
        (
            "unknown message",
            device.signed("/mdm/checkin", &check_in("Sing")),
            400,
            "message",
        ),
        (
            "neither kind",
            device.signed("/mdm/checkin", &device.message(&[])),
            400,
            "message",
        ),
        ("a stranger's large message", plain(&large), 400, "identity-missing"),
        ("too large", raw(&large), 413, "too-large"),
        (
            "unknown token service",
            device.signed(
                "/mdm/checkin",
                &device.message(&[
                    ("MessageType", "GetToken".into()),
                    ("TokenServiceType", "com.example".into()),
                ]),
            ),
            400,
            "unsupported",
        ),
        (
            "unknown tenant",
            device.signed("/t/nobody/mdm/connect", &device.idle()),
            404,
            "not-found",
        ),
        (
            "wrong method",
            Request::get("/mdm/connect").body(Body::empty()).unwrap(),
            405,
            "method-not-allowed",
        ),
        (
            "unknown path",
            Request::put("/mdm/sing").body(Body::empty()).unwrap(),
            404,
            "not-found",
        ),
    ];
    for (name, request, status, code) in cases {
        let answer = site.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{name}: {}",
            answer.text()
        );
        assert_eq!(answer.header("www-authenticate"), None, "{name}");
    }
}

#[tokio::test]
async fn answers_that_are_no_plain_success_keep_their_meaning() {
    let site = Site::new().await;
    let device = site.enrolled("C02MEAN").await;
    let declaration = |endpoint: &str| {
        device.message(&[
            ("MessageType", "DeclarativeManagement".into()),
            ("Endpoint", endpoint.into()),
        ])
    };
    let tokens = site.send(device.signed("/mdm/checkin", &declaration("tokens"))).await;
    assert_eq!(
        (tokens.status, tokens.header("content-type")),
        (StatusCode::OK, Some("application/json"))
    );
    assert!(tokens.json()["SyncTokens"]["DeclarationsToken"].is_string());
    let missing = declaration("declaration/configuration/none");
    let missing = site.send(device.signed("/mdm/checkin", &missing)).await;
    assert_eq!((missing.status, missing.body.len()), (StatusCode::NOT_FOUND, 0));
    let user = device.message(&[("MessageType", "UserAuthenticate".into()), ("UserID", "U-1".into())]);
    let gone = site.send(device.signed("/mdm/checkin", &user)).await;
    assert_eq!((gone.status, gone.body.len()), (StatusCode::GONE, 0));
}

#[tokio::test]
async fn a_gate_that_refuses_cannot_make_a_device_remove_its_profile() {
    let site = Site::new().await;
    let device = site.identified("C02DENY").await;
    // The worst that a plugin can say: Apple's code for "remove the profile".
    site.script.gate(Ok(GateVerdict::Deny(Denial {
        reason: "com.apple.unrecognized.device".into(),
        message: "Not today.".into(),
    })));
    let denied = site.send(device.signed("/mdm/checkin", &device.authenticate())).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert_eq!(denied.json().get("code"), None);
    assert_eq!(denied.json()["error"]["message"], "Not today.");

    site.script.gate(Err(FaultKind::Trap));
    let later = site.send(device.signed("/mdm/checkin", &device.authenticate())).await;
    assert_eq!(later.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(later.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn a_store_that_is_gone_asks_devices_to_come_again() {
    let site = Site::new().await;
    let device = site.enrolled("C02STORE").await;
    assert_eq!(site.get("/readyz").await.status, StatusCode::OK);
    site.store.close().await.unwrap();
    let answer = site.send(device.signed("/mdm/connect", &device.idle())).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(site.get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.get("/healthz").await.status, StatusCode::OK);
}

/// A vendor's own route or layer below the boundary is under the same guard as ours.
#[tokio::test]
async fn the_boundary_turns_a_401_to_a_device_into_400() {
    let site = Site::new().await;
    let unauthorized = || async { (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic")]) };
    let own = axum::Router::new()
        .route("/mdm/own", put(unauthorized))
        .route("/t/{tenant}/mdm/own", put(unauthorized))
        .route("/own", put(unauthorized));
    let router = boundary(device_router(&site.api).merge(own));
    for (path, status) in [
        ("/mdm/own", StatusCode::BAD_REQUEST),
        ("/t/acme/mdm/own", StatusCode::BAD_REQUEST),
        ("/own", StatusCode::UNAUTHORIZED),
    ] {
        let request = Request::put(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let says_how = answer.headers().contains_key("www-authenticate");
        assert_eq!(says_how, status == StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_answered_with_500_and_the_next_request_works() {
    let site = Site::new().await;
    async fn broken() -> &'static str {
        panic!("on purpose")
    }
    let own = axum::Router::new().route("/broken", put(broken));
    let router = boundary(device_router(&site.api).merge(own));
    let request = Request::put("/broken").body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let request = Request::get("/healthz").body(Body::empty()).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), StatusCode::OK);
}
