//! A new revision of a plugin is compared, given a share, promoted and taken back, while devices enroll. The plugin is the
//! hostile one: its settings say what it does, and its label is kept with every enrollment that it lets in.

use russet_store::testing::postgres_is_skipped;
use russet_tests::{Nodes, World, eventually, soon};
use serde_json::{Value, json};

const ROLLOUT: &str = "/plugins/hostile/rollout";

fn label(label: &str) -> Value {
    json!({"mode": "label", "label": label})
}

/// A candidate with these settings, compared with what runs.
fn candidate(settings: Value, permille: u16) -> Value {
    let gates = json!({"min_samples": 4, "watch_min_samples": 2, "max_p99_ratio_percent": 0});
    json!({"settings": settings, "rollout": {"permille": permille, "gates": gates}})
}

async fn label_of(world: &World, serial: &str) -> Value {
    world.admin.device(serial).await["attributes"]["label"].clone()
}

async fn enroll(world: &World, serials: &[&str]) {
    for serial in serials {
        soon("an enrollment", world.enrolled(serial)).await;
    }
}

async fn compared(world: &World, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || async {
        let status = world.admin.get(ROLLOUT).await.ok();
        enough(&status["comparison"]).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_is_compared_shared_promoted_and_taken_back_by_itself() {
    let world = World::start().await;
    let first = world.admin.install("hostile", label("one")).await;

    // Beside the devices: what it would refuse is told, and nobody is refused.
    let body = candidate(json!({"mode": "deny", "label": "not-you"}), 0);
    let shadow = world.admin.put("/plugins/hostile", &body).await.ok();
    assert_eq!(shadow["state"], "shadow", "{shadow}");
    enroll(&world, &["C02SHADOW001", "C02SHADOW002"]).await;
    assert_eq!(label_of(&world, "C02SHADOW001").await, "one");
    let status = compared(&world, "every call is compared", |comparison| {
        comparison["new_denies"].as_u64() >= Some(4)
    })
    .await;
    assert_eq!(status["comparison"]["same"], 0, "{status}");
    let report = world.server.cli(&["plugin", "shadow", "report", "hostile"]).ok();
    assert!(report.out.contains("would be refused"), "{}", report.out);
    assert!(report.out.contains("not-you"), "{}", report.out);
    let refused = world.server.cli(&["plugin", "promote", "hostile"]).failed();
    assert!(refused.complaint().contains("gates"), "{}", refused.complaint());

    // Another one answers everybody, and keeps to its gates.
    let canary = world
        .admin
        .put("/plugins/hostile", &candidate(label("two"), 1_000))
        .await
        .ok();
    assert_eq!(canary["state"], "canary", "{canary}");
    enroll(&world, &["C02CANARY001", "C02CANARY002"]).await;
    assert_eq!(label_of(&world, "C02CANARY001").await, "two");
    let decisions = world.admin.decisions().await;
    assert_eq!(decisions[0]["revision"], canary["revision"], "the one that answered");
    compared(&world, "both were asked", |comparison| {
        comparison["compared"].as_u64() >= Some(4)
    })
    .await;
    let promoted = world
        .server
        .cli(&["plugin", "promote", "hostile", "--watch", "0s", "--json"])
        .ok();
    assert_eq!(promoted.json()["active"]["revision"], canary["revision"]);

    // Back by hand.
    let back = world
        .server
        .cli(&["plugin", "rollback", "hostile", "--reason", "a drill", "--json"])
        .ok();
    assert_eq!(back.json()["active"]["revision"], first["revision"]);
    enroll(&world, &["C02BACK00001"]).await;
    assert_eq!(label_of(&world, "C02BACK00001").await, "one");

    // And by itself: what fails after it was promoted makes way for what was before.
    let bad = world
        .admin
        .put("/plugins/hostile", &candidate(json!({"mode": "panic"}), 0))
        .await
        .ok();
    world.server.cli(&["plugin", "promote", "hostile", "--force"]).ok();
    let stranger = world.mac("C02FAULT0001").build().unwrap();
    eventually("the revision before lets devices in again", || async {
        stranger.enroll().await.ok()
    })
    .await;
    assert_eq!(label_of(&world, "C02FAULT0001").await, "one");
    let history = world
        .server
        .cli(&["plugin", "history", "hostile", "--json"])
        .ok()
        .json();
    let quarantined = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["to"] == "quarantined")
        .unwrap()
        .clone();
    assert_eq!(quarantined["by"], "server", "{quarantined}");
    assert!(quarantined["reason"].as_str().unwrap().contains("max_faults_permille"));
    let again = json!({"settings": {"mode": "panic"}});
    let refused = world.admin.put("/plugins/hostile", &again).await.refused(409);
    assert_eq!(refused["code"], "quarantined", "{bad}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_one_database_compare_together_and_follow_at_once() {
    if postgres_is_skipped() {
        return;
    }
    let nodes = Nodes::start(2, |node| node).await;
    let (here, there) = (&nodes[0], &nodes[1]);

    here.admin.install("hostile", label("one")).await;
    let shadow = here
        .admin
        .put("/plugins/hostile", &candidate(label("two"), 0))
        .await
        .ok();
    let same_everywhere = || async {
        let nodes = here.admin.list("/nodes").await;
        let done = nodes.len() == 2 && nodes.iter().all(|node| node["generation"] == shadow["generation"]);
        done.then_some(())
    };
    eventually("both nodes run the generation", same_everywhere).await;
    enroll(here, &["C02HERE00001"]).await;
    enroll(there, &["C02THERE0001"]).await;
    // Each node compared the calls of its own devices.
    for world in [here, there] {
        compared(world, "the sum is told by both", |comparison| {
            comparison["compared"].as_u64() >= Some(4)
        })
        .await;
    }
    here.server.cli(&["plugin", "promote", "hostile", "--watch", "0s"]).ok();
    let mut number = 0;
    eventually("the other node answers with the new revision", || {
        number += 1;
        let serial = format!("C02LATER{number:04}");
        async move {
            soon("an enrollment", there.enrolled(&serial)).await;
            (label_of(there, &serial).await == "two").then_some(())
        }
    })
    .await;
    let listed = here.server.cli(&["plugin", "list"]).ok();
    assert!(
        listed.out.contains("all 2 nodes") || listed.out.contains("is the slowest"),
        "{}",
        listed.out
    );
}
