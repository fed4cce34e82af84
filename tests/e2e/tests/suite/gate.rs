//! Who gets in: the demand for an update, enrollment by hand, tenants, and how profiles are signed.

use std::sync::Arc;

use http::Method;
use http::header::CONTENT_TYPE;
use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::{CaOptions, CertificateAuthority, SignerUse};
use russet_pki::key::KeyKind;
use russet_simulator::SimulatedDevice;
use russet_simulator::device::{Credentials, DeviceIdentityCa, ProfileRequest, ProfileSignature, ServerTrust};
use russet_tests::{World, WorldBuilder};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_has_to_update_first_is_told_in_the_form_that_it_acts_on() {
    let world = World::start().await;
    let minimum = json!({"minimum_os": {"iPhone": {"version": "27.1", "build": "24A300"}, "Mac": "27.1"}});
    world.admin.install("enrollment-gate", minimum).await;

    let phone = world.iphone("DNPGATE1").os_version("26.1").build().unwrap();
    let answer = phone.request_profile(&ProfileRequest::Automated(None)).await.unwrap();
    assert_eq!(answer.status.as_u16(), 403);
    assert_eq!(answer.content_type(), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["code"], "com.apple.softwareupdate.required", "{body}");
    assert_eq!(
        body["details"],
        json!({"OSVersion": "27.1", "BuildVersion": "24A300"}),
        "{body}"
    );
    assert!(body["message"].as_str().unwrap().contains("27.1"), "{body}");
    assert!(body["description"].is_string(), "{body}");

    // A device that cannot do it by itself is told so that the person can.
    let old = world
        .iphone("DNPGATE2")
        .os_version("16.0")
        .facts(|facts| facts.can_request_software_update = false);
    let refusal = old.build().unwrap().enroll().await.unwrap_err();
    assert_eq!(refusal.status(), Some(403));
    assert!(refusal.to_string().contains("Update this device to 27.1"), "{refusal}");
    assert_ne!(
        refusal.refusal().unwrap().code().as_deref(),
        Some("com.apple.softwareupdate.required")
    );

    world
        .iphone("DNPGATE3")
        .os_version("27.1")
        .build()
        .unwrap()
        .enroll()
        .await
        .unwrap();
    let decisions = world.admin.decisions().await;
    let demands = decisions
        .iter()
        .filter(|decision| decision["verdict"] == "require-software-update")
        .count();
    assert_eq!(demands, 2, "{decisions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_enrolls_by_hand_is_decided_when_the_device_says_what_it_is() {
    let world = World::start().await;
    let settings = json!({"serial_numbers": {"allow": ["C02GOOD*"]}, "attributes": {"wing": "north"}});
    world.admin.install("enrollment-gate", settings).await;

    let stranger = world.by_hand("C02BAD00001").build().unwrap();
    stranger.fetch_profile(&ProfileRequest::Manual(None)).await.unwrap();
    stranger.enroll_identity().await.unwrap();
    let refusal = stranger.authenticate().await.unwrap_err();
    assert_eq!(refusal.status(), Some(403), "{refusal}");
    assert!(refusal.to_string().contains("not on the list"), "{refusal}");
    assert_eq!(
        stranger.unenrolled(),
        None,
        "only the device's own owner undoes what is on it"
    );
    assert!(world.admin.list("/devices").await.is_empty());

    let mac = world.by_hand("C02GOOD0001").build().unwrap();
    mac.enroll().await.unwrap();
    let shown = world.admin.device("C02GOOD0001").await;
    assert_eq!(shown["attributes"]["wing"], "north", "{shown}");
    assert_eq!(shown["attributes"]["enrollment-method"], "manual", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gate_and_without_a_push_certificate_nobody_enrolls() {
    let world = World::builder().without_push_certificate().start().await;
    let mac = world.by_hand("C02ALONE001").build().unwrap();
    let refusal = mac.enroll().await.unwrap_err();
    assert_eq!(refusal.status(), Some(403));
    assert!(
        refusal.to_string().contains("No enrollment gate is installed"),
        "{refusal}"
    );

    world.admin.install("smallest-gate", json!({"prefix": "C02"})).await;
    let answer = mac.request_profile(&ProfileRequest::Manual(None)).await.unwrap();
    assert_eq!(answer.status.as_u16(), 503);
    assert!(answer.text().contains("no push certificate yet"), "{}", answer.text());

    world.give_push_certificate(&world.admin, russet_tests::TOPIC).await;
    mac.enroll().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_devices_of_the_trusted_maker_enroll_automatically() {
    let world = World::builder().without_gate().start().await;
    let forger = DeviceIdentityCa::generate().unwrap();
    let forged = world.by_hand("C02FORGED01").made_by(&forger).build().unwrap();
    let refusal = forged.enroll().await.unwrap_err();
    assert_eq!(refusal.status(), Some(400), "{refusal}");
    assert!(
        refusal.to_string().contains("machine information is refused"),
        "{refusal}"
    );

    let world = World::builder()
        .without_gate()
        .set("enrollment.verify_machine_info", false)
        .start()
        .await;
    world
        .by_hand("C02FORGED01")
        .made_by(&forger)
        .build()
        .unwrap()
        .enroll()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_keep_to_themselves() {
    let world = World::start().await;
    let made = world
        .admin
        .request(Method::POST, "/v1/tenants")
        .json(&json!({"name": "acme"}));
    world.admin.send(made).await.ok();
    let acme = world.admin.at("acme");
    world.give_push_certificate(&acme, "com.apple.mgmt.External.acme").await;
    world.admin.install("smallest-gate", json!({"prefix": "C02HOME"})).await;
    acme.install("smallest-gate", json!({"prefix": "C02ACME"})).await;

    let at_acme = |serial| world.by_hand(serial).tenant("acme").build().unwrap();
    let guest = at_acme("C02ACME0001");
    guest.enroll().await.unwrap();
    let enrollment = guest.enrollment_profile().unwrap();
    assert_eq!(enrollment.mdm.topic, "com.apple.mgmt.External.acme");
    assert!(
        enrollment.mdm.server_url.ends_with("/t/acme/mdm/connect"),
        "{}",
        enrollment.mdm.server_url
    );
    assert_eq!(at_acme("C02HOME0001").enroll().await.unwrap_err().status(), Some(403));
    assert_eq!(
        world
            .by_hand("C02ACME0002")
            .build()
            .unwrap()
            .enroll()
            .await
            .unwrap_err()
            .status(),
        Some(403)
    );
    assert_eq!(at_unknown(&world).enroll().await.unwrap_err().status(), Some(404));

    // Each sees its own devices, and gives orders to none but those.
    assert_eq!(acme.list("/devices").await.len(), 1);
    assert!(world.admin.list("/devices").await.is_empty());
    let order = json!({"devices": ["C02ACME0001"], "command": {"RequestType": "SecurityInfo"}});
    world.admin.post("/commands", &order).await.refused(422);
    acme.post("/commands", &order).await.ok();
    guest.run_until_idle().await.unwrap();
    assert_eq!(guest.answered().len(), 1);

    // A certificate of one tenant says nothing at another.
    let home = world.by_hand("C02HOME0001").build().unwrap();
    home.enroll().await.unwrap();
    home.set_identity(guest.identity().unwrap()).unwrap();
    let refusal = home.run_until_idle().await.unwrap_err();
    assert_eq!(refusal.status(), Some(400), "{refusal}");

    // A token of one tenant is good for that one.
    let token = world
        .admin
        .request(Method::POST, "/v1/tokens")
        .json(&json!({"name": "guard", "tenant": "acme"}));
    let token = world.admin.send(token).await.ok();
    let guard = world.admin.with_token(token["token"].as_str().unwrap());
    guard.at("acme").get("/devices").await.ok();
    guard.get("/devices").await.refused(403);
    guard.at("unknown").get("/devices").await.refused(403);
    let more = guard
        .request(Method::POST, "/v1/tenants")
        .json(&json!({"name": "more"}));
    guard.send(more).await.refused(403);
    world.admin.with_token("guessed").get("/devices").await.refused(401);
}

fn at_unknown(world: &World) -> SimulatedDevice {
    world.by_hand("C02NOBODY01").tenant("unknown").build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_unsigned_where_the_setting_says_so() {
    let world = World::builder()
        .without_gate()
        .set("enrollment.profile_signing", "none")
        .start()
        .await;
    let mac = world.enrolled("C02PLAIN001").await;
    assert_eq!(
        mac.enrollment_profile().unwrap().profile.signature,
        ProfileSignature::None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_signed_by_the_identity_from_files() {
    let now = Timestamp::now();
    let authority = CaOptions {
        common_name: "Company Root".to_owned(),
        organization: "Example".to_owned(),
        key: KeyKind::P256,
        lifetime: SignedDuration::from_hours(24),
    };
    let authority = CertificateAuthority::generate(&authority, now).unwrap();
    let day = SignedDuration::from_hours(24);
    let (certificate, key) = authority
        .issue_signer("Company profiles", SignerUse::Profiles, day, now)
        .unwrap();
    let other = authority
        .issue_signer("Somebody else", SignerUse::Profiles, day, now)
        .unwrap()
        .1;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let chain = format!("{}{}", certificate.to_pem(), authority.certificate().to_pem());
    let signed_by = |key: String| -> WorldBuilder {
        World::builder()
            .without_gate()
            .set("enrollment.profile_signing", "files")
            .set("enrollment.signer_certificate_file", file("signer.pem", &chain))
            .set("enrollment.signer_private_key_file", key)
    };
    let world = signed_by(file("signer.key", &key.to_pem()))
        .start_in(Arc::clone(&folder))
        .await
        .unwrap();
    let trust = ServerTrust::from_pem(&world.server.ca_pem())
        .unwrap()
        .with_der(authority.certificate().der());
    let mac = world.mac("C02SIGNED01").trust(trust).build().unwrap();
    mac.enroll().await.unwrap();
    match mac.enrollment_profile().unwrap().profile.signature {
        ProfileSignature::Signed { signer, trusted } => {
            assert_eq!(signer.sha256(), certificate.sha256());
            assert!(trusted, "the chain is sent along");
        }
        ProfileSignature::None => panic!("the profile is not signed"),
    }
    drop(world);

    let ended = signed_by(file("other.key", &other.to_pem()))
        .start_in(folder)
        .await
        .unwrap_err();
    assert!(
        ended.said.contains("does not belong to the certificate"),
        "{}",
        ended.said
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_for_people_is_plain_text_and_holds_no_cache() {
    let world = World::builder().without_gate().start().await;
    let mac = world.by_hand("C02BROWSER1").build().unwrap();
    let answer = mac.request_profile(&ProfileRequest::Manual(None)).await.unwrap();
    assert_eq!(
        answer.headers.get(CONTENT_TYPE).unwrap(),
        "application/x-apple-aspen-config"
    );
    assert_eq!(answer.headers.get("cache-control").unwrap(), "no-store");
    assert!(
        answer
            .headers
            .get("content-disposition")
            .unwrap()
            .to_str()
            .unwrap()
            .contains(".mobileconfig")
    );
    let answer = mac
        .request_profile(&ProfileRequest::Manual(Some(Credentials::new("a", "b"))))
        .await
        .unwrap();
    assert_ne!(answer.status.as_u16(), 200, "nobody knows people here");
    assert!(
        answer.content_type().unwrap().starts_with("text/plain"),
        "{:?}",
        answer.content_type()
    );
}
