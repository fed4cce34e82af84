//! What the gate decides, as an operator would tell it.

use russet_plugin::gate::{EnrollmentRequestBuilder, Ownership};
use russet_plugin::{DeviceBuilder, Person, settings};

use super::*;

fn check(settings: &str, request: EnrollmentRequestBuilder) -> Verdict {
    Gate::check(settings::parse(settings).unwrap(), &request.build()).unwrap()
}

fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Deny { reason, .. } => reason,
        other => panic!("not denied: {other:?}"),
    }
}

fn mac() -> DeviceBuilder {
    Device::builder()
        .serial_number("C02XK1")
        .product_name("Mac15,3")
        .os_version("26.4")
}

fn automated(device: DeviceBuilder) -> EnrollmentRequestBuilder {
    EnrollmentRequest::builder()
        .method(Method::Automated)
        .ownership(Ownership::Organization)
        .can_request_software_update(true)
        .device(device.build())
}

fn ada() -> Person {
    Person::builder("uid=ada,dc=example", "ada").group("staff").build()
}

#[test]
fn without_settings_everything_may_enroll() {
    assert_eq!(check("{}", automated(mac())), Verdict::allow());
    assert_eq!(check("{}", EnrollmentRequest::builder()), Verdict::allow());
}

#[test]
fn attributes_are_kept_for_what_is_let_in() {
    assert_eq!(
        check(r#"{"attributes": {"site": "hq"}}"#, automated(mac())),
        Verdict::allow_with([("site", "hq")])
    );
}

#[test]
fn only_listed_serial_numbers_enroll() {
    let settings = r#"{"serial_numbers": {"allow": ["F4K*", "C02XK1"]}}"#;
    assert_eq!(check(settings, automated(mac())), Verdict::allow());
    assert_eq!(
        check(settings, automated(mac().serial_number("F4K9"))),
        Verdict::allow()
    );
    assert_eq!(
        reason(&check(settings, automated(mac().serial_number("X1")))),
        "serial-not-listed"
    );
    assert_eq!(
        reason(&check(settings, automated(Device::builder()))),
        "serial-not-listed"
    );
}

#[test]
fn a_denied_serial_number_is_denied_even_if_it_is_allowed() {
    let settings = r#"{"serial_numbers": {"allow": ["C02*"], "deny": ["C02XK1"]}}"#;
    assert_eq!(reason(&check(settings, automated(mac()))), "serial-denied");
    assert_eq!(
        check(settings, automated(mac().serial_number("C02XK2"))),
        Verdict::allow()
    );
}

#[test]
fn a_deny_list_alone_lets_the_unknown_in() {
    let settings = r#"{"serial_numbers": {"deny": ["C02XK1"]}}"#;
    let unknown = EnrollmentRequest::builder().stage(Stage::Authenticate);
    assert_eq!(check(settings, unknown), Verdict::allow());
}

#[test]
fn a_profile_by_hand_waits_for_authenticate() {
    let settings = r#"{"serial_numbers": {"allow": ["C02XK1"]}}"#;
    let by_hand = |stage, device: DeviceBuilder| EnrollmentRequest::builder().stage(stage).device(device.build());
    assert_eq!(
        check(settings, by_hand(Stage::Profile, Device::builder())),
        Verdict::allow()
    );
    assert_eq!(check(settings, by_hand(Stage::Authenticate, mac())), Verdict::allow());
    assert_eq!(
        reason(&check(
            settings,
            by_hand(Stage::Authenticate, mac().serial_number("X1"))
        )),
        "serial-not-listed"
    );
    assert_eq!(
        reason(&check(settings, by_hand(Stage::Authenticate, Device::builder()))),
        "serial-not-listed"
    );
}

#[test]
fn ownership_is_checked_first() {
    let settings = r#"{"ownership": ["organization"], "serial_numbers": {"allow": ["X"]}}"#;
    assert_eq!(
        reason(&check(settings, automated(mac()).ownership(Ownership::Unknown))),
        "ownership"
    );
    assert_eq!(reason(&check(settings, automated(mac()))), "serial-not-listed");
}

#[test]
fn sign_in_is_asked_for_until_somebody_signed_in() {
    let settings = r#"{"require_sign_in": true}"#;
    assert_eq!(check(settings, automated(mac())), Verdict::RequireSignIn);
    assert_eq!(check(settings, automated(mac()).person(ada())), Verdict::allow());
    assert_eq!(
        check(settings, automated(mac()).stage(Stage::Renewal)),
        Verdict::allow()
    );
}

#[test]
fn one_of_the_groups_is_enough() {
    let settings = r#"{"required_groups": ["admins", "Staff"]}"#;
    assert_eq!(check(settings, automated(mac())), Verdict::RequireSignIn);
    assert_eq!(check(settings, automated(mac()).person(ada())), Verdict::allow());
    let settings = r#"{"required_groups": ["admins"]}"#;
    assert_eq!(reason(&check(settings, automated(mac()).person(ada()))), "group");
    assert_eq!(
        reason(&check(settings, automated(mac()).person(ada()).stage(Stage::Renewal))),
        "group"
    );
}

#[test]
fn an_old_system_has_to_update() {
    let settings = r#"{"minimum_os": {"Mac": "26.10", "iPhone": {"version": "27.1", "build": "24B83"}}}"#;
    assert_eq!(check(settings, automated(mac())), Verdict::require_os("26.10"));
    assert_eq!(check(settings, automated(mac().os_version("26.10"))), Verdict::allow());
    assert_eq!(check(settings, automated(mac().os_version("27"))), Verdict::allow());
    assert_eq!(
        check(settings, automated(mac().product_name("iPhone17,1"))),
        Verdict::RequireSoftwareUpdate(SoftwareUpdate {
            os_version: "27.1".to_owned(),
            build_version: Some("24B83".to_owned()),
            beta: None,
        })
    );
    let ipad = Device::builder().product_name("iPad16,3").os_version("1.0");
    assert_eq!(check(settings, automated(ipad)), Verdict::allow());
}

#[test]
fn an_unreadable_version_counts_as_old_and_a_renewal_is_not_asked() {
    let settings = r#"{"minimum_os": {"Mac": "26.10"}}"#;
    assert_eq!(
        check(settings, automated(mac().os_version("?"))),
        Verdict::require_os("26.10")
    );
    assert_eq!(
        check(settings, automated(mac()).stage(Stage::Renewal)),
        Verdict::allow()
    );
}

#[test]
fn who_may_not_enroll_is_not_sent_to_update() {
    let settings = r#"{"minimum_os": {"Mac": "27"}, "serial_numbers": {"allow": ["X"]}}"#;
    assert_eq!(reason(&check(settings, automated(mac()))), "serial-not-listed");
}

#[test]
fn messages_can_be_replaced() {
    let settings = r#"{"serial_numbers": {"deny": ["C02*"]}, "messages": {"serial-denied": "Call 4711."}}"#;
    assert_eq!(
        check(settings, automated(mac())),
        Verdict::deny("serial-denied", "Call 4711.")
    );
}

#[test]
fn mistakes_in_settings_are_named() {
    for (settings, expected) in [
        (r#"{"serials": []}"#, "unknown field `serials`"),
        (r#"{"ownership": ["mine"]}"#, "`ownership[0]`: unknown variant `mine`"),
        (r#"{"minimum_os": {"Toaster": "1"}}"#, "unknown variant `Toaster`"),
    ] {
        let error = settings::parse::<Settings>(settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

mod rules {
    use super::*;

    fn first_fits() -> &'static str {
        r#"{
            "attributes": {"site": "hq"},
            "rules": [
                {"replaces": true, "decision": "deny", "reason": "enrolled-already", "message": "Ask the help desk."},
                {"when": {"group": ["board"]}, "decision": "allow", "attributes": {"tier": "gold"}},
                {"stages": ["authenticate"], "when": {"family": ["iPad"], "os_below": "27"},
                 "decision": "require-update", "os": {"version": "27.1", "build": "24B91"}},
                {"ownership": ["personal"], "decision": "require-sign-in"},
                {"methods": ["manual"], "when": {"any": [{"serial": ["X*"]}, {"attribute": {"lost": ["yes"]}}]},
                 "decision": "deny", "reason": "lost", "message": "Bring it back."}
            ],
            "serial_numbers": {"deny": ["C02XK1"]}
        }"#
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let settings = first_fits();
        let board = Person::builder("uid=bo", "bo").group("Board").build();
        assert_eq!(
            check(settings, automated(mac()).person(board)),
            Verdict::allow_with([("site", "hq"), ("tier", "gold")]),
            "even a serial number that the simple settings deny"
        );
        let again = automated(mac()).replaces("UDID-1");
        assert_eq!(reason(&check(settings, again)), "enrolled-already");
        let tablet = |os: &str| automated(Device::builder().product_name("iPad16,3").os_version(os));
        assert!(matches!(
            check(settings, tablet("26.9").stage(Stage::Authenticate)),
            Verdict::RequireSoftwareUpdate(update) if update.build_version.as_deref() == Some("24B91")
        ));
        assert_eq!(
            check(settings, tablet("26.9").stage(Stage::Profile)),
            Verdict::allow_with([("site", "hq")])
        );
        let lost = EnrollmentRequest::builder()
            .stage(Stage::Authenticate)
            .device(mac().attribute("lost", "yes").build());
        assert_eq!(reason(&check(settings, lost)), "lost");
    }

    #[test]
    fn what_no_rule_fits_is_asked_by_the_simple_settings() {
        assert_eq!(reason(&check(first_fits(), automated(mac()))), "serial-denied");
    }

    #[test]
    fn a_sign_in_is_asked_for_once() {
        let own = || automated(mac().serial_number("C02Z")).ownership(Ownership::Personal);
        assert_eq!(check(first_fits(), own()), Verdict::RequireSignIn);
        assert_eq!(
            check(first_fits(), own().person(ada())),
            Verdict::allow_with([("site", "hq")])
        );
    }

    #[test]
    fn slips_in_rules_are_named() {
        for (wrong, named) in [
            (r#"{"rules": [{"decision": "deny", "reason": "x"}]}"#, "message"),
            (r#"{"rules": [{"decision": "maybe"}]}"#, "maybe"),
            (
                r#"{"rules": [{"when": {"serials": ["X"]}, "decision": "allow"}]}"#,
                "serials",
            ),
        ] {
            let error = settings::parse::<Settings>(wrong).unwrap_err().to_string();
            assert!(error.contains(named), "{wrong}: {error}");
        }
    }
}
