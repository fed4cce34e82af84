//! Several servers: two nodes on one database, and a server with a certificate that somebody else issued.

use std::sync::Arc;

use http::header::HeaderName;
use http::{HeaderMap, Method};
use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::{CaOptions, CertificateAuthority};
use russet_pki::key::KeyKind;
use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value as Plist};
use russet_simulator::device::{IdentityMode, ServerTrust, SignatureDigest, signature_header};
use russet_store::testing::{PostgresCluster, postgres_is_skipped};
use russet_tests::{World, eventually};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_one_database_are_one_server() {
    if postgres_is_skipped() {
        return;
    }
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.create_database("nodes").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("master.key").display().to_string();
    let node = || {
        World::builder()
            .set("database.url", url.clone())
            .set("secrets.master_key_file", key.clone())
    };
    let here = node().start().await;
    // The second node makes no token of its own: whoever has the first's uses that.
    let there = node().without_push_certificate().trusted_by(&here.server.ca_pem());
    let there = there.with_token(&here.server.admin_token()).start().await;
    assert_eq!(
        here.server.ca_pem(),
        there.server.ca_pem(),
        "nodes share their authorities"
    );

    here.admin
        .install("hostile", json!({"mode": "label", "label": "one"}))
        .await;
    let mac = here
        .mac("C02NODES0001")
        .identity_mode(IdentityMode::MdmSignature)
        .build()
        .unwrap();
    mac.enroll().await.unwrap();
    assert_eq!(there.admin.device("C02NODES0001").await["attributes"]["label"], "one");

    // A device that is routed to the other node is known there, and gets what was queued here.
    here.admin
        .command(&["C02NODES0001"], json!({"RequestType": "SecurityInfo"}))
        .await;
    let report = Dictionary::from_iter([
        ("UDID", Plist::from(mac.facts().udid.as_str())),
        ("Status", "Idle".into()),
    ]);
    let body = codec::encode(&report);
    let signature = signature_header(&mac.identity().unwrap(), SignatureDigest::Sha256, &body).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("mdm-signature"), signature.parse().unwrap());
    let target = format!("{}/mdm/connect", there.server.url());
    let answer = mac.raw_request(Method::PUT, &target, headers, body).await.unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    assert!(answer.text().contains("SecurityInfo"), "{}", answer.text());

    // A plugin that is swapped on one node decides on the other, a little later.
    here.admin
        .put(
            "/plugins/hostile",
            &json!({"settings": {"mode": "deny", "label": "two"}}),
        )
        .await
        .ok();
    let stranger = there.by_hand("C02NODES0002").build().unwrap();
    eventually("the other node has the new revision", || async {
        stranger
            .enroll()
            .await
            .is_err_and(|refusal| refusal.status() == Some(403))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_shows_the_certificate_that_the_operator_has() {
    let now = Timestamp::now();
    let options = CaOptions {
        common_name: "Company Root".to_owned(),
        organization: "Example".to_owned(),
        key: KeyKind::P256,
        lifetime: SignedDuration::from_hours(24),
    };
    let root = CertificateAuthority::generate(&options, now).unwrap();
    let names = ["localhost".to_owned()];
    let loopback = [std::net::Ipv4Addr::LOCALHOST.into()];
    let (chain, key) = root
        .issue_tls_server(&names, &loopback, SignedDuration::from_hours(1), now)
        .unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let chain: String = chain.iter().map(russet_pki::Certificate::to_pem).collect();
    let root_pem = root.certificate().to_pem();
    let world = World::builder()
        .without_gate()
        .set("server.tls.certificate_file", file("tls.pem", &chain))
        .set("server.tls.private_key_file", file("tls.key", &key.to_pem()))
        .set("enrollment.trust_anchor_files", vec![file("root.pem", &root_pem)])
        .trusted_by(&root_pem);
    let world = world.start_in(folder).await.unwrap();

    // The profile brings the root, so that the device finds the server trustworthy afterwards.
    let trust = ServerTrust::from_pem(&root_pem).unwrap();
    let mac = world.mac("C02COMPANY01").trust(trust).build().unwrap();
    mac.enroll().await.unwrap();
    let anchors = mac.enrollment_profile().unwrap().anchors;
    assert_eq!(anchors, [root.certificate().der().to_vec()]);
    mac.run_until_idle().await.unwrap();
    // A device that does not trust it does not talk to it.
    world.mac("C02COMPANY02").build().unwrap().enroll().await.unwrap_err();
}
