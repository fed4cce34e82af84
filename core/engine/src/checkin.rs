//! The check-in protocol: enrollment, push tokens, escrow and declarations, one method per message.

use jiff::Timestamp;
use russet_hooks::{EnrollmentRequest, EscrowKind, GateStage, GateVerdict};
use russet_protocol::checkin::{
    Authenticate, CheckOut, GetToken, TokenUpdate, UserAuthenticate, digest_challenge_response,
};
use russet_protocol::{CheckIn, DeviceMessage, EnrollmentKey};
use russet_store::{
    AuthenticateWrite, Caller, DeviceFacts, EnrollmentId, EnrollmentLookup, EnrollmentRecord, EnrollmentState,
    QueueAsk, QueueView, ResolvedCertificate, ResolvedEnrollment, TenantId, TokenTarget, TokenUpdateWrite, UserFacts,
};

use crate::error::{DeviceError, IdentityError, RETRY_AFTER};
use crate::subject;
use crate::{DeviceIdentity, Engine, Request};

/// What a device is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceAnswer {
    /// Taken; there is nothing more to say.
    Empty,
    /// A property list.
    Plist(Vec<u8>),
    /// JSON (declarative management).
    Json(Vec<u8>),
    /// The declaration does not exist; the device drops it.
    NotFound,
    /// This user is not managed for this login (UserAuthenticate only).
    Gone,
}

impl Engine {
    /// Takes one message of a device.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]; nothing was stored then, and the device may repeat the message.
    pub async fn handle(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        message: DeviceMessage,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        match message {
            DeviceMessage::Connect(report) => self.connect(request, identity, report, now).await,
            DeviceMessage::CheckIn(message) => self.check_in(request, identity, message, now).await,
        }
    }

    async fn check_in(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        message: CheckIn,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        match message {
            CheckIn::Authenticate(message) => self.authenticate(request, identity, message, now).await,
            CheckIn::TokenUpdate(message) => self.token_update(request, identity, message, now).await,
            CheckIn::CheckOut(message) => self.check_out(request, identity, message, now).await,
            CheckIn::SetBootstrapToken(message) => {
                let enrollment = self.enrolled(request, identity, &message.key, now).await?;
                let token = message
                    .bootstrap_token
                    .as_ref()
                    .map(russet_protocol::SecretBytes::expose);
                self.deposit_from_device(request, enrollment, EscrowKind::BootstrapToken, token, now)
                    .await?;
                Ok(DeviceAnswer::Empty)
            }
            CheckIn::GetBootstrapToken(message) => {
                let enrollment = self.enrolled(request, identity, &message.key, now).await?;
                self.bootstrap_token_for_device(request, enrollment, now).await
            }
            CheckIn::UserAuthenticate(message) => self.user_authenticate(request, identity, &message, now).await,
            CheckIn::DeclarativeManagement(message) => self.declarative(request, identity, message, now).await,
            CheckIn::GetToken(message) => self.get_token(request, identity, &message, now).await,
        }
    }

    /// The record of an enrolling device's certificate, checked for tenant and revocation; and its enrollment, if it was
    /// here before.
    async fn resolve(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        key: &EnrollmentKey,
    ) -> Result<(ResolvedCertificate, Option<EnrollmentRecord>), DeviceError> {
        let store = &self.inner.store;
        let (sha256, tenant) = (identity.sha256(), request.tenant.id);
        let mut resolved = store.resolve(&sha256, tenant, key.as_str()).await?;
        if resolved.certificate.is_none() && self.adopt(request, identity, key).await? {
            resolved = store.resolve(&sha256, tenant, key.as_str()).await?;
        }
        let certificate = resolved.certificate.ok_or(IdentityError::Unknown)?;
        of_tenant(request, certificate.tenant, certificate.revoked_at)?;
        let existing = match resolved.enrollment {
            None => None,
            Some(existing) => store.enrollment(tenant, EnrollmentLookup::Id(existing.id)).await?,
        };
        Ok((certificate, existing))
    }

    /// The enrollment behind a message that only an enrolled device or user may send. A certificate is good for the
    /// enrollment that it was bound to at Authenticate and for the users under it; one that is being renewed stays good
    /// beside its successor, because a device goes back to it if the renewal fails. One from before the device enrolled
    /// anew is good until the new enrollment is active, for the same reason, and no longer.
    /// With it comes what the queue has for the message.
    pub(crate) async fn sender(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        key: &EnrollmentKey,
        ask: QueueAsk,
        now: Timestamp,
    ) -> Result<(ResolvedEnrollment, QueueView), DeviceError> {
        let store = &self.inner.store;
        let (sha256, tenant) = (identity.sha256(), request.tenant.id);
        let mut caller = store.caller(&sha256, tenant, key.as_str(), ask, now).await?;
        if caller.certificate.is_none() && self.adopt(request, identity, key).await? {
            caller = store.caller(&sha256, tenant, key.as_str(), ask, now).await?;
        }
        let Caller {
            certificate,
            enrollment,
            queue,
        } = caller;
        let certificate = certificate.ok_or(IdentityError::Unknown)?;
        of_tenant(request, certificate.tenant, certificate.revoked_at)?;
        let enrollment = enrollment.ok_or(match certificate.enrollment {
            Some(_) if key.parent().is_none() => DeviceError::Identity(IdentityError::OtherEnrollment),
            _ => DeviceError::NotEnrolled,
        })?;
        match certificate.enrollment {
            Some(owner) if owner == enrollment.parent.unwrap_or(enrollment.id) => {}
            Some(_) => return Err(IdentityError::OtherEnrollment.into()),
            None => return Err(DeviceError::NotEnrolled),
        }
        if enrollment.state == EnrollmentState::Removed {
            return Err(DeviceError::NotEnrolled);
        }
        if let Some(bound) = enrollment.certificate_sha256
            && !enrollment.certificate_matches
            && enrollment.state == EnrollmentState::Active
        {
            let bound = self.inner.store.certificate(&bound).await?;
            if bound.is_none_or(|bound| bound.certificate.renews != Some(identity.sha256())) {
                return Err(IdentityError::Superseded.into());
            }
        }
        Ok((enrollment, queue))
    }

    /// The same, where only its row is needed.
    pub(crate) async fn enrolled(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        key: &EnrollmentKey,
        now: Timestamp,
    ) -> Result<EnrollmentId, DeviceError> {
        let (enrollment, _) = self.sender(request, identity, key, QueueAsk::Nothing, now).await?;
        Ok(enrollment.id)
    }

    async fn authenticate(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        message: Authenticate,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let (certificate, existing) = self.resolve(request, identity, &message.key).await?;
        if let Some(owner) = certificate.enrollment
            && existing.as_ref().is_none_or(|existing| existing.id != owner)
        {
            return Err(IdentityError::OtherEnrollment.into());
        }
        // A renewed certificate was issued without a challenge, for the enrollment of the one before and nobody else.
        if let Some(renewed) = certificate.renews {
            let renewed = self.inner.store.certificate(&renewed).await?;
            let owner = renewed.and_then(|renewed| renewed.enrollment);
            if owner.is_none() || existing.as_ref().map(|existing| existing.id) != owner {
                return Err(IdentityError::OtherEnrollment.into());
            }
        }
        check_binding(&certificate, &message)?;
        let about = existing.as_ref().map(|existing| existing.id);
        let existing_key = existing
            .as_ref()
            .filter(|existing| existing.state == EnrollmentState::Active)
            .map(|existing| existing.key.clone());
        // The enrollment goes on if the certificate was issued to renew the one that it has, or is that one already; or if
        // both renew the same one: a device whose renewal failed goes back to that, and renews it again.
        let bound = existing.as_ref().and_then(|existing| existing.certificate_sha256);
        let bound_renews = match bound {
            Some(bound) if certificate.renews.is_some_and(|renews| renews != bound) => {
                let bound = self.inner.store.certificate(&bound).await?;
                bound.and_then(|bound| bound.certificate.renews)
            }
            _ => None,
        };
        let goes_on = bound.is_some_and(|bound| {
            let renews = |renews| renews == bound || Some(renews) == bound_renews;
            bound == identity.sha256() || certificate.renews.is_some_and(renews)
        });
        let known = existing.filter(|existing| existing.state == EnrollmentState::Active && goes_on);
        let renewal = known.is_some();
        let replaces = existing_key.filter(|_| !renewal);
        let (mut attributes, person) = match known {
            Some(known) => (subject::attributes(&known.attributes), known.person),
            None => (subject::attributes(&certificate.attributes), certificate.person),
        };
        let method = subject::noted_method(&attributes);
        let outcome = request
            .hooks
            .check_enrollment(
                &request.scope,
                EnrollmentRequest {
                    stage: if renewal {
                        GateStage::Renewal
                    } else {
                        GateStage::Authenticate
                    },
                    method,
                    ownership: subject::ownership(method, Some(message.key.channel())),
                    device: subject::device_of_authenticate(&message, &attributes),
                    person: subject::person(person.as_ref()),
                    can_request_software_update: false,
                    replaces,
                },
            )
            .await;
        let decisions = self.decided(request, outcome.decisions, about).await?;
        let refusal = match outcome.verdict {
            Ok(GateVerdict::Allow(more)) => {
                attributes.extend(more);
                // What the server noted itself is not a gate's to change.
                subject::note_method(&mut attributes, method);
                None
            }
            Ok(GateVerdict::Deny(denial)) => Some(DeviceError::Denied {
                reason: denial.reason,
                message: denial.message,
            }),
            // Neither can be asked of a device that has its profile already.
            Ok(GateVerdict::RequireSignIn) => Some(DeviceError::Denied {
                reason: "sign-in-required".to_owned(),
                message: "Sign in when you download the enrollment profile.".to_owned(),
            }),
            Ok(GateVerdict::RequireSoftwareUpdate(update)) => Some(DeviceError::Denied {
                reason: "software-update-required".to_owned(),
                message: format!("Update to {} first, then enroll again.", update.os_version),
            }),
            Err(_) => Some(DeviceError::TryLater { after: RETRY_AFTER }),
        };
        if let Some(refusal) = refusal {
            self.inner
                .store
                .record_decisions(request.tenant.id, decisions, now)
                .await?;
            return Err(refusal);
        }
        let write = AuthenticateWrite {
            tenant: request.tenant.id,
            key: message.key.as_str().to_owned(),
            channel: message.key.channel(),
            facts: facts(&message),
            certificate_sha256: identity.sha256(),
            person,
            attributes: subject::attributes_json(&attributes),
            topic: Some(message.topic),
            renewal,
            decisions,
        };
        self.inner.store.authenticate(write, now).await?;
        Ok(DeviceAnswer::Empty)
    }

    async fn token_update(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        message: TokenUpdate,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let is_user = message.key.channel().is_user();
        let target = match message.key.parent() {
            None => TokenTarget::Enrollment(self.enrolled(request, identity, &message.key, now).await?),
            Some(parent) => TokenTarget::User {
                parent: self.enrolled(request, identity, &parent, now).await?,
                key: message.key.as_str().to_owned(),
                channel: message.key.channel(),
                user: UserFacts {
                    user_id: message.key.user_id().map(str::to_owned),
                    short_name: message.user_short_name,
                    long_name: message.user_long_name,
                },
            },
        };
        let (commands_at_first, commands) = self.greeting(request, message.awaiting_configuration, is_user);
        let write = TokenUpdateWrite {
            target,
            topic: message.topic,
            token: message.token.expose().to_vec(),
            magic: message.push_magic.expose().to_owned(),
            awaiting_configuration: message.awaiting_configuration,
            certificate_sha256: Some(identity.sha256()),
            commands_at_first,
            commands,
        };
        let updated = self.inner.store.token_update(write, now).await?;
        if let Some(token) = message.unlock_token.filter(|token| !token.is_empty()) {
            // The push token is in hand whatever the policy says of keeping the secret: a refusal does not undo it.
            let kept = self
                .deposit_from_device(request, updated.id, EscrowKind::UnlockToken, Some(token.expose()), now)
                .await;
            match kept {
                Ok(()) | Err(DeviceError::Denied { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(DeviceAnswer::Empty)
    }

    async fn check_out(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        message: CheckOut,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let enrollment = self.enrolled(request, identity, &message.key, now).await?;
        self.inner.store.check_out(enrollment, now).await?;
        Ok(DeviceAnswer::Empty)
    }

    async fn user_authenticate(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        message: &UserAuthenticate,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let device = message.key.parent().ok_or_else(|| {
            DeviceError::Unsupported("UserAuthenticate needs a UserID; this message names a device".to_owned())
        })?;
        self.enrolled(request, identity, &device, now).await?;
        if self.inner.settings.enrollment.network_users {
            // An empty challenge manages the user without a password: the Mac has checked it at login.
            Ok(DeviceAnswer::Plist(digest_challenge_response("")))
        } else {
            Ok(DeviceAnswer::Gone)
        }
    }

    async fn get_token(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        message: &GetToken,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        self.enrolled(request, identity, &message.key, now).await?;
        Err(DeviceError::Unsupported(
            "this server issues no tokens of the requested TokenServiceType".to_owned(),
        ))
    }
}

/// A certificate is of use in its own tenant, until it is revoked.
fn of_tenant(request: &Request, tenant: TenantId, revoked_at: Option<Timestamp>) -> Result<(), IdentityError> {
    if tenant != request.tenant.id {
        return Err(IdentityError::Unknown);
    }
    match revoked_at {
        Some(_) => Err(IdentityError::Revoked),
        None => Ok(()),
    }
}

/// A certificate that was issued for one device does not speak for another, nor for one that does not say which it is.
fn check_binding(certificate: &ResolvedCertificate, message: &Authenticate) -> Result<(), IdentityError> {
    let is_device = message.key.channel() == russet_protocol::Channel::Device;
    let serial = (certificate.bound_serial.as_deref(), message.serial_number.as_deref());
    let udid = (
        certificate.bound_udid.as_deref(),
        is_device.then(|| message.key.device_id()),
    );
    let bounds = [serial, udid].map(|(bound, actual)| bound.map(|bound| actual.map(|actual| actual == bound)));
    let differs = bounds.contains(&Some(Some(false)));
    let unproven = bounds.contains(&Some(None)) && !bounds.contains(&Some(Some(true)));
    if differs || unproven {
        Err(IdentityError::OtherDevice)
    } else {
        Ok(())
    }
}

pub(crate) fn facts(message: &Authenticate) -> DeviceFacts {
    let is_device = message.key.channel() == russet_protocol::Channel::Device;
    DeviceFacts {
        udid: is_device.then(|| message.key.device_id().to_owned()),
        serial_number: message.serial_number.clone(),
        model: message.model.clone(),
        model_name: message.model_name.clone(),
        product_name: message.product_name.clone(),
        os_version: message.os_version.clone(),
        build_version: message.build_version.clone(),
        device_name: message.device_name.clone(),
        imei: message.imei.clone(),
        meid: message.meid.clone(),
    }
}
