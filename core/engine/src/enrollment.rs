//! The enrollment profile: who asks, whether a gate lets them in, and a profile with a one-time challenge.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use russet_hooks::{
    Device, DirectoryRequest, DirectoryVerdict, EnrollmentMethod, EnrollmentRequest, GateStage, GateVerdict, Person,
    SignIn, SoftwareUpdate,
};
use russet_pki::{Certificate, ChainPolicy, SignaturePolicy, TrustAnchors, cms, fingerprint};
use russet_protocol::forbidden::{BetaProgram, Forbidden, SoftwareUpdateRequired};
use russet_protocol::profile::{AccessRights, EnrollmentProfile, MdmPayload, ScepPayload};
use russet_protocol::{Limits, MachineInfo, SecretString};
use russet_store::{EnrollmentLookup, EnrollmentRecord, EnrollmentState, NewChallenge, StoreError};

use crate::error::{ProfileRefusal, RETRY_AFTER, StartError};
use crate::settings::{MachineInfoTrust, WithoutGate};
use crate::{Engine, EngineError, Request, subject};

/// A request for an enrollment profile.
#[derive(Debug)]
pub struct ProfileRequest {
    /// What the device sent.
    pub source: ProfileSource,
    /// The name and password that came with it.
    pub credentials: Option<SignIn>,
}

/// How a profile is asked for.
#[derive(Debug)]
pub enum ProfileSource {
    /// Somebody downloads it; nothing is known of the device.
    Manual,
    /// A device in set-up posts its MachineInfo as signed CMS.
    MachineInfo(Vec<u8>),
}

/// The largest signed MachineInfo that is read. Real ones have about 5 KB.
const MACHINE_INFO_MAX: usize = 128 * 1024;

/// Checks who signed a MachineInfo.
#[derive(Debug)]
pub(crate) enum MachineInfoVerifier {
    Anchors(TrustAnchors),
    Unverified,
    Off,
}

impl MachineInfoVerifier {
    pub(crate) fn new(trust: &MachineInfoTrust) -> Result<Self, StartError> {
        Ok(match trust {
            MachineInfoTrust::Anchors(pem) => {
                let anchors = Certificate::chain_from_pem(pem).map_err(StartError::MachineInfoAnchors)?;
                // Apple's device authority still issues with SHA-1 and 1,024 bits.
                let policy = ChainPolicy {
                    legacy: true,
                    ..ChainPolicy::default()
                };
                Self::Anchors(TrustAnchors::new(anchors).with_policy(policy))
            }
            MachineInfoTrust::Unverified => Self::Unverified,
            MachineInfoTrust::Off => Self::Off,
        })
    }

    fn read(&self, message: &[u8], now: Timestamp) -> Result<MachineInfo, ProfileRefusal> {
        if matches!(self, Self::Off) {
            return Err(ProfileRefusal::MachineInfo(
                "automated device enrollment is not set up (enrollment.device_ca)".to_owned(),
            ));
        }
        if message.len() > MACHINE_INFO_MAX {
            return Err(ProfileRefusal::MachineInfo("it is too large".to_owned()));
        }
        let refuse = |error: &dyn std::fmt::Display| ProfileRefusal::MachineInfo(error.to_string());
        let (content, verified) =
            cms::verify_attached(message, &SignaturePolicy::legacy()).map_err(|error| refuse(&error))?;
        if let Self::Anchors(anchors) = self {
            anchors
                .verify_chain(&verified.signer, &verified.certificates, now)
                .map_err(|error| refuse(&error))?;
        }
        MachineInfo::decode(&content, &Limits::default()).map_err(|error| refuse(&error))
    }
}

impl Engine {
    /// Makes an enrollment profile, if the gates allow it.
    ///
    /// # Errors
    ///
    /// [`ProfileRefusal`]: what the device or the person can do about it.
    pub async fn enrollment_profile(
        &self,
        request: &Request,
        ask: ProfileRequest,
        now: Timestamp,
    ) -> Result<Vec<u8>, ProfileRefusal> {
        let (method, machine) = match ask.source {
            ProfileSource::Manual => (EnrollmentMethod::Manual, None),
            ProfileSource::MachineInfo(message) => (
                EnrollmentMethod::Automated,
                Some(self.inner.machine_info.read(&message, now)?),
            ),
        };
        if !request.hooks.has_gate() && self.inner.settings.enrollment.without_gate == WithoutGate::Deny {
            return Err(ProfileRefusal::Denied {
                reason: "no-gate".to_owned(),
                message: "No enrollment gate is installed, so nobody can enroll. Install one, or set \
                          enrollment.without_gate to \"allow\"."
                    .to_owned(),
            });
        }
        let mut recorded = Vec::new();
        let person = match ask.credentials {
            Some(sign_in) => Some(self.sign_in(request, sign_in, &mut recorded, now).await?),
            None => None,
        };
        let device = machine
            .as_ref()
            .map_or_else(Device::default, subject::device_of_machine_info);
        let can_update = machine
            .as_ref()
            .is_some_and(|machine| machine.can_request_software_update);
        let replaces = match machine.as_ref().and_then(|machine| machine.udid.as_deref()) {
            Some(udid) => self.replaced(request, EnrollmentLookup::Udid(udid)).await?,
            None => None,
        };
        let outcome = request
            .hooks
            .check_enrollment(
                &request.scope,
                EnrollmentRequest {
                    stage: GateStage::Profile,
                    method,
                    ownership: subject::ownership(method, None),
                    device,
                    person: person.clone(),
                    can_request_software_update: can_update,
                    replaces,
                },
            )
            .await;
        recorded.extend(self.decided(request, outcome.decisions, None).await.map_err(internal)?);
        let refusal = match outcome.verdict {
            Ok(GateVerdict::Allow(mut attributes)) => {
                subject::note_method(&mut attributes, method);
                let attributes = subject::attributes_json(&attributes);
                return self
                    .make_profile(request, machine, person, attributes, recorded, now)
                    .await;
            }
            Ok(GateVerdict::RequireSignIn) if person.is_none() && request.hooks.has_directory() => {
                ProfileRefusal::SignIn
            }
            Ok(GateVerdict::RequireSignIn) => ProfileRefusal::Denied {
                reason: "sign-in-not-possible".to_owned(),
                message: "Signing in is required, and nobody can sign in here. Ask your administrator.".to_owned(),
            },
            Ok(GateVerdict::RequireSoftwareUpdate(update)) => software_update(update, can_update),
            Ok(GateVerdict::Deny(denial)) => ProfileRefusal::Denied {
                reason: denial.reason,
                message: denial.message,
            },
            Err(_) => ProfileRefusal::TryLater { after: RETRY_AFTER },
        };
        self.inner
            .store
            .record_decisions(request.tenant.id, recorded, now)
            .await?;
        Err(refusal)
    }

    async fn sign_in(
        &self,
        request: &Request,
        sign_in: SignIn,
        recorded: &mut Vec<russet_store::NewDecision>,
        now: Timestamp,
    ) -> Result<Person, ProfileRefusal> {
        let outcome = request
            .hooks
            .ask_directory(&request.scope, DirectoryRequest::SignIn(sign_in))
            .await;
        recorded.extend(self.decided(request, outcome.decisions, None).await.map_err(internal)?);
        let refusal = match outcome.verdict {
            Ok(DirectoryVerdict::Person(person)) => return Ok(person),
            // The same answer for both: nobody learns which names exist.
            Ok(DirectoryVerdict::Unknown | DirectoryVerdict::WrongCredentials) => ProfileRefusal::WrongCredentials,
            Err(_) => ProfileRefusal::TryLater { after: RETRY_AFTER },
        };
        self.inner
            .store
            .record_decisions(request.tenant.id, std::mem::take(recorded), now)
            .await?;
        Err(refusal)
    }

    async fn make_profile(
        &self,
        request: &Request,
        machine: Option<MachineInfo>,
        person: Option<Person>,
        attributes: serde_json::Value,
        decisions: Vec<russet_store::NewDecision>,
        now: Timestamp,
    ) -> Result<Vec<u8>, ProfileRefusal> {
        let topic = self
            .topic(&request.tenant, now)
            .await?
            .ok_or(ProfileRefusal::NoPushCertificate)?;
        let challenge = new_challenge().map_err(internal)?;
        let (bound_serial, bound_udid) = machine.map_or((None, None), |machine| (machine.serial, machine.udid));
        let new = NewChallenge {
            challenge_sha256: fingerprint::sha256(challenge.as_bytes()),
            tenant: request.tenant.id,
            person: person
                .map(|person| serde_json::to_value(person).map_err(internal))
                .transpose()?,
            attributes,
            bound_serial,
            bound_udid,
            renews: None,
            expires_at: self.challenge_expiry(now).map_err(internal)?,
        };
        let profile = self.profile_with(request, &topic, challenge)?;
        let profile = self.signed(profile.to_plist().map_err(internal)?).map_err(internal)?;
        self.inner.store.create_challenge(new, decisions, now).await?;
        Ok(profile)
    }

    /// The enrollment that a device would replace by enrolling now.
    pub(crate) async fn replaced(
        &self,
        request: &Request,
        lookup: EnrollmentLookup<'_>,
    ) -> Result<Option<String>, StoreError> {
        match self.inner.store.enrollment(request.tenant.id, lookup).await {
            Ok(found) => Ok(found
                .filter(|found| found.state == EnrollmentState::Active && found.parent.is_none())
                .map(|found| found.key)),
            // Which of several it is shows at Authenticate.
            Err(StoreError::Ambiguous(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The enrollment profile that renews an enrollment: the same as before but for its challenge, whose certificate
    /// succeeds the one that the enrollment has. The device installs it in place of its own and stays enrolled.
    ///
    /// # Errors
    ///
    /// [`ProfileRefusal`].
    pub(crate) async fn renewal_profile(
        &self,
        request: &Request,
        enrollment: &EnrollmentRecord,
        now: Timestamp,
    ) -> Result<Vec<u8>, ProfileRefusal> {
        // The topic of a device must not change: it cannot be woken by another certificate.
        let topic = match enrollment.push.as_ref().map(|push| push.topic.clone()) {
            Some(topic) => topic,
            None => self
                .topic(&request.tenant, now)
                .await?
                .ok_or(ProfileRefusal::NoPushCertificate)?,
        };
        let challenge = new_challenge().map_err(internal)?;
        let new = NewChallenge {
            challenge_sha256: fingerprint::sha256(challenge.as_bytes()),
            tenant: request.tenant.id,
            person: enrollment.person.clone(),
            attributes: enrollment.attributes.clone(),
            bound_serial: None,
            bound_udid: None,
            renews: Some(enrollment.id),
            expires_at: self.challenge_expiry(now).map_err(internal)?,
        };
        let profile = self.profile_with(request, &topic, challenge)?;
        let profile = self.signed(profile.to_plist().map_err(internal)?).map_err(internal)?;
        self.inner.store.create_challenge(new, Vec::new(), now).await?;
        Ok(profile)
    }

    fn challenge_expiry(&self, now: Timestamp) -> Result<Timestamp, jiff::Error> {
        let lifetime = SignedDuration::try_from(self.inner.settings.enrollment.challenge_lifetime)?;
        now.checked_add(lifetime)
    }

    fn profile_with(
        &self,
        request: &Request,
        topic: &str,
        challenge: String,
    ) -> Result<EnrollmentProfile, ProfileRefusal> {
        let settings = &self.inner.settings.enrollment;
        let base = self.tenant_url(&request.tenant);
        let mut scep = ScepPayload::new(format!("{base}/scep"));
        scep.ca_name = Some("russet".to_owned());
        scep.subject = vec![
            ("O".to_owned(), settings.organization.clone()),
            ("CN".to_owned(), "Russet device".to_owned()),
        ];
        let identity_seed = challenge.clone();
        scep.challenge = Some(SecretString::new(challenge));
        scep.ca_fingerprint = Some(self.inner.authorities.devices.certificate().sha1().to_vec());
        scep.key_is_extractable = Some(false);
        let mut mdm = MdmPayload::new(format!("{base}/mdm/connect"), topic);
        mdm.check_in_url = Some(format!("{base}/mdm/checkin"));
        mdm.sign_message = settings.sign_message;
        mdm.access_rights = Some(AccessRights::new(settings.access_rights).map_err(internal)?);
        mdm.check_out_when_removed = settings.check_out_when_removed;
        Ok(EnrollmentProfile {
            identifier: settings.profile_identifier.clone(),
            display_name: format!("{} device management", settings.organization),
            description: Some(format!("Lets {} manage this device.", settings.organization)),
            organization: Some(settings.organization.clone()),
            identity_seed,
            scep,
            mdm,
            trust_anchors: self.inner.anchors.iter().map(|anchor| anchor.der().to_vec()).collect(),
        })
    }

    /// The base of a tenant's addresses.
    pub(crate) fn tenant_url(&self, tenant: &crate::TenantRef) -> String {
        let base = &self.inner.settings.enrollment.public_url;
        if tenant.id == self.inner.store.default_tenant() {
            base.clone()
        } else {
            format!("{base}/t/{}", tenant.name)
        }
    }
}

/// A one-time challenge: 24 random bytes.
fn new_challenge() -> Result<String, EngineError> {
    Ok(URL_SAFE_NO_PAD.encode(crate::random::<24>()?))
}

fn software_update(update: SoftwareUpdate, can_update: bool) -> ProfileRefusal {
    if !can_update {
        return ProfileRefusal::Denied {
            reason: "software-update-required".to_owned(),
            message: format!(
                "Update this device to {} first, then enroll it again.",
                update.os_version
            ),
        };
    }
    let message = format!(
        "An update to {} is needed before this device can enroll.",
        update.os_version
    );
    let body = Forbidden::software_update_required(SoftwareUpdateRequired {
        os_version: update.os_version,
        build_version: update.build_version,
        require_beta_program: update.beta.map(|beta| BetaProgram {
            description: beta.description,
            token: SecretString::new(beta.token),
        }),
    })
    .with_description("the enrollment gate requires a software update")
    .with_message(message);
    ProfileRefusal::Forbidden(Box::new(body))
}

fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProfileRefusal {
    ProfileRefusal::Internal(error.into())
}
