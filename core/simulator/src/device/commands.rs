//! Carrying commands out: what changes in the device, and the answer that a real one would give.
//!
//! Nothing here talks to the server. A command that does (a renewal by profile) is finished by the session.

mod information;
mod security;

use russet_pki::{Certificate, TrustAnchors};
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{ErrorChainItem, SecretString};

use super::answer::{Answer, ReceivedCommand, chain_item};
use super::builder::Settings;
use super::profile::{EnrollmentProfile, InstalledProfile, ProfileSignature};
use super::state::{After, DeviceState, Lock};

/// The domain of most errors of a device's management client.
const MDM_DOMAIN: &str = "MCMDMErrorDomain";

/// Commands that a user's channel does not take.
const DEVICE_ONLY: [&str; 7] = [
    "ClearPasscode",
    "DeviceConfigured",
    "DeviceLock",
    "EraseDevice",
    "RestartDevice",
    "SecurityInfo",
    "ShutDownDevice",
];

/// What carrying a command out led to.
pub(crate) enum Outcome {
    /// The answer is ready.
    Done(Answer, After),
    /// The profile renews the enrollment: get a new identity, check in again, then answer.
    Renew(Box<EnrollmentProfile>),
}

/// Who carries a command out.
pub(crate) struct Executor<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) state: &'a mut DeviceState,
    pub(crate) push_token: &'a [u8],
    /// Whether this is the channel of a user.
    pub(crate) user: bool,
}

impl Executor<'_> {
    /// Carries a command out.
    pub(crate) fn run(&mut self, command: &ReceivedCommand) -> Outcome {
        let uuid = &command.uuid;
        if command.request_type().is_empty() {
            let missing = chain_item(12013, MDM_DOMAIN, "The command has no RequestType.");
            return Outcome::Done(Answer::format_error(uuid, vec![missing]), After::Continue);
        }
        if self.user && DEVICE_ONLY.contains(&command.request_type()) {
            let text = format!("“{}” is not supported on the user channel.", command.request_type());
            return Outcome::Done(
                Answer::error(uuid, vec![chain_item(12021, MDM_DOMAIN, &text)]),
                After::Continue,
            );
        }
        let result = match command.request_type() {
            "InstallProfile" => match self.install_profile(command) {
                Ok(Some(renewal)) => return Outcome::Renew(Box::new(renewal)),
                Ok(None) => Ok((Dictionary::new(), After::Continue)),
                Err(error) => Err(error),
            },
            request_type => self.result(request_type, command),
        };
        match result {
            Ok((result, after)) => Outcome::Done(Answer::acknowledged(uuid, result), after),
            Err(error) => Outcome::Done(Answer::error(uuid, vec![*error]), After::Continue),
        }
    }

    fn result(
        &mut self,
        request_type: &str,
        command: &ReceivedCommand,
    ) -> Result<(Dictionary, After), Box<ErrorChainItem>> {
        let done = |result| Ok((result, After::Continue));
        match request_type {
            "DeviceInformation" => done(self.device_information(command)),
            "SecurityInfo" => done(self.security_info()),
            "ProfileList" => done(self.profile_list(command)),
            "CertificateList" => done(self.certificate_list()),
            "ProvisioningProfileList" => done(list("ProvisioningProfileList")),
            "InstalledApplicationList" => done(list("InstalledApplicationList")),
            "ManagedApplicationList" => done(Dictionary::from_iter([(
                "ManagedApplicationList",
                Value::Dictionary(Dictionary::new()),
            )])),
            "UserList" => done(list("Users")),
            "Restrictions" => done(Dictionary::from_iter([(
                "GlobalRestrictions",
                Value::Dictionary(Dictionary::new()),
            )])),
            "Settings" => done(self.apply_settings(command)),
            "RemoveProfile" => self.remove_profile(command).map(|after| (Dictionary::new(), after)),
            "DeviceLock" => self.device_lock(command).map(|result| (result, After::Continue)),
            "ClearPasscode" => self
                .clear_passcode(command)
                .map(|()| (Dictionary::new(), After::Continue)),
            "EraseDevice" => self.erase_device(command).map(|()| (Dictionary::new(), After::Erase)),
            "RestartDevice" | "ShutDownDevice" => {
                self.state.restarts += 1;
                done(Dictionary::new())
            }
            "DeviceConfigured" | "UserConfigured" => Ok((Dictionary::new(), After::Configured)),
            "DeclarativeManagement" => Ok((Dictionary::new(), After::SyncDeclarations)),
            other => {
                let text = format!("“{other}” is not a valid request type.");
                Err(Box::new(chain_item(12021, MDM_DOMAIN, &text)))
            }
        }
    }

    /// Installs a profile, or hands it back when it renews the enrollment.
    fn install_profile(&mut self, command: &ReceivedCommand) -> Result<Option<EnrollmentProfile>, Box<ErrorChainItem>> {
        let Some(payload) = command.command.get("Payload").and_then(Value::as_data) else {
            return Err(Box::new(chain_item(12013, MDM_DOMAIN, "The command has no Payload.")));
        };
        let invalid = |error: &dyn std::fmt::Display| {
            let text = format!("The profile is not valid: {error}.");
            Box::new(chain_item(4001, "MCInstallationErrorDomain", &text))
        };
        let profile = InstalledProfile::parse(payload, &self.anchors()).map_err(|error| invalid(&error))?;
        let enrollment = self.state.enrollment.as_ref().map(|enrollment| &enrollment.profile);
        if profile.payloads_of("com.apple.mdm").next().is_some() {
            let renewed = EnrollmentProfile::from_profile(profile).map_err(|error| invalid(&error))?;
            return match enrollment {
                Some(own) if own.profile.identifier == renewed.profile.identifier => Ok(Some(renewed)),
                _ => {
                    let text = "The device is managed by another profile.";
                    Err(Box::new(chain_item(12008, MDM_DOMAIN, text)))
                }
            };
        }
        self.put_profile(InstalledProfile {
            managed: true,
            ..profile
        });
        Ok(None)
    }

    /// Installs a profile in place of one with the same identifier.
    pub(crate) fn put_profile(&mut self, profile: InstalledProfile) {
        self.state.profiles.retain(|own| own.identifier != profile.identifier);
        self.state.profiles.push(profile);
    }

    fn remove_profile(&mut self, command: &ReceivedCommand) -> Result<After, Box<ErrorChainItem>> {
        let Some(identifier) = command.text("Identifier") else {
            return Err(Box::new(chain_item(
                12013,
                MDM_DOMAIN,
                "The command has no Identifier.",
            )));
        };
        let enrollment = self.state.enrollment.as_ref();
        if enrollment.is_some_and(|enrollment| enrollment.profile.profile.identifier == identifier) {
            return Ok(After::Unenroll);
        }
        let before = self.state.profiles.len();
        self.state.profiles.retain(|profile| profile.identifier != identifier);
        if self.state.profiles.len() == before {
            let text = format!("The profile “{identifier}” is not installed.");
            return Err(Box::new(chain_item(12075, MDM_DOMAIN, &text)));
        }
        Ok(After::Continue)
    }

    fn profile_list(&self, command: &ReceivedCommand) -> Dictionary {
        let managed_only = command.command.get("ManagedOnly").and_then(Value::as_boolean) == Some(true);
        let profiles = self
            .state
            .profiles
            .iter()
            .filter(|profile| profile.managed || !managed_only);
        Dictionary::from_iter([("ProfileList", Value::Array(profiles.map(profile_item).collect()))])
    }

    fn certificate_list(&self) -> Dictionary {
        let identity = self
            .state
            .enrollment
            .as_ref()
            .and_then(|enrollment| enrollment.identity.as_ref());
        let items = identity.map(|identity| {
            let certificate = identity.certificate();
            Value::Dictionary(Dictionary::from_iter([
                ("CommonName", Value::from(certificate.common_name().unwrap_or_default())),
                ("Data", Value::Data(certificate.der().to_vec())),
                ("IsIdentity", Value::Boolean(true)),
            ]))
        });
        Dictionary::from_iter([("CertificateList", Value::Array(items.into_iter().collect()))])
    }

    fn device_lock(&mut self, command: &ReceivedCommand) -> Result<Dictionary, Box<ErrorChainItem>> {
        let pin = command.text("PIN").map(SecretString::new);
        if self.settings.facts.platform.is_mac() {
            check_pin(command.text("PIN"))?;
        }
        let message = command.text("Message").map(str::to_owned);
        let phone_number = command.text("PhoneNumber").map(str::to_owned);
        let shown = message.is_some() || phone_number.is_some();
        self.state.lock = Some(Lock {
            message,
            phone_number,
            pin,
        });
        let mut result = Dictionary::new();
        if shown && !self.settings.facts.platform.is_mac() {
            result.insert("MessageResult".to_owned(), Value::from("Success"));
        }
        Ok(result)
    }

    fn erase_device(&mut self, command: &ReceivedCommand) -> Result<(), Box<ErrorChainItem>> {
        // Macs with Apple silicon need no PIN to be erased, but a wrong one is an error everywhere.
        if command.text("PIN").is_some() {
            check_pin(command.text("PIN"))?;
        }
        Ok(())
    }

    fn clear_passcode(&mut self, command: &ReceivedCommand) -> Result<(), Box<ErrorChainItem>> {
        let given = command.command.get("UnlockToken").and_then(Value::as_data);
        match (&self.state.unlock_token, given) {
            (Some(own), Some(given)) if own.expose() == given => {
                self.state.lock = None;
                Ok(())
            }
            _ => Err(Box::new(chain_item(
                12004,
                MDM_DOMAIN,
                "The unlock token does not fit.",
            ))),
        }
    }

    /// Remembers every item; each is reported on by itself, as the command's answer wants it.
    fn apply_settings(&mut self, command: &ReceivedCommand) -> Dictionary {
        let items = command
            .command
            .get("Settings")
            .and_then(Value::as_array)
            .map(Vec::as_slice);
        let mut results = Vec::new();
        for item in items.unwrap_or_default() {
            let name = item
                .as_dictionary()
                .and_then(|item| item.get("Item"))
                .and_then(Value::as_string);
            let name = name.unwrap_or_default();
            self.state.settings.insert(name.to_owned(), item.clone());
            results.push(Value::Dictionary(Dictionary::from_iter([
                ("Item", Value::from(name)),
                ("Status", Value::from("Acknowledged")),
            ])));
        }
        Dictionary::from_iter([("Settings", Value::Array(results))])
    }

    fn anchors(&self) -> TrustAnchors {
        trust_anchors(self.settings, self.state)
    }
}

/// What the device trusts: what it was built with and what its enrollment profile brought.
pub(crate) fn trust_anchors(settings: &Settings, state: &DeviceState) -> TrustAnchors {
    let enrolled = state
        .enrollment
        .iter()
        .flat_map(|enrollment| enrollment.profile.anchors.iter());
    let anchors = settings.trust.roots().chain(enrolled.map(Vec::as_slice));
    TrustAnchors::new(anchors.filter_map(|der| Certificate::parse(der).ok()).collect())
}

fn check_pin(pin: Option<&str>) -> Result<(), Box<ErrorChainItem>> {
    match pin {
        Some(pin) if pin.len() == 6 && pin.bytes().all(|digit| digit.is_ascii_digit()) => Ok(()),
        _ => Err(Box::new(chain_item(12013, MDM_DOMAIN, "The PIN must have six digits."))),
    }
}

fn list(key: &str) -> Dictionary {
    Dictionary::from_iter([(key, Value::Array(Vec::new()))])
}

fn profile_item(profile: &InstalledProfile) -> Value {
    let mut item = Dictionary::from_iter([
        ("PayloadIdentifier", Value::from(profile.identifier.as_str())),
        ("PayloadUUID", Value::from(profile.uuid.as_str())),
        ("PayloadVersion", Value::from(profile.version)),
        ("PayloadRemovalDisallowed", Value::Boolean(profile.removal_disallowed)),
        ("HasRemovalPasscode", Value::Boolean(false)),
        ("IsEncrypted", Value::Boolean(false)),
        ("IsManaged", Value::Boolean(profile.managed)),
    ]);
    let texts = [
        ("PayloadDisplayName", &profile.display_name),
        ("PayloadOrganization", &profile.organization),
        ("PayloadDescription", &profile.description),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            item.insert(key.to_owned(), Value::from(text.as_str()));
        }
    }
    if let ProfileSignature::Signed { signer, .. } = &profile.signature {
        let certificates = vec![Value::Data(signer.der().to_vec())];
        item.insert("SignerCertificates".to_owned(), Value::Array(certificates));
    }
    // The content of payloads is not reported, only what they are.
    let payloads = profile.payloads.iter().map(|payload| {
        let told = payload.iter().filter(|(key, _)| {
            matches!(
                key.as_str(),
                "PayloadType"
                    | "PayloadVersion"
                    | "PayloadIdentifier"
                    | "PayloadUUID"
                    | "PayloadDisplayName"
                    | "PayloadDescription"
                    | "PayloadOrganization"
            )
        });
        Value::Dictionary(told.map(|(key, value)| (key.clone(), value.clone())).collect())
    });
    item.insert("PayloadContent".to_owned(), Value::Array(payloads.collect()));
    Value::Dictionary(item)
}
