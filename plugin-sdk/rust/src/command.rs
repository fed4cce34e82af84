//! `command-policy`: which commands go out.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::command_policy::exports::russet::plugin::command_policy as wire;
use crate::bindings::russet::plugin::context as host;
use crate::input::{input, open_list};
pub use crate::requester::Requester;
use crate::{Device, Error, Person};

/// Decides which commands go out. Asked when a command is handed in, before it is stored, and again for each device when
/// it is about to be sent. Several policies are a chain: each sees what the one before made of the command.
pub trait CommandPolicy {
    /// The plugin's settings; `()` if it has none.
    type Settings: DeserializeOwned + 'static;

    /// Decides.
    ///
    /// # Errors
    ///
    /// An error means that the policy could not decide. A destructive command is refused when it is handed in and waits
    /// when it is about to be sent; for others the operator's setting `plugins.command_policy_failure` decides.
    fn check(settings: Self::Settings, request: &CommandRequest<'_>) -> Result<Verdict, Error>;
}

open_list! {
    /// When a policy is asked.
    Stage {
        /// The command was handed in and is not stored yet. Asked once, for however many devices it is.
        Enqueue = "enqueue",
        /// The command is about to go to one device.
        Send = "send",
    }
}

/// The decision of a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Goes on as it is.
    Allow,
    /// Goes on as this: an object with Apple's key names. The `RequestType` must stay the same, and it must be valid.
    Replace(Value),
    /// Waits until another administrator than the one who handed it in approves.
    Hold {
        /// A short, stable name for reports, such as `erase-needs-approval`.
        reason: String,
        /// What the administrator reads.
        message: String,
    },
    /// Does not go out. A command that was stored already is cancelled for the device.
    Deny {
        /// A short, stable name for reports, such as `no-erase`.
        reason: String,
        /// What the administrator reads.
        message: String,
    },
}

impl Verdict {
    /// Waits for another administrator: a short, stable name for reports, and what the administrator reads.
    pub fn hold(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Hold {
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// Does not go out: a short, stable name for reports, and what the administrator reads.
    pub fn deny(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Deny {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

input! {
    /// What a policy decides about.
    CommandRequest, CommandRequestBuilder, CommandRequest;
    /// When it is asked.
    stage: value<Stage>;
    /// The name of the tenant.
    tenant: text;
    /// The command's UUID.
    uuid: text;
    /// Its `RequestType`, such as `EraseDevice`.
    request_type: text;
    /// The command as a JSON object with Apple's key names; data is in base64, dates are RFC 3339.
    command: text;
    /// Whether the server takes it for destructive: it erases, locks, clears a passcode, or takes the management away.
    destructive: value<bool>;
    /// Who handed it in.
    requester: value<Requester>;
    /// Who approved it after it was held, by the name of the API token.
    approved_by: maybe_text;
    /// How many devices it is for.
    targets: value<u32>;
    /// The device, if it is for one.
    device: maybe<Device>;
    /// The person behind the enrollment, if it is for one device and the person is known.
    person: maybe<Person>;
}

impl CommandRequest<'_> {
    /// A request in memory, for tests: at first a harmless command without keys, handed in by an administrator named
    /// `admin` for one unknown device of the tenant `default`.
    pub fn builder(request_type: impl Into<String>) -> CommandRequestBuilder {
        let request_type = request_type.into();
        CommandRequestBuilder(Memory {
            stage: Stage::Enqueue,
            tenant: "default".to_owned(),
            uuid: "00000000-0000-4000-8000-000000000000".to_owned(),
            command: serde_json::json!({"RequestType": request_type}).to_string(),
            request_type,
            destructive: false,
            requester: Requester::Administrator("admin".to_owned()),
            approved_by: None,
            targets: 1,
            device: None,
            person: None,
        })
    }

    /// The command, parsed.
    ///
    /// # Errors
    ///
    /// If it does not fit the type.
    pub fn command_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_str(&self.command())?)
    }
}

impl From<Verdict> for wire::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Replace(command) => Self::Replace(command.to_string()),
            Verdict::Hold { reason, message } => Self::Hold(wire::Explanation { reason, message }),
            Verdict::Deny { reason, message } => Self::Deny(wire::Explanation { reason, message }),
        }
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __check<P: CommandPolicy>(request: &host::CommandRequest) -> Result<wire::Verdict, String> {
    crate::glue::call(|settings| P::check(settings, &CommandRequest(Source::Host(request))).map(Into::into))
}

/// Exports a type as the plugin's command policy.
///
/// The type implements [`command::CommandPolicy`](crate::command::CommandPolicy).
#[macro_export]
macro_rules! command_policy {
    ($policy:ty) => {
        $crate::__export!(command_policy, $crate::command::CommandPolicy, $policy, {
            fn check(
                request: &$crate::bindings::russet::plugin::context::CommandRequest,
            ) -> Result<$crate::bindings::command_policy::exports::russet::plugin::command_policy::Verdict, String>
            {
                $crate::command::__check::<$policy>(request)
            }
        });
    };
}
