//! The end of the process, and its next beginning: what was acknowledged is there after `kill -9`, what was asked for
//! is answered before it stops, and what cannot start says why.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use russet_simulator::SimulatedDevice;
use russet_simulator::device::ProfileRequest;
use russet_tests::{ApiUser, Config, NotStarted, TestServer, World, WorldBuilder, eventually, soon};
use serde_json::json;

/// Queues commands one after the other until the server is gone; the UUIDs that it acknowledged.
async fn queue_until_the_end(admin: ApiUser, devices: Vec<String>, acknowledged: Arc<std::sync::Mutex<Vec<String>>>) {
    // Types that are not asked for twice while one waits would be dropped as duplicates: these differ.
    for number in 0.. {
        let command = json!({
            "RequestType": "InstalledApplicationList", "Identifiers": [format!("org.example.app{number}")],
        });
        let request = admin.of_tenant(http::Method::POST, "/commands");
        let sent = request
            .json(&json!({"devices": devices, "command": command}))
            .send()
            .await;
        let Ok(answer) = sent else { return };
        assert_eq!(answer.status().as_u16(), 201);
        let Ok(answer) = answer.json::<serde_json::Value>().await else {
            return;
        };
        acknowledged
            .lock()
            .unwrap()
            .push(answer["command_uuid"].as_str().unwrap().to_owned());
    }
}

async fn poll_until_the_end(device: SimulatedDevice, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) && device.run_until_idle().await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    nothing_is_lost(World::builder()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_is_there_after_it_on_postgresql() {
    if russet_store::testing::postgres_is_skipped() {
        return;
    }
    let cluster = russet_store::testing::PostgresCluster::start().unwrap();
    nothing_is_lost(World::builder().set("database.url", cluster.create_database("restart").unwrap())).await;
}

async fn nothing_is_lost(world: WorldBuilder) {
    let mut world = world.at_a_lasting_address().start().await;
    world
        .admin
        .install("hostile", json!({"mode": "label", "label": "kept"}))
        .await;
    let serials = ["C02KILL00001", "C02KILL00002"];
    let mut devices = Vec::new();
    for serial in serials {
        devices.push(world.enrolled(serial).await);
    }
    let token = devices[0].get_bootstrap_token().await.unwrap().unwrap();
    let acknowledged = Arc::new(std::sync::Mutex::new(Vec::new()));

    for round in 1..=3 {
        let over = Arc::new(AtomicBool::new(false));
        let names = serials.map(str::to_owned).to_vec();
        let queuing = tokio::spawn(queue_until_the_end(
            world.admin.clone(),
            names,
            Arc::clone(&acknowledged),
        ));
        let polling: Vec<_> = devices
            .iter()
            .map(|device| tokio::spawn(poll_until_the_end(device.clone(), Arc::clone(&over))))
            .collect();
        eventually("commands go in and answers come back", || async {
            let (queued, answered) = (acknowledged.lock().unwrap().len(), devices[0].answered().len());
            (queued >= round * 25 && answered >= round * 10).then_some(())
        })
        .await;
        world.server.kill();
        over.store(true, Ordering::SeqCst);
        soon("the queuing ends", queuing).await.unwrap();
        for poller in polling {
            soon("the polling ends", poller).await.unwrap();
        }
        world.server.resume().await.unwrap();
        world.admin.reach().await;
    }

    // What the devices were told was taken is there before they say anything more.
    for device in &devices {
        let id = &device.facts().serial_number;
        for answered in device.answered() {
            let uuid = answered.command_uuid.to_lowercase();
            let command = world.admin.show_command(&uuid).await;
            let own = command["devices"]
                .as_array()
                .unwrap()
                .iter()
                .find(|own| own["serial_number"] == id.as_str());
            let own = own.unwrap();
            assert_eq!(own["state"], "acknowledged", "an answer was lost: {command}");
            assert!(own["result"].is_object(), "a result was lost: {command}");
        }
        // The first session begins with the answer that the kill left with the device. If the server had it already, what came
        // in return was lost on the way, and is offered when the device comes of itself.
        for _ in 0..2 {
            device.run_until_idle().await.unwrap();
        }
    }
    // What the administrator was told was queued has been delivered, to each device once.
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= 75);
    for uuid in &acknowledged {
        let command = world.admin.show_command(uuid).await;
        for own in command["devices"].as_array().unwrap() {
            assert_eq!(own["state"], "acknowledged", "a command was lost: {command}");
        }
    }
    for device in &devices {
        let mut answered: Vec<_> = device
            .answered()
            .into_iter()
            .map(|answered| answered.command_uuid)
            .collect();
        let all = answered.len();
        answered.sort();
        answered.dedup();
        assert_eq!(answered.len(), all, "a command that was answered was handed out again");
    }

    // And everything else: secrets, plugins, authorities, tokens, the push certificate.
    assert_eq!(
        devices[0].get_bootstrap_token().await.unwrap().unwrap().expose(),
        token.expose()
    );
    let late = world.enrolled("C02LATE00001").await;
    assert_eq!(world.admin.device("C02LATE00001").await["attributes"]["label"], "kept");
    world.listen(&late);
    let uuid = world
        .admin
        .command(&["C02LATE00001"], json!({"RequestType": "SecurityInfo"}))
        .await;
    assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_end_answers_what_it_was_asked() {
    // A directory that takes a connection and says nothing holds the request for as long as the test wants.
    let directory = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ldap://{}", directory.local_addr().unwrap());
    let world = World::builder()
        .set("ldap.corp.url", url)
        .set("ldap.corp.timeout_seconds", 60);
    let world = world
        .set("plugins.limits.deadline_milliseconds", 60_000)
        .set("plugins.request_budget_milliseconds", 60_000)
        .set("server.limits.shutdown_timeout_seconds", 60);
    let mut world = world.start().await;
    world.admin.install("hostile", json!({"mode": "slow-ldap"})).await;
    let mac = world.by_hand("C02DRAIN001").build().unwrap();
    let running = tokio::spawn(async move { mac.request_profile(&ProfileRequest::Manual(None)).await });
    let (held, _) = soon("the request reaches the directory", directory.accept())
        .await
        .unwrap();

    world.server.terminate();
    let address = world.server.address();
    eventually("no new connection is taken", || async move {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    assert!(world.server.is_running() && !running.is_finished());
    drop((held, directory));
    let answer = soon("the running request is answered", running).await.unwrap().unwrap();
    assert_eq!(
        answer.status.as_u16(),
        503,
        "the directory went away, so nobody could decide: {}",
        answer.text()
    );
    let status = world.server.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(world.server.log_lines().iter().any(|line| line["message"] == "stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_poll_of_a_device_is_remembered_over_a_stop() {
    let world = World::builder().without_gate().at_a_lasting_address();
    let mut world = world.set("database.last_seen_interval_seconds", 3600).start().await;
    let mac = world.enrolled("C02SEEN0001").await;
    let before = world.admin.device("C02SEEN0001").await["last_seen_at"].clone();
    mac.run_until_idle().await.unwrap();
    world.server.terminate();
    assert_eq!(world.server.ended().await.code(), Some(0));
    world.server.resume().await.unwrap();
    let after = world.admin.device("C02SEEN0001").await["last_seen_at"].clone();
    assert!(after.is_string() && after != before, "{before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_has_one_server() {
    let mut world = World::start().await;
    let mut config = world.server.config().clone();
    config.set("server.listen", "127.0.0.1:0");
    let ended = TestServer::start_in(Arc::clone(world.server.folder()), config)
        .await
        .unwrap_err();
    assert_eq!(ended.status.code(), Some(1));
    let said = one_line(&ended);
    assert!(said.contains("in use by another russet process"), "{said}");
    assert!(world.server.is_running());
    world.admin.reach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_opens_nothing() {
    let mut world = World::builder().at_a_lasting_address().start().await;
    world.server.kill();
    let file = world.server.data_dir().join("master.key");
    let right = std::fs::read(&file).unwrap();
    std::fs::write(&file, format!("{}\n", BASE64.encode([7; 32]))).unwrap();
    let ended = world.server.resume().await.unwrap_err();
    let said = one_line(&ended);
    assert!(said.contains("master key"), "{said}");
    assert!(!said.contains(&BASE64.encode([7; 32])), "a key is never shown: {said}");

    std::fs::write(&file, right).unwrap();
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    world.admin.get("/push-certificates").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = World::builder()
        .set("server.listen", address.to_string())
        .try_start()
        .await
        .unwrap_err();
    let said = one_line(&ended);
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_configuration_is_told_at_once_and_before_a_port_is_bound() {
    // A port that is taken: whoever binds first would complain of it.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = Config::default();
    config
        .set("server.listen", address.to_string())
        .set("server.public_url", "http://mdm.example.com")
        .set("server.proxy.trusted", vec!["0.0.0.0/0".to_owned()])
        .set("enrollment.access_rights", 2)
        .set("enrollment.device_ca_file", "/nowhere/ca.pem")
        .set("secrets.master_key", "too short")
        .set("ldap.corp.url", "http://directory");
    let ended = TestServer::start(config).await.unwrap_err();
    assert_eq!(ended.status.code(), Some(1));
    let said = one_line(&ended);
    for key in [
        "server.public_url",
        "server.proxy.trusted",
        "enrollment.access_rights",
        "enrollment.device_ca_file",
        "secrets.master_key",
        "ldap.corp.url",
        "ldap.corp.base_dn",
    ] {
        assert!(said.contains(key), "{key} is not named: {said}");
    }
    assert!(!said.contains("cannot listen"), "{said}");
    assert!(!said.contains("too short"), "a secret is never shown: {said}");

    let mut config = Config::default();
    config.set("server.lisen", "127.0.0.1:0");
    let ended = TestServer::start(config).await.unwrap_err();
    let said = one_line(&ended);
    assert!(
        said.contains("server.lisen") && said.contains("did you mean listen?"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_goes_over_the_file() {
    let mut world = World::builder().without_gate().at_a_lasting_address().start().await;
    world.server.kill();
    world
        .server
        .environment("RUSSET_ENROLLMENT__ORGANIZATION", "Environment Orchard");
    world.server.resume().await.unwrap();
    let mac = world.enrolled("C02ENVIRON1").await;
    let profile = mac.enrollment_profile().unwrap().profile;
    assert_eq!(profile.organization.as_deref(), Some("Environment Orchard"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_makes_nothing_anew() {
    let mut world = World::builder().at_a_lasting_address().start().await;
    let revision = world.admin.install("hostile", json!({"mode": "allow"})).await["revision"].clone();
    let made = (world.server.ca_pem(), world.server.admin_token());
    world.server.terminate();
    world.server.ended().await;
    world.server.resume().await.unwrap();
    assert_eq!((world.server.ca_pem(), world.server.admin_token()), made);
    let shown = world.admin.get("/plugins/hostile").await.ok();
    assert_eq!(
        (&shown["state"], &shown["revision"]),
        (&json!("active"), &revision),
        "{shown}"
    );
    assert_eq!(
        world
            .server
            .log()
            .matches("made the first administrator's token")
            .count(),
        1
    );
}

/// Without the line breaks and the frame that make it fit a terminal.
fn one_line(ended: &NotStarted) -> String {
    let words = ended
        .said
        .split_whitespace()
        .filter(|word| !matches!(*word, "│" | "×" | "╰─▶" | "├─▶"));
    words.collect::<Vec<_>>().join(" ")
}
