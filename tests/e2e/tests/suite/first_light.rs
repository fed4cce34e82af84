//! Three devices through the whole cycle: the gate, SCEP, check-in, a command by push, a profile made at delivery,
//! escrow, and goodbye. In each way of showing an identity, and on both databases.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderName;
use russet_simulator::device::{DeviceBuilder, IdentityMode, ProfileSignature};
use russet_tests::{World, WorldBuilder, profile};
use serde_json::{Value, json};

const MAC: &str = "C02FIRST0MAC";
const PHONE: &str = "DNPFIRSTIPHN";
const STRANGER: &str = "ZZZSTRANGER1";

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_sign_their_messages_go_through_the_whole_cycle() {
    whole_cycle(World::builder(), IdentityMode::MdmSignature).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_with_a_client_certificate_go_through_the_whole_cycle() {
    let world = World::builder().set("enrollment.sign_message", false);
    whole_cycle(world, IdentityMode::ClientCertificate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_behind_a_trusted_proxy_go_through_the_whole_cycle() {
    let world = World::builder().set("server.proxy.trusted", vec!["127.0.0.1".to_owned()]);
    let header = HeaderName::from_static("client-cert");
    whole_cycle(world, IdentityMode::ProxyHeader(header)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_devices_show_both_and_go_through_the_whole_cycle_on_postgresql() {
    if russet_store::testing::postgres_is_skipped() {
        return;
    }
    let cluster = russet_store::testing::PostgresCluster::start().unwrap();
    let url = cluster.create_database("first_light").unwrap();
    let world = World::builder().set("database.url", url);
    whole_cycle(world, IdentityMode::AsProfileSays).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_not_trusted_says_nothing_about_a_device() {
    let world = World::builder().without_gate().start().await;
    let mac = world
        .mac(MAC)
        .proxy_header(HeaderName::from_static("client-cert"))
        .build()
        .unwrap();
    let refusal = mac.enroll().await.unwrap_err();
    assert_eq!(refusal.status(), Some(400), "{refusal}");
    assert!(
        refusal
            .to_string()
            .contains("no client certificate and no Mdm-Signature"),
        "{refusal}"
    );
    assert_eq!(mac.unenrolled(), None);
}

async fn whole_cycle(world: WorldBuilder, mode: IdentityMode) {
    let world = world.start().await;
    world
        .admin
        .install(
            "enrollment-gate",
            json!({"serial_numbers": {"allow": ["C02FIRST*", "DNPFIRST*"]}}),
        )
        .await;
    let first_only = json!({"bootstrap_token": {"release_to_administrators": ["first administrator"]}});
    world.admin.install("escrow-policy", first_only).await;
    world.admin.install("profile-template", json!({"campus": "Kew"})).await;

    let build = |builder: DeviceBuilder| builder.identity_mode(mode.clone()).build().unwrap();
    let (mac, phone) = (build(world.mac(MAC)), build(world.iphone(PHONE)));
    let stranger = build(world.mac(STRANGER));

    // The gate lets two in, and refuses one with its reason.
    mac.enroll().await.unwrap();
    phone.enroll().await.unwrap();
    let refusal = stranger.enroll().await.unwrap_err();
    assert_eq!(refusal.status(), Some(403), "{refusal}");
    assert!(
        refusal
            .to_string()
            .contains("not on the list of devices that may enroll"),
        "{refusal}"
    );
    assert!(!stranger.is_enrolled());
    let decisions = world.admin.decisions().await;
    let denied = decisions.iter().find(|decision| decision["verdict"] == "deny").unwrap();
    assert_eq!(denied["plugin"], "enrollment-gate");
    assert_eq!(denied["reason"], "serial-not-listed");
    assert_eq!(denied["subject"], STRANGER);

    // What the enrollment profile says.
    let enrollment = mac.enrollment_profile().unwrap();
    assert!(matches!(
        enrollment.profile.signature,
        ProfileSignature::Signed { trusted: true, .. }
    ));
    assert!(enrollment.mdm.server_can("com.apple.mdm.bootstraptoken"));
    assert!(enrollment.mdm.server_can("com.apple.mdm.per-user-connections"));
    assert!(enrollment.mdm.check_out_when_removed);
    assert_eq!(enrollment.mdm.access_rights, Some(8191));
    assert_eq!(enrollment.mdm.topic, russet_tests::TOPIC);

    // What the administrator sees of it.
    let devices = world.admin.list("/devices").await;
    assert_eq!(devices.len(), 2, "{devices:?}");
    let shown = world.admin.device(MAC).await;
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["udid"], mac.facts().udid.as_str());
    assert_eq!(shown["os_version"], mac.facts().os_version.as_str());
    assert_eq!(shown["push"]["topic"], russet_tests::TOPIC);

    // A command goes out by push, and the answers come back as JSON.
    for device in [&mac, &phone] {
        world.listen(device);
    }
    let queries = json!({"RequestType": "DeviceInformation", "Queries": ["DeviceName", "OSVersion", "SerialNumber"]});
    let uuid = world.admin.command(&[MAC, PHONE], queries).await;
    let command = world.admin.finished(&uuid).await;
    assert_eq!(command["request_type"], "DeviceInformation");
    for device in [&mac, &phone] {
        let answer = of_device(&command, &device.facts().serial_number);
        assert_eq!(answer["state"], "acknowledged", "{command}");
        let information = &answer["result"]["QueryResponses"];
        assert_eq!(
            information["SerialNumber"],
            device.facts().serial_number.as_str(),
            "{command}"
        );
        assert_eq!(
            information["DeviceName"],
            device.facts().device_name.as_str(),
            "{command}"
        );
    }

    // A profile is made for each device when it is delivered.
    let template = profile(
        "org.example.welcome",
        "{{ vars.greeting }} {{ device.serial_number }} at {{ settings.campus }}",
    );
    let stored = json!({"content": template, "template": "profile-template", "variables": {"greeting": "Hello"}});
    world.admin.put("/profiles/welcome", &stored).await.ok();
    let queued = world
        .admin
        .post("/commands", &json!({"devices": [MAC, PHONE], "profile": "welcome"}))
        .await
        .ok();
    let command = world.admin.finished(queued["command_uuid"].as_str().unwrap()).await;
    assert_eq!(command["request_type"], "InstallProfile");
    for device in [&mac, &phone] {
        let installed = device.profiles();
        let welcome = installed.iter().find(|own| own.identifier == "org.example.welcome");
        let expected = format!("Hello {} at Kew", device.facts().serial_number);
        assert_eq!(
            welcome.unwrap().display_name.as_deref(),
            Some(expected.as_str()),
            "{command}"
        );
    }

    // The bootstrap token: the policy lets its Mac have it, and the administrator that it names.
    let token = mac.bootstrap_token().unwrap();
    assert_eq!(
        mac.get_bootstrap_token().await.unwrap().unwrap().expose(),
        token.expose()
    );
    let released = world
        .admin
        .get(&format!("/devices/{MAC}/escrow/bootstrap-token"))
        .await
        .ok();
    let released = BASE64.decode(secret(&released)).unwrap();
    assert_eq!(released, token.expose());
    let other = world.admin.send(
        world
            .admin
            .request(http::Method::POST, "/v1/tokens")
            .json(&json!({"name": "other"})),
    );
    let other = other.await.ok();
    let other = world.admin.with_token(other["token"].as_str().unwrap());
    let error = other
        .get(&format!("/devices/{MAC}/escrow/bootstrap-token"))
        .await
        .refused(403);
    assert!(
        error["message"].as_str().unwrap().contains("not released to other"),
        "{error}"
    );
    let released = world.admin.decisions().await;
    let released = released.iter().filter(|decision| decision["plugin"] == "escrow-policy");
    assert!(released.clone().any(|decision| decision["verdict"] == "deny"));
    assert!(released.clone().any(|decision| decision["verdict"] == "allow"));

    // Goodbye.
    mac.remove_enrollment().await.unwrap();
    assert_eq!(world.admin.device(MAC).await["state"], "removed");
    let late = json!({"devices": [MAC], "command": {"RequestType": "ProfileList"}});
    let error = world.admin.post("/commands", &late).await.refused(422);
    assert!(
        error["details"][0].as_str().unwrap().contains("not enrolled any more"),
        "{error}"
    );
    assert_eq!(world.admin.device(PHONE).await["state"], "active");
    phone.run_until_idle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mac_in_setup_assistant_is_let_go_on_once_it_is_managed() {
    let world = World::builder().without_gate().start().await;
    let mac = world.mac(MAC).awaiting_configuration().build().unwrap();
    mac.enroll().await.unwrap();
    assert!(mac.is_awaiting_configuration());
    mac.run_until_idle().await.unwrap();
    assert!(!mac.is_awaiting_configuration());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_identity_keeps_queue_and_escrow() {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;
    let before = world.admin.device(MAC).await;
    let uuid = world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;

    mac.renew_identity().await.unwrap();
    mac.authenticate().await.unwrap();
    mac.token_update().await.unwrap();
    let after = world.admin.device(MAC).await;
    assert_ne!(after["certificate_sha256"], before["certificate_sha256"]);
    assert_eq!(after["id"], before["id"]);
    assert!(mac.get_bootstrap_token().await.unwrap().is_some());
    mac.run_until_idle().await.unwrap();
    assert_eq!(
        of_device(&world.admin.finished(&uuid).await, MAC)["state"],
        "acknowledged"
    );
}

pub(crate) fn of_device<'a>(command: &'a Value, serial_number: &str) -> &'a Value {
    let devices = command["devices"].as_array().unwrap();
    let own = devices.iter().find(|device| device["serial_number"] == serial_number);
    own.unwrap_or_else(|| panic!("{serial_number} is not among the devices of {command}"))
}

fn secret(released: &Value) -> &str {
    released["secret"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn declarations_are_answered_well_formed_and_empty() {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;
    let json = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();

    let tokens = mac.declarative("tokens", None).await.unwrap();
    assert!(json(&tokens.body)["SyncTokens"]["DeclarationsToken"].is_string());
    let items = mac.declarative("declaration-items", None).await.unwrap();
    let items = json(&items.body);
    for kind in ["Activations", "Assets", "Configurations", "Management"] {
        assert_eq!(items["Declarations"][kind], json!([]), "{items}");
    }
    let status = mac
        .declarative("status", Some(br#"{"StatusItems": {}, "Errors": []}"#.to_vec()))
        .await
        .unwrap();
    assert!(status.body.is_empty());
    let unknown = mac
        .declarative("declaration/configuration/none", None)
        .await
        .unwrap_err();
    assert_eq!(unknown.status(), Some(404));
    let unread = mac.declarative("status", Some(b"not JSON".to_vec())).await.unwrap();
    assert!(
        unread.body.is_empty(),
        "a report that does not read is taken, or the device would repeat it for ever"
    );
    mac.sync_declarations().await.unwrap();
}
