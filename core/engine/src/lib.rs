//! What an MDM server does, without the network: enrollment, identities, check-in, the command queue, escrow, profiles
//! and pushes.
//!
//! One method per message, each from typed input to a typed outcome. A method reads the store, asks the hooks, and
//! writes what follows in one transaction; nothing else has a side effect. This crate knows neither HTTP nor SQL nor
//! wasmtime: its tests run with native hooks and a store in a temporary folder.

mod admin;
mod authorities;
mod checkin;
mod commands;
mod connect;
mod decisions;
mod declarations;
mod declarative;
mod effects;
mod enrollment;
mod error;
mod escrow;
mod events;
mod identity;
mod import;
mod installation;
mod observers;
mod people;
mod plan;
mod planner;
mod profiles;
mod push;
mod push_certificates;
mod request;
mod scep;
mod schedules;
pub mod settings;
mod status;
mod subject;
mod tokens;

use std::sync::Arc;

use jiff::Timestamp;
use russet_hooks::HookSource;
use russet_store::Store;

pub use authorities::TlsIdentity;
pub use checkin::DeviceAnswer;
pub use commands::{Audience, CommandSource, EnqueueReport, EnqueueRequest, GroupChange};
pub use declarations::{ConflictView, DeclarationSetReport, DeclarationState, DeclarationView, DeviceDeclarations};
pub use enrollment::{ProfileRequest, ProfileSource};
pub use error::{DeviceError, EngineError, IdentityError, ProfileRefusal, StartError};
pub use identity::DeviceIdentity;
pub use import::{ImportOptions, ImportReport};
pub use profiles::{NewProfile, ProfileReport};
pub use push::PushDispatcher;
pub use push_certificates::{
    NewPushCertificate, PushCertificateInfo, PushCertificateReminder, REMINDERS, reminder_for,
};
pub use request::{Request, TenantRef};
pub use russet_pki::mdm_signature::MdmSignature;
pub use russet_store as store;
pub use scep::ScepAnswer;
pub use schedules::ScheduleRunner;
pub use settings::EngineSettings;
pub use subject::as_hooks_see;
pub use tokens::Administrator;

use authorities::Authorities;
use enrollment::MachineInfoVerifier;
use events::Observing;
use identity::VerifiedIdentities;
use import::OtherAuthorities;
use request::TenantCache;

/// The engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    hooks: Arc<dyn HookSource>,
    settings: EngineSettings,
    authorities: Authorities,
    machine_info: MachineInfoVerifier,
    anchors: Vec<russet_pki::Certificate>,
    tenants: TenantCache,
    observing: Arc<Observing>,
    verified: VerifiedIdentities,
    others: OtherAuthorities,
}

impl Engine {
    /// Starts the engine on a store: loads its authorities, or makes them at the first start.
    ///
    /// # Errors
    ///
    /// A [`StartError`] that says what to mend.
    pub async fn open(
        store: Store,
        hooks: Arc<dyn HookSource>,
        settings: EngineSettings,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let authorities = Authorities::open(&store, &settings.enrollment, now).await?;
        let machine_info = MachineInfoVerifier::new(&settings.enrollment.machine_info)?;
        let mut anchors = Vec::new();
        if settings.enrollment.trust_own_authority {
            anchors.push(authorities.server.certificate().clone());
        }
        for pem in &settings.enrollment.trust_anchors_pem {
            anchors.extend(russet_pki::Certificate::chain_from_pem(pem).map_err(StartError::TrustAnchor)?);
        }
        let observing = Arc::new(Observing::new(Arc::clone(&hooks)));
        store.set_observed(Arc::clone(&observing) as Arc<dyn russet_store::Observed>);
        let inner = Inner {
            store,
            hooks,
            settings,
            authorities,
            machine_info,
            anchors,
            tenants: TenantCache::default(),
            observing,
            verified: VerifiedIdentities::default(),
            others: OtherAuthorities::default(),
        };
        let engine = Self { inner: Arc::new(inner) };
        engine.all_tenants().await?;
        engine.follow_authorities().await?;
        Ok(engine)
    }

    /// Issues a certificate for the server's own TLS, from the server's own authority.
    ///
    /// # Errors
    ///
    /// If there is no usable name.
    pub fn tls_identity(
        &self,
        dns: &[String],
        addresses: &[std::net::IpAddr],
        now: Timestamp,
    ) -> Result<TlsIdentity, StartError> {
        Ok(self.inner.authorities.tls_identity(dns, addresses, now)?)
    }

    /// The certificate of the authority that issued the server's own TLS certificate, in PEM: what clients trust.
    pub fn server_authority_pem(&self) -> String {
        self.inner.authorities.server.certificate().to_pem()
    }

    /// The certificate of the authority that issues device identities, in DER: what TLS asks clients for.
    pub fn device_authority_der(&self) -> &[u8] {
        self.inner.authorities.devices.certificate().der()
    }

    /// The store, for what only reads.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
}

/// Random bytes from the system.
fn random<const N: usize>() -> Result<[u8; N], EngineError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| EngineError::Random)?;
    Ok(bytes)
}
