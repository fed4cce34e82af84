//! What is put into commands about profiles when they are delivered: so that it is the newest then.

use jiff::Timestamp;
use russet_hooks::TemplateRequest;
use russet_pki::{SignaturePolicy, cms};
use russet_protocol::profile::Profile;
use russet_protocol::{Limits, codec, plist};
use russet_store::{CommandOrigin, Delivery, EnrollmentId, EnrollmentLookup, NewCommand};
use uuid::Uuid;

use crate::{DeviceError, Engine, ProfileRefusal, Request, subject};

/// In place of a stored profile's name: the enrollment profile, with a challenge that renews the enrollment. No stored
/// profile can have this name.
pub(crate) const ENROLLMENT_PROFILE: &str = "russet:enrollment";

/// Why a delivery cannot be made now.
pub(crate) struct CannotDeliver(pub(crate) String);

impl Engine {
    /// Puts into a command what is made at delivery.
    pub(crate) async fn complete(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        delivery: &Delivery,
        command: &mut plist::Dictionary,
        now: Timestamp,
    ) -> Result<Result<(), CannotDeliver>, DeviceError> {
        let Some(name) = &delivery.profile_name else {
            return Ok(Ok(()));
        };
        let made = if name == ENROLLMENT_PROFILE {
            self.renewal_for(request, enrollment, now).await?
        } else if delivery.request_type == "RemoveProfile" {
            return self.removal_of(enrollment, name, command).await;
        } else {
            self.profile_for(request, enrollment, name, now).await?
        };
        Ok(made.map(|profile| {
            command.insert("Payload".to_owned(), plist::Value::Data(profile));
        }))
    }

    async fn removal_of(
        &self,
        enrollment: EnrollmentId,
        name: &str,
        command: &mut plist::Dictionary,
    ) -> Result<Result<(), CannotDeliver>, DeviceError> {
        let Some(identifier) = self.inner.store.delivered_profile(enrollment, name).await? else {
            return Ok(Err(CannotDeliver(format!(
                "under which identifier the profile {name} was installed is not known"
            ))));
        };
        command.insert("Identifier".to_owned(), identifier.into());
        Ok(Ok(()))
    }

    async fn renewal_for(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        now: Timestamp,
    ) -> Result<Result<Vec<u8>, CannotDeliver>, DeviceError> {
        let lookup = EnrollmentLookup::Id(enrollment);
        let device = self.inner.store.enrollment(request.tenant.id, lookup).await?;
        let device = device.ok_or(DeviceError::NotEnrolled)?;
        match self.renewal_profile(request, &device, now).await {
            Ok(profile) => Ok(Ok(profile)),
            // Over in a moment, as a rule: the device is told to come back, and the command is not put off for minutes.
            Err(ProfileRefusal::Store(error)) => Err(DeviceError::Store(error)),
            Err(refusal) => Ok(Err(CannotDeliver(refusal.to_string()))),
        }
    }

    /// A stored profile for one device: rendered if it is a template, and signed.
    async fn profile_for(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        name: &str,
        now: Timestamp,
    ) -> Result<Result<Vec<u8>, CannotDeliver>, DeviceError> {
        let store = &self.inner.store;
        let Some(profile) = store.profile(request.tenant.id, name).await? else {
            return Ok(Err(CannotDeliver(format!("the profile {name} was deleted"))));
        };
        let content = match profile.template {
            None => profile.content,
            Some(engine) => {
                let lookup = EnrollmentLookup::Id(enrollment);
                let device = store.enrollment(request.tenant.id, lookup).await?;
                let device = device.ok_or(DeviceError::NotEnrolled)?;
                let ask = TemplateRequest {
                    name: profile.name,
                    template: String::from_utf8_lossy(&profile.content).into_owned(),
                    variables: profile.settings.to_string(),
                    device: subject::device(&device),
                    person: subject::person(device.person.as_ref()),
                };
                let outcome = request.hooks.render(&request.scope, &engine, ask).await;
                let decisions = self.decided(request, outcome.decisions, Some(enrollment)).await?;
                store.record_decisions(request.tenant.id, decisions, now).await?;
                match outcome.verdict {
                    Ok(rendered) => rendered.0,
                    Err(undecided) => return Ok(Err(CannotDeliver(undecided.fault.to_string()))),
                }
            }
        };
        let signed = is_signed(&content);
        let inspected = if signed {
            opened(&content).and_then(|content| Profile::inspect(&content, &Limits::default()).ok())
        } else {
            match Profile::inspect(&content, &Limits::default()) {
                Ok(inspected) => Some(inspected),
                Err(error) => return Ok(Err(CannotDeliver(format!("the profile {name} is not one: {error}")))),
            }
        };
        if let Some(inspected) = inspected {
            self.note_identifier(request, enrollment, name, &inspected.identifier, now)
                .await?;
        }
        if signed {
            return Ok(Ok(content));
        }
        Ok(self.signed(content).map_err(|error| CannotDeliver(error.to_string())))
    }

    /// Notes by which identifier an assigned profile can be removed again. If the device has it under another one, that is
    /// removed now: it would stay for ever.
    async fn note_identifier(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        name: &str,
        identifier: &str,
        now: Timestamp,
    ) -> Result<(), DeviceError> {
        let store = &self.inner.store;
        let Some(before) = store.note_delivered_profile(enrollment, name, identifier).await? else {
            return Ok(());
        };
        let fields = [
            ("RequestType".to_owned(), plist::Value::from("RemoveProfile")),
            ("Identifier".to_owned(), plist::Value::from(before.as_str())),
        ];
        let command = NewCommand {
            uuid: Uuid::now_v7(),
            tenant: request.tenant.id,
            request_type: "RemoveProfile".to_owned(),
            payload: codec::encode(&fields.into_iter().collect()),
            profile_name: None,
            priority: 0,
            not_before: None,
            expires_at: None,
            dedupe_key: Some(format!("RemoveProfile={before}")),
            origin: CommandOrigin::Server,
            created_by: "russet".to_owned(),
            creator_token: None,
            pace: None,
            hold: None,
            warnings: Vec::new(),
        };
        store.enqueue(command, vec![enrollment], now).await?;
        Ok(())
    }
}

/// Whether a profile is in a CMS envelope already: an ASN.1 SEQUENCE does not begin like XML.
pub(crate) fn is_signed(content: &[u8]) -> bool {
    content.first() == Some(&0x30)
}

/// What is in a signed profile; its signature is the device's to judge.
pub(crate) fn opened(content: &[u8]) -> Option<Vec<u8>> {
    cms::verify_attached(content, &SignaturePolicy::legacy())
        .ok()
        .map(|(content, _)| content)
}
