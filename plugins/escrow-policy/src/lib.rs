//! Decides who may deposit and who may have an escrowed secret.
//!
//! Without settings every secret is kept, a device gets its own back, and no administrator gets any.

mod administrators;

use administrators::Restrictions;
use russet_plugin::Error;
use russet_plugin::condition::{Condition, Facts};
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
    administrators: Restrictions,
    when: Condition,
    max_age_days: Option<u64>,
    required_groups: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            deposit: true,
            release_to_device: true,
            release_to_administrators: Administrators::All(Everybody::None),
            administrators: Restrictions::default(),
            when: Condition::default(),
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
            .or_else(|| group(rules, kind, request))
            .or_else(|| condition(rules, kind, request));
        if let Some(reason) = reason {
            return Ok(Release::Deny(reason));
        }
        // Last, because asking is noted: nobody seconds, or uses up, what would be refused anyway.
        if let Requester::Administrator(name) = request.requester()
            && let Some(reason) = rules.administrators.refuse(&name, kind, &request.device())?
        {
            return Ok(Release::Deny(reason));
        }
        Ok(Release::Release)
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

fn condition(rules: &Rules, kind: &Kind, request: &EscrowRequest) -> Option<String> {
    let (device, person) = (request.device(), request.person());
    let holds = rules.when.holds(&Facts::of(&device, person.as_ref()));
    (!holds).then(|| format!("{} of this device is not released", name(kind)))
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
mod tests;
