//! Decides which commands go out: those that the operator named wait for a second administrator.

use russet_plugin::command::{CommandPolicy, CommandRequest, Verdict};
use russet_plugin::{Error, log};

/// The policy.
#[derive(Debug)]
pub struct Guard;

/// What the operator sets; `settings.schema.json` says the same to the server.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    /// The request types, such as `EraseDevice`, that need a second administrator.
    pub hold: Vec<String>,
}

impl CommandPolicy for Guard {
    type Settings = Settings;

    fn check(settings: Settings, request: &CommandRequest) -> Result<Verdict, Error> {
        let command = request.request_type();
        if !settings.hold.contains(&command) || request.approved_by().is_some() {
            return Ok(Verdict::Allow);
        }
        log::info(format_args!("{command} waits for a second administrator"));
        Ok(Verdict::hold(
            "needs-approval",
            format!("{command} needs the approval of a second administrator."),
        ))
    }
}

russet_plugin::command_policy!(Guard);

#[cfg(test)]
mod tests {
    use russet_plugin::command::CommandRequestBuilder;

    use super::*;

    fn check(request: CommandRequestBuilder) -> Verdict {
        let settings = Settings {
            hold: vec!["EraseDevice".to_owned()],
        };
        Guard::check(settings, &request.build()).unwrap()
    }

    #[test]
    fn named_commands_wait() {
        let erase = CommandRequest::builder("EraseDevice").destructive(true);
        assert!(matches!(check(erase), Verdict::Hold { .. }));
        assert_eq!(
            check(CommandRequest::builder("DeviceInformation")),
            Verdict::Allow
        );
    }

    #[test]
    fn approved_commands_go_out() {
        let approved = CommandRequest::builder("EraseDevice").approved_by("eve");
        assert_eq!(check(approved), Verdict::Allow);
    }
}
