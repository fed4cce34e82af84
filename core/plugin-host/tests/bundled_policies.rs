//! The bundled plugins that keep something or ask somebody: in the real host, with stores in memory and a scripted server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::{artifact, engine, scope};
use russet_hooks::{
    CommandFailure, CommandRequest, CommandStage, CommandVerdict, Device, DirectoryRequest, DirectoryVerdict,
    EscrowKind, EscrowOperation, EscrowRequest, EscrowVerdict, Event, HookSet, HookSource, PlanRequest, Requester,
};
use russet_plugin_host::ports::{CallError, HttpPort, HttpRequest, HttpResponse, Ports, Space};
use russet_plugin_host::{ActivePlugin, Connections, Grants, Limits, LoadedPlugin, Manifest, PluginHost, PluginSource};
use serde_json::{Value, json};
use tokio::time::Instant;

const TENANT: &str = "default";

/// A plugin with everything that it asks for, and the connection `there`.
async fn hooks(name: &str, settings: Value, ports: &Ports, server: &Arc<Server>) -> Arc<HookSet> {
    let component = artifact(name);
    let mut grants = Grants::all_asked(&Manifest::read(&component).unwrap());
    let mut connections = Connections::default();
    if grants.capabilities.contains("http.send") {
        grants.connections.http.insert("there".to_owned());
        connections.http.insert_port("there", Arc::clone(server) as _);
    }
    let source = PluginSource {
        tenant: TENANT.into(),
        component: component.into(),
        settings: Some(settings),
        grants,
        limits: Limits::default(),
    };
    let plugin = LoadedPlugin::load(&engine(), &connections, ports, source)
        .await
        .unwrap();
    let host = PluginHost::new();
    host.publish(TENANT, 1, &[ActivePlugin::Loaded(plugin)]);
    host.pin(TENANT)
}

/// Answers everything with one body, and keeps what it was sent.
#[derive(Debug, Default)]
struct Server {
    answer: String,
    asked: Mutex<Vec<HttpRequest>>,
}

#[async_trait]
impl HttpPort for Server {
    async fn send(&self, _: &Space, request: HttpRequest, _: Instant) -> Result<HttpResponse, CallError> {
        self.asked.lock().unwrap().push(request);
        Ok(HttpResponse {
            status: 200,
            headers: Vec::new(),
            body: self.answer.clone().into_bytes(),
        })
    }
}

fn mac() -> Device {
    Device {
        udid: Some("UDID-1".to_owned()),
        enrollment_id: Some("UDID-1".to_owned()),
        product_name: Some("Mac15,3".to_owned()),
        os_version: Some("27.0".to_owned()),
        ..Device::default()
    }
}

fn erase() -> CommandRequest {
    CommandRequest {
        stage: CommandStage::Enqueue,
        uuid: "0B3C9D52-0000-4000-8000-000000000000".to_owned(),
        request_type: "EraseDevice".to_owned(),
        command: r#"{"RequestType":"EraseDevice"}"#.into(),
        destructive: true,
        requester: Requester::Administrator("ada".to_owned()),
        approved_by: None,
        targets: 1,
        device: None,
        person: None,
    }
}

#[tokio::test]
async fn the_guard_holds_an_erase_and_stops_a_mass_erase() {
    let set = hooks("command-guard", json!({}), &Ports::memory(), &Arc::default()).await;
    let ask = async |request| {
        let outcome = set.check_command(&scope(), request, CommandFailure::Open).await;
        outcome.verdict.unwrap()
    };
    for _ in 0..10 {
        assert!(matches!(ask(erase()).await, CommandVerdict::Hold(why) if why.reason == "erase-needs-approval"));
    }
    let approved = CommandRequest {
        approved_by: Some("bob".to_owned()),
        ..erase()
    };
    // An approval is not one more command.
    for _ in 0..10 {
        assert_eq!(ask(approved.clone()).await, CommandVerdict::Allow);
    }
    // The eleventh within the hour: what was handed in is counted in the plugin's store.
    assert!(matches!(ask(erase()).await, CommandVerdict::Deny(why) if why.reason == "too-many-destructive"));
    assert_eq!(
        ask(approved).await,
        CommandVerdict::Allow,
        "what was handed in before still can be approved"
    );
}

#[tokio::test]
async fn a_secret_takes_two_administrators() {
    let settings = json!({"bootstrap_token": {
        "release_to_administrators": "any", "administrators": {"four_eyes_minutes": 30}
    }});
    let set = hooks("escrow-policy", settings, &Ports::memory(), &Arc::default()).await;
    let ask = async |name: &str| {
        let request = EscrowRequest {
            operation: EscrowOperation::Release,
            kind: EscrowKind::BootstrapToken,
            device: mac(),
            person: None,
            requester: Requester::Administrator(name.to_owned()),
            age_seconds: Some(60),
            secret: None,
        };
        set.decide_escrow(&scope(), request).await.verdict.unwrap()
    };
    assert!(matches!(ask("ada").await, EscrowVerdict::Deny(_)));
    assert!(matches!(ask("ada").await, EscrowVerdict::Deny(_)));
    assert_eq!(ask("bob").await, EscrowVerdict::Allow);
}

#[tokio::test]
async fn updates_are_planned_until_the_device_has_them() {
    let settings = json!({
        "targets": {"Mac": {"version": "27.1", "released": "2026-11-20"}},
        "rings": [{"name": "all", "after_days": 14}],
    });
    let set = hooks("os-update-policy", settings, &Ports::memory(), &Arc::default()).await;
    let plan = async |version: &str| {
        let request = PlanRequest {
            device: mac(),
            person: None,
            status: BTreeMap::from([("device.operating-system.version".to_owned(), json!(version).to_string())]),
        };
        set.plan(&scope(), request).await.remove(0).plan.unwrap()
    };
    let planned = plan("27.0").await;
    assert_eq!(planned.len(), 2);
    let payload: Value = serde_json::from_str(&planned[0].payload).unwrap();
    assert_eq!(payload["TargetLocalDateTime"], "2026-12-04T12:00:00");
    assert!(plan("27.1").await.is_empty());
}

#[tokio::test]
async fn a_person_is_found_over_scim() {
    let server = Arc::new(Server {
        answer: json!({"totalResults": 1, "Resources": [
            {"id": "7", "userName": "anna", "displayName": "Staff", "active": true}
        ]})
        .to_string(),
        ..Server::default()
    });
    let set = hooks(
        "directory-scim",
        json!({"connection": "there"}),
        &Ports::memory(),
        &server,
    )
    .await;
    let outcome = set
        .ask_directory(&scope(), DirectoryRequest::Find("anna".to_owned()))
        .await;
    let DirectoryVerdict::Person(person) = outcome.verdict.unwrap() else {
        panic!("nobody");
    };
    assert_eq!((person.id.as_str(), person.groups), ("7", vec!["Staff".to_owned()]));
    assert!(
        server.asked.lock().unwrap()[0]
            .path
            .starts_with("/Users?filter=userName%20eq%20%22anna%22")
    );
}

#[tokio::test]
async fn a_webhook_is_signed_with_the_plugins_secret() {
    let (ports, server) = (Ports::memory(), Arc::new(Server::default()));
    let space = Space {
        tenant: TENANT.into(),
        plugin: "webhook-export".into(),
    };
    ports.secrets.put(&space, "key", b"secret").await.unwrap();
    let settings = json!({"connection": "there", "path": "/hook", "hmac_secret": "key"});
    let set = hooks("webhook-export", settings, &ports, &server).await;
    assert!(set.observes("command.answered") && set.observes("enrollment.checked-out"));
    let event = Event {
        id: 1,
        kind: "enrollment.checked-out".to_owned(),
        time: 0,
        device: Some(mac()),
        person: None,
        detail: "{}".to_owned(),
        attempt: 0,
        depth: 0,
    };
    set.observe(&scope(), "webhook-export", event).await.verdict.unwrap();
    let asked = server.asked.lock().unwrap();
    let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!(body["topic"], "mdm.CheckOut");
    let signature = asked[0].headers.iter().find(|(name, _)| name == "x-hmac-signature");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    let expected = aws_lc_rs::hmac::sign(&key, &asked[0].body);
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &signature.unwrap().1).unwrap();
    assert_eq!(signature, expected.as_ref());
}
