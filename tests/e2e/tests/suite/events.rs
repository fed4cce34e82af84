//! Observers in the real server: they act after the fact, get what a killed server owed them, and what they fail on is
//! shown. And the records of decisions: exported, verified, and caught when somebody changes one.

use russet_simulator::SimulatedDevice;
use russet_tests::{World, WorldBuilder, eventually};
use serde_json::{Value, json};

const OBSERVER: &str = "hostile-hooks";

async fn observe(world: &World, mode: &str) {
    world.admin.install(OBSERVER, json!({"mode": mode})).await;
}

async fn observer(world: &World) -> Option<Value> {
    let observers = world.admin.list("/observers").await;
    observers.into_iter().find(|observer| observer["plugin"] == OBSERVER)
}

/// A server that lets everybody in, and has the connection that `hostile-hooks` wants and does not use here.
fn world() -> WorldBuilder {
    World::builder()
        .without_gate()
        .set("http.nowhere.base_url", "https://nowhere.example.com/")
}

/// Until the observer has taken all there is.
async fn taken(world: &World) {
    eventually("the observer takes everything", || async {
        let observer = observer(world).await?;
        (observer["behind"] == 0 && observer["waiting"] == 0).then_some(())
    })
    .await;
}

/// The device answers a command, which observers are told.
async fn answer(world: &World, device: &SimulatedDevice) {
    let serial = device.facts().serial_number.clone();
    let uuid = world
        .admin
        .command(
            &[&serial],
            json!({"RequestType": "DeviceInformation", "Queries": ["OSVersion"]}),
        )
        .await;
    device.run_until_idle().await.unwrap();
    world.admin.finished(&uuid).await;
}

async fn observed(world: &World) -> Vec<Value> {
    let decisions = world.admin.decisions().await;
    decisions.into_iter().filter(|one| one["hook"] == "observer").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_acts_on_what_happened_and_loops_end() {
    let world = world().set("plugins.observer_attempts", 1).start().await;
    let device = world.enrolled("DNPOBSERVE1").await;
    observe(&world, "own-effect").await;
    answer(&world, &device).await;
    eventually("the observer acts on the answer", || async {
        let observed = observed(&world).await;
        // The plugin is a command policy too, and set the attribute already as one.
        let set =
            |one: &Value| one["effects"][0]["effect"] == "set-attribute" && one["effects"][0]["outcome"] != "refused";
        observed.iter().any(set).then_some(())
    })
    .await;
    taken(&world).await;
    let shown = world.admin.device("DNPOBSERVE1").await;
    assert_eq!(shown["attributes"]["seen"], "yes", "{shown}");
    let kinds: Vec<_> = world.admin.list("/events").await;
    let kinds: Vec<_> = kinds.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert!(
        kinds.contains(&"command.answered") && kinds.contains(&"command.queued"),
        "{kinds:?}"
    );

    // Each event that it emits is one for itself. The eighth in a row may not cause another, on which the plugin fails.
    observe(&world, "echo").await;
    answer(&world, &device).await;
    taken(&world).await;
    let echoes = world.admin.list("/events?kind=plugin.hostile-hooks.echo").await;
    let deepest = echoes.iter().filter_map(|event| event["depth"].as_u64()).max();
    assert_eq!(deepest, Some(7));
    let parked = world.admin.list(&format!("/observers/{OBSERVER}/parked")).await;
    assert!(parked.iter().all(|one| one["event"]["depth"] == 7), "{parked:?}");
    assert!(!parked.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_owed_an_observer_is_handed_over_by_the_next() {
    let mut world = world().at_a_lasting_address().start().await;
    let device = world.enrolled("DNPOBSERVE2").await;
    // The command policy fails too, and lets harmless commands go on.
    observe(&world, "error").await;
    answer(&world, &device).await;
    eventually("the observer fails on an event", || async {
        let observer = observer(&world).await?;
        observer["error"].is_string().then_some(())
    })
    .await;
    let waiting = observer(&world).await.unwrap()["waiting"].as_u64().unwrap();
    assert!(waiting >= 2, "events about the device wait behind the one that fails");
    world.server.kill();
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    observe(&world, "own-effect").await;
    taken(&world).await;
    let mut events = Vec::new();
    for decision in observed(&world).await {
        if decision["effects"][0]["effect"] == "set-attribute" {
            let whole = world.admin.get(&format!("/decisions/{}", decision["id"])).await.ok();
            let event: Value = serde_json::from_str(whole["call"]["input"].as_str().unwrap()).unwrap();
            events.push((event["id"].as_u64().unwrap(), event["attempt"].as_u64().unwrap()));
        }
    }
    events.sort_unstable();
    assert!(events.len() as u64 >= waiting, "{events:?}");
    assert!(
        events.windows(2).all(|two| two[0].0 < two[1].0),
        "each of them once: {events:?}"
    );
    assert!(events[0].1 > 0, "the first one was tried before: {events:?}");
    assert_eq!(world.admin.device("DNPOBSERVE2").await["attributes"]["seen"], "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_are_shown_and_mended_on_the_command_line() {
    let world = world().set("plugins.observer_attempts", 1).start().await;
    let device = world.enrolled("DNPOBSERVE3").await;
    observe(&world, "panic").await;
    answer(&world, &device).await;
    eventually("the observer fails for good", || async {
        let observer = observer(&world).await?;
        (observer["parked"].as_u64()? >= 2 && observer["waiting"] == 0).then_some(())
    })
    .await;
    let shown = world.server.cli(&["plugin", "parked", "list", OBSERVER]).ok();
    assert!(shown.out.contains("command.answered"), "{}", shown.out);
    let parked = world.admin.list(&format!("/observers/{OBSERVER}/parked")).await;
    let first = parked[0]["event"]["id"].to_string();
    world
        .server
        .cli(&["plugin", "parked", "drop", OBSERVER, first.as_str()])
        .ok();
    observe(&world, "own-effect").await;
    world.server.cli(&["plugin", "parked", "retry", OBSERVER, "--all"]).ok();
    taken(&world).await;
    assert_eq!(
        world.admin.list(&format!("/observers/{OBSERVER}/parked")).await.len(),
        0
    );
    let before = observed(&world).await.len();
    let replay = ["plugin", "replay-events", OBSERVER, "--from", "2026-01-01T00:00:00Z"];
    world.server.cli(&replay).ok();
    taken(&world).await;
    eventually("everything is observed again", || async {
        (observed(&world).await.len() > before).then_some(())
    })
    .await;
    let listed = world.server.cli(&["plugin", "observers", "--json"]).ok().json();
    assert_eq!(listed["items"][0]["parked"], 0, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_exported_verified_and_a_changed_one_is_named() {
    if russet_store::testing::postgres_is_skipped() {
        return;
    }
    let cluster = russet_store::testing::PostgresCluster::start().unwrap();
    let url = cluster.create_database("chain").unwrap();
    let world = World::builder().set("database.url", url).start().await;
    let rules = json!({"prefix": "DNPCHAIN1"});
    world.admin.install("smallest-gate", rules.clone()).await;
    world.enrolled("DNPCHAIN1").await;
    world.mac("DNPCHAIN2").build().unwrap().enroll().await.unwrap_err();
    let head = eventually("every decision is in the chain", || async {
        let report = world.admin.get("/decisions/verify").await.ok();
        assert_eq!(report["intact"], true, "{report}");
        (report["waiting"] == 0 && report["verified"].as_u64()? >= 3)
            .then(|| format!("{}:{}", report["head"]["seq"], report["head"]["hash"].as_str().unwrap()))
    })
    .await;
    let verified = world.server.cli(&["decision", "verify", "--head", &head]).ok();
    assert!(verified.out.contains("as they were written"), "{}", verified.out);
    // Where a chain ends is in the log too, and whoever keeps that can compare.
    let noted = eventually("a head is noted", || async {
        let lines = world.server.log_lines();
        let ends = |line: &&Value| line["message"] == "the chain of decisions ends here";
        let line = lines.iter().find(ends)?;
        assert_eq!(line["tenant.name"], "default", "{line}");
        Some(line["head"].as_str().unwrap().to_owned())
    })
    .await;
    world.server.cli(&["decision", "verify", "--head", &noted]).ok();
    let other = noted.replace(':', ":00").chars().take(noted.len()).collect::<String>();
    let complaint = world.server.cli(&["decision", "verify", "--head", &other]).failed();
    assert!(complaint.complaint().contains("head"), "{}", complaint.complaint());

    let file = world.server.folder().path().join("decisions.jsonl");
    let path = file.display().to_string();
    let export = [
        "decision",
        "export",
        "--plugin",
        "smallest-gate",
        "--with-call",
        "--output",
        &path,
    ];
    world.server.cli(&export).ok();
    let lines: Vec<Value> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() >= 3);
    let denied = lines.iter().find(|line| line["verdict"] == "deny").unwrap();
    let input: Value = serde_json::from_str(denied["call"]["input"].as_str().unwrap()).unwrap();
    assert_eq!(input["device"]["serial_number"], "DNPCHAIN2", "{input}");
    // The same revision, asked again, decides the same.
    let plugin = russet_plugin_build::artifact("smallest-gate").display().to_string();
    let settings = world.server.folder().path().join("settings.json");
    std::fs::write(&settings, rules.to_string()).unwrap();
    let settings = settings.display().to_string();
    world
        .server
        .cli(&["plugin", "replay", &plugin, &path, "--settings", &settings])
        .ok();

    // Another tenant has none of it.
    let tenants = world.admin.request(http::Method::POST, "/v1/tenants");
    world.admin.send(tenants.json(&json!({"name": "other"}))).await.ok();
    let theirs = world.admin.at("other").list("/decisions").await;
    assert!(theirs.is_empty(), "{theirs:?}");

    let change = format!(
        "UPDATE decisions SET verdict = 'allow' WHERE id = {} RETURNING id",
        denied["id"]
    );
    cluster.query("chain", &change).unwrap();
    let complaint = world.server.cli(&["decision", "verify"]).failed().complaint();
    assert!(complaint.contains(&format!("decision {}", denied["id"])), "{complaint}");
}
