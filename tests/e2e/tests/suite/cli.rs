//! The command line against a running server: what operators type, what they read, and the JSON that scripts read.

use std::time::Duration;

use russet_tests::{Cli, TOPIC, World, workspace};
use serde_json::{Value, json};

const MAC: &str = "C02CLI000001";

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_and_revoked() {
    let world = World::start().await;
    let made = world
        .server
        .cli(&["token", "create", "night shift", "--json"])
        .ok()
        .json();
    assert_eq!(
        (&made["name"], &made["tenant"]),
        (&json!("night shift"), &json!("default"))
    );
    let token = made["token"].as_str().unwrap();
    world.admin.with_token(token).get("/devices").await.ok();

    let listed = world.server.cli(&["token", "list", "--json"]).ok().json();
    let names: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["name"].clone())
        .collect();
    assert_eq!(names, ["first administrator", "night shift"], "{listed}");
    let shown = world.server.cli(&["token", "list"]).ok().out;
    assert!(shown.contains("night shift") && !shown.contains(token), "{shown}");

    let id = made["id"].to_string();
    world.server.cli(&["token", "revoke", id.trim_matches('"')]).ok();
    world.admin.with_token(token).get("/devices").await.refused(401);
    let refused = world
        .server
        .cli(&["token", "list", "--token", token])
        .failed()
        .complaint();
    assert!(refused.contains("token"), "{refused}");
    let shown = world.server.cli(&["token", "list"]).ok().out;
    let row = shown.lines().find(|line| line.contains("night shift")).unwrap();
    let times = row
        .split_whitespace()
        .filter(|word| word.parse::<jiff::Timestamp>().is_ok())
        .count();
    assert_eq!(times, 2, "when it was made and when it was revoked: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_and_shown_and_take_commands() {
    let world = World::builder().without_gate().start().await;
    assert!(
        world
            .server
            .cli(&["device", "list"])
            .ok()
            .out
            .contains("no device has enrolled yet")
    );
    let mac = world.enrolled(MAC).await;
    world.enrolled("C02CLI000002").await;

    let listed = world.server.cli(&["device", "list"]).ok().out;
    assert!(listed.contains(MAC) && listed.contains("C02CLI000002"), "{listed}");
    let one = world
        .server
        .cli(&["device", "list", "--serial-number", MAC, "--json"])
        .ok()
        .json();
    assert_eq!(one["items"].as_array().unwrap().len(), 1, "{one}");
    let shown = world.server.cli(&["device", "show", MAC, "--json"]).ok().json();
    assert_eq!(shown["udid"], mac.facts().udid.as_str());
    assert!(
        world
            .server
            .cli(&["device", "show", &mac.facts().udid])
            .ok()
            .out
            .contains(MAC)
    );
    for (state, devices) in [("active", 2), ("removed", 0)] {
        let listed = world
            .server
            .cli(&["device", "list", "--state", state, "--json"])
            .ok()
            .json();
        assert_eq!(listed["items"].as_array().unwrap().len(), devices, "{listed}");
    }
    let complaint = world.server.cli(&["device", "show", "C02NOBODY"]).failed().complaint();
    assert!(complaint.contains("no such device"), "{complaint}");

    // Sent and waited for.
    world.listen(&mac);
    let queries = r#"Queries:=["SerialNumber"]"#;
    let send = [
        "command",
        "send",
        "--device",
        MAC,
        "DeviceInformation",
        queries,
        "--wait",
    ];
    let out = world.server.cli(&send).ok().out;
    assert!(
        out.contains("acknowledged") && out.contains(&format!(r#""SerialNumber": "{MAC}""#)),
        "{out}"
    );
    let answered = world.server.cli(&[&send[..], &["--json"]].concat()).ok().json();
    assert_eq!(answered["devices"][0]["state"], "acknowledged", "{answered}");
    let uuid = answered["command_uuid"].as_str().unwrap();
    let shown = world.server.cli(&["command", "show", uuid, "--json"]).ok().json();
    assert_eq!(shown["devices"][0]["result"], answered["devices"][0]["result"]);
    let queue = world
        .server
        .cli(&["device", "show", MAC, "--commands", "--json"])
        .ok()
        .json();
    assert_eq!(queue["items"].as_array().unwrap().len(), 2, "{queue}");

    // A refusal of the device is a failure of the command, with the device's words.
    mac.answer_error(12_021, "MCMDMErrorDomain", "Not on this one.");
    let refused = world
        .server
        .cli(&["command", "send", "--device", MAC, "SecurityInfo", "--wait"])
        .failed();
    assert!(refused.out.contains("Not on this one."), "{refused:?}");

    // What the server refuses comes with every reason.
    let wrong = world
        .server
        .cli(&["command", "send", "--device", MAC, "DeviceLock", "PIN:=7"])
        .failed()
        .complaint();
    assert!(wrong.contains("PIN"), "{wrong}");

    // A property list from a file.
    let file = world.server.folder().path().join("command.plist");
    let list = "<plist version=\"1.0\"><dict><key>RequestType</key><string>ProfileList</string></dict></plist>";
    std::fs::write(&file, list).unwrap();
    let send = [
        "command",
        "send",
        "--device",
        MAC,
        "--plist",
        file.to_str().unwrap(),
        "--wait",
        "--json",
    ];
    assert_eq!(world.server.cli(&send).ok().json()["request_type"], "ProfileList");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_more_urgent_goes_first() {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;
    let queue = |request_type: &str, priority: &str| {
        let send = ["command", "send", "--device", MAC, request_type, "--priority", priority];
        world.server.cli(&send).ok();
    };
    queue("ProfileList", "5");
    queue("SecurityInfo", "0");
    queue("CertificateList", "-5");
    let order: Vec<_> = mac
        .run_until_idle()
        .await
        .unwrap()
        .answered
        .into_iter()
        .map(|answered| answered.request_type)
        .collect();
    assert_eq!(order, ["CertificateList", "SecurityInfo", "ProfileList"]);
    // The help says the same as the server does.
    let help = Cli::offline(&["command", "send", "--help"], world.server.folder().path())
        .ok()
        .out;
    assert!(help.contains("Commands with a lower number go first"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_certificate_is_uploaded_and_shown() {
    let world = World::builder().without_push_certificate().start().await;
    assert!(
        world
            .server
            .cli(&["push-cert", "show"])
            .ok()
            .out
            .contains("no push certificate")
    );
    let issued = world.apns.issue_push_certificate(TOPIC).unwrap();
    let file = |name: &str, text: &str| {
        let path = world.server.folder().path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("push.pem", &issued.certificate), file("push.key", &issued.key));
    let upload = [
        "push-cert",
        "upload",
        "--certificate",
        &certificate,
        "--private-key",
        &key,
    ];
    assert!(world.server.cli(&upload).ok().out.contains(TOPIC));
    let shown = world.server.cli(&["push-cert", "show", "--json"]).ok().json();
    assert_eq!(shown["items"][0]["topic"], TOPIC);
    assert!(shown["items"][0]["not_after"].is_string(), "{shown}");
    let shown = world.server.cli(&["push-cert", "show"]).ok().out;
    let row = shown.lines().find(|line| line.contains(TOPIC)).unwrap();
    let times = row
        .split_whitespace()
        .filter(|word| word.parse::<jiff::Timestamp>().is_ok())
        .count();
    assert_eq!(times, 2, "when it ends and when it was uploaded: {shown}");
    let swapped = [
        "push-cert",
        "upload",
        "--certificate",
        &key,
        "--private-key",
        &certificate,
    ];
    world.server.cli(&swapped).failed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_goes_from_an_empty_folder_to_a_running_revision() {
    let world = World::start().await;
    let folder = world.server.folder().path();
    let sdk = workspace().join("plugin-sdk/rust");
    let new = [
        "plugin",
        "new",
        "the-gate",
        "--hook",
        "enrollment-gate",
        "--sdk",
        sdk.to_str().unwrap(),
    ];
    let out = Cli::offline(&new, folder).ok().out;
    assert!(out.contains("russet plugin build the-gate"), "{out}");
    // The versions that this workspace is tested with, and a target directory for this test's next run.
    std::fs::copy(workspace().join("Cargo.lock"), folder.join("the-gate/Cargo.lock")).unwrap();
    let target = workspace().join("target/e2e-plugin");
    let build = [
        "plugin",
        "build",
        "the-gate",
        "--target-dir",
        target.to_str().unwrap(),
        "--out",
        "built",
    ];
    let out = Cli::offline(&build, folder).ok().out;
    assert!(out.contains("the-gate.wasm"), "{out}");

    let inspected = Cli::offline(&["plugin", "inspect", "built/the-gate.wasm", "--json"], folder)
        .ok()
        .json();
    assert_eq!(inspected["component"]["manifest"]["name"], "the-gate", "{inspected}");
    let inspected = Cli::offline(&["plugin", "inspect", "built/the-gate.wasm"], folder)
        .ok()
        .out;
    assert!(inspected.contains("enrollment-gate"), "{inspected}");

    let settings = folder.join("settings.json");
    std::fs::write(&settings, json!({"prefixes": ["C02"]}).to_string()).unwrap();
    let install = [
        "plugin",
        "install",
        "built/the-gate.wasm",
        "--settings",
        "settings.json",
        "--grant-asked",
    ];
    let out = world.server.cli(&install).ok().out;
    assert!(out.contains("the-gate 0.1.0 runs as revision"), "{out}");
    let listed = world.server.cli(&["plugin", "list", "--json"]).ok().json();
    let plugin = &listed["items"][0];
    assert_eq!(
        (&plugin["name"], &plugin["state"]),
        (&json!("the-gate"), &json!("active")),
        "{listed}"
    );
    assert!(world.server.cli(&["plugin", "list"]).ok().out.contains("the-gate"));

    world.enrolled(MAC).await;
    let refusal = world.mac("ZZZ000000001").build().unwrap().enroll().await.unwrap_err();
    assert_eq!(refusal.status(), Some(403), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_devices_enroll_from_the_command_line() {
    let world = World::builder().without_gate().start().await;
    let ca = world.server.data_dir().join("ca.pem");
    let simulate = [
        "simulate",
        "--ca",
        ca.to_str().unwrap(),
        "--count",
        "2",
        "--serial",
        "SIMCLI",
        "--every",
        "1",
        "--polls",
        "1",
    ];
    let simulated = world.server.cli(&simulate).ok();
    assert!(simulated.out.contains("SIMCLI"), "{simulated:?}");
    assert_eq!(world.admin.list("/devices").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_and_one_that_is_not_trusted_are_told_apart() {
    let mut world = World::start().await;
    let other = World::start().await;
    let elsewhere = format!("https://{}", other.server.address());
    let complaint = world
        .server
        .cli(&["device", "list", "--server", &elsewhere])
        .failed()
        .complaint();
    assert!(
        complaint.contains("certificate") || complaint.contains("trust"),
        "{complaint}"
    );
    world.server.terminate();
    world.server.ended().await;
    let complaint = world.server.cli(&["device", "list"]).failed().complaint();
    assert!(complaint.contains("no answer from"), "{complaint}");
    assert!(!complaint.contains("certificate"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_checked_without_a_server() {
    let world = World::start().await;
    let checked = world.server.cli(&["serve", "--check"]).ok();
    assert!(checked.out.contains("the configuration is good"), "{checked:?}");
    let folder = world.server.folder().path();
    let example = Cli::offline(&["config", "example"], folder).ok().out;
    assert_eq!(
        example,
        std::fs::read_to_string(workspace().join("examples/russet.toml")).unwrap()
    );
    let help = Cli::offline(&["--help"], folder).ok().out;
    for noun in [
        "serve",
        "demo",
        "simulate",
        "plugin",
        "device",
        "command",
        "push-cert",
        "token",
        "config",
    ] {
        assert!(help.contains(noun), "{noun} is not in the help: {help}");
    }
    assert_eq!(Cli::offline(&["no-such-noun"], folder).code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_over_says_so_and_loses_nothing() {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;
    let started = std::time::Instant::now();
    let waited = world
        .server
        .cli(&["command", "send", "--device", MAC, "SecurityInfo", "--wait=1"])
        .failed();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(waited.complaint().contains('1'), "{waited:?}");
    mac.run_until_idle().await.unwrap();
    let queue: Vec<Value> = world.admin.list(&format!("/devices/{MAC}/commands")).await;
    assert_eq!(queue[0]["state"], "acknowledged", "{queue:?}");
}
