//! The examples, built and run: a vendor's own server on the core, the smallest useful plugin, and the demonstration.

use std::sync::Arc;

use russet_simulator::SimulatedDevice;
use russet_simulator::device::ServerTrust;
use russet_tests::{ApiUser, Cli, Config, TestServer, World, plugin_cache, program, workspace};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_server_has_its_own_page_and_gate_beside_the_plugins() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mut config = Config::default();
    config
        .set("server.listen", "127.0.0.1:0")
        .set("plugins.unsigned", "allow")
        .set("enrollment.ask_device_information", false);
    let file = folder.path().join("russet.toml").display().to_string();
    let mut server = TestServer::start_program(folder, program("vendor-server"), vec![file], config)
        .await
        .unwrap();
    let admin = ApiUser::first(&server);
    let apns = russet_simulator::apns::ApnsStandIn::start(Default::default())
        .await
        .unwrap();
    let certificate = apns.issue_push_certificate(russet_tests::TOPIC).unwrap();
    let body = json!({"certificate_pem": certificate.certificate, "private_key_pem": certificate.key});
    admin.put("/push-certificates", &body).await.ok();
    let hello = async || {
        let answer = admin.send(admin.request(http::Method::GET, "/vendor/hello")).await;
        answer.ok()
    };
    assert_eq!(hello().await, json!({"hello": "from the vendor", "devices": 0}));

    let enroll = async |serial: &str| {
        let trust = ServerTrust::from_pem(&server.ca_pem()).unwrap();
        let mac = SimulatedDevice::builder()
            .mac()
            .serial_number(serial)
            .server(server.url())
            .trust(trust)
            .build();
        mac.unwrap().enroll().await
    };
    // The vendor's gate decides; a plugin has its say beside it.
    enroll("C02VENDOR01").await.unwrap();
    assert_eq!(hello().await["devices"], 1);
    let refusal = enroll("RENT0000001").await.unwrap_err();
    assert_eq!(refusal.status(), Some(403), "{refusal}");
    assert!(refusal.to_string().contains("lent out"), "{refusal}");
    admin.install("smallest-gate", json!({"prefix": "C02"})).await;
    assert_eq!(enroll("ZZZ00000001").await.unwrap_err().status(), Some(403));
    enroll("C02VENDOR02").await.unwrap();
    let refusal = enroll("RENT0000001").await.unwrap_err();
    assert_eq!(refusal.status(), Some(403), "{refusal}");
    let decisions = admin.decisions().await;
    let native = decisions
        .iter()
        .find(|decision| decision["plugin"] == "rental-pool")
        .unwrap();
    assert_eq!(native["revision"], "native", "{native}");
    assert_eq!(hello().await["devices"], 2);

    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_plugin_decides_by_what_the_operator_set() {
    let world = World::start().await;
    world.admin.install("smallest-gate", json!({"prefix": "C02"})).await;
    world.enrolled("C02SMALL001").await;
    let refusal = world.mac("F4KSMALL001").build().unwrap().enroll().await.unwrap_err();
    assert!(
        refusal.to_string().contains("does not belong to the company"),
        "{refusal}"
    );
    // Other settings, the same component.
    world
        .admin
        .put("/plugins/smallest-gate", &json!({"settings": {"prefix": "F4K"}}))
        .await
        .ok();
    world.enrolled("F4KSMALL001").await;
    let error = world
        .admin
        .put("/plugins/smallest-gate", &json!({"settings": {}}))
        .await
        .refused(422);
    assert!(error.to_string().contains("prefix"), "{error}");
}

#[test]
fn the_demonstration_tells_the_whole_story() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = workspace().join("target/plugins");
    // The demonstration keeps compiled plugins beside its data: here, where the other tests keep them.
    std::fs::create_dir_all(plugin_cache()).unwrap();
    std::os::unix::fs::symlink(plugin_cache(), folder.path().join("demo.cache")).unwrap();
    let demo = [
        "demo",
        "--once",
        "--port",
        "0",
        "--data",
        "demo",
        "--plugins",
        plugins.to_str().unwrap(),
    ];
    let story = Cli::offline(&demo, folder.path()).ok().out;
    let chapters = [
        "was refused (403, serial-not-listed)",
        "was woken by a push",
        "answered DeviceInformation with Acknowledged",
        "answered InstallProfile with Acknowledged",
        "got its own token back",
        "polls of the others meanwhile, none of them with an error",
    ];
    let mut rest = story.as_str();
    for chapter in chapters {
        let (_, after) = rest
            .split_once(chapter)
            .unwrap_or_else(|| panic!("{chapter:?} is not told here: {story}"));
        rest = after;
    }
}
