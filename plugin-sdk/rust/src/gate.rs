//! `enrollment-gate`: who may enroll.

use serde::de::DeserializeOwned;

use crate::bindings::enrollment_gate::exports::russet::plugin::enrollment_gate as wire;
use crate::bindings::russet::plugin::context as host;
use crate::input::{FromHost, input, open_list};
use crate::{Device, Error, Person};

/// Decides who may enroll. Asked when a device asks for its enrollment profile, at Authenticate, and at renewal.
/// Several gates: all must allow, and the strictest verdict wins.
pub trait EnrollmentGate {
    /// The plugin's settings; `()` if it has none.
    type Settings: DeserializeOwned + 'static;

    /// Decides.
    ///
    /// # Errors
    ///
    /// An error means that the gate could not decide. The device is refused for now and may try again.
    fn check(settings: Self::Settings, request: &EnrollmentRequest<'_>) -> Result<Verdict, Error>;
}

open_list! {
    /// When a gate is asked.
    Stage {
        /// The device asks for its enrollment profile. For manual enrollment nothing is known of the device yet.
        Profile = "profile",
        /// The device checks in for the first time with its identity certificate.
        Authenticate = "authenticate",
        /// An enrolled device asks for a new identity certificate, or checks in with it for the first time.
        Renewal = "renewal",
    }
}

open_list! {
    /// How a device came to ask for its enrollment.
    Method {
        /// Automated device enrollment: a signed MachineInfo was posted during set-up.
        Automated = "automated",
        /// The enrollment profile was downloaded and installed by hand.
        Manual = "manual",
    }
}

/// Who owns a device, as far as the way of enrolling tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Bought by the organisation: it came through automated device enrollment.
    Organization,
    /// A person's own device: user enrollment.
    Personal,
    /// Not known: a profile that somebody downloaded and installed.
    Unknown,
}

/// A beta program that the device has to join for an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BetaProgram {
    /// The name of the program.
    pub description: String,
    /// The seeding token.
    pub token: String,
}

/// The update that a device has to install before it may enroll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftwareUpdate {
    /// The version, such as `27.1`. Alone it also takes background security improvements.
    pub os_version: String,
    /// The exact build, which pins the update.
    pub build_version: Option<String>,
    /// The beta program to join.
    pub beta: Option<BetaProgram>,
}

/// The decision of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// May enroll. The attributes are kept for the enrollment.
    Allow(Vec<(String, String)>),
    /// Has to sign in first; the gate is asked again with the person.
    RequireSignIn,
    /// Has to update first.
    RequireSoftwareUpdate(SoftwareUpdate),
    /// May not enroll.
    Deny {
        /// A short, stable name for reports, such as `serial-not-listed`.
        reason: String,
        /// What the person at the device reads.
        message: String,
    },
}

impl Verdict {
    /// May enroll, with no attributes to keep.
    pub fn allow() -> Self {
        Self::Allow(Vec::new())
    }

    /// May enroll; these attributes are kept for the enrollment.
    pub fn allow_with<N: Into<String>, V: Into<String>>(attributes: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::Allow(attributes.into_iter().map(|(n, v)| (n.into(), v.into())).collect())
    }

    /// May not enroll: a short, stable name for reports, and what the person at the device reads.
    pub fn deny(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Deny {
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// Has to install at least this version of its operating system first.
    pub fn require_os(version: impl Into<String>) -> Self {
        Self::RequireSoftwareUpdate(SoftwareUpdate {
            os_version: version.into(),
            build_version: None,
            beta: None,
        })
    }
}

impl FromHost<host::Ownership> for Ownership {
    fn from_host(ownership: host::Ownership) -> Self {
        match ownership {
            host::Ownership::Organization => Self::Organization,
            host::Ownership::Personal => Self::Personal,
            host::Ownership::Unknown => Self::Unknown,
        }
    }
}

input! {
    /// What a gate decides about.
    ///
    /// ```
    /// use russet_plugin::Device;
    /// use russet_plugin::gate::{EnrollmentRequest, Method, Stage};
    ///
    /// let request = EnrollmentRequest::builder()
    ///     .stage(Stage::Authenticate)
    ///     .method(Method::Automated)
    ///     .device(Device::builder().serial_number("C02XK1").build())
    ///     .build();
    /// assert_eq!(request.device().serial_number().as_deref(), Some("C02XK1"));
    /// ```
    EnrollmentRequest, EnrollmentRequestBuilder, EnrollmentRequest;
    /// Which step of enrollment this is.
    stage: value<Stage>;
    /// How the device came to enroll.
    method: value<Method>;
    /// Who owns the device.
    ownership: value<Ownership>;
    /// The name of the tenant.
    tenant: text;
    /// The device.
    device: value<Device>;
    /// The person who signed in, if one did.
    person: maybe<Person>;
    /// Whether the device can be told to update its software before it enrolls. If not, the host turns a verdict that
    /// requires an update into a denial.
    can_request_software_update: value<bool>;
    /// The identifier of the enrollment that this one would replace: a device with the same UDID is enrolled already,
    /// with another identity certificate.
    replaces: maybe_text;
}

impl EnrollmentRequest<'_> {
    /// A request in memory, for tests: at first a manual enrollment at stage `Profile` of an unknown device in the tenant
    /// `default`.
    pub fn builder() -> EnrollmentRequestBuilder {
        EnrollmentRequestBuilder(Memory {
            stage: Stage::Profile,
            method: Method::Manual,
            ownership: Ownership::Unknown,
            tenant: "default".to_owned(),
            device: Device::default(),
            person: None,
            can_request_software_update: false,
            replaces: None,
        })
    }
}

impl From<Verdict> for wire::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow(attributes) => Self::Allow(attributes),
            Verdict::RequireSignIn => Self::RequireSignIn,
            Verdict::RequireSoftwareUpdate(update) => Self::RequireSoftwareUpdate(wire::SoftwareUpdate {
                os_version: update.os_version,
                build_version: update.build_version,
                beta: update.beta.map(|beta| wire::BetaProgram {
                    description: beta.description,
                    token: beta.token,
                }),
            }),
            Verdict::Deny { reason, message } => Self::Deny(wire::Denial { reason, message }),
        }
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __check<G: EnrollmentGate>(request: &host::EnrollmentRequest) -> Result<wire::Verdict, String> {
    crate::glue::call(|settings| G::check(settings, &EnrollmentRequest(Source::Host(request))).map(wire::Verdict::from))
}

/// Exports a type as the plugin's enrollment gate.
///
/// The type implements [`gate::EnrollmentGate`](crate::gate::EnrollmentGate).
#[macro_export]
macro_rules! enrollment_gate {
    ($gate:ty) => {
        $crate::__export!(enrollment_gate, $crate::gate::EnrollmentGate, $gate, {
            fn check(
                request: &$crate::bindings::russet::plugin::context::EnrollmentRequest,
            ) -> Result<$crate::bindings::enrollment_gate::exports::russet::plugin::enrollment_gate::Verdict, String>
            {
                $crate::gate::__check::<$gate>(request)
            }
        });
    };
}
