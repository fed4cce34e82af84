use russet_plugin::escrow::EscrowRequestBuilder;
use russet_plugin::{Person, settings};

use super::*;

fn token() -> EscrowRequestBuilder {
    EscrowRequest::builder(Kind::BootstrapToken).age_seconds(60)
}

fn deposit(settings: &str, request: EscrowRequestBuilder) -> Deposit {
    Policy::deposit(settings::parse(settings).unwrap(), &request.build()).unwrap()
}

fn release(settings: &str, request: EscrowRequestBuilder) -> Release {
    Policy::release(settings::parse(settings).unwrap(), &request.build()).unwrap()
}

#[test]
fn by_default_only_the_device_gets_its_secret_back() {
    assert_eq!(deposit("{}", token()), Deposit::Accept);
    assert_eq!(release("{}", token()), Release::Release);
    assert_eq!(
        release("{}", token().administrator("ada")),
        Release::deny("the bootstrap token is not released to ada")
    );
}

#[test]
fn kinds_have_rules_of_their_own() {
    let settings = r#"{"unlock_token": {"deposit": false, "release_to_device": false}}"#;
    let unlock = || EscrowRequest::builder(Kind::UnlockToken);
    assert_eq!(deposit(settings, token()), Deposit::Accept);
    assert_eq!(
        deposit(settings, unlock()),
        Deposit::reject("the unlock token is not kept here")
    );
    assert_eq!(
        release(settings, unlock()),
        Release::deny("the unlock token is not released to devices")
    );
    assert_eq!(release(settings, token()), Release::Release);
}

#[test]
fn administrators_by_name_any_or_none() {
    let named = r#"{"bootstrap_token": {"release_to_administrators": ["ada"]}}"#;
    assert_eq!(release(named, token().administrator("ada")), Release::Release);
    assert_ne!(release(named, token().administrator("eve")), Release::Release);
    let any = r#"{"bootstrap_token": {"release_to_administrators": "any"}}"#;
    assert_eq!(release(any, token().administrator("eve")), Release::Release);
    let none = r#"{"bootstrap_token": {"release_to_administrators": "none"}}"#;
    assert_ne!(release(none, token().administrator("none")), Release::Release);
}

#[test]
fn old_secrets_stay() {
    let settings = r#"{"bootstrap_token": {"max_age_days": 2}}"#;
    assert_eq!(release(settings, token().age_seconds(2 * 86_400)), Release::Release);
    assert_eq!(
        release(settings, token().age_seconds(2 * 86_400 + 1)),
        Release::deny("the bootstrap token was deposited more than 2 days ago")
    );
    assert_eq!(
        deposit(settings, token().age_seconds(9 * 86_400)),
        Deposit::Accept,
        "a deposit replaces the old one"
    );
}

#[test]
fn the_person_needs_a_group() {
    let settings = r#"{"bootstrap_token": {"required_groups": ["staff"]}}"#;
    let person = |group| Person::builder("1", "ada").group(group).build();
    assert_eq!(release(settings, token().person(person("staff"))), Release::Release);
    assert_ne!(release(settings, token().person(person("guests"))), Release::Release);
    assert_ne!(release(settings, token()), Release::Release);
}

#[test]
fn what_has_no_rules_is_kept_and_stays() {
    let other = || EscrowRequest::builder(Kind::Other("recovery-key".to_owned()));
    assert_eq!(deposit("{}", other()), Deposit::Accept);
    assert_eq!(
        release("{}", other()),
        Release::deny("there are no rules for recovery-key")
    );
    let any = r#"{"bootstrap_token": {"release_to_administrators": "any"}}"#;
    let plugin = Requester::Plugin("backup".to_owned());
    assert_eq!(
        release(any, token().requester(plugin)),
        Release::deny("the bootstrap token is not released to the plugin backup")
    );
}

#[test]
fn mistakes_in_settings_are_named() {
    let error = settings::parse::<Settings>(r#"{"bootstrap_token": {"deposits": true}}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `deposits`"), "{error}");
}

mod administrators {
    use russet_plugin::testing::{Host, Installed};

    use super::*;

    const MINUTE: u64 = 60_000;
    /// 2026-11-23T09:00:00Z, a Monday.
    const MONDAY_AT_NINE: u64 = 1_795_424_400_000;

    fn at(ms: u64) -> Installed {
        Host::new().now_ms(ms).install()
    }

    fn ask(settings: &str, name: &str) -> Release {
        let device = russet_plugin::Device::builder().enrollment_id("UDID-1").build();
        release(settings, token().device(device).administrator(name))
    }

    fn rules(administrators: &str) -> String {
        format!(r#"{{"bootstrap_token": {{"release_to_administrators": "any", "administrators": {administrators}}}}}"#)
    }

    #[test]
    fn two_of_them_have_to_ask() {
        let host = at(0);
        let settings = rules(r#"{"four_eyes_minutes": 30}"#);
        assert!(matches!(ask(&settings, "ada"), Release::Deny(reason) if reason.contains("within 30 minutes")));
        assert_ne!(ask(&settings, "ada"), Release::Release, "asking twice does not help");
        assert_eq!(ask(&settings, "bob"), Release::Release);
        assert_eq!(
            ask(&settings, "ada"),
            Release::Release,
            "who asked first gets it as well"
        );
        host.set_now_ms(31 * MINUTE);
        assert_ne!(ask(&settings, "bob"), Release::Release, "each time anew");
        // A device gets its own secret without anybody.
        assert_eq!(release(&settings, token()), Release::Release);
    }

    #[test]
    fn one_of_them_gets_so_many() {
        let host = at(0);
        let settings = rules(r#"{"rate": {"count": 2, "minutes": 60}}"#);
        assert_eq!(ask(&settings, "ada"), Release::Release);
        assert_eq!(ask(&settings, "ada"), Release::Release);
        assert!(
            matches!(ask(&settings, "ada"), Release::Deny(reason) if reason.contains("2 secrets within 60 minutes"))
        );
        assert_eq!(ask(&settings, "bob"), Release::Release);
        host.set_now_ms(61 * MINUTE);
        assert_eq!(ask(&settings, "ada"), Release::Release);
    }

    #[test]
    fn at_the_hours_that_are_set() {
        let settings = rules(
            r#"{"hours": {"from": "08:00", "to": "18:00", "days": ["monday", "friday"], "utc_offset_minutes": -120}}"#,
        );
        let host = at(MONDAY_AT_NINE);
        assert_ne!(ask(&settings, "ada"), Release::Release, "it is seven there");
        host.set_now_ms(MONDAY_AT_NINE + 60 * MINUTE);
        assert_eq!(ask(&settings, "ada"), Release::Release);
        host.set_now_ms(MONDAY_AT_NINE + 11 * 60 * MINUTE);
        assert_ne!(ask(&settings, "ada"), Release::Release, "18:00 is too late");
        host.set_now_ms(MONDAY_AT_NINE + 25 * 60 * MINUTE);
        assert_ne!(ask(&settings, "ada"), Release::Release, "it is Tuesday");
        let night = rules(r#"{"hours": {"from": "22:00", "to": "06:00"}}"#);
        host.set_now_ms(MONDAY_AT_NINE - 4 * 60 * MINUTE);
        assert_eq!(ask(&night, "ada"), Release::Release, "hours may go over midnight");
        host.set_now_ms(MONDAY_AT_NINE);
        assert_ne!(ask(&night, "ada"), Release::Release);
    }
}

#[test]
fn a_condition_on_the_device_holds_for_everybody() {
    let settings = r#"{"bootstrap_token": {"when": {"attribute": {"lost": ["no"]}}}}"#;
    let device = |lost: &str| russet_plugin::Device::builder().attribute("lost", lost).build();
    assert_eq!(release(settings, token().device(device("no"))), Release::Release);
    assert_ne!(release(settings, token().device(device("yes"))), Release::Release);
}
