//! Declarative management: from sets and planners to what a device gets, and back to what is known of it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use russet_engine::{DeviceAnswer, DeviceDeclarations, EngineError};
use russet_hooks::{FaultKind, PlannedDeclaration};
use russet_protocol::{codec, plist};
use russet_store::SetDeclaration;
use serde_json::{Value, json};

use support::{Device, World, ada};

const PASSCODE: &str = "com.apple.configuration.passcode.settings";
const ACTIVATION: &str = "com.apple.activation.simple";

fn declaration(identifier: &str, declaration_type: &str, payload: Value) -> SetDeclaration {
    serde_json::from_value(json!({ "identifier": identifier, "type": declaration_type, "payload": payload })).unwrap()
}

fn planned(identifier: &str, payload: &Value) -> PlannedDeclaration {
    PlannedDeclaration {
        identifier: identifier.into(),
        declaration_type: PASSCODE.into(),
        payload: payload.to_string(),
    }
}

fn answer(answer: DeviceAnswer) -> Value {
    match answer {
        DeviceAnswer::Json(body) => serde_json::from_slice(&body).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn token(world: &World, device: &Device) -> String {
    let tokens = answer(world.declarative(device, "tokens", None).await);
    tokens["SyncTokens"]["DeclarationsToken"].as_str().unwrap().to_owned()
}

async fn assign(world: &World, device: &Device, set: &str) {
    let tenant = world.engine.tenant("default").await.unwrap();
    let assigned = world
        .engine
        .assign_declaration_set(&tenant, &device.serial, set, &ada(), world.now)
        .await;
    assert!(assigned.unwrap());
}

async fn put(world: &World, name: &str, declarations: Vec<SetDeclaration>) {
    let tenant = world.engine.tenant("default").await.unwrap();
    world
        .engine
        .put_declaration_set(&tenant, name, declarations, world.now)
        .await
        .unwrap();
}

async fn view(world: &World, device: &Device) -> DeviceDeclarations {
    let tenant = world.engine.tenant("default").await.unwrap();
    world.engine.device_declarations(&tenant, &device.serial).await.unwrap()
}

/// The next command, which has to be the announcement of a plan; acknowledged. Its tokens.
async fn announced(world: &World, device: &Device) -> Option<String> {
    let (uuid, command) = world.poll(device, device.idle()).await?;
    assert_eq!(command["RequestType"].as_string(), Some("DeclarativeManagement"));
    let data: Value = serde_json::from_slice(command["Data"].as_data().unwrap()).unwrap();
    assert_eq!(world.poll(device, device.report("Acknowledged", &uuid)).await, None);
    Some(data["SyncTokens"]["DeclarationsToken"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_set_reaches_a_device_and_its_status_comes_back() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    assert_eq!(token(&world, &device).await, "none");
    put(
        &world,
        "base",
        vec![
            declaration("passcode", PASSCODE, json!({"MinimumLength": 6})),
            declaration("on", ACTIVATION, json!({"StandardConfigurations": ["passcode"]})),
        ],
    )
    .await;
    assign(&world, &device, "base").await;
    world.make_plans().await;

    let token = token(&world, &device).await;
    assert_eq!(announced(&world, &device).await.as_deref(), Some(token.as_str()));
    let items = answer(world.declarative(&device, "declaration-items", None).await);
    assert_eq!(items["DeclarationsToken"], token.as_str());
    let list = &items["Declarations"];
    assert_eq!(list["Activations"][0]["Identifier"], "on");
    assert_eq!(list["Assets"], json!([]));
    let server_token = &list["Configurations"][0]["ServerToken"];
    let declaration = answer(
        world
            .declarative(&device, "declaration/configuration/passcode", None)
            .await,
    );
    assert_eq!(
        declaration,
        json!({"Type": PASSCODE, "Identifier": "passcode", "ServerToken": server_token, "Payload": {"MinimumLength": 6}})
    );
    for gone in [
        "declaration/asset/passcode",
        "declaration/configuration/other",
        "nonsense",
    ] {
        assert_eq!(world.declarative(&device, gone, None).await, DeviceAnswer::NotFound);
    }

    let state = json!({"identifier": "passcode", "server-token": server_token, "active": false, "valid": "invalid",
        "reasons": [{"code": "Error.ConfigurationNotSupported"}]});
    let report = json!({"StatusItems": {"management": {"declarations": {"configurations": [state]}}}, "Errors": []});
    world.declarative(&device, "status", Some(report)).await;
    let view = view(&world, &device).await;
    assert_eq!(view.sets[0].assigned_by, "ada");
    let passcode = view
        .declarations
        .iter()
        .find(|declaration| declaration.planned.item.identifier == "passcode")
        .unwrap();
    let state = passcode.state.as_ref().unwrap();
    assert_eq!((state.active, state.valid.as_deref()), (Some(false), Some("invalid")));
    assert_eq!(state.reasons[0]["code"], "Error.ConfigurationNotSupported");
}

#[tokio::test]
async fn planners_and_sets_are_united_and_conflicts_are_shown() {
    let world = World::new().await;
    *world.script.plan.lock().unwrap() = Some(Ok(vec![
        planned("passcode", &json!({"MinimumLength": 9})),
        planned("own", &json!({})),
    ]));
    let device = world.enrolled("C02A").await;
    world.make_plans().await;
    put(
        &world,
        "base",
        vec![declaration("passcode", PASSCODE, json!({"MinimumLength": 6}))],
    )
    .await;
    assign(&world, &device, "base").await;
    world.make_plans().await;
    let view = view(&world, &device).await;
    let had: Vec<_> = view
        .declarations
        .iter()
        .map(|declaration| {
            let item = &declaration.planned.item;
            (item.identifier.as_str(), item.source.as_str())
        })
        .collect();
    assert_eq!(had, [("own", "planner:planner"), ("passcode", "set:base")]);
    let conflict = &view.conflicts[0];
    assert_eq!(
        (conflict.planned.item.source.as_str(), conflict.kept.as_str()),
        ("planner:planner", "set:base")
    );
    let declaration = answer(
        world
            .declarative(&device, "declaration/configuration/passcode", None)
            .await,
    );
    assert_eq!(declaration["Payload"]["MinimumLength"], 6);
}

#[tokio::test]
async fn a_planner_that_fails_keeps_its_last_good_plan() {
    let world = World::new().await;
    *world.script.plan.lock().unwrap() = Some(Ok(vec![planned("own", &json!({}))]));
    let device = world.enrolled("C02A").await;
    world.make_plans().await;
    let before = token(&world, &device).await;
    assert!(announced(&world, &device).await.is_some());

    let unusable = PlannedDeclaration {
        declaration_type: "com.example.nothing".into(),
        ..planned("odd", &json!({}))
    };
    let faults = [
        (Err(FaultKind::Trap), "scripted"),
        (Ok(vec![unusable]), "the type of odd must begin with"),
    ];
    let id = world.key_of(&device).await;
    for (answer, fault) in faults {
        *world.script.plan.lock().unwrap() = Some(answer);
        world.store.plan_request(id, world.now).await.unwrap();
        world.make_plans().await;
        assert_eq!(token(&world, &device).await, before);
        let view = view(&world, &device).await;
        assert!(view.faults["planner"].contains(fault), "{:?}", view.faults);
        assert!(view.planning, "it is asked again");
    }
    assert_eq!(announced(&world, &device).await, None, "nothing changed for the device");

    *world.script.plan.lock().unwrap() = Some(Ok(vec![]));
    world.store.plan_request(id, world.now).await.unwrap();
    world.make_plans().await;
    assert!(view(&world, &device).await.faults.is_empty());
    assert_eq!(announced(&world, &device).await.as_deref(), Some("none"));
}

#[tokio::test]
async fn a_planner_sees_what_the_device_reported_and_is_asked_again_when_it_changes() {
    let world = World::new().await;
    // A server notes that a tenant has planners when it starts, and when plugins change; native hooks are generation 0.
    let tenant = world.store.default_tenant();
    world.store.plan_sweep(tenant, 0, true, world.now).await.unwrap();
    let device = world.enrolled("C02A").await;
    world.make_plans().await;
    let asked = || world.script.plan_asked.lock().unwrap().len();
    assert_eq!(asked(), 1);
    let report =
        |version: &str| json!({"StatusItems": {"device": {"operating-system": {"version": version}}}, "Errors": []});
    world.declarative(&device, "status", Some(report("27.1"))).await;
    world.make_plans().await;
    assert_eq!(asked(), 2);
    let last = world.script.plan_asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.status["device.operating-system.version"], "\"27.1\"");
    assert_eq!(last.device.serial_number.as_deref(), Some("C02A"));
    world.declarative(&device, "status", Some(report("27.1"))).await;
    world.make_plans().await;
    assert_eq!(asked(), 2, "the same again changes nothing");
}

#[tokio::test]
async fn a_report_that_does_not_read_is_kept_and_taken() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let message = device.message(&[
        ("MessageType", "DeclarativeManagement".into()),
        ("Endpoint", "status".into()),
        ("Data", plist::Value::Data(b"{\"StatusItems\": [".to_vec())),
    ]);
    assert!(!codec::encode(&message).is_empty());
    assert_eq!(world.send(&device, message).await.unwrap(), DeviceAnswer::Empty);
    let odd = json!({"StatusItems": {"passcode": {"is-present": true}}, "Errors": "none"});
    assert_eq!(
        world.declarative(&device, "status", Some(odd)).await,
        DeviceAnswer::Empty
    );
    let view = view(&world, &device).await;
    let problems: Vec<_> = view.problems.iter().map(|problem| problem.problem.as_str()).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.contains(&"Errors is not an array"));
    let tenant = world.engine.tenant("default").await.unwrap();
    let status = world.engine.device_status(&tenant, "C02A").await.unwrap();
    assert_eq!(
        (status[0].item.as_str(), &status[0].value),
        ("passcode.is-present", &json!(true))
    );
}

#[tokio::test]
async fn a_device_that_asks_before_its_plan_was_made_gets_it_made() {
    let world = World::new().await;
    *world.script.plan.lock().unwrap() = Some(Ok(vec![planned("own", &json!({}))]));
    let device = world.enrolled("C02A").await;
    assert_ne!(token(&world, &device).await, "none");
    let asked = world.script.plan_asked.lock().unwrap().len();
    token(&world, &device).await;
    assert_eq!(world.script.plan_asked.lock().unwrap().len(), asked, "then it is read");
}

#[tokio::test]
async fn an_older_node_leaves_plans_to_those_that_run_the_newer_plugins() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    world.make_plans().await;
    let asked = world.script.plan_asked.lock().unwrap().len();
    // Another node runs generation 7 already; the native hooks here say 0.
    let tenant = world.store.default_tenant();
    world.store.plan_sweep(tenant, 7, true, world.now).await.unwrap();
    assert_eq!(world.engine.make_due_plans(world.now).await.unwrap(), 1);
    assert_eq!(world.script.plan_asked.lock().unwrap().len(), asked);
    assert!(view(&world, &device).await.planning);
}

#[tokio::test]
async fn a_set_is_checked_whole() {
    let world = World::new().await;
    let tenant = world.engine.tenant("default").await.unwrap();
    let put =
        |name: &'static str, declarations| world.engine.put_declaration_set(&tenant, name, declarations, world.now);
    let wrong = vec![
        declaration("a b", PASSCODE, json!({})),
        declaration("a", "com.apple.unknown.thing", json!({})),
        declaration("b", PASSCODE, json!({})),
        declaration("b", PASSCODE, json!({})),
    ];
    let EngineError::Invalid { details, .. } = put("base", wrong).await.unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(details.len(), 3, "{details:?}");
    assert!(matches!(put("a/b", vec![]).await, Err(EngineError::Invalid { .. })));
    let lonely = put("base", vec![declaration("b", PASSCODE, json!({}))]).await.unwrap();
    assert!(lonely.created);
    assert_eq!(
        lonely.warnings.len(),
        1,
        "a configuration without an activation stays inactive"
    );
}
