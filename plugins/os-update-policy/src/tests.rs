use russet_plugin::planner::PlanRequest;
use serde_json::json;

use super::*;

fn settings() -> Settings {
    serde_json::from_value(json!({
        "targets": {
            "Mac": {"version": "27.1", "released": "2026-11-20"},
            "iPhone": {"version": "27.2", "build": "24C5048a", "released": "2026-11-30"}
        },
        "rings": [
            {"name": "pilot", "when": {"attribute": {"ring": ["pilot"]}}, "after_days": 1, "at": "18:30"},
            {"name": "kiosk", "when": {"attribute": {"ring": ["kiosk"]}}, "after_days": 30,
             "settings": {"Notifications": false}},
            {"name": "everybody", "after_days": 14}
        ],
        "details_url": "https://it.example.com/updates"
    }))
    .unwrap()
}

fn device(product: &str, version: &str, ring: &str) -> Device {
    Device::builder()
        .product_name(product)
        .os_version(version)
        .attribute("ring", ring)
        .build()
}

fn plan(device: Device) -> Vec<Declaration> {
    Updates::plan(settings(), &PlanRequest::builder().device(device).build()).unwrap()
}

#[test]
fn a_ring_has_its_own_deadline() {
    let of = |ring| plan(device("Mac15,3", "27.0", ring)).remove(0).payload;
    assert_eq!(
        of("pilot"),
        json!({
            "TargetOSVersion": "27.1",
            "TargetLocalDateTime": "2026-11-21T18:30:00",
            "DetailsURL": "https://it.example.com/updates"
        })
    );
    assert_eq!(of("office")["TargetLocalDateTime"], "2026-12-04T12:00:00");
}

#[test]
fn each_family_has_its_own_target() {
    let phone = plan(device("iPhone17,1", "27.1", "office")).remove(0).payload;
    assert_eq!(phone["TargetOSVersion"], "27.2");
    assert_eq!(phone["TargetBuildVersion"], "24C5048a");
    assert!(plan(device("AppleTV14,1", "26.0", "office")).is_empty());
    assert!(plan(device("Toaster1,1", "1.0", "office")).is_empty());
}

#[test]
fn what_is_planned_is_activated_and_what_is_reached_goes_away() {
    let kinds = |plan: &[Declaration]| -> Vec<String> { plan.iter().map(|part| part.identifier.clone()).collect() };
    assert_eq!(
        kinds(&plan(device("Mac15,3", "27.0.9", "kiosk"))),
        [
            "os-update-policy.kiosk.settings",
            "os-update-policy.kiosk.enforcement",
            "os-update-policy.kiosk.activation"
        ]
    );
    assert_eq!(
        kinds(&plan(device("Mac15,3", "27.1", "kiosk"))),
        ["os-update-policy.kiosk.settings", "os-update-policy.kiosk.activation"]
    );
    assert!(plan(device("Mac15,3", "28.0", "office")).is_empty());
    // A version that can not be read is no proof that the device is up to date.
    assert_eq!(plan(device("Mac15,3", "soon", "office")).len(), 2);
}

#[test]
fn the_last_status_report_counts_more_than_an_old_answer() {
    let request = PlanRequest::builder()
        .device(device("Mac15,3", "27.0", "office"))
        .status(VERSION, json!("27.1"))
        .build();
    assert!(Updates::plan(settings(), &request).unwrap().is_empty());
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let once = plan(device("Mac15,3", "27.0", "kiosk"));
    assert_eq!(once, plan(device("Mac15,3", "27.0", "kiosk")));
    let activation = &once[2];
    assert_eq!(activation.declaration_type, "com.apple.activation.simple");
    assert_eq!(
        activation.payload["StandardConfigurations"],
        json!(["os-update-policy.kiosk.settings", "os-update-policy.kiosk.enforcement"])
    );
}
