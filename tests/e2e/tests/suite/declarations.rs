//! Declarations from an administrator and from a planner, on their way to a device and back; profiles that devices keep; and
//! the renewal of an identity by a new profile.

use russet_simulator::device::SimulatedDevice;
use russet_tests::{World, eventually, profile};
use serde_json::{Value, json};

const MAC: &str = "C02DECLARED1";
const PASSCODE: &str = "com.apple.configuration.passcode.settings";

fn base_set() -> Value {
    json!({"declarations": [
        {"identifier": "com.example.passcode", "type": PASSCODE, "payload": {"MinimumLength": 6}},
        {"identifier": "com.example.on", "type": "com.apple.activation.simple",
         "payload": {"StandardConfigurations": ["com.example.passcode"]}},
    ]})
}

/// A Mac that answers pushes.
async fn listening(world: &World) -> SimulatedDevice {
    let mac = world.enrolled(MAC).await;
    world.listen(&mac);
    mac
}

async fn plan(world: &World) -> Value {
    world.admin.get(&format!("/devices/{MAC}/declarations")).await.ok()
}

fn planned<'a>(plan: &'a Value, identifier: &str) -> Option<&'a Value> {
    let declarations = plan["declarations"].as_array()?;
    declarations
        .iter()
        .find(|declaration| declaration["identifier"] == identifier)
}

/// Waits until the device says of a declaration that it has it as it is planned.
async fn applied(world: &World, identifier: &str) -> Value {
    eventually("the device says that it has the declaration", || async {
        let plan = plan(world).await;
        let declaration = planned(&plan, identifier)?;
        (declaration["state"]["current"] == true).then(|| declaration.clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_reaches_a_device_that_says_what_became_of_it() {
    let world = World::builder().without_gate().start().await;
    let mac = listening(&world).await;
    world.admin.put("/declaration-sets/base", &base_set()).await.ok();
    let path = format!("/devices/{MAC}/declaration-sets/base");
    world.admin.put(&path, &json!({})).await.ok();

    let passcode = applied(&world, "com.example.passcode").await;
    assert_eq!(passcode["state"]["valid"], "valid");
    assert_eq!(passcode["state"]["active"], true);
    assert_eq!(passcode["source"], "set:base");
    assert_eq!(
        mac.declarations()["com.example.passcode"].payload,
        json!({"MinimumLength": 6})
    );
    let status = world.admin.list(&format!("/devices/{MAC}/status")).await;
    let version = status
        .iter()
        .find(|item| item["item"] == "device.operating-system.version")
        .unwrap();
    assert_eq!(version["value"], mac.facts().os_version.as_str());

    // A change goes out by itself, and only what changed is fetched again.
    let mut changed = base_set();
    changed["declarations"][0]["payload"]["MinimumLength"] = 8.into();
    let stored = world.admin.put("/declaration-sets/base", &changed).await.ok();
    assert_eq!(stored["replanned"], 1);
    eventually("the device has the change", || async {
        let own = mac.declarations();
        (own.get("com.example.passcode")?.payload == json!({"MinimumLength": 8})).then_some(())
    })
    .await;

    let refused = world.admin.delete("/declaration-sets/base").await.refused(409);
    assert_eq!(refused["code"], "in-use", "{refused}");
    world.admin.delete(&path).await.ok();
    eventually("the device drops what it has no more", || async {
        mac.declarations().is_empty().then_some(())
    })
    .await;
    world.admin.delete("/declaration-sets/base").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planner_plans_for_devices_that_are_there_and_its_settings_change_their_plans() {
    let world = World::builder().without_gate().start().await;
    let mac = listening(&world).await;
    let settings = |version: &str| {
        json!({
            "targets": {"Mac": {"version": version, "released": "2026-11-01"}},
            "rings": [{"name": "all", "after_days": 14}],
        })
    };
    world.admin.install("os-update-policy", settings("99.1")).await;
    let enforcement = eventually("the planner's declaration is applied", || async {
        let plan = plan(&world).await;
        let found = plan["declarations"].as_array()?.iter().find(|declaration| {
            declaration["type"] == "com.apple.configuration.softwareupdate.enforcement.specific"
                && declaration["state"]["active"] == true
        });
        found.cloned()
    })
    .await;
    assert_eq!(enforcement["source"], "planner:os-update-policy");
    assert_eq!(enforcement["payload"]["TargetOSVersion"], "99.1");
    let identifier = enforcement["identifier"].as_str().unwrap();
    assert!(mac.declarations().contains_key(identifier));

    // An identifier that a set has too is the set's, and that is shown.
    let set = json!({"declarations": [{"identifier": identifier, "type": PASSCODE, "payload": {"MinimumLength": 6}}]});
    world.admin.put("/declaration-sets/own", &set).await.ok();
    let path = format!("/devices/{MAC}/declaration-sets/own");
    world.admin.put(&path, &json!({})).await.ok();
    let conflict = eventually("the conflict is shown", || async {
        plan(&world).await["conflicts"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(conflict["source"], "planner:os-update-policy");
    assert_eq!(conflict["kept"], "set:own");
    world.admin.delete(&path).await.ok();

    // A target that the device has already enforces nothing.
    world.admin.install("os-update-policy", settings("1.0")).await;
    eventually("the planner's declarations are gone", || async {
        mac.declarations().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_a_device_keeps_follows_its_changes() {
    let world = World::builder().without_gate().start().await;
    let mac = listening(&world).await;
    let store = |name: &'static str| {
        let body = json!({"content": profile("com.example.wifi", name)});
        let admin = &world.admin;
        async move { admin.put("/profiles/wifi", &body).await.ok() }
    };
    let named = |name: &'static str| {
        let mac = &mac;
        eventually("the device has the profile", move || async move {
            let profiles = mac.profiles();
            let own = profiles.iter().find(|own| own.identifier == "com.example.wifi")?;
            (own.display_name.as_deref() == Some(name)).then_some(())
        })
    };
    store("First").await;
    let path = format!("/devices/{MAC}/profiles/wifi");
    world.admin.put(&path, &json!({})).await.ok();
    named("First").await;
    assert_eq!(store("Second").await["reinstalled"], 1);
    named("Second").await;
    let assigned = world.admin.list(&format!("/devices/{MAC}/profiles")).await;
    assert_eq!(assigned[0]["identifier"], "com.example.wifi");
    world.admin.delete("/profiles/wifi").await.refused(409);

    world.admin.delete(&path).await.ok();
    eventually("the profile is removed", || async {
        let profiles = mac.profiles();
        profiles
            .iter()
            .all(|own| own.identifier != "com.example.wifi")
            .then_some(())
    })
    .await;
    world.admin.delete("/profiles/wifi").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_renews_by_a_new_profile_and_keeps_queue_tokens_and_escrow() {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;
    let before = world.admin.device(MAC).await;
    let renewal = world
        .admin
        .post(&format!("/devices/{MAC}/renew"), &json!({}))
        .await
        .ok();
    let waiting = world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;
    mac.run_until_idle().await.unwrap();

    let after = world.admin.device(MAC).await;
    assert_ne!(after["certificate_sha256"], before["certificate_sha256"]);
    assert_eq!(
        (&after["id"], &after["enrolled_at"]),
        (&before["id"], &before["enrolled_at"])
    );
    for uuid in [renewal["command_uuid"].as_str().unwrap(), waiting.as_str()] {
        let command = world.admin.finished(uuid).await;
        let own = crate::first_light::of_device(&command, MAC);
        assert_eq!(own["state"], "acknowledged", "{command}");
    }
    assert!(mac.get_bootstrap_token().await.unwrap().is_some());
    let escrow = world.admin.list(&format!("/devices/{MAC}/escrow")).await;
    assert!(
        escrow.iter().any(|kept| kept["kind"] == "bootstrap-token"),
        "{escrow:?}"
    );
}
