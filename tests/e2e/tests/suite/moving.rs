//! The database as an operator handles it: moved to PostgreSQL, backed up and restored, its keys changed under a running
//! server, whatever is killed meanwhile.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use russet_simulator::SimulatedDevice;
use russet_store::testing::{PostgresCluster, postgres_is_skipped};
use russet_tests::{TestServer, World, eventually, russet, soon};
use serde_json::{Value, json};

fn sqlite(world: &World) -> String {
    format!("sqlite://{}", world.server.data_dir().join("russet.sqlite").display())
}

async fn stop(world: &mut World) {
    world.server.terminate();
    assert_eq!(world.server.ended().await.code(), Some(0));
}

async fn queued(world: &World, serial: &str, name: &str) -> String {
    // Types that are not asked for twice while one waits would be dropped as duplicates: these differ.
    let command = json!({"RequestType": "InstalledApplicationList", "Identifiers": [name]});
    world.admin.command(&[serial], command).await
}

async fn acknowledged(world: &World, uuid: &str) {
    let command = world.admin.finished(uuid).await;
    assert_eq!(command["devices"][0]["state"], "acknowledged", "{command}");
    assert!(command["devices"][0]["result"].is_object(), "{command}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_moves_to_postgresql_and_its_devices_go_on() {
    if postgres_is_skipped() {
        return;
    }
    let cluster = PostgresCluster::start().unwrap();
    let target = cluster.create_database("moved").unwrap();
    let world = World::builder().at_a_lasting_address();
    let mut world = world.start().await;
    world
        .admin
        .install("hostile", json!({"mode": "label", "label": "kept"}))
        .await;
    let mac = world.enrolled("C02MOVED0001").await;
    let token = mac.get_bootstrap_token().await.unwrap().unwrap();
    let before = queued(&world, "C02MOVED0001", "org.example.before").await;
    mac.run_until_idle().await.unwrap();
    acknowledged(&world, &before).await;
    let waiting = queued(&world, "C02MOVED0001", "org.example.waiting").await;

    let source = sqlite(&world);
    eventually("the server says that it runs", || async {
        let nodes = world.admin.list("/nodes").await;
        (!nodes.is_empty()).then_some(())
    })
    .await;
    let copy = ["db", "copy", "--from", &source, "--to", &target];
    let refused = world.server.cli(&copy).failed();
    assert!(
        refused.complaint().contains("a server runs on the source"),
        "{}",
        refused.err
    );
    stop(&mut world).await;
    let copied = world.server.cli(&[&copy[..], &["--json"]].concat()).ok().json();
    assert_eq!((&copied["from"], &copied["to"]), (&json!("sqlite"), &json!("postgres")));
    let again = world.server.cli(&copy).failed();
    assert!(again.complaint().contains("the target is not empty"), "{}", again.err);

    world.server.config().set("database.url", target);
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    assert_eq!(world.admin.device("C02MOVED0001").await["attributes"]["label"], "kept");
    mac.run_until_idle().await.unwrap();
    acknowledged(&world, &before).await;
    acknowledged(&world, &waiting).await;
    assert_eq!(
        mac.get_bootstrap_token().await.unwrap().unwrap().expose(),
        token.expose()
    );
    // Pushes go out, new devices come, and the plugin decides about them.
    world.listen(&mac);
    let pushed = queued(&world, "C02MOVED0001", "org.example.pushed").await;
    acknowledged(&world, &pushed).await;
    world.enrolled("C02MOVED0002").await;
    assert_eq!(world.admin.device("C02MOVED0002").await["attributes"]["label"], "kept");
    let stats = world.server.cli(&["db", "stats", "--json"]).ok().json();
    assert_eq!(stats["database"], "postgres");
    let backup = world.server.cli(&["db", "backup", "--out", "backup"]).failed();
    assert!(backup.complaint().contains("pg_dump --format=custom"), "{}", backup.err);

    // And back.
    stop(&mut world).await;
    let file = world.server.folder().path().join("back.sqlite");
    let back = format!("sqlite://{}", file.display());
    let source = cluster.url("moved");
    world.server.cli(&["db", "copy", "--from", &source, "--to", &back]).ok();
    world.server.config().set("database.url", back);
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    let last = queued(&world, "C02MOVED0001", "org.example.last").await;
    acknowledged(&world, &last).await;
    acknowledged(&world, &pushed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_is_what_it_was() {
    let mut world = World::builder().without_gate().at_a_lasting_address().start().await;
    let mac = world.enrolled("C02BACKUP001").await;
    let over = Arc::new(AtomicBool::new(false));
    let polling = tokio::spawn(poll_until(mac.clone(), Arc::clone(&over)));
    let waiting = queued(&world, "C02BACKUP001", "org.example.one").await;
    let backup = world
        .server
        .cli(&["db", "backup", "--out", "backup.sqlite", "--json"])
        .ok();
    assert!(backup.json()["bytes"].as_u64().unwrap() > 0);
    over.store(true, Ordering::SeqCst);
    soon("the polling ends", polling).await.unwrap();
    let again = world.server.cli(&["db", "backup", "--out", "backup.sqlite"]).failed();
    assert!(again.complaint().contains("exists already"), "{}", again.err);
    world.enrolled("C02BACKUP002").await;

    let restore = ["db", "restore", "backup.sqlite", "--replace"];
    let refused = world.server.cli(&restore).failed();
    assert!(refused.complaint().contains("in use by another"), "{}", refused.err);
    stop(&mut world).await;
    let refused = world.server.cli(&restore[..3]).failed();
    assert!(refused.complaint().contains("--replace"), "{}", refused.err);
    // What is damaged, or sealed under another key, does not take its place.
    let folder = world.server.folder().path().to_owned();
    let mut bytes = std::fs::read(folder.join("backup.sqlite")).unwrap();
    let end = bytes.len();
    bytes[4096..end - 4096].fill(0x55);
    std::fs::write(folder.join("damaged.sqlite"), &bytes).unwrap();
    world
        .server
        .cli(&["db", "restore", "damaged.sqlite", "--replace"])
        .failed();
    let key = world.server.data_dir().join("master.key");
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").unwrap();
    let refused = world.server.cli(&restore).failed();
    assert!(
        refused.complaint().contains("master key does not open"),
        "{}",
        refused.err
    );
    std::fs::write(&key, right).unwrap();

    let restored = world.server.cli(&[&restore[..], &["--json"]].concat()).ok().json();
    let kept = restored["kept"].as_str().unwrap().to_owned();
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    mac.run_until_idle().await.unwrap();
    acknowledged(&world, &waiting).await;
    assert_eq!(devices(&world).await, ["C02BACKUP001"]);

    // And what was there before can be had again.
    stop(&mut world).await;
    world.server.cli(&["db", "restore", &kept, "--replace"]).ok();
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    assert_eq!(devices(&world).await, ["C02BACKUP001", "C02BACKUP002"]);
}

async fn devices(world: &World) -> Vec<String> {
    let devices = world.admin.list("/devices").await;
    let mut serials: Vec<_> = devices
        .iter()
        .map(|device| device["serial_number"].as_str().unwrap().to_owned())
        .collect();
    serials.sort();
    serials
}

async fn poll_until(device: SimulatedDevice, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        device.run_until_idle().await.unwrap();
    }
}

/// Runs `russet db rotate-key --data-key` until it says something, and ends it as a loss of power would.
fn killed_when(server: &TestServer, says: &str) {
    let mut child = Command::new(russet())
        .arg("--config")
        .arg(server.config_file())
        .args(["db", "rotate-key", "--data-key"])
        .env("NO_COLOR", "1")
        .current_dir(server.folder().path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = said.any(|line| line.unwrap().contains(says));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(found, "it never said: {says}");
}

fn rotated(server: &TestServer) -> Value {
    let rotated = server.cli(&["db", "rotate-key", "--data-key", "--json"]).ok().json();
    assert_eq!(rotated["unreadable"], 0, "{rotated}");
    rotated
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_key_is_changed_under_a_running_server_and_survives_kills() {
    data_key(World::builder().set("database.last_seen_interval_seconds", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_key_is_changed_under_a_running_server_on_postgresql() {
    if postgres_is_skipped() {
        return;
    }
    let cluster = PostgresCluster::start().unwrap();
    let world = World::builder().set("database.last_seen_interval_seconds", 1);
    // Another node may be at work: what the killed server has in its hands waits for so long.
    let world = world.set("push.lease_seconds", 10);
    data_key(world.set("database.url", cluster.create_database("keys").unwrap())).await;
}

async fn data_key(world: russet_tests::WorldBuilder) {
    let mut world = world.without_gate().at_a_lasting_address().start().await;
    let mac = world.enrolled("C02ROTATE001").await;
    let token = mac.get_bootstrap_token().await.unwrap().unwrap();
    let answered = queued(&world, "C02ROTATE001", "org.example.answered").await;
    mac.run_until_idle().await.unwrap();
    acknowledged(&world, &answered).await;
    eventually("the server says that it runs", || async {
        (!world.admin.list("/nodes").await.is_empty()).then_some(())
    })
    .await;

    let over = Arc::new(AtomicBool::new(false));
    let polling = tokio::spawn(poll_until(mac.clone(), Arc::clone(&over)));
    let mut commands = vec![answered];
    // The server does not have the new key yet, or does not seal with it yet: it is asked every second.
    tokio::task::block_in_place(|| killed_when(&world.server, "waiting for"));
    commands.push(queued(&world, "C02ROTATE001", "org.example.first").await);
    let done = tokio::task::block_in_place(|| rotated(&world.server));
    assert_eq!((&done["number"], &done["resumed"]), (&json!(2), &json!(true)));
    // Part of what is sealed is under the next one; or all of it is already, then the next one is begun.
    tokio::task::block_in_place(|| killed_when(&world.server, "sealing secrets anew"));
    commands.push(queued(&world, "C02ROTATE001", "org.example.second").await);
    let done = tokio::task::block_in_place(|| rotated(&world.server));
    let number = done["number"].as_u64().unwrap();
    let resumed = done["resumed"].as_bool().unwrap();
    assert_eq!(number, if resumed { 3 } else { 4 }, "{done}");
    commands.push(queued(&world, "C02ROTATE001", "org.example.late").await);
    for uuid in &commands {
        acknowledged(&world, uuid).await;
    }
    over.store(true, Ordering::SeqCst);
    soon("the polling ends", polling).await.unwrap();

    // The server too may be killed, and only the new key is needed for what it finds.
    world.server.kill();
    let forgotten = world
        .server
        .cli(&["db", "rotate-key", "--forget-retired", "--json"])
        .ok();
    let earlier: Vec<u64> = (1..number).collect();
    assert_eq!(forgotten.json()["forgotten"], json!(earlier));
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    for uuid in &commands {
        acknowledged(&world, uuid).await;
    }
    assert_eq!(
        mac.get_bootstrap_token().await.unwrap().unwrap().expose(),
        token.expose()
    );
    world.listen(&mac);
    let pushed = queued(&world, "C02ROTATE001", "org.example.pushed").await;
    acknowledged(&world, &pushed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_changed_and_a_kill_anywhere_locks_nobody_out() {
    let mut world = World::builder().without_gate().at_a_lasting_address().start().await;
    let mac = world.enrolled("C02MASTER001").await;
    let token = mac.get_bootstrap_token().await.unwrap().unwrap();
    let file = world.server.folder().path().join("new.key").display().to_string();
    let begin = ["db", "rotate-key", "--new-key-file", &file, "--json"];
    assert_eq!(world.server.cli(&begin).ok().json()["changed"], true);
    // Killed before anybody is told of it, and begun again.
    world.server.kill();
    assert_eq!(world.server.cli(&begin).ok().json()["changed"], false);
    let finish = ["db", "rotate-key", "--finish", "--json"];
    let early = world.server.cli(&finish).failed();
    assert!(early.err.contains("still the old one"), "{}", early.err);
    world.server.resume().await.unwrap();
    world.admin.reach().await;

    world.server.kill();
    world.server.config().set("secrets.master_key_file", file);
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    assert_eq!(world.server.cli(&finish).ok().json()["changed"], true);
    assert_eq!(world.server.cli(&finish).ok().json()["changed"], false);
    assert_eq!(
        mac.get_bootstrap_token().await.unwrap().unwrap().expose(),
        token.expose()
    );

    stop(&mut world).await;
    world.server.config().remove("secrets.master_key_file");
    let ended = world.server.resume().await.unwrap_err();
    assert!(ended.said.contains("master key"), "{}", ended.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_purged_is_told_before_it_is() {
    let mut world = World::builder().without_gate().at_a_lasting_address();
    world = world.set("retention.commands_days", 1).set("retention.results_days", 1);
    let world = world.start().await;
    let mac = world.enrolled("C02PURGED001").await;
    let uuid = queued(&world, "C02PURGED001", "org.example.one").await;
    mac.run_until_idle().await.unwrap();
    acknowledged(&world, &uuid).await;
    let dry = world.server.cli(&["db", "purge", "--dry-run", "--json"]).ok().json();
    assert_eq!((&dry["dry_run"], &dry["purged"]["entries"]), (&json!(true), &json!(0)));
    let purged = world.server.cli(&["db", "purge", "--json"]).ok().json();
    assert_eq!((&purged["dry_run"], &purged["purged"]), (&json!(false), &dry["purged"]));
    acknowledged(&world, &uuid).await;
    let stats = world.server.cli(&["db", "stats"]).ok();
    for line in ["sqlite, schema m00", "data key 1 (sealing)", "queue_entries"] {
        assert!(stats.out.contains(line), "{line} is not in {}", stats.out);
    }
}
