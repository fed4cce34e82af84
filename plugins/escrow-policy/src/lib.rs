//! Decides who may deposit and who may have an escrowed secret.
//!
//! Without settings every secret is kept, a device gets its own back, and no administrator gets any.

use russet_plugin::Error;
use russet_plugin::escrow::{Deposit, EscrowPolicy, EscrowRequest, Kind, Release, Requester};
use serde::Deserialize;

/// What the operator sets; `settings.schema.json` describes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    bootstrap_token: Rules,
    unlock_token: Rules,
}

/// The rules for one kind of secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rules {
    deposit: bool,
    release_to_device: bool,
    release_to_administrators: Administrators,
    max_age_days: Option<u64>,
    required_groups: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            deposit: true,
            release_to_device: true,
            release_to_administrators: Administrators::All(Everybody::None),
            max_age_days: None,
            required_groups: Vec::new(),
        }
    }
}

/// Which administrators get a secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Administrators {
    All(Everybody),
    Named(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Everybody {
    None,
    Any,
}

impl Administrators {
    fn include(&self, name: &str) -> bool {
        match self {
            Self::All(everybody) => *everybody == Everybody::Any,
            Self::Named(names) => names.iter().any(|n| n == name),
        }
    }
}

impl Settings {
    /// The rules for a kind; none for a kind that the settings have no rules for.
    fn rules(&self, kind: &Kind) -> Option<&Rules> {
        match kind {
            Kind::BootstrapToken => Some(&self.bootstrap_token),
            Kind::UnlockToken => Some(&self.unlock_token),
            _ => None,
        }
    }
}

/// The policy.
#[derive(Debug)]
pub struct Policy;

impl EscrowPolicy for Policy {
    type Settings = Settings;

    fn deposit(settings: Settings, request: &EscrowRequest) -> Result<Deposit, Error> {
        let kind = request.kind();
        // A secret of a kind without rules is kept: it may never be handed over again, and nobody gets it out.
        if settings.rules(&kind).is_none_or(|rules| rules.deposit) {
            return Ok(Deposit::Accept);
        }
        Ok(Deposit::reject(format!("{} is not kept here", name(&kind))))
    }

    fn release(settings: Settings, request: &EscrowRequest) -> Result<Release, Error> {
        let kind = &request.kind();
        let Some(rules) = settings.rules(kind) else {
            return Ok(Release::deny(format!("there are no rules for {}", name(kind))));
        };
        let reason = requester(rules, kind, &request.requester())
            .or_else(|| age(rules, kind, request))
            .or_else(|| group(rules, kind, request));
        Ok(reason.map_or(Release::Release, Release::Deny))
    }
}

fn requester(rules: &Rules, kind: &Kind, requester: &Requester) -> Option<String> {
    match requester {
        Requester::Device if rules.release_to_device => None,
        Requester::Device => Some(format!("{} is not released to devices", name(kind))),
        Requester::Administrator(admin) if rules.release_to_administrators.include(admin) => None,
        Requester::Administrator(admin) => Some(format!("{} is not released to {admin}", name(kind))),
        Requester::Plugin(plugin) => Some(format!("{} is not released to the plugin {plugin}", name(kind))),
        _ => Some(format!(
            "{} is released to devices and administrators alone",
            name(kind)
        )),
    }
}

fn age(rules: &Rules, kind: &Kind, request: &EscrowRequest) -> Option<String> {
    let days = rules.max_age_days?;
    // Nothing is stored, so there is nothing that could be too old.
    let age = request.age_seconds()?;
    (age > days.saturating_mul(24 * 60 * 60)).then(|| format!("{} was deposited more than {days} days ago", name(kind)))
}

fn group(rules: &Rules, kind: &Kind, request: &EscrowRequest) -> Option<String> {
    if rules.required_groups.is_empty() {
        return None;
    }
    let member = request
        .person()
        .is_some_and(|person| rules.required_groups.iter().any(|group| person.is_member_of(group)));
    (!member).then(|| {
        format!(
            "{} is released only if its device belongs to a person in one of the groups {}",
            name(kind),
            rules.required_groups.join(", ")
        )
    })
}

fn name(kind: &Kind) -> &str {
    match kind {
        Kind::BootstrapToken => "the bootstrap token",
        Kind::UnlockToken => "the unlock token",
        other => other.as_str(),
    }
}

russet_plugin::escrow_policy!(Policy);

#[cfg(test)]
mod tests {
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
}
