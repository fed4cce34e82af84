//! `enrollment-gate`: who may enroll.

use serde::de::DeserializeOwned;

use crate::bindings::enrollment_gate::exports::russet::plugin::enrollment_gate as wire;
use crate::bindings::russet::plugin::context as host;
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

/// When a gate is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The device asks for its enrollment profile. For manual enrollment nothing is known of the device yet.
    Profile,
    /// The device checks in for the first time with its identity certificate.
    Authenticate,
    /// An enrolled device asks for a new identity certificate, or checks in with it for the first time.
    Renewal,
}

/// How a device came to ask for its enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Automated device enrollment: a signed MachineInfo was posted during set-up.
    Automated,
    /// The enrollment profile was downloaded and installed by hand.
    Manual,
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
#[derive(Clone, Debug)]
pub struct EnrollmentRequest<'a>(Source<'a>);

#[derive(Clone, Debug)]
enum Source<'a> {
    Host(&'a host::EnrollmentRequest),
    Memory(Box<Memory>),
}

#[derive(Clone, Debug)]
struct Memory {
    stage: Stage,
    method: Method,
    ownership: Ownership,
    tenant: String,
    device: Device,
    person: Option<Person>,
    can_request_software_update: bool,
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
        })
    }

    /// Which step of enrollment this is.
    pub fn stage(&self) -> Stage {
        match &self.0 {
            Source::Host(request) => match request.stage() {
                host::GateStage::Profile => Stage::Profile,
                host::GateStage::Authenticate => Stage::Authenticate,
                host::GateStage::Renewal => Stage::Renewal,
            },
            Source::Memory(request) => request.stage,
        }
    }

    /// How the device came to enroll.
    pub fn method(&self) -> Method {
        match &self.0 {
            Source::Host(request) => match request.method() {
                host::EnrollmentMethod::Automated => Method::Automated,
                host::EnrollmentMethod::Manual => Method::Manual,
            },
            Source::Memory(request) => request.method,
        }
    }

    /// Who owns the device.
    pub fn ownership(&self) -> Ownership {
        match &self.0 {
            Source::Host(request) => match request.ownership() {
                host::Ownership::Organization => Ownership::Organization,
                host::Ownership::Personal => Ownership::Personal,
                host::Ownership::Unknown => Ownership::Unknown,
            },
            Source::Memory(request) => request.ownership,
        }
    }

    /// The name of the tenant.
    pub fn tenant(&self) -> String {
        match &self.0 {
            Source::Host(request) => request.tenant(),
            Source::Memory(request) => request.tenant.clone(),
        }
    }

    /// The device.
    pub fn device(&self) -> Device {
        match &self.0 {
            Source::Host(request) => request.device().into(),
            Source::Memory(request) => request.device.clone(),
        }
    }

    /// The person who signed in, if one did.
    pub fn person(&self) -> Option<Person> {
        match &self.0 {
            Source::Host(request) => request.person().map(Person::from),
            Source::Memory(request) => request.person.clone(),
        }
    }

    /// Whether the device can be told to update its software before it enrolls. If not, the host turns a verdict that
    /// requires an update into a denial.
    pub fn can_request_software_update(&self) -> bool {
        match &self.0 {
            Source::Host(request) => request.can_request_software_update(),
            Source::Memory(request) => request.can_request_software_update,
        }
    }
}

/// Builds an [`EnrollmentRequest`] in memory.
#[derive(Clone, Debug)]
pub struct EnrollmentRequestBuilder(Memory);

impl EnrollmentRequestBuilder {
    /// Which step of enrollment this is.
    #[must_use]
    pub fn stage(mut self, stage: Stage) -> Self {
        self.0.stage = stage;
        self
    }

    /// How the device came to enroll.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.0.method = method;
        self
    }

    /// Who owns the device.
    #[must_use]
    pub fn ownership(mut self, ownership: Ownership) -> Self {
        self.0.ownership = ownership;
        self
    }

    /// The name of the tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.0.tenant = tenant.into();
        self
    }

    /// The device.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.0.device = device;
        self
    }

    /// The person who signed in.
    #[must_use]
    pub fn person(mut self, person: Person) -> Self {
        self.0.person = Some(person);
        self
    }

    /// Whether the device can be told to update its software before it enrolls.
    #[must_use]
    pub fn can_request_software_update(mut self, can: bool) -> Self {
        self.0.can_request_software_update = can;
        self
    }

    /// The request.
    pub fn build(self) -> EnrollmentRequest<'static> {
        EnrollmentRequest(Source::Memory(Box::new(self.0)))
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
