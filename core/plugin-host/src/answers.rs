//! From a plugin's answer to a verdict. What a plugin says is not trusted: it is measured before the server keeps it.

use std::collections::{BTreeMap, BTreeSet};

use russet_hooks::{
    BetaProgram, CommandVerdict, Denial, DirectoryVerdict, EscrowVerdict, Explanation, GateVerdict, Person,
    PlannedDeclaration, RenderedProfile, Secret, SoftwareUpdate,
};

use crate::bindings::exports::russet::plugin::{
    command_policy, declaration_planner, directory, enrollment_gate, escrow_policy,
};
use crate::checks::is_json_object;

/// The longest name, in bytes.
const MAX_NAME: usize = 256;
/// The longest text that a person reads, and the longest value of an attribute, in bytes.
const MAX_TEXT: usize = 4 << 10;
/// The most attributes.
const MAX_ATTRIBUTES: usize = 256;
/// The most groups of a person, and the most values of one attribute.
const MAX_VALUES: usize = 4_096;

/// The largest secret that a policy puts in the place of another, in bytes.
const MAX_SECRET: usize = 64 << 10;
/// The most declarations of a plan.
const MAX_DECLARATIONS: usize = 1_000;

/// Why an answer is not used.
pub(crate) type Bad = String;

pub(crate) fn gate(verdict: enrollment_gate::Verdict) -> Result<GateVerdict, Bad> {
    use enrollment_gate::Verdict;
    Ok(match verdict {
        Verdict::Allow(attributes) => {
            at_most("attributes", attributes.len(), MAX_ATTRIBUTES)?;
            let mut kept = BTreeMap::new();
            for (name, value) in attributes {
                named("the name of an attribute", &name)?;
                text("the value of an attribute", &value)?;
                if kept.contains_key(&name) {
                    return Err(format!("the attribute {name:?} is given twice"));
                }
                kept.insert(name, value);
            }
            GateVerdict::Allow(kept)
        }
        Verdict::RequireSignIn => GateVerdict::RequireSignIn,
        Verdict::RequireSoftwareUpdate(update) => {
            named("the version to update to", &update.os_version)?;
            if let Some(build) = &update.build_version {
                named("the build to update to", build)?;
            }
            let beta = match update.beta {
                None => None,
                Some(beta) => {
                    named("the name of the beta program", &beta.description)?;
                    named("the token of the beta program", &beta.token)?;
                    Some(BetaProgram {
                        description: beta.description,
                        token: beta.token,
                    })
                }
            };
            GateVerdict::RequireSoftwareUpdate(SoftwareUpdate {
                os_version: update.os_version,
                build_version: update.build_version,
                beta,
            })
        }
        Verdict::Deny(denial) => {
            named("the reason of a denial", &denial.reason)?;
            text("the message of a denial", &denial.message)?;
            GateVerdict::Deny(Denial {
                reason: denial.reason,
                message: denial.message,
            })
        }
    })
}

pub(crate) fn sign_in(answer: directory::SignInAnswer) -> Result<DirectoryVerdict, Bad> {
    use directory::SignInAnswer;
    Ok(match answer {
        SignInAnswer::Person(entry) => DirectoryVerdict::Person(person(entry)?),
        SignInAnswer::Unknown => DirectoryVerdict::Unknown,
        SignInAnswer::WrongCredentials => DirectoryVerdict::WrongCredentials,
    })
}

pub(crate) fn found(answer: Option<directory::PersonEntry>) -> Result<DirectoryVerdict, Bad> {
    Ok(match answer {
        Some(entry) => DirectoryVerdict::Person(person(entry)?),
        None => DirectoryVerdict::Unknown,
    })
}

fn person(entry: directory::PersonEntry) -> Result<Person, Bad> {
    text("the identifier of a person", &entry.id)?;
    named("the user name of a person", &entry.user_name)?;
    if entry.id.is_empty() {
        return Err("the identifier of a person is empty".to_owned());
    }
    for optional in [&entry.full_name, &entry.email].into_iter().flatten() {
        text("the name or address of a person", optional)?;
    }
    at_most("groups", entry.groups.len(), MAX_VALUES)?;
    for group in &entry.groups {
        text("the name of a group", group)?;
    }
    at_most("attributes", entry.attributes.len(), MAX_ATTRIBUTES)?;
    let mut attributes = BTreeMap::new();
    for (name, values) in entry.attributes {
        named("the name of an attribute", &name)?;
        at_most("values of one attribute", values.len(), MAX_VALUES)?;
        for value in &values {
            text("the value of an attribute", value)?;
        }
        attributes.insert(name, values);
    }
    let mut groups = entry.groups;
    groups.sort_unstable();
    groups.dedup();
    Ok(Person {
        id: entry.id,
        user_name: entry.user_name,
        full_name: entry.full_name,
        email: entry.email,
        groups,
        attributes,
    })
}

pub(crate) fn deposit(verdict: escrow_policy::DepositVerdict) -> Result<EscrowVerdict, Bad> {
    use escrow_policy::DepositVerdict;
    match verdict {
        DepositVerdict::Accept => Ok(EscrowVerdict::Allow),
        DepositVerdict::AcceptAs(secret) => other_form(secret),
        DepositVerdict::Reject(reason) => refusal(reason),
    }
}

pub(crate) fn release(verdict: escrow_policy::ReleaseVerdict) -> Result<EscrowVerdict, Bad> {
    use escrow_policy::ReleaseVerdict;
    match verdict {
        ReleaseVerdict::Release => Ok(EscrowVerdict::Allow),
        ReleaseVerdict::ReleaseAs(secret) => other_form(secret),
        ReleaseVerdict::Deny(reason) => refusal(reason),
    }
}

pub(crate) fn clear(verdict: escrow_policy::ClearVerdict) -> Result<EscrowVerdict, Bad> {
    use escrow_policy::ClearVerdict;
    match verdict {
        ClearVerdict::Clear => Ok(EscrowVerdict::Allow),
        ClearVerdict::Keep(reason) => refusal(reason),
    }
}

fn other_form(secret: Vec<u8>) -> Result<EscrowVerdict, Bad> {
    let secret = Secret::new(secret);
    let size = secret.expose().len();
    if size == 0 || size > MAX_SECRET {
        return Err(format!("a secret of {size} bytes; 1 to {MAX_SECRET} are allowed"));
    }
    Ok(EscrowVerdict::AllowAs(secret))
}

fn refusal(reason: String) -> Result<EscrowVerdict, Bad> {
    text("the reason of a refusal", &reason)?;
    Ok(EscrowVerdict::Deny(reason))
}

pub(crate) fn command(verdict: command_policy::Verdict, limit: usize) -> Result<CommandVerdict, Bad> {
    use command_policy::Verdict;
    Ok(match verdict {
        Verdict::Allow => CommandVerdict::Allow,
        Verdict::Replace(command) => {
            if command.len() > limit {
                return Err(format!(
                    "a command of {} bytes; at most {limit} are allowed",
                    command.len()
                ));
            }
            if !is_json_object(&command) {
                return Err("the command in its place is not a JSON object".to_owned());
            }
            CommandVerdict::Replace(command)
        }
        Verdict::Hold(why) => CommandVerdict::Hold(explanation(why)?),
        Verdict::Deny(why) => CommandVerdict::Deny(explanation(why)?),
    })
}

fn explanation(why: command_policy::Explanation) -> Result<Explanation, Bad> {
    named("the reason of a refusal", &why.reason)?;
    text("the message of a refusal", &why.message)?;
    Ok(Explanation {
        reason: why.reason,
        message: why.message,
    })
}

pub(crate) fn plan(
    declarations: Vec<declaration_planner::Declaration>,
    limit: usize,
) -> Result<Vec<PlannedDeclaration>, Bad> {
    at_most("declarations", declarations.len(), MAX_DECLARATIONS)?;
    let mut identifiers = BTreeSet::new();
    let mut size = 0;
    for declaration in &declarations {
        named("the identifier of a declaration", &declaration.identifier)?;
        named("the type of a declaration", &declaration.declaration_type)?;
        if !identifiers.insert(declaration.identifier.as_str()) {
            return Err(format!("the declaration {:?} is given twice", declaration.identifier));
        }
        size += declaration.payload.len();
        if size > limit {
            return Err(format!("declarations of more than {limit} bytes in all"));
        }
        if !is_json_object(&declaration.payload) {
            return Err(format!(
                "the payload of the declaration {:?} is not a JSON object",
                declaration.identifier
            ));
        }
    }
    Ok(declarations
        .into_iter()
        .map(|declaration| PlannedDeclaration {
            identifier: declaration.identifier,
            declaration_type: declaration.declaration_type,
            payload: declaration.payload,
        })
        .collect())
}

pub(crate) fn rendered(profile: Vec<u8>, limit: usize) -> Result<RenderedProfile, Bad> {
    if profile.len() > limit {
        return Err(format!(
            "a profile of {} bytes; at most {limit} are allowed",
            profile.len()
        ));
    }
    if profile.is_empty() {
        return Err("an empty profile".to_owned());
    }
    Ok(RenderedProfile(profile))
}

fn at_most(what: &str, found: usize, limit: usize) -> Result<(), Bad> {
    if found > limit {
        return Err(format!("{found} {what}; at most {limit} are allowed"));
    }
    Ok(())
}

fn text(what: &str, value: &str) -> Result<(), Bad> {
    if value.len() > MAX_TEXT {
        return Err(format!("{what} is longer than {MAX_TEXT} bytes"));
    }
    Ok(())
}

fn named(what: &str, value: &str) -> Result<(), Bad> {
    if value.is_empty() || value.len() > MAX_NAME || value.chars().any(char::is_control) {
        return Err(format!(
            "{what} is empty, longer than {MAX_NAME} bytes, or has control characters"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(attributes: &[(&str, &str)]) -> Result<GateVerdict, Bad> {
        gate(enrollment_gate::Verdict::Allow(
            attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        ))
    }

    #[test]
    fn attributes_are_named_once_and_measured() {
        assert_eq!(
            allow(&[("fleet", "kiosk")]).unwrap(),
            GateVerdict::Allow(BTreeMap::from([("fleet".to_owned(), "kiosk".to_owned())]))
        );
        assert!(allow(&[("", "x")]).is_err());
        assert!(allow(&[("a", "1"), ("a", "2")]).is_err());
        assert!(allow(&[("a\nb", "1")]).is_err());
        assert!(allow(&[("a", &"x".repeat(MAX_TEXT + 1))]).is_err());
        let names: Vec<String> = (0..=MAX_ATTRIBUTES).map(|number| number.to_string()).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert!(allow(&many).is_err());
        assert!(allow(&many[1..]).is_ok());
    }

    #[test]
    fn groups_come_sorted_and_once() {
        let entry = directory::PersonEntry {
            id: "uid=anna,dc=example,dc=org".to_owned(),
            user_name: "anna".to_owned(),
            full_name: None,
            email: None,
            groups: vec!["staff".to_owned(), "admins".to_owned(), "staff".to_owned()],
            attributes: Vec::new(),
        };
        let DirectoryVerdict::Person(person) = found(Some(entry.clone())).unwrap() else {
            panic!("no person");
        };
        assert_eq!(person.groups, ["admins", "staff"]);
        assert!(
            found(Some(directory::PersonEntry {
                user_name: String::new(),
                ..entry
            }))
            .is_err()
        );
    }

    #[test]
    fn a_secret_in_another_form_has_a_size_and_is_not_shown() {
        let verdict = deposit(escrow_policy::DepositVerdict::AcceptAs(b"wrapped".to_vec())).unwrap();
        assert_eq!(verdict, EscrowVerdict::AllowAs(Secret::new(*b"wrapped")));
        assert!(!format!("{verdict:?}").contains("wrapped"));
        assert!(release(escrow_policy::ReleaseVerdict::ReleaseAs(Vec::new())).is_err());
        assert!(release(escrow_policy::ReleaseVerdict::ReleaseAs(vec![0; MAX_SECRET + 1])).is_err());
        let kept = clear(escrow_policy::ClearVerdict::Keep("not yet".to_owned())).unwrap();
        assert_eq!(kept, EscrowVerdict::Deny("not yet".to_owned()));
    }

    #[test]
    fn a_command_in_the_place_of_another_is_an_object_of_a_size() {
        let replace = |text: &str| command(command_policy::Verdict::Replace(text.to_owned()), 64);
        assert!(replace(r#"{"RequestType":"DeviceLock"}"#).is_ok());
        assert!(replace("[]").is_err());
        assert!(replace("{").is_err());
        assert!(replace(&format!("{{\"a\":\"{}\"}}", "x".repeat(64))).is_err());
        let nameless = command_policy::Explanation {
            reason: String::new(),
            message: "no".to_owned(),
        };
        assert!(command(command_policy::Verdict::Hold(nameless), 64).is_err());
    }

    #[test]
    fn a_plan_is_a_set_of_objects() {
        let declaration = |identifier: &str, payload: &str| declaration_planner::Declaration {
            identifier: identifier.to_owned(),
            declaration_type: "com.apple.configuration.passcode.settings".to_owned(),
            payload: payload.to_owned(),
        };
        assert_eq!(
            plan(vec![declaration("a", "{}"), declaration("b", "{}")], 64)
                .unwrap()
                .len(),
            2
        );
        assert!(plan(vec![declaration("a", "{}"), declaration("a", "{}")], 64).is_err());
        assert!(plan(vec![declaration("", "{}")], 64).is_err());
        assert!(plan(vec![declaration("a", "3")], 64).is_err());
        assert!(plan(vec![declaration("a", "{}"), declaration("b", "{}")], 3).is_err());
        let many = (0..=MAX_DECLARATIONS)
            .map(|n| declaration(&n.to_string(), "{}"))
            .collect();
        assert!(plan(many, 1 << 20).is_err());
    }

    #[test]
    fn a_profile_has_a_size() {
        assert!(rendered(vec![b'x'; 10], 10).is_ok());
        assert!(rendered(vec![b'x'; 11], 10).is_err());
        assert!(rendered(Vec::new(), 10).is_err());
    }
}
