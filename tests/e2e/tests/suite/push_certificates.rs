//! The life of a push certificate: asked for here, signed by a vendor, made by Apple, and never mistaken for another.

use jiff::{SignedDuration, Timestamp};
use russet_pki::ca;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_tests::{TOPIC, World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_certificate_is_made_without_its_key_leaving_the_server() {
    let world = World::builder().without_gate().without_push_certificate().start().await;
    let folder = world.server.folder().path();
    let path = |name: &str| folder.join(name).display().to_string();
    let request = path("push.csr");
    world.server.cli(&["push-cert", "request", "--out", &request]).ok();
    assert!(!std::fs::read_to_string(&request).unwrap().contains("PRIVATE KEY"));

    // The vendor, who has a certificate of Apple's.
    let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
    let vendor = ca::self_signed(
        &Name::common("MDM Vendor"),
        &key,
        SignedDuration::from_hours(24),
        Timestamp::now(),
    )
    .unwrap();
    let (chain, vendor_key, signed) = (path("vendor.pem"), path("vendor.key"), path("signed.txt"));
    std::fs::write(&chain, vendor.to_pem()).unwrap();
    std::fs::write(&vendor_key, key.to_pem().as_str()).unwrap();
    let sign = |key: &str, request: &str| {
        let arguments = [
            "push-cert",
            "sign",
            "--request",
            request,
            "--chain",
            &chain,
            "--private-key",
            key,
        ];
        world.server.cli(&[&arguments[..], &["--out", &signed]].concat())
    };
    let other = PrivateKey::generate(KeyKind::P256).unwrap();
    let other_key = path("other.key");
    std::fs::write(&other_key, other.to_pem().as_str()).unwrap();
    let refused = sign(&other_key, &request).failed().complaint();
    assert!(refused.contains("not that of the first certificate"), "{refused}");
    sign(&vendor_key, &request).ok();

    // Apple, then the upload: without a key, because the server has it.
    let signed = std::fs::read_to_string(&signed).unwrap();
    let certificate = world.apns.pki().answer_push_request(&signed, TOPIC).unwrap();
    let file = path("push.pem");
    std::fs::write(&file, &certificate).unwrap();
    let upload = world.server.cli(&["push-cert", "upload", "--certificate", &file]).ok();
    assert!(upload.out.contains(TOPIC), "{}", upload.out);
    let mac = world.enrolled("C02PUSHC").await;
    world.listen(&mac);
    let uuid = world
        .admin
        .command(&["C02PUSHC"], json!({"RequestType": "SecurityInfo"}))
        .await;
    assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");

    // The key was for that certificate alone.
    let foreign = world.apns.issue_push_certificate(TOPIC).unwrap();
    std::fs::write(&file, &foreign.certificate).unwrap();
    let refused = world
        .server
        .cli(&["push-cert", "upload", "--certificate", &file])
        .failed()
        .complaint();
    assert!(refused.contains("push-cert request"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_topic_is_refused_unless_it_is_wanted() {
    let world = World::start().await;
    let other = "com.apple.mgmt.External.another-account";
    let issued = world.apns.issue_push_certificate(other).unwrap();
    let path = |name: &str, text: &str| {
        let path = world.server.folder().path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (path("push.pem", &issued.certificate), path("push.key", &issued.key));
    let upload = [
        "push-cert",
        "upload",
        "--certificate",
        &certificate,
        "--private-key",
        &key,
    ];
    let refused = world.server.cli(&upload).failed().complaint();
    assert!(refused.contains(other) && refused.contains(TOPIC), "{refused}");
    assert_eq!(world.admin.list("/push-certificates").await.len(), 1);
    world.server.cli(&[&upload[..], &["--other-topic"]].concat()).ok();
    assert_eq!(world.admin.list("/push-certificates").await.len(), 2);
    // The same topic again is a renewal.
    let renewed = world.apns.issue_push_certificate(TOPIC).unwrap();
    let (certificate, key) = (path("push.pem", &renewed.certificate), path("push.key", &renewed.key));
    let upload = [
        "push-cert",
        "upload",
        "--certificate",
        &certificate,
        "--private-key",
        &key,
    ];
    world.server.cli(&upload).ok();
}
