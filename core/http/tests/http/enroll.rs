//! Enrollment profiles and SCEP, as devices and people ask for them.

use crate::support::{Device, Site, basic, challenge_of};
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use russet_hooks::{Denial, FaultKind, GateVerdict, SoftwareUpdate};
use russet_pki::cms::{self, Signer};
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::scep::client::Outcome;
use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value};
use serde_json::json;

fn with_credentials(authorization: &str) -> Request<Body> {
    Request::get("/enroll")
        .header("authorization", authorization)
        .body(Body::empty())
        .unwrap()
}

/// Signed machine information, as Setup Assistant posts it.
fn machine_info(can_update: bool) -> Vec<u8> {
    let device = Device::stranger();
    let info = Dictionary::from_iter([
        ("UDID".to_owned(), Value::from("UDID-ADE")),
        ("SERIAL".to_owned(), Value::from("C02ADE")),
        ("PRODUCT".to_owned(), Value::from("Mac15,3")),
        ("VERSION".to_owned(), Value::from("25A1")),
        ("MDM_CAN_REQUEST_SOFTWARE_UPDATE".to_owned(), Value::from(can_update)),
    ]);
    cms::sign_attached(&codec::encode(&info), &Signer::new(device.certificate, device.key)).unwrap()
}

fn post(info: Vec<u8>) -> Request<Body> {
    Request::post("/enroll")
        .header("content-type", "application/pkcs7-signature")
        .body(Body::from(info))
        .unwrap()
}

#[tokio::test]
async fn a_profile_is_not_cached_and_has_the_type_that_devices_install() {
    let site = Site::new().await;
    for path in ["/enroll", "/t/default/enroll"] {
        let profile = site.get(path).await;
        assert_eq!(profile.status, StatusCode::OK);
        assert_eq!(profile.header("content-type"), Some("application/x-apple-aspen-config"));
        assert_eq!(profile.header("cache-control"), Some("no-store"));
        assert!(!challenge_of(&profile.body).is_empty());
    }
    assert_eq!(site.get("/t/nobody/enroll").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_gate_can_ask_for_a_sign_in() {
    let site = Site::new().await;
    site.script.gate(Ok(GateVerdict::RequireSignIn));
    let asked = site.get("/enroll").await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        asked.header("www-authenticate"),
        Some("Basic realm=\"Device enrollment\", charset=\"UTF-8\"")
    );
    site.script.gate(Ok(GateVerdict::Allow(Default::default())));
    let cases = [
        (basic("anna", &"secret:word".to_owned().into()), StatusCode::OK),
        (basic("anna", &"wrong".to_owned().into()), StatusCode::UNAUTHORIZED),
        (
            basic("bert", &"secret:word".to_owned().into()),
            StatusCode::UNAUTHORIZED,
        ),
        ("Basic ???".to_owned(), StatusCode::UNAUTHORIZED),
        ("Digest x".to_owned(), StatusCode::UNAUTHORIZED),
    ];
    for (authorization, status) in cases {
        let answer = site.send(with_credentials(&authorization)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(
            answer.header("www-authenticate").is_some(),
            status == StatusCode::UNAUTHORIZED
        );
    }
}

#[tokio::test]
async fn a_refusal_tells_the_person_why() {
    let site = Site::new().await;
    site.script.gate(Ok(GateVerdict::Deny(Denial {
        reason: "serial-not-listed".into(),
        message: "Ask the help desk.".into(),
    })));
    let by_hand = site.get("/enroll").await;
    assert_eq!(by_hand.status, StatusCode::FORBIDDEN);
    assert_eq!(by_hand.text(), "Ask the help desk.\n");
    let automated = site.send(post(machine_info(true))).await;
    assert_eq!(automated.status, StatusCode::FORBIDDEN);
    let expected = json!({"error": {"code": "serial-not-listed", "message": "Ask the help desk.", "details": []}});
    assert_eq!(automated.json(), expected);

    site.script.gate(Err(FaultKind::Deadline));
    let later = site.get("/enroll").await;
    assert_eq!(later.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(later.header("retry-after").is_some());
}

#[tokio::test]
async fn a_device_that_can_update_is_told_to_in_apples_form() {
    let site = Site::new().await;
    site.script.gate(Ok(GateVerdict::RequireSoftwareUpdate(SoftwareUpdate {
        os_version: "27.2".into(),
        build_version: Some("26B5".into()),
        beta: None,
    })));
    let answer = site.send(post(machine_info(true))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(body["code"], "com.apple.softwareupdate.required");
    assert_eq!(body["details"], json!({"OSVersion": "27.2", "BuildVersion": "26B5"}));
    // One that cannot gets a refusal for people.
    let answer = site.send(post(machine_info(false))).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::FORBIDDEN, "software-update-required")
    );
}

#[tokio::test]
async fn machine_information_comes_in_the_body_or_in_a_header() {
    let site = Site::new().await;
    assert_eq!(site.send(post(machine_info(true))).await.status, StatusCode::OK);
    let web_view = |value: String| {
        Request::get("/enroll")
            .header("x-apple-aspen-deviceinfo", value)
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(
        site.send(web_view(STANDARD.encode(machine_info(true)))).await.status,
        StatusCode::OK
    );
    for wrong in [post(Vec::new()), post(b"hello".to_vec()), web_view("***".into())] {
        assert_eq!(site.send(wrong).await.status, StatusCode::BAD_REQUEST);
    }
    let huge = site.send(post(vec![0; (256 << 10) + 1])).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_server_without_a_push_certificate_says_so() {
    let site = Site::new().await;
    site.admin(Method::POST, "/v1/tenants", Some(json!({"name": "acme"})))
        .await;
    let answer = site.get("/t/acme/enroll").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("push certificate"), "{}", answer.text());
}

#[tokio::test]
async fn scep_answers_have_the_exact_types_that_clients_compare() {
    let site = Site::new().await;
    let caps = site.get("/scep?operation=GetCACaps").await;
    assert_eq!(
        (caps.status, caps.header("content-type")),
        (StatusCode::OK, Some("text/plain"))
    );
    assert!(
        caps.text().lines().any(|line| line == "POSTPKIOperation"),
        "{}",
        caps.text()
    );
    let authority = site.get("/t/default/scep?operation=GetCACert&message=russet").await;
    assert_eq!(authority.status, StatusCode::OK);
    assert_eq!(authority.header("content-type"), Some("application/x-x509-ca-cert"));
    assert_eq!(authority.body, site.authority().der());
}

#[tokio::test]
async fn an_identity_is_issued_by_get_and_a_challenge_is_good_once() {
    let site = Site::new().await;
    let challenge = challenge_of(&site.get("/enroll").await.body);
    let issued = |key: &PrivateKey| {
        let exchange = site.scep_exchange(key, &challenge);
        let message = STANDARD.encode(exchange.message());
        // As most clients write it: not escaped.
        let path = format!("/scep?operation=PKIOperation&message={message}");
        let router = site.get(Box::leak(path.into_boxed_str()));
        async move {
            let answer = router.await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            assert_eq!(answer.header("content-type"), Some("application/x-pki-message"));
            (exchange, answer)
        }
    };
    let (exchange, answer) = issued(&PrivateKey::generate(KeyKind::Rsa2048).unwrap()).await;
    let outcome = exchange.read(&answer.body, &[site.authority()]).unwrap();
    assert!(matches!(outcome, Outcome::Issued { .. }), "{outcome:?}");
    // A refusal is an answer too: the client reads it from the message.
    let (exchange, answer) = issued(&PrivateKey::generate(KeyKind::Rsa2048).unwrap()).await;
    let outcome = exchange.read(&answer.body, &[site.authority()]).unwrap();
    assert!(!matches!(outcome, Outcome::Issued { .. }), "{outcome:?}");
}

#[tokio::test]
async fn what_is_no_scep_gets_a_plain_400() {
    let site = Site::new().await;
    let post = |body: &'static str| {
        Request::post("/scep?operation=PKIOperation")
            .body(Body::from(body))
            .unwrap()
    };
    let get = |query: &str| Request::get(format!("/scep?{query}")).body(Body::empty()).unwrap();
    for request in [
        get(""),
        get("operation=Sing"),
        get("operation=PKIOperation"),
        get("operation=PKIOperation&message=***"),
        get("operation=PKIOperation&message=AAAA"),
        get("operation=%zz"),
        post(""),
        post("hello"),
    ] {
        let uri = request.uri().clone();
        let answer = site.send(request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8"),
            "{uri}"
        );
    }
}
