//! The bundled plugins in the real host: what goes in and what comes out, through every kind of hook.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{artifact, engine, scope};
use russet_hooks::{
    Device, EnrollmentMethod, EnrollmentRequest, EscrowKind, EscrowOperation, EscrowRequest, EscrowVerdict, FaultKind,
    GateStage, GateVerdict, HookSet, Ownership, Person, Requester, SoftwareUpdate, TemplateRequest,
};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{Connections, Grants, Limits, LoadedPlugin, Manifest, PluginSource};
use serde_json::{Value, json};

async fn load(name: &str, settings: Value) -> LoadedPlugin {
    let component = artifact(name);
    let grants = Grants::all_asked(&Manifest::read(&component).unwrap());
    LoadedPlugin::load(
        &engine(),
        &Connections::default(),
        &Ports::memory(),
        PluginSource {
            tenant: "default".into(),
            component: component.into(),
            settings: Some(settings),
            grants,
            limits: Limits::default(),
        },
    )
    .await
    .unwrap()
}

fn anna() -> Person {
    Person {
        id: "uid=anna,dc=example,dc=org".to_owned(),
        user_name: "anna".to_owned(),
        full_name: Some("Anna <Example> & Co".to_owned()),
        email: Some("anna@example.org".to_owned()),
        groups: vec!["admins".to_owned(), "staff".to_owned()],
        attributes: BTreeMap::from([("department".to_owned(), vec!["42".to_owned(), "43".to_owned()])]),
    }
}

/// A device with every field set, each to something else.
fn device() -> Device {
    Device {
        udid: Some("the-udid".to_owned()),
        serial_number: Some("C02XY".to_owned()),
        product_name: Some("Mac15,3".to_owned()),
        model: Some("the-model".to_owned()),
        model_name: Some("the-model-name".to_owned()),
        device_name: Some("the-device-name".to_owned()),
        os_version: Some("26.4".to_owned()),
        build_version: Some("the-build".to_owned()),
        imei: Some("the-imei".to_owned()),
        meid: Some("the-meid".to_owned()),
        language: Some("the-language".to_owned()),
        enrollment_id: Some("the-enrollment".to_owned()),
        attributes: BTreeMap::from([("fleet".to_owned(), "kiosk".to_owned())]),
    }
}

fn gate_request() -> EnrollmentRequest {
    EnrollmentRequest {
        stage: GateStage::Profile,
        method: EnrollmentMethod::Automated,
        ownership: Ownership::Organization,
        device: device(),
        person: None,
        can_request_software_update: true,
        replaces: None,
    }
}

async fn gate(set: &Arc<HookSet>, request: EnrollmentRequest) -> GateVerdict {
    set.check_enrollment(&scope(), request).await.verdict.unwrap()
}

#[tokio::test]
async fn the_gate_gives_every_kind_of_verdict() {
    let plugin = load(
        "enrollment-gate",
        json!({
            "serial_numbers": {"allow": ["C02*"]},
            "ownership": ["organization"],
            "required_groups": ["staff"],
            "minimum_os": {"Mac": {"version": "27.1", "build": "27B5032a"}},
            "attributes": {"fleet": "office"},
        }),
    )
    .await;
    let set = HookSet::builder().add_gate(plugin.gate().unwrap().clone()).build();

    assert_eq!(gate(&set, gate_request()).await, GateVerdict::RequireSignIn);
    let signed_in = EnrollmentRequest {
        person: Some(anna()),
        ..gate_request()
    };
    assert_eq!(
        gate(&set, signed_in.clone()).await,
        GateVerdict::RequireSoftwareUpdate(SoftwareUpdate {
            os_version: "27.1".to_owned(),
            build_version: Some("27B5032a".to_owned()),
            beta: None,
        })
    );
    let mut updated = signed_in.clone();
    updated.device.os_version = Some("27.1".to_owned());
    assert_eq!(
        gate(&set, updated).await,
        GateVerdict::Allow(BTreeMap::from([("fleet".to_owned(), "office".to_owned())]))
    );
    let renewal = EnrollmentRequest {
        stage: GateStage::Renewal,
        ..signed_in.clone()
    };
    assert!(matches!(gate(&set, renewal).await, GateVerdict::Allow(_)));
    let mut unlisted = signed_in.clone();
    unlisted.device.serial_number = Some("F99".to_owned());
    let personal = EnrollmentRequest {
        ownership: Ownership::Personal,
        ..signed_in
    };
    for (request, reason) in [(unlisted, "serial-not-listed"), (personal, "ownership")] {
        let GateVerdict::Deny(denial) = gate(&set, request).await else {
            panic!("not denied");
        };
        assert_eq!(denial.reason, reason);
        assert!(!denial.message.is_empty());
    }
}

#[tokio::test]
async fn the_escrow_policy_tells_requesters_apart() {
    let plugin = load(
        "escrow-policy",
        json!({
            "bootstrap_token": {"release_to_administrators": ["helpdesk"], "max_age_days": 10},
            "unlock_token": {"deposit": false},
        }),
    )
    .await;
    let set = HookSet::builder()
        .add_escrow_policy(plugin.escrow_policy().unwrap().clone())
        .build();
    let request = |operation, kind, requester, days: Option<u64>| EscrowRequest {
        operation,
        kind,
        device: device(),
        person: Some(anna()),
        requester,
        age_seconds: days.map(|days| days * 86_400),
        secret: None,
    };
    let admin = |name: &str| Requester::Administrator(name.to_owned());
    use EscrowKind::{BootstrapToken, UnlockToken};
    use EscrowOperation::{Deposit, Release};
    for (request, allowed) in [
        (request(Deposit, BootstrapToken, Requester::Device, None), true),
        (request(Deposit, UnlockToken, Requester::Device, None), false),
        (request(Release, BootstrapToken, Requester::Device, Some(1)), true),
        (request(Release, BootstrapToken, Requester::Device, Some(11)), false),
        (request(Release, BootstrapToken, admin("helpdesk"), Some(1)), true),
        (request(Release, BootstrapToken, admin("intern"), Some(1)), false),
    ] {
        let verdict = set.decide_escrow(&scope(), request.clone()).await.verdict.unwrap();
        assert_eq!(verdict == EscrowVerdict::Allow, allowed, "{request:?}: {verdict:?}");
    }
}

async fn render(template: &str) -> Result<String, russet_hooks::PluginFault> {
    let plugin = load("profile-template", json!({"organisation": "Example"})).await;
    let set = HookSet::builder()
        .add_template(plugin.template().unwrap().clone())
        .build();
    let request = TemplateRequest {
        name: "wifi".to_owned(),
        template: template.to_owned(),
        variables: json!({"ssid": "Caf\u{e9} <5 GHz>"}).to_string(),
        device: device(),
        person: Some(anna()),
    };
    let outcome = set.render(&scope(), "profile-template", request).await;
    match outcome.verdict {
        Ok(profile) => Ok(String::from_utf8(profile.0).unwrap()),
        Err(undecided) => Err(undecided.fault),
    }
}

#[tokio::test]
async fn a_template_sees_device_person_settings_and_variables() {
    let fields = [
        ("device.udid", "the-udid"),
        ("device.serial_number", "C02XY"),
        ("device.product_name", "Mac15,3"),
        ("device.model", "the-model"),
        ("device.model_name", "the-model-name"),
        ("device.device_name", "the-device-name"),
        ("device.os_version", "26.4"),
        ("device.build_version", "the-build"),
        ("device.imei", "the-imei"),
        ("device.meid", "the-meid"),
        ("device.language", "the-language"),
        ("device.enrollment_id", "the-enrollment"),
        ("device.attributes.fleet", "kiosk"),
        ("person.id", "uid=anna,dc=example,dc=org"),
        ("person.user_name", "anna"),
        ("person.full_name", "Anna &lt;Example&gt; &amp; Co"),
        ("person.email", "anna@example.org"),
        ("person.groups | join(\"+\")", "admins+staff"),
        ("person.attributes.department | join(\"+\")", "42+43"),
        ("settings.organisation", "Example"),
        ("vars.ssid", "Caf\u{e9} &lt;5 GHz&gt;"),
        ("tenant", "default"),
    ];
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, _)| format!("<string>{{{{ {name} }}}}</string>"))
        .collect();
    let profile = render(&format!("<plist><array>{}</array></plist>", lines.join("\n")))
        .await
        .unwrap();
    for (name, value) in fields {
        assert!(
            profile.contains(&format!("<string>{value}</string>")),
            "{name}: {profile}"
        );
    }
}

#[tokio::test]
async fn a_template_that_can_not_be_rendered_names_the_reason() {
    let fault = render("<plist>{{ device.colour }}</plist>").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::CouldNotDecide, "{fault}");
    assert!(fault.detail.contains("device.colour"), "{fault}");

    let fault = render(&"x".repeat((1 << 20) + 1)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::HostCallLimit, "{fault}");
    assert_eq!(fault.blame, russet_hooks::Blame::Configuration);
}
