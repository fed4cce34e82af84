//! Commands: what goes out as it was given, what a device puts off or refuses, what changes a device, and users of a
//! Mac.

use russet_tests::{World, eventually, profile};
use serde_json::json;

use crate::first_light::of_device;

const MAC: &str = "C02COMMANDS1";
const PHONE: &str = "DNPCOMMANDS1";

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_property_list_goes_to_the_device_as_it_is() {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;
    let command = r#"<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>
        <key>RequestType</key><string>Settings</string><key>Settings</key><array><dict>
        <key>Item</key><string>DeviceName</string>
        <key>DeviceName</key><string>Kew</string></dict></array></dict></plist>"#;
    let request = world
        .admin
        .of_tenant(http::Method::POST, &format!("/commands?device={MAC}"));
    let request = request.header("content-type", "application/xml").body(command);
    let queued = world.admin.send(request).await.ok();
    assert_eq!(queued["request_type"], "Settings");
    let warnings = queued["warnings"].as_array().unwrap();
    assert!(
        !warnings.is_empty(),
        "a type that is not checked is sent with a warning: {queued}"
    );

    let session = mac.run_until_idle().await.unwrap();
    assert_eq!(session.answered.len(), 1);
    assert_eq!(session.answered[0].request_type, "Settings");
    let command = world.admin.finished(queued["command_uuid"].as_str().unwrap()).await;
    assert_eq!(of_device(&command, MAC)["state"], "acknowledged", "{command}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_cannot_do_now_or_at_all_is_told() {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;

    mac.answer_not_now_once();
    let uuid = world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;
    assert!(mac.run_until_idle().await.unwrap().not_now_last);
    let waiting = world.admin.show_command(&uuid).await;
    assert_eq!(of_device(&waiting, MAC)["state"], "not_now", "{waiting}");
    mac.run_until_idle().await.unwrap();
    let done = world.admin.finished(&uuid).await;
    assert_eq!(of_device(&done, MAC)["state"], "acknowledged", "{done}");

    mac.answer_error(12_021, "MCMDMErrorDomain", "Not on this one.");
    let uuid = world.admin.command(&[MAC], json!({"RequestType": "ProfileList"})).await;
    mac.run_until_idle().await.unwrap();
    let failed = world.admin.finished(&uuid).await;
    let entry = of_device(&failed, MAC);
    assert_eq!(entry["state"], "failed", "{failed}");
    assert!(
        entry["error_chain"].to_string().contains("Not on this one."),
        "{failed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_a_mac_has_a_channel_of_its_own() {
    let world = World::builder()
        .without_gate()
        .set("enrollment.network_users", true)
        .start()
        .await;
    let mac = world.enrolled(MAC).await;
    let user = mac.user(russet_simulator::device::UserNames {
        user_id: "3F2504E0-4F89-11D3-9A0C-0305E82C3301".to_owned(),
        short_name: "ada".to_owned(),
        long_name: "Ada Example".to_owned(),
        shared_ipad: false,
    });
    user.authenticate(None).await.unwrap();
    user.token_update().await.unwrap();
    let users = eventually("the user's channel is there", || async {
        let devices = world.admin.list("/devices").await;
        let user = devices.into_iter().find(|device| device["user"]["short_name"] == "ada");
        user.map(|user| user["id"].as_str().unwrap().to_owned())
    });
    let id = users.await;
    let uuid = world.admin.command(&[&id], json!({"RequestType": "ProfileList"})).await;
    mac.run_until_idle().await.unwrap();
    assert!(mac.answered().is_empty(), "the command is the user's, not the device's");
    user.run_until_idle().await.unwrap();
    assert_eq!(user.answered().len(), 1);
    assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_that_change_a_device_do_so() {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;
    let install = json!({"devices": [MAC], "profile": "plain"});
    world
        .admin
        .put(
            "/profiles/plain",
            &json!({"content": profile("org.example.plain", "Plain")}),
        )
        .await
        .ok();
    let installed = world.admin.post("/commands", &install).await.ok();
    mac.run_until_idle().await.unwrap();
    world.admin.finished(installed["command_uuid"].as_str().unwrap()).await;
    assert!(mac.profiles().iter().any(|own| own.identifier == "org.example.plain"));

    let list = world.admin.command(&[MAC], json!({"RequestType": "ProfileList"})).await;
    mac.run_until_idle().await.unwrap();
    let list = world.admin.finished(&list).await;
    assert!(
        of_device(&list, MAC)["result"]
            .to_string()
            .contains("org.example.plain"),
        "{list}"
    );

    let remove = json!({"RequestType": "RemoveProfile", "Identifier": "org.example.plain"});
    let lock = json!({"RequestType": "DeviceLock", "PIN": "123456", "Message": "Please return me."});
    for command in [remove, lock, json!({"RequestType": "EraseDevice", "PIN": "123456"})] {
        let uuid = world.admin.command(&[MAC], command).await;
        mac.run_until_idle().await.unwrap();
        let done = world.admin.finished(&uuid).await;
        assert_eq!(of_device(&done, MAC)["state"], "acknowledged", "{done}");
    }
    assert!(mac.is_erased());

    // What the schema does not allow is refused before it is queued, with every problem.
    let wrong = json!({"devices": [PHONE], "command": {"RequestType": "DeviceLock", "PIN": 7}});
    let error = world.admin.post("/commands", &wrong).await.refused(422);
    assert!(error.to_string().contains("no such device"), "{error}");
    world.enrolled(PHONE).await;
    let error = world.admin.post("/commands", &wrong).await.refused(422);
    assert!(error.to_string().contains("PIN"), "{error}");
}
