//! Several servers: nodes on one database, of one version and of two, and a server with a certificate that somebody else
//! issued.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, Method};
use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::{CaOptions, CertificateAuthority};
use russet_pki::key::KeyKind;
use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value as Plist};
use russet_simulator::device::{IdentityMode, ServerTrust, SignatureDigest, signature_header};
use russet_store::testing::{migrate_to, postgres_is_skipped, steps};
use russet_tests::{Database, Nodes, World, WorldBuilder, eventually, soon};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_one_database_are_one_server() {
    if postgres_is_skipped() {
        return;
    }
    let nodes = Nodes::start(3, |node| node).await;
    let here = &nodes[0];
    for there in &nodes[1..] {
        let (one, other) = (here.server.ca_pem(), there.server.ca_pem());
        assert_eq!(one, other, "nodes share their authorities");
    }
    here.admin
        .install("hostile", json!({"mode": "label", "label": "one"}))
        .await;
    let mac = here
        .mac("C02NODES0001")
        .identity_mode(IdentityMode::MdmSignature)
        .build()
        .unwrap();
    mac.enroll().await.unwrap();

    // A device that is routed to another node is known there, and gets what was queued here.
    for (there, command) in nodes[1..].iter().zip(["SecurityInfo", "CertificateList"]) {
        assert_eq!(there.admin.device("C02NODES0001").await["attributes"]["label"], "one");
        here.admin
            .command(&["C02NODES0001"], json!({"RequestType": command}))
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
        assert!(answer.text().contains(command), "{}", answer.text());
        mac.run_until_idle().await.unwrap();
    }

    // A plugin that is swapped on one node decides on all others, a little later.
    let swapped = json!({"settings": {"mode": "deny", "label": "two"}});
    here.admin.put("/plugins/hostile", &swapped).await.ok();
    for (number, there) in nodes.iter().enumerate() {
        let stranger = there.by_hand(&format!("C02STRANGE{number}")).build().unwrap();
        eventually("each node has the new revision", || async {
            stranger
                .enroll()
                .await
                .is_err_and(|refusal| refusal.status() == Some(403))
                .then_some(())
        })
        .await;
    }
}

const FLEET: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_in_a_wave_loses_nothing_and_nothing_goes_out_twice() {
    if postgres_is_skipped() {
        return;
    }
    let mut nodes = Nodes::behind_one_address(3, WorldBuilder::without_gate).await;
    let serials: Vec<String> = (0..FLEET).map(|number| format!("C02WAVE{number:05}")).collect();
    let mut fleet = Vec::new();
    for serial in &serials {
        let device = nodes[1].mac(serial).retry_after(Duration::from_millis(200));
        let device = device.build().unwrap();
        soon("an enrollment", device.enroll()).await.unwrap();
        nodes[1].listen(&device);
        fleet.push(device);
    }

    // Commands go in on the node that will die, until it does, and on another one afterwards.
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let (admin, names, known) = (nodes[0].admin.clone(), serials.clone(), Arc::clone(&acknowledged));
    let queuing = tokio::spawn(async move {
        for number in 0.. {
            let command = json!({"RequestType": "InstalledApplicationList", "Identifiers": [format!("app{number}")]});
            let request = admin.of_tenant(Method::POST, "/commands");
            let body = json!({"devices": names, "command": command});
            let Ok(answer) = request.json(&body).send().await else {
                return;
            };
            let Ok(answer) = answer.json::<serde_json::Value>().await else {
                return;
            };
            let uuid = answer["command_uuid"].as_str().unwrap().to_owned();
            known.lock().unwrap().push(uuid);
        }
    });
    eventually("commands go in and answers come back", || async {
        let answered: usize = fleet.iter().map(|device| device.answered().len()).sum();
        (acknowledged.lock().unwrap().len() >= 10 && answered >= 3 * FLEET).then_some(())
    })
    .await;
    nodes.kill(0);
    soon("the queuing ends", queuing).await.unwrap();
    let devices: Vec<&str> = serials.iter().map(String::as_str).collect();
    let last = json!({"RequestType": "SecurityInfo"});
    let last = nodes[2].admin.command(&devices, last).await;
    acknowledged.lock().unwrap().push(last);

    let acknowledged = acknowledged.lock().unwrap().clone();
    for uuid in &acknowledged {
        let command = nodes[1].admin.finished(uuid).await;
        for own in command["devices"].as_array().unwrap() {
            assert_eq!(own["state"], "acknowledged", "a command was lost: {command}");
        }
    }
    for device in &fleet {
        let mut answered: Vec<_> = device.answered().into_iter().map(|each| each.command_uuid).collect();
        let all = answered.len();
        answered.sort();
        answered.dedup();
        assert_eq!(answered.len(), all, "a command that was answered was handed out again");
        assert!(all >= acknowledged.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_does_for_all_moves_to_another_when_it_dies() {
    if postgres_is_skipped() {
        return;
    }
    let mut nodes = Nodes::start(1, |node| node).await;
    nodes[0].admin.install("hostile", json!({"mode": "allow"})).await;
    soon("an enrollment", nodes[0].enrolled("C02LEASE0001")).await;
    let holder = |nodes: &Nodes| nodes.query("SELECT holder FROM leases WHERE name = 'decision-chain'");
    let first = eventually("the only node chains the decisions", || async {
        Some(holder(&nodes)).filter(|holder| !holder.is_empty())
    })
    .await;
    nodes.add(|node| node).await;
    nodes.kill(0);
    soon("an enrollment", nodes[1].enrolled("C02LEASE0002")).await;
    eventually("the other node chains them", || async {
        let verified = nodes[1].admin.get("/decisions/verify").await.ok();
        (holder(&nodes) != first && verified["waiting"] == 0).then_some(())
    })
    .await;
}

/// What a newer version leaves behind that the nodes of this one can go on with.
const NEWER: &str = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9000_later', 1)";

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_versions_work_on_one_database() {
    if postgres_is_skipped() {
        return;
    }
    // The database of the version before; two nodes of this one are started at the same time, and one of them upgrades it.
    let database = Database::empty();
    let before = steps()[steps().len() - 2];
    migrate_to(&database.url, before).await.unwrap();
    let mut nodes = Nodes::on(database, None);
    nodes.add(WorldBuilder::without_gate).await;
    nodes.add(|node| node.without_gate().at_a_lasting_address()).await;
    let mac = soon("an enrollment", nodes[1].enrolled("C02UPGRADE01")).await;
    nodes[1].listen(&mac);

    // A newer version upgrades it while they run: they go on, and one that is started again does, too.
    nodes.query(NEWER);
    nodes.query("ALTER TABLE enrollments ADD COLUMN later TEXT");
    nodes.query("ALTER TABLE queue_entries ADD COLUMN later BIGINT NOT NULL DEFAULT 0");
    let admin = nodes[0].admin.clone();
    let round_trip = async || {
        let uuid = admin
            .command(&["C02UPGRADE01"], json!({"RequestType": "SecurityInfo"}))
            .await;
        assert_eq!(admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
    };
    round_trip().await;
    nodes.kill(1);
    nodes[1].server.resume().await.unwrap();
    nodes[1].admin.reach().await;
    round_trip().await;
    let told = nodes[1].server.log_lines();
    let told = told.iter().any(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("newer program"))
    });
    assert!(told, "a node says that it is older than its database");

    // One that this version cannot work with is refused, with what to do.
    nodes.query("UPDATE schema_floor SET level = 9000");
    nodes.kill(1);
    let ended = nodes[1].server.resume().await.unwrap_err();
    assert_eq!(ended.status.code(), Some(1));
    let said = ended.said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("level 9000") && said.contains("start the newer program"),
        "{said}"
    );
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
