//! The admin API: who may call it, its forms, and each noun once around.

use crate::support::Site;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use russet_engine::store::Cursor;
use russet_hooks::EscrowVerdict;
use russet_http::HttpSettings;
use russet_protocol::plist::Value;
use serde_json::json;

/// Every route, with a method that it takes.
const ROUTES: [(&str, &str); 27] = [
    ("GET", "/v1/tenants"),
    ("POST", "/v1/tenants"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("DELETE", "/v1/tokens/999"),
    ("GET", "/v1/tenants/default/devices"),
    ("GET", "/v1/tenants/default/devices/C02"),
    ("GET", "/v1/tenants/default/devices/C02/commands"),
    ("POST", "/v1/tenants/default/devices/C02/push"),
    ("PUT", "/v1/tenants/default/devices/C02/person"),
    ("GET", "/v1/tenants/default/devices/C02/escrow/unlock-token"),
    ("GET", "/v1/tenants/default/commands"),
    ("POST", "/v1/tenants/default/commands"),
    (
        "GET",
        "/v1/tenants/default/commands/0192f0c1-2a80-7000-8000-000000000000",
    ),
    ("GET", "/v1/tenants/default/profiles"),
    ("GET", "/v1/tenants/default/profiles/wifi"),
    ("PUT", "/v1/tenants/default/profiles/wifi"),
    ("DELETE", "/v1/tenants/default/profiles/wifi"),
    ("GET", "/v1/tenants/default/push-certificates"),
    ("PUT", "/v1/tenants/default/push-certificates"),
    ("GET", "/v1/tenants/default/plugins"),
    ("GET", "/v1/tenants/default/plugins/gate"),
    ("PUT", "/v1/tenants/default/plugins/gate"),
    ("DELETE", "/v1/tenants/default/plugins/gate"),
    ("GET", "/v1/tenants/default/decisions"),
    ("GET", "/v1/tenants/default/certificates"),
    ("GET", "/v1/tenants/default/people/anna"),
];

fn request(method: &str, path: &str, authorization: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn no_route_answers_without_a_good_token() {
    let site = Site::new().await;
    let revoke = format!("/v1/tenants/default/certificates/{}/revoke", "0".repeat(64));
    let routes = ROUTES.into_iter().chain([("POST", revoke.as_str())]);
    for (method, path) in routes {
        let wrong = format!("Bearer {}x", site.token);
        for authorization in [
            None,
            Some("Bearer russet_nothing"),
            Some(wrong.as_str()),
            Some(&site.token),
        ] {
            let answer = site.send(request(method, path, authorization)).await;
            assert_eq!(
                answer.status,
                StatusCode::UNAUTHORIZED,
                "{method} {path} {authorization:?}"
            );
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
            assert_eq!(answer.code(), "unauthorized");
        }
        // With a good token each of them gets further: the route is there.
        let good = format!("bearer {}", site.token);
        let answer = site.send(request(method, path, Some(&good))).await;
        assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
        assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        if answer.status == StatusCode::NOT_FOUND {
            assert_ne!(answer.json()["error"]["message"], "no such page", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_token_of_one_tenant_is_good_for_that_tenant() {
    let site = Site::new().await;
    let made = site
        .admin(Method::POST, "/v1/tenants", Some(json!({"name": "acme"})))
        .await;
    assert_eq!(
        (made.status, made.json()["name"].clone()),
        (StatusCode::CREATED, json!("acme"))
    );
    let token = json!({"name": "acme-admin", "tenant": "acme"});
    let made = site.admin(Method::POST, "/v1/tokens", Some(token)).await;
    assert_eq!(
        (made.status, made.header("cache-control")),
        (StatusCode::CREATED, Some("no-store"))
    );
    let (id, acme) = (
        made.json()["id"].clone(),
        made.json()["token"].as_str().unwrap().to_owned(),
    );

    let get = |path: &'static str| site.admin_as(&acme, Method::GET, path, None);
    assert_eq!(
        get("/v1/tenants/acme/devices").await.json(),
        json!({"items": [], "next": null})
    );
    // Another tenant and one that does not exist look the same.
    let other = get("/v1/tenants/default/devices").await;
    let none = get("/v1/tenants/nobody/devices").await;
    assert_eq!(other.status, StatusCode::FORBIDDEN);
    assert_eq!((other.status, other.body), (none.status, none.body));
    assert_eq!(get("/v1/tenants").await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(get("/v1/tokens").await.json()["items"].as_array().unwrap().len(), 1);

    let post = |path: &'static str, body| site.admin_as(&acme, Method::POST, path, Some(body));
    assert_eq!(
        post("/v1/tenants", json!({"name": "more"})).await.status,
        StatusCode::FORBIDDEN
    );
    for token in [
        json!({"name": "up"}),
        json!({"name": "up", "tenant": "default"}),
        json!({"name": "up", "tenant": "no"}),
    ] {
        assert_eq!(post("/v1/tokens", token).await.status, StatusCode::FORBIDDEN);
    }
    let own = post("/v1/tokens", json!({"name": "second", "tenant": "acme"})).await;
    assert_eq!(own.status, StatusCode::CREATED);

    let path = format!("/v1/tokens/{id}");
    assert_eq!(
        site.admin(Method::DELETE, &path, None).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(get("/v1/tenants/acme/devices").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        site.admin(Method::GET, "/v1/tenants/nobody/devices", None).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn errors_have_one_form_and_name_each_problem() {
    let site = Site::with(HttpSettings {
        admin_body: 4 << 10,
        ..HttpSettings::default()
    })
    .await;
    site.enrolled("C02ERR").await;
    let send = |content_type: &str, body: String| {
        Request::post("/v1/tenants/default/commands?device=C02ERR")
            .header("authorization", format!("Bearer {}", site.token))
            .header("content-type", content_type)
            .body(Body::from(body))
            .unwrap()
    };
    let json = "application/json";
    let no_command = json!({"devices": ["C02ERR"]}).to_string();
    let unknown_key = json!({"devices": [], "kommand": {}}).to_string();
    let unknown_device = json!({"devices": ["A", "B"], "command": {"RequestType": "ProfileList"}}).to_string();
    let bad_command = json!({"devices": ["C02ERR"], "command": {"RequestType": "DeviceInformation", "Queries": 7}});
    let cases = [
        (send(json, "{".into()), 400, "bad-request", 0),
        (send(json, no_command), 400, "bad-request", 0),
        (send(json, unknown_key), 400, "bad-request", 0),
        (send(json, unknown_device), 422, "invalid", 2),
        (send(json, bad_command.to_string()), 422, "invalid", 1),
        (send(json, " ".repeat((4 << 10) + 1)), 413, "too-large", 0),
        (send("text/plain", "hello".into()), 415, "unsupported-media-type", 0),
        (send("application/xml", "hello".into()), 422, "invalid", 0),
    ];
    for (request, status, code, details) in cases {
        let answer = site.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{}",
            answer.text()
        );
        let error = &answer.json()["error"];
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert_eq!(error["details"].as_array().unwrap().len(), details, "{}", answer.text());
    }
    for path in [
        "/v1/tenants/default/devices?limit=many",
        "/v1/tenants/default/devices?cursor=x",
        "/v1/tenants/default/devices?state=happy",
        "/v1/tokens/none",
    ] {
        let method = if path.ends_with("none") {
            Method::DELETE
        } else {
            Method::GET
        };
        assert_eq!(site.admin(method, path, None).await.code(), "bad-request", "{path}");
    }
}

#[tokio::test]
async fn devices_are_found_by_each_of_their_names_and_listed_in_pages() {
    let site = Site::new().await;
    for serial in ["C02A", "C02B", "C02C"] {
        site.enrolled(serial).await;
    }
    let list = |query: &str| {
        let path = format!("/v1/tenants/default/devices{query}");
        let site = &site;
        async move { site.admin(Method::GET, &path, None).await.json() }
    };
    let serials = |page: &serde_json::Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["serial_number"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = list("?limit=2").await;
    assert_eq!(serials(&first), ["C02A", "C02B"]);
    let next = first["next"].as_str().unwrap();
    assert!(next.parse::<Cursor>().is_ok());
    let second = list(&format!("?limit=2&cursor={next}")).await;
    assert_eq!(
        (serials(&second), &second["next"]),
        (vec!["C02C".to_owned()], &json!(null))
    );
    assert_eq!(serials(&list("?serial_number=c02b").await), ["C02B"]);
    assert_eq!(serials(&list("?serial_number=C02").await), [""; 0]);
    assert_eq!(serials(&list("?search=02c&state=active").await), ["C02C"]);
    assert_eq!(serials(&list("?state=removed").await), [""; 0]);

    let by_serial = site
        .admin(Method::GET, "/v1/tenants/default/devices/C02A", None)
        .await
        .json();
    let id = by_serial["id"].as_str().unwrap().to_owned();
    for name in [id.as_str(), "UDID-C02A"] {
        let path = format!("/v1/tenants/default/devices/{name}");
        assert_eq!(site.admin(Method::GET, &path, None).await.json(), by_serial);
    }
    assert_eq!(
        (&by_serial["state"], &by_serial["channel"]),
        (&json!("active"), &json!("device"))
    );
    // The secrets of a device stay inside.
    assert!(!by_serial.to_string().contains("the-push-magic"));

    let push = |serial: &'static str| site.admin(Method::POST, serial, None);
    assert_eq!(
        push("/v1/tenants/default/devices/C02A/push").await.status,
        StatusCode::ACCEPTED
    );
    assert_eq!(
        push("/v1/tenants/default/devices/NONE/push").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn commands_come_as_json_as_a_property_list_and_as_a_stored_profile() {
    let site = Site::new().await;
    site.enrolled("C02CMD").await;
    let profile = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict>\
        <key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>\
        <key>PayloadIdentifier</key><string>com.example.wifi</string>\
        <key>PayloadUUID</key><string>7B1F0D7A-5B5E-4C26-9E53-0D5A1E9B0C11</string>\
        <key>PayloadContent</key><array/></dict></plist>";
    let raw = |method: &str, path: &str, content_type: &str, body: &str| {
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", site.token))
            .header("content-type", content_type)
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let wifi = "/v1/tenants/default/profiles/wifi";
    let put = |body| raw("PUT", wifi, "application/x-apple-aspen-config", body);
    assert_eq!(site.send(put("hello")).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(site.send(put(profile)).await.status, StatusCode::CREATED);
    assert_eq!(site.send(put(profile)).await.status, StatusCode::OK);
    let template = json!({"content": "Hello {{ device }}", "template": "profile-template", "variables": {"a": 1}});
    let path = "/v1/tenants/default/profiles/greeting";
    assert_eq!(
        site.admin(Method::PUT, path, Some(template)).await.status,
        StatusCode::CREATED
    );
    let shown = site.admin(Method::GET, path, None).await.json();
    assert_eq!(
        (&shown["content"], &shown["variables"]),
        (&json!("Hello {{ device }}"), &json!({"a": 1}))
    );
    let listed = site
        .admin(Method::GET, "/v1/tenants/default/profiles", None)
        .await
        .json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);

    let commands = "/v1/tenants/default/commands";
    for body in [
        json!({"devices": ["C02CMD"], "profile": "wifi"}),
        json!({"devices": ["C02CMD"], "profile": "wifi", "command": {"RequestType": "InstallProfile"}}),
    ] {
        let queued = site.admin(Method::POST, commands, Some(body)).await;
        assert_eq!(queued.status, StatusCode::CREATED, "{}", queued.text());
        assert_eq!(queued.json()["request_type"], "InstallProfile");
    }
    let missing = json!({"devices": ["C02CMD"], "profile": "none"});
    assert_eq!(
        site.admin(Method::POST, commands, Some(missing)).await.status,
        StatusCode::NOT_FOUND
    );

    let plist = "<plist version=\"1.0\"><dict><key>RequestType</key><string>ProfileList</string></dict></plist>";
    let later = "/v1/tenants/default/commands?device=C02CMD&priority=-5&not_before=2100-01-01T00:00:00Z";
    let queued = site.send(raw("POST", later, "text/xml; charset=utf-8", plist)).await;
    assert_eq!(queued.status, StatusCode::CREATED, "{}", queued.text());
    let path = "/v1/tenants/default/devices/C02CMD/commands";
    let queue = site.admin(Method::GET, path, None).await.json();
    let newest = &queue["items"][0];
    assert_eq!(
        (&newest["request_type"], &newest["priority"]),
        (&json!("ProfileList"), &json!(-5))
    );
    assert!(newest["waiting_for"].as_str().unwrap().contains("2100"), "{newest}");
    let all = site
        .admin(Method::GET, &format!("{commands}?limit=1"), None)
        .await
        .json();
    assert_eq!(
        (all["items"].as_array().unwrap().len(), all["next"].is_string()),
        (1, true)
    );
    let odd = "/v1/tenants/default/commands?device=C02CMD&colour=red";
    assert_eq!(
        site.send(raw("POST", odd, "text/xml", plist)).await.status,
        StatusCode::BAD_REQUEST
    );
    let refused = site.admin(Method::DELETE, wifi, None).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    assert!(refused.text().contains("cancel what delivers it"), "{}", refused.text());
    let flush = "/v1/tenants/default/devices/C02CMD/flush";
    let flushed = site.admin(Method::POST, flush, Some(json!({}))).await;
    assert_eq!(flushed.status, StatusCode::OK, "{}", flushed.text());
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
        assert_eq!(site.admin(Method::DELETE, wifi, None).await.status, status);
    }
}

#[tokio::test]
async fn people_escrow_decisions_and_certificates() {
    let site = Site::new().await;
    let device = site.enrolled("C02ESC").await;
    let person = json!({"user_name": "anna"});
    let path = "/v1/tenants/default/devices/C02ESC/person";
    let given = site.admin(Method::PUT, path, Some(person)).await;
    assert_eq!(
        (given.status, &given.json()["full_name"]),
        (StatusCode::OK, &json!("Anna Example"))
    );
    let unknown = site.admin(Method::PUT, path, Some(json!({"user_name": "bert"}))).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let found = site.admin(Method::GET, "/v1/tenants/default/people/anna", None).await;
    assert_eq!(found.json()["user_name"], "anna");

    let token = device.message(&[
        ("MessageType", "SetBootstrapToken".into()),
        ("BootstrapToken", Value::Data(b"boot".to_vec())),
    ]);
    assert_eq!(
        site.send(device.signed("/mdm/checkin", &token)).await.status,
        StatusCode::OK
    );
    let escrow = |kind: &'static str| site.admin(Method::GET, kind, None);
    let released = escrow("/v1/tenants/default/devices/C02ESC/escrow/bootstrap-token").await;
    assert_eq!(
        (released.status, &released.json()["secret"]),
        (StatusCode::OK, &json!("Ym9vdA=="))
    );
    assert_eq!(released.header("cache-control"), Some("no-store"));
    for none in ["unlock-token", "recovery"] {
        let path: &'static str = Box::leak(format!("/v1/tenants/default/devices/C02ESC/escrow/{none}").into());
        assert_eq!(escrow(path).await.status, StatusCode::NOT_FOUND);
    }
    *site.script.escrow.lock().unwrap() = Some(Ok(EscrowVerdict::Deny("four eyes".into())));
    let refused = escrow("/v1/tenants/default/devices/C02ESC/escrow/bootstrap-token").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::FORBIDDEN, "refused")
    );

    let decisions = "/v1/tenants/default/decisions?device=C02ESC";
    let decisions = site.admin(Method::GET, decisions, None).await.json();
    let verdicts: Vec<_> = decisions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["verdict"].clone())
        .collect();
    assert!(verdicts.contains(&json!("allow")), "{decisions}");

    let certificates = site
        .admin(Method::GET, "/v1/tenants/default/certificates?device=C02ESC", None)
        .await
        .json();
    let sha256 = certificates["items"][0]["sha256"].as_str().unwrap().to_owned();
    assert_eq!(certificates["items"][0]["enrolled"], true);
    let path = format!("/v1/tenants/default/certificates/{sha256}/revoke");
    let revoked = site.admin(Method::POST, &path, Some(json!({"reason": "lost"}))).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    let answer = site.send(device.signed("/mdm/connect", &device.idle())).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::BAD_REQUEST, "identity-revoked")
    );
    let short = site.admin(
        Method::POST,
        "/v1/tenants/default/certificates/ab/revoke",
        Some(json!({"reason": ""})),
    );
    assert_eq!(short.await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_push_certificate_is_taken_with_its_key_and_never_shown_with_it() {
    let site = Site::new().await;
    let path = "/v1/tenants/default/push-certificates";
    let wrong = json!({"certificate_pem": "hello", "private_key_pem": "hello"});
    let refused = site.admin(Method::PUT, path, Some(wrong)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uid = rcgen::DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
    params.distinguished_name.push(uid, "com.apple.mgmt.External.other");
    let certificate = params.self_signed(&key).unwrap();
    let mut good = json!({"certificate_pem": certificate.pem(), "private_key_pem": key.serialize_pem()});
    let refused = site.admin(Method::PUT, path, Some(good.clone())).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::CONFLICT, "other-topic")
    );
    good["other_topic"] = true.into();
    let stored = site.admin(Method::PUT, path, Some(good)).await;
    assert_eq!(stored.status, StatusCode::OK, "{}", stored.text());
    assert_eq!(stored.json()["topic"], "com.apple.mgmt.External.other");
    assert!(
        stored.json()["not_after"]
            .as_str()
            .unwrap()
            .parse::<Timestamp>()
            .is_ok()
    );
    let listed = site.admin(Method::GET, path, None).await;
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 2);
    assert!(!listed.text().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_component_that_is_none_is_refused_with_what_is_wrong() {
    let site = Site::new().await;
    let path = "/v1/tenants/default/plugins/gate";
    let install = |body| site.admin(Method::PUT, path, Some(body));
    assert_eq!(install(json!({"component": "***"})).await.code(), "bad-request");
    assert_eq!(install(json!({"component": "aGVsbG8="})).await.code(), "invalid");
    assert_eq!(install(json!({"settings": {}})).await.code(), "not-found");
    assert_eq!(install(json!({"grant": {}})).await.code(), "bad-request");
    let wasm = Request::put(path)
        .header("authorization", format!("Bearer {}", site.token))
        .header("content-type", "application/wasm")
        .body(Body::from("hello"))
        .unwrap();
    assert_eq!(site.send(wasm).await.code(), "invalid");
    assert_eq!(site.admin(Method::GET, path, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        site.admin(Method::DELETE, path, None).await.status,
        StatusCode::NOT_FOUND
    );
    let listed = site.admin(Method::GET, "/v1/tenants/default/plugins", None).await;
    assert_eq!(listed.json(), json!({"items": [], "next": null}));
}
