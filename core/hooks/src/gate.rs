//! `enrollment-gate`: who may enroll.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::canonical::canonical;
use crate::{Ask, Device, Hook, HookInput, HookKind, HookService, Person, PluginFault, native};

/// The step of enrollment at which a gate is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateStage {
    /// The device asks for its enrollment profile.
    Profile,
    /// The first check-in of an enrollment.
    Authenticate,
    /// An enrolled device renews its identity.
    Renewal,
}

impl GateStage {
    /// The stable name, as plugins read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Authenticate => "authenticate",
            Self::Renewal => "renewal",
        }
    }
}

/// How a device came to ask for its enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrollmentMethod {
    /// Automated device enrollment: a signed MachineInfo was posted.
    Automated,
    /// A profile that was downloaded and installed by hand.
    Manual,
}

impl EnrollmentMethod {
    /// The stable name, as plugins read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automated => "automated",
            Self::Manual => "manual",
        }
    }
}

/// Who owns a device, as far as the way of enrolling tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// The organisation.
    Organization,
    /// A person (user enrollment).
    Personal,
    /// Not known.
    Unknown,
}

/// What a gate decides about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentRequest {
    /// The step of enrollment.
    pub stage: GateStage,
    /// The way of enrolling.
    pub method: EnrollmentMethod,
    /// The owner of the device.
    pub ownership: Ownership,
    /// The device; empty where nothing is known yet.
    pub device: Device,
    /// The person who signed in.
    pub person: Option<Person>,
    /// `MDM_CAN_REQUEST_SOFTWARE_UPDATE` of MachineInfo.
    pub can_request_software_update: bool,
    /// The canonical key of the enrollment that this one would replace.
    #[serde(default)]
    pub replaces: Option<String>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// A short, stable name, such as `serial-not-listed`.
    pub reason: String,
    /// What the person at the device reads.
    pub message: String,
}

/// A beta program that has to be joined for an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BetaProgram {
    /// The name of the program.
    pub description: String,
    /// The seeding token.
    pub token: String,
}

/// An update that has to be installed first (Apple: `ErrorCodeSoftwareUpdateRequired`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftwareUpdate {
    /// `OSVersion`.
    pub os_version: String,
    /// `BuildVersion`.
    pub build_version: Option<String>,
    /// `RequireBetaProgram`.
    pub beta: Option<BetaProgram>,
}

/// The decision of one gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateVerdict {
    /// May enroll; the attributes are kept.
    Allow(BTreeMap<String, String>),
    /// Has to sign in first.
    RequireSignIn,
    /// Has to update first.
    RequireSoftwareUpdate(SoftwareUpdate),
    /// May not enroll.
    Deny(Denial),
}

impl GateVerdict {
    /// The stable name, as recorded.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::RequireSignIn => "require-sign-in",
            Self::RequireSoftwareUpdate(_) => "require-software-update",
            Self::Deny(_) => "deny",
        }
    }

    /// How strict: of several verdicts the strictest wins.
    pub(crate) fn strictness(&self) -> u8 {
        match self {
            Self::Allow(_) => 0,
            Self::RequireSignIn => 1,
            Self::RequireSoftwareUpdate(_) => 2,
            Self::Deny(_) => 3,
        }
    }
}

/// The hook, as a type.
#[derive(Clone, Copy, Debug)]
pub struct GateHook;

impl Hook for GateHook {
    const KIND: HookKind = HookKind::EnrollmentGate;
    type Request = EnrollmentRequest;
    type Verdict = GateVerdict;

    fn subject(request: &EnrollmentRequest) -> &str {
        request.device.label()
    }

    fn input(request: &Arc<EnrollmentRequest>) -> Option<HookInput> {
        Some(HookInput::EnrollmentGate(Arc::clone(request)))
    }

    fn verdict_name(verdict: &GateVerdict) -> &'static str {
        verdict.as_str()
    }

    fn verdict_json(verdict: &GateVerdict) -> String {
        canonical(verdict)
    }
}

/// A gate in native Rust.
#[async_trait]
pub trait EnrollmentGate: Send + Sync + 'static {
    /// Decides.
    ///
    /// # Errors
    ///
    /// A fault means that no decision could be made: the device is told to try again later.
    async fn check(&self, ask: &Ask<GateHook>) -> Result<GateVerdict, PluginFault>;
}

impl GateHook {
    /// Makes a service of a native gate.
    pub fn service(gate: impl EnrollmentGate) -> HookService<Self> {
        native(gate, |gate, ask| Box::pin(async move { gate.check(&ask).await }))
    }
}
