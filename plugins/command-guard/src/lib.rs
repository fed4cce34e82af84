//! Keeps commands from doing harm: holds them for a second administrator, refuses them, and stops whoever hands in too many.
//!
//! Rules are asked in their order and the first that fits decides; what no rule fits goes on. A command that was held and
//! approved passes rules that hold. A rule that asks for the device is asked when the command is about to go out, because a
//! command may be handed in for many devices.

mod history;
mod settings;

use russet_plugin::command::{CommandPolicy, CommandRequest, Stage, Verdict};
use russet_plugin::condition::Facts;
use russet_plugin::{Error, Requester};
pub use settings::Settings;
use settings::{Action, Rule};

/// The policy.
#[derive(Debug)]
pub struct Guard;

impl CommandPolicy for Guard {
    type Settings = Settings;

    fn check(settings: Settings, request: &CommandRequest<'_>) -> Result<Verdict, Error> {
        for (place, rule) in settings.rules.iter().enumerate() {
            if !fits(rule, request) {
                continue;
            }
            if let Some(rate) = rule.more_often_than
                && (!is_handed_in(request) || !history::exceeded(place, rate)?)
            {
                continue;
            }
            return Ok(match rule.action {
                Action::Allow => Verdict::Allow,
                Action::Hold if request.approved_by().is_some() => continue,
                Action::Hold => Verdict::hold(
                    rule.reason.as_deref().unwrap_or("needs-approval"),
                    rule.message
                        .as_deref()
                        .unwrap_or("This command waits until another administrator approves."),
                ),
                Action::Deny => Verdict::deny(
                    rule.reason.as_deref().unwrap_or("not-allowed"),
                    rule.message.as_deref().unwrap_or("This command is not allowed here."),
                ),
            });
        }
        Ok(Verdict::Allow)
    }
}

/// Whether the command is one more. What goes out is not: one command goes out to many devices, and again after NotNow.
/// Nor is what somebody approved: it was counted when it was handed in, and a second administrator answers for it.
fn is_handed_in(request: &CommandRequest<'_>) -> bool {
    request.stage() == Stage::Enqueue && request.approved_by().is_none()
}

fn fits(rule: &Rule, request: &CommandRequest<'_>) -> bool {
    let command_fits = rule.commands.as_ref().is_none_or(|commands| {
        let request_type = request.request_type();
        commands.iter().any(|pattern| pattern.matches(&request_type))
    });
    if !command_fits
        || rule.destructive.is_some_and(|wanted| request.destructive() != wanted)
        || rule.more_targets_than.is_some_and(|limit| request.targets() <= limit)
    {
        return false;
    }
    let requester_fits = rule.requesters.as_ref().is_none_or(|requesters| {
        let name = name(&request.requester());
        requesters.iter().any(|pattern| pattern.matches(&name))
    });
    if !requester_fits {
        return false;
    }
    let (device, person) = (request.device(), request.person());
    if device.is_none() && !rule.when.is_about_people_only() {
        return false;
    }
    rule.when.holds(&Facts::known(device.as_ref(), person.as_ref()))
}

/// A requester as rules name it.
fn name(requester: &Requester) -> String {
    match requester {
        Requester::Device => "device".to_owned(),
        Requester::Administrator(name) => format!("administrator:{name}"),
        Requester::Plugin(name) => format!("plugin:{name}"),
        Requester::Server => "server".to_owned(),
        // Somebody that this plugin does not know is named by no rule but `*`.
        _ => "unknown".to_owned(),
    }
}

russet_plugin::command_policy!(Guard);

#[cfg(test)]
mod tests;
