//! `escrow-policy`: what happens to secrets that are kept for a device.

use serde::de::DeserializeOwned;

use crate::bindings::escrow_policy::exports::russet::plugin::escrow_policy as wire;
use crate::bindings::russet::plugin::context as host;
use crate::{Device, Error, Person};

/// Decides what happens to escrowed secrets. Several policies: all must agree.
pub trait EscrowPolicy {
    /// The plugin's settings; `()` if it has none.
    type Settings: DeserializeOwned + 'static;

    /// A secret is handed over.
    ///
    /// # Errors
    ///
    /// An error means that the policy could not decide. The secret is kept sealed and marked, because it may never be
    /// handed over again.
    fn deposit(settings: Self::Settings, request: &EscrowRequest<'_>) -> Result<Verdict, Error>;

    /// A secret is asked for.
    ///
    /// # Errors
    ///
    /// An error means that the policy could not decide. The secret is not released.
    fn release(settings: Self::Settings, request: &EscrowRequest<'_>) -> Result<Verdict, Error>;
}

/// A secret that is escrowed on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Mac's bootstrap token.
    BootstrapToken,
    /// The token that clears a device's passcode.
    UnlockToken,
}

/// Who wants a secret, or hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requester {
    /// The enrolled device itself, by check-in.
    Device,
    /// An administrator, by the name of the API token.
    Administrator(String),
}

/// The decision of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The deposit is kept, or the secret is released.
    Allow,
    /// The deposit is refused, or the secret stays where it is; with the reason.
    Deny(String),
}

impl Verdict {
    /// Refuses, with the reason.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny(reason.into())
    }
}

/// What a policy decides about. The secret itself is never shown to it.
#[derive(Clone, Debug)]
pub struct EscrowRequest<'a>(Source<'a>);

#[derive(Clone, Debug)]
enum Source<'a> {
    Host(&'a host::EscrowRequest),
    Memory(Box<Memory>),
}

#[derive(Clone, Debug)]
struct Memory {
    kind: Kind,
    tenant: String,
    device: Device,
    person: Option<Person>,
    requester: Requester,
    age_seconds: Option<u64>,
}

impl EscrowRequest<'_> {
    /// A request in memory, for tests: at first about a secret of an unknown device in the tenant `default`, made by the
    /// device.
    pub fn builder(kind: Kind) -> EscrowRequestBuilder {
        EscrowRequestBuilder(Memory {
            kind,
            tenant: "default".to_owned(),
            device: Device::default(),
            person: None,
            requester: Requester::Device,
            age_seconds: None,
        })
    }

    /// Which secret.
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Source::Host(request) => match request.kind() {
                host::EscrowKind::BootstrapToken => Kind::BootstrapToken,
                host::EscrowKind::UnlockToken => Kind::UnlockToken,
            },
            Source::Memory(request) => request.kind,
        }
    }

    /// The name of the tenant.
    pub fn tenant(&self) -> String {
        match &self.0 {
            Source::Host(request) => request.tenant(),
            Source::Memory(request) => request.tenant.clone(),
        }
    }

    /// The device that the secret belongs to.
    pub fn device(&self) -> Device {
        match &self.0 {
            Source::Host(request) => request.device().into(),
            Source::Memory(request) => request.device.clone(),
        }
    }

    /// The person behind the enrollment, if known.
    pub fn person(&self) -> Option<Person> {
        match &self.0 {
            Source::Host(request) => request.person().map(Person::from),
            Source::Memory(request) => request.person.clone(),
        }
    }

    /// Who deposits or wants the secret.
    pub fn requester(&self) -> Requester {
        match &self.0 {
            Source::Host(request) => match request.requester() {
                host::Requester::Device => Requester::Device,
                host::Requester::Administrator(name) => Requester::Administrator(name),
            },
            Source::Memory(request) => request.requester.clone(),
        }
    }

    /// How long ago the stored secret was deposited, in seconds. Absent if there is none.
    pub fn age_seconds(&self) -> Option<u64> {
        match &self.0 {
            Source::Host(request) => request.age_seconds(),
            Source::Memory(request) => request.age_seconds,
        }
    }
}

/// Builds an [`EscrowRequest`] in memory.
#[derive(Clone, Debug)]
pub struct EscrowRequestBuilder(Memory);

impl EscrowRequestBuilder {
    /// The name of the tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.0.tenant = tenant.into();
        self
    }

    /// The device that the secret belongs to.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.0.device = device;
        self
    }

    /// The person behind the enrollment.
    #[must_use]
    pub fn person(mut self, person: Person) -> Self {
        self.0.person = Some(person);
        self
    }

    /// An administrator deposits or wants the secret, by the name of the API token.
    #[must_use]
    pub fn administrator(mut self, name: impl Into<String>) -> Self {
        self.0.requester = Requester::Administrator(name.into());
        self
    }

    /// How long ago the stored secret was deposited, in seconds.
    #[must_use]
    pub fn age_seconds(mut self, seconds: u64) -> Self {
        self.0.age_seconds = Some(seconds);
        self
    }

    /// The request.
    pub fn build(self) -> EscrowRequest<'static> {
        EscrowRequest(Source::Memory(Box::new(self.0)))
    }
}

impl From<Verdict> for wire::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Deny(reason) => Self::Deny(reason),
        }
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __deposit<P: EscrowPolicy>(request: &host::EscrowRequest) -> Result<wire::Verdict, String> {
    crate::glue::call(|settings| P::deposit(settings, &EscrowRequest(Source::Host(request))).map(wire::Verdict::from))
}

/// What the macro calls.
#[doc(hidden)]
pub fn __release<P: EscrowPolicy>(request: &host::EscrowRequest) -> Result<wire::Verdict, String> {
    crate::glue::call(|settings| P::release(settings, &EscrowRequest(Source::Host(request))).map(wire::Verdict::from))
}

/// Exports a type as the plugin's escrow policy.
///
/// The type implements [`escrow::EscrowPolicy`](crate::escrow::EscrowPolicy).
#[macro_export]
macro_rules! escrow_policy {
    ($policy:ty) => {
        $crate::__export!(escrow_policy, $crate::escrow::EscrowPolicy, $policy, {
            fn deposit(
                request: &$crate::bindings::russet::plugin::context::EscrowRequest,
            ) -> Result<$crate::bindings::escrow_policy::exports::russet::plugin::escrow_policy::Verdict, String> {
                $crate::escrow::__deposit::<$policy>(request)
            }

            fn release(
                request: &$crate::bindings::russet::plugin::context::EscrowRequest,
            ) -> Result<$crate::bindings::escrow_policy::exports::russet::plugin::escrow_policy::Verdict, String> {
                $crate::escrow::__release::<$policy>(request)
            }
        });
    };
}
