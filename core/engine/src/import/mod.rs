//! Devices of another server, taken over by the messages that it kept of them: no gate is asked, nothing is queued, and
//! observers are told only on request.
//!
//! What is deliberately not done here: reading another server's database, and deciding which of its messages is the newer
//! one. They carry no date; what a device says here itself goes over anything imported.

mod adopt;
mod authorities;

use jiff::Timestamp;
use russet_hooks::EscrowKind;
use russet_protocol::checkin::{Authenticate, SetBootstrapToken, TokenUpdate};
use russet_protocol::{CheckIn, EnrollmentKey};
use russet_store::{
    EnrollmentId, ImportStatus, Imported, ImportedDevice, ImportedToken, Sha256, StoreError, UserFacts,
};

use crate::checkin::facts;
use crate::{DeviceError, Engine, EngineError, Request, TenantRef};

pub(crate) use authorities::{ForeignIdentity, OtherAuthorities};

/// How one message is taken over.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    /// Digest of the only certificate that may speak for the device. `None`: the first one of an authority of the other
    /// server that it comes with.
    pub certificate_sha256: Option<Sha256>,
    /// Whether observers are told as of an enrollment.
    pub tell_observers: bool,
}

/// What came of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportReport {
    /// Its `MessageType`.
    pub message_type: &'static str,
    /// Whose it is.
    pub enrollment: EnrollmentKey,
    /// What was done.
    pub outcome: Imported,
    /// What will keep the device from working here.
    pub warnings: Vec<String>,
}

/// Why a message cannot be taken over yet.
const NO_DEVICE: &str = "the device of this message is not known here; import its Authenticate message first";

impl Engine {
    /// Takes over a message that another server kept of a device or user: Authenticate, TokenUpdate or SetBootstrapToken.
    /// The same message again changes nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] for other messages, and where the device's Authenticate is missing;
    /// [`EngineError::Undecided`] if the escrow policy cannot decide about a secret.
    pub async fn import_check_in(
        &self,
        request: &Request,
        message: CheckIn,
        options: ImportOptions,
        now: Timestamp,
    ) -> Result<ImportReport, EngineError> {
        let (message_type, enrollment) = (message.message_type(), message.key().clone());
        let mut warnings = Vec::new();
        let outcome = match message {
            CheckIn::Authenticate(message) => {
                self.import_device(request, message, options, &mut warnings, now)
                    .await?
            }
            CheckIn::TokenUpdate(message) => self.import_token(request, message, options, &mut warnings, now).await?,
            CheckIn::SetBootstrapToken(message) => {
                self.import_bootstrap_token(request, message, &mut warnings, now)
                    .await?
            }
            other => {
                return Err(EngineError::invalid(format!(
                    "an import takes Authenticate, TokenUpdate and SetBootstrapToken messages; this one is {}",
                    other.message_type()
                )));
            }
        };
        Ok(ImportReport {
            message_type,
            enrollment,
            outcome,
            warnings,
        })
    }

    /// How far a tenant's imports are.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn import_status(&self, tenant: &TenantRef) -> Result<ImportStatus, EngineError> {
        Ok(self.inner.store.import_status(tenant.id).await?)
    }

    async fn import_device(
        &self,
        request: &Request,
        message: Authenticate,
        options: ImportOptions,
        warnings: &mut Vec<String>,
        now: Timestamp,
    ) -> Result<Imported, EngineError> {
        let channel = message.key.channel();
        if channel.is_user() {
            return Err(EngineError::invalid(
                "an Authenticate message is a device's; this one names a user",
            ));
        }
        if !self.inner.others.are_known_for(request.tenant.id) {
            warnings.push(
                "this tenant trusts no authority of another server: the device is refused until the one that issued its \
                 certificate is added (russet import trust)"
                    .to_owned(),
            );
        }
        let device = ImportedDevice {
            tenant: request.tenant.id,
            key: message.key.as_str().to_owned(),
            channel,
            facts: facts(&message),
            topic: message.topic,
            certificate_sha256: options.certificate_sha256,
            tell: options.tell_observers,
        };
        let (_, imported) = self
            .inner
            .store
            .import_device(device, now)
            .await
            .map_err(|error| match error {
                StoreError::CertificateBound => {
                    EngineError::invalid("this certificate was named for another enrollment already; each has its own")
                }
                other => other.into(),
            })?;
        Ok(imported)
    }

    async fn import_token(
        &self,
        request: &Request,
        message: TokenUpdate,
        options: ImportOptions,
        warnings: &mut Vec<String>,
        now: Timestamp,
    ) -> Result<Imported, EngineError> {
        let store = &self.inner.store;
        let topics = store.push_certificates(request.tenant.id).await?;
        if topics.iter().all(|certificate| certificate.topic != message.topic) {
            warnings.push(format!(
                "the tenant has no push certificate of the topic {}: nobody can wake the device until the other server's is \
                 uploaded (russet push-cert upload)",
                message.topic
            ));
        }
        let token = ImportedToken {
            tenant: request.tenant.id,
            key: message.key.as_str().to_owned(),
            channel: message.key.channel(),
            parent: message.key.parent().map(|parent| parent.as_str().to_owned()),
            user: UserFacts {
                user_id: message.key.user_id().map(str::to_owned),
                short_name: message.user_short_name,
                long_name: message.user_long_name,
            },
            topic: message.topic,
            token: message.token.expose().to_vec(),
            magic: message.push_magic.expose().to_owned(),
            tell: options.tell_observers,
        };
        let (enrollment, imported) = store.import_token(token, now).await.map_err(no_device)?;
        if let Some(unlock) = message.unlock_token.filter(|token| !token.is_empty()) {
            let changed = matches!(imported, Imported::Created | Imported::Updated);
            let kept = store
                .escrow_info(enrollment, russet_store::EscrowKind::UnlockToken)
                .await?;
            // A device tells its unlock token once: the one of the other server is good where there is none.
            if imported != Imported::Removed && (changed || kept.is_none()) {
                let kind = EscrowKind::UnlockToken;
                self.import_secret(request, enrollment, kind, unlock.expose(), warnings, now)
                    .await?;
            }
        }
        Ok(imported)
    }

    async fn import_bootstrap_token(
        &self,
        request: &Request,
        message: SetBootstrapToken,
        warnings: &mut Vec<String>,
        now: Timestamp,
    ) -> Result<Imported, EngineError> {
        let store = &self.inner.store;
        let Some((enrollment, fixed)) = store.has_come_itself(request.tenant.id, message.key.as_str()).await? else {
            return Err(EngineError::invalid(NO_DEVICE));
        };
        let Some(token) = message.bootstrap_token.filter(|token| !token.is_empty()) else {
            return Ok(Imported::Unchanged);
        };
        let kind = russet_store::EscrowKind::BootstrapToken;
        let kept = store.escrow_info(enrollment, kind).await?;
        if fixed && kept.is_some() {
            return Ok(Imported::HasComeItself);
        }
        let kind = EscrowKind::BootstrapToken;
        self.import_secret(request, enrollment, kind, token.expose(), warnings, now)
            .await?;
        Ok(if kept.is_some() {
            Imported::Updated
        } else {
            Imported::Created
        })
    }

    /// The escrow policies decide about it as about a deposit of the device: they may keep another form of it.
    async fn import_secret(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        kind: EscrowKind,
        secret: &[u8],
        warnings: &mut Vec<String>,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        match self
            .deposit_from_device(request, enrollment, kind, Some(secret), now)
            .await
        {
            Ok(()) => Ok(()),
            Err(DeviceError::Denied { message, .. }) => {
                warnings.push(format!(
                    "an escrow policy refuses to keep a secret of the device: {message}"
                ));
                Ok(())
            }
            Err(DeviceError::Store(error)) => Err(error.into()),
            Err(DeviceError::NotEnrolled) => Err(EngineError::invalid(NO_DEVICE)),
            Err(_) => Err(EngineError::Undecided),
        }
    }
}

fn no_device(error: StoreError) -> EngineError {
    match error {
        StoreError::NotFound(_) => EngineError::invalid(NO_DEVICE),
        other => other.into(),
    }
}
