//! `escrow-policy`: what happens to secrets that are kept for a device.
//!
//! The secret itself is seen only with the grant `escrow-secret.read`, for organisations that wrap secrets under a key of
//! their own: [`EscrowRequest::secret`], and the verdicts [`Deposit::AcceptAs`] and [`Release::ReleaseAs`].

use serde::de::DeserializeOwned;

use crate::bindings::escrow_policy::exports::russet::plugin::escrow_policy as wire;
use crate::bindings::russet::plugin::context as host;
use crate::input::{input, open_list};
pub use crate::requester::Requester;
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
    fn deposit(settings: Self::Settings, request: &EscrowRequest<'_>) -> Result<Deposit, Error>;

    /// A secret is asked for.
    ///
    /// # Errors
    ///
    /// An error means that the policy could not decide. The secret is not released.
    fn release(settings: Self::Settings, request: &EscrowRequest<'_>) -> Result<Release, Error>;

    /// A stored secret is about to be removed. By default it may be.
    ///
    /// # Errors
    ///
    /// An error means that the policy could not decide. The secret stays.
    fn clear(settings: Self::Settings, request: &EscrowRequest<'_>) -> Result<Clear, Error> {
        let _ = (settings, request);
        Ok(Clear::Clear)
    }
}

open_list! {
    /// A secret that is escrowed on the server.
    Kind {
        /// A Mac's bootstrap token.
        BootstrapToken = "bootstrap-token",
        /// The token that clears a device's passcode.
        UnlockToken = "unlock-token",
    }
}

/// The decision about a deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deposit {
    /// The secret is kept.
    Accept,
    /// This is kept in its place, such as the secret wrapped under a key of the organisation.
    AcceptAs(Vec<u8>),
    /// The deposit is refused, with the reason.
    Reject(String),
}

impl Deposit {
    /// Refuses the deposit, with the reason.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(reason.into())
    }
}

/// The decision about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The secret is handed out as it is kept.
    Release,
    /// This is handed out, such as the unwrapped form of what is kept.
    ReleaseAs(Vec<u8>),
    /// The secret stays where it is, with the reason.
    Deny(String),
}

impl Release {
    /// Leaves the secret where it is, with the reason.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny(reason.into())
    }
}

/// The decision about a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clear {
    /// The secret is removed.
    Clear,
    /// The secret stays, with the reason.
    Keep(String),
}

impl Clear {
    /// Keeps the secret, with the reason.
    pub fn keep(reason: impl Into<String>) -> Self {
        Self::Keep(reason.into())
    }
}

input! {
    /// What a policy decides about.
    EscrowRequest, EscrowRequestBuilder, EscrowRequest;
    /// Which secret.
    kind: value<Kind>;
    /// The name of the tenant.
    tenant: text;
    /// The device that the secret belongs to.
    device: value<Device>;
    /// The person behind the enrollment, if known.
    person: maybe<Person>;
    /// Who deposits, wants or removes the secret.
    requester: value<Requester>;
    /// How long ago the stored secret was deposited, in seconds. Absent if there is none: a deposit with an age rotates.
    age_seconds: maybe<u64>;
    + {
        secret: Option<Vec<u8>>,
    }
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
            secret: None,
        })
    }

    /// The secret, with the grant `escrow-secret.read`. On a deposit what is handed over, or what the policy before put in
    /// its place; on a release what is kept, or what the policy before made of it. Absent at a removal.
    pub fn secret(&self) -> Option<Vec<u8>> {
        match &self.0 {
            Source::Host(_) => crate::bindings::russet::plugin::escrow_secret::read(),
            Source::Memory(memory) => memory.secret.clone(),
        }
    }
}

impl EscrowRequestBuilder {
    /// An administrator deposits or wants the secret, by the name of the API token.
    #[must_use]
    pub fn administrator(self, name: impl Into<String>) -> Self {
        self.requester(Requester::Administrator(name.into()))
    }

    /// The secret.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.0.secret = Some(secret.into());
        self
    }
}

impl From<Deposit> for wire::DepositVerdict {
    fn from(verdict: Deposit) -> Self {
        match verdict {
            Deposit::Accept => Self::Accept,
            Deposit::AcceptAs(secret) => Self::AcceptAs(secret),
            Deposit::Reject(reason) => Self::Reject(reason),
        }
    }
}

impl From<Release> for wire::ReleaseVerdict {
    fn from(verdict: Release) -> Self {
        match verdict {
            Release::Release => Self::Release,
            Release::ReleaseAs(secret) => Self::ReleaseAs(secret),
            Release::Deny(reason) => Self::Deny(reason),
        }
    }
}

impl From<Clear> for wire::ClearVerdict {
    fn from(verdict: Clear) -> Self {
        match verdict {
            Clear::Clear => Self::Clear,
            Clear::Keep(reason) => Self::Keep(reason),
        }
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __deposit<P: EscrowPolicy>(request: &host::EscrowRequest) -> Result<wire::DepositVerdict, String> {
    crate::glue::call(|settings| P::deposit(settings, &EscrowRequest(Source::Host(request))).map(Into::into))
}

/// What the macro calls.
#[doc(hidden)]
pub fn __release<P: EscrowPolicy>(request: &host::EscrowRequest) -> Result<wire::ReleaseVerdict, String> {
    crate::glue::call(|settings| P::release(settings, &EscrowRequest(Source::Host(request))).map(Into::into))
}

/// What the macro calls.
#[doc(hidden)]
pub fn __clear<P: EscrowPolicy>(request: &host::EscrowRequest) -> Result<wire::ClearVerdict, String> {
    crate::glue::call(|settings| P::clear(settings, &EscrowRequest(Source::Host(request))).map(Into::into))
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
            ) -> Result<$crate::bindings::escrow_policy::exports::russet::plugin::escrow_policy::DepositVerdict, String>
            {
                $crate::escrow::__deposit::<$policy>(request)
            }

            fn release(
                request: &$crate::bindings::russet::plugin::context::EscrowRequest,
            ) -> Result<$crate::bindings::escrow_policy::exports::russet::plugin::escrow_policy::ReleaseVerdict, String>
            {
                $crate::escrow::__release::<$policy>(request)
            }

            fn clear(
                request: &$crate::bindings::russet::plugin::context::EscrowRequest,
            ) -> Result<$crate::bindings::escrow_policy::exports::russet::plugin::escrow_policy::ClearVerdict, String>
            {
                $crate::escrow::__clear::<$policy>(request)
            }
        });
    };
}
