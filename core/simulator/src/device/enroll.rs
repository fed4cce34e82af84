//! Enrollment, step by step: profile, identity, check-in, escrow of the bootstrap token, and the way out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use russet_protocol::SecretBytes;
use russet_protocol::content_type;
use russet_protocol::plist::{Dictionary, Value};

use super::builder::Credentials;
use super::ca::machine_info;
use super::commands::trust_anchors;
use super::error::{DeviceError, Refusal, Step};
use super::event::DeviceEvent;
use super::identity::Identity;
use super::profile::{EnrollmentProfile, ProfileSignature};
use super::scep::ScepServer;
use super::state::{lock, random_token};
use super::transport::{self, Outgoing, RawResponse};
use super::{Inner, SimulatedDevice};

/// How a device asks for its enrollment profile.
#[derive(Debug, Clone)]
pub enum ProfileRequest {
    /// Automated enrollment: a `POST` of signed machine information; with credentials when the server asked for them.
    Automated(Option<Credentials>),
    /// By hand: a `GET`, with credentials when the server asked for them.
    Manual(Option<Credentials>),
}

impl SimulatedDevice {
    /// Takes all steps of an enrollment. A device with a factory certificate enrolls automatically, others by hand. When
    /// the server asks for credentials and the device was given some, it asks again with them.
    ///
    /// # Errors
    /// [`DeviceError`] of the step that failed.
    pub async fn enroll(&self) -> Result<(), DeviceError> {
        let credentials = self.0.settings.credentials.clone();
        let automated = self.0.settings.factory.is_some();
        let request = |credentials| match automated {
            true => ProfileRequest::Automated(credentials),
            false => ProfileRequest::Manual(credentials),
        };
        let first = self.fetch_profile(&request(None)).await;
        let fetched = match first {
            Err(error) if error.status() == Some(401) && credentials.is_some() => {
                self.fetch_profile(&request(credentials)).await
            }
            other => other,
        };
        let profile = fetched.inspect_err(|error| {
            if let Some(refusal) = error.refusal() {
                self.0.emit(&refused(refusal));
            }
        })?;
        self.enroll_identity().await?;
        self.authenticate().await?;
        self.token_update().await?;
        let deposits = profile.mdm.server_can("com.apple.mdm.bootstraptoken");
        if self.facts().platform.is_mac() && deposits && self.0.settings.enrollment_id.is_none() {
            // A real Mac is managed without its token, so a server that declines it does not undo the enrollment.
            if let Err(error) = self.set_bootstrap_token().await {
                let reason = error.with_causes();
                self.0.emit(&DeviceEvent::Failed { reason });
            }
        }
        Ok(())
    }

    /// Asks for the enrollment profile and keeps it for the next steps.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] with the server's answer, [`DeviceError::Profile`] when a device would not install it.
    pub async fn fetch_profile(&self, request: &ProfileRequest) -> Result<EnrollmentProfile, DeviceError> {
        let step = Step::EnrollmentProfile;
        let response = self.request_profile(request).await?.accepted(step)?;
        let media_type = response.content_type().unwrap_or_default();
        if !content_type::is(media_type, content_type::PROFILE) {
            let reason = format!("its Content-Type must be {}", content_type::PROFILE);
            return Err(DeviceError::answer(step, reason));
        }
        let profile = self.install_enrollment_profile(&response.body)?;
        lock(&self.0.state).automated = matches!(request, ProfileRequest::Automated(_));
        Ok(profile)
    }

    /// Asks for the enrollment profile and returns whatever the server answers.
    ///
    /// # Errors
    /// [`DeviceError::Transport`], and [`DeviceError::NotReady`] for automated enrollment without a factory certificate.
    pub async fn request_profile(&self, request: &ProfileRequest) -> Result<RawResponse, DeviceError> {
        let settings = &self.0.settings;
        let mut headers = HeaderMap::new();
        let (method, body, credentials) = match request {
            ProfileRequest::Manual(credentials) => (Method::GET, Bytes::new(), credentials),
            ProfileRequest::Automated(credentials) => {
                let factory = settings.factory.as_ref().ok_or(DeviceError::NotReady {
                    step: "automated enrollment",
                    needs: "a factory certificate (made_by)",
                })?;
                let media_type = HeaderValue::from_static(content_type::PKCS7_SIGNATURE);
                headers.insert(CONTENT_TYPE, media_type);
                let signed = factory.sign(&machine_info(&settings.facts))?;
                (Method::POST, Bytes::from(signed), credentials)
            }
        };
        if let Some(credentials) = credentials {
            headers.insert(AUTHORIZATION, basic(credentials)?);
        }
        let request = Outgoing {
            step: Step::EnrollmentProfile,
            method,
            url: &format!("{}{}", settings.server, settings.enroll_path),
            headers,
            body,
        };
        transport::send(&self.0.client(), request).await
    }

    /// Takes an enrollment profile that came another way.
    ///
    /// # Errors
    /// [`DeviceError::Profile`] when a device would not install it.
    pub fn install_enrollment_profile(&self, profile: &[u8]) -> Result<EnrollmentProfile, DeviceError> {
        let anchors = trust_anchors(&self.0.settings, &lock(&self.0.state));
        let profile = EnrollmentProfile::parse(profile, &anchors)?;
        self.0.set_enrollment(profile.clone(), None)?;
        self.0.replace_profile(profile.profile.clone());
        let mut state = lock(&self.0.state);
        state.unenrolled = None;
        state.erased = false;
        state.awaiting_configuration = self.0.settings.awaiting_configuration;
        if let Some(enrollment) = &mut state.enrollment {
            enrollment.complete = false;
        }
        drop(state);
        self.0.emit(&DeviceEvent::ProfileReceived {
            organization: profile.profile.organization.clone(),
            signed: profile.profile.signature != ProfileSignature::None,
        });
        Ok(profile)
    }

    /// What the SCEP server of the profile says about itself; checks the fingerprint when the profile names one.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn scep_server(&self) -> Result<ScepServer, DeviceError> {
        let profile = self.0.profile("SCEP")?;
        self.0.scep_client(&profile.scep, &self.0.client()).describe().await
    }

    /// Gets a first identity by SCEP.
    ///
    /// # Errors
    /// [`DeviceError::Scep`] when the server refuses, [`DeviceError::NotReady`] without a profile.
    pub async fn enroll_identity(&self) -> Result<Identity, DeviceError> {
        let profile = self.0.profile("an identity")?;
        let identity = self.0.scep_client(&profile.scep, &self.0.client()).enroll().await?;
        self.keep(profile, identity)
    }

    /// Gets the next identity by a renewal request that the current one signs.
    ///
    /// # Errors
    /// [`DeviceError::Scep`] when the server refuses, [`DeviceError::NotReady`] without an identity.
    pub async fn renew_identity(&self) -> Result<Identity, DeviceError> {
        let current = self.0.enrolled("a renewal")?.identity;
        let profile = self.0.profile("a renewal")?;
        let identity = self
            .0
            .scep_client(&profile.scep, &self.0.client())
            .renew(&current)
            .await?;
        self.keep(profile, identity)
    }

    fn keep(&self, profile: EnrollmentProfile, identity: Identity) -> Result<Identity, DeviceError> {
        self.0.set_enrollment(profile, Some(identity.clone()))?;
        let subject = identity.certificate().subject().to_owned();
        self.0.emit(&DeviceEvent::IdentityIssued { subject });
        Ok(identity)
    }

    /// Sends `Authenticate`.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn authenticate(&self) -> Result<(), DeviceError> {
        self.0.authenticate().await
    }

    /// Sends `TokenUpdate`: how the device can be reached by push.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn token_update(&self) -> Result<(), DeviceError> {
        self.0.channel().token_update().await
    }

    /// Makes a bootstrap token, unless the device has one, and deposits it.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn set_bootstrap_token(&self) -> Result<SecretBytes, DeviceError> {
        let token = {
            let mut state = lock(&self.0.state);
            state.bootstrap_token.get_or_insert_with(random_token).clone()
        };
        self.send_bootstrap_token(Some(token.expose())).await?;
        Ok(token)
    }

    /// Makes the server forget the bootstrap token.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn clear_bootstrap_token(&self) -> Result<(), DeviceError> {
        self.send_bootstrap_token(None).await?;
        lock(&self.0.state).bootstrap_token = None;
        Ok(())
    }

    async fn send_bootstrap_token(&self, token: Option<&[u8]>) -> Result<(), DeviceError> {
        let mut fields = self.0.awaiting();
        if let Some(token) = token {
            fields.insert("BootstrapToken".to_owned(), Value::Data(token.to_vec()));
        }
        self.0.channel().check_in("SetBootstrapToken", fields).await?;
        Ok(())
    }

    /// Asks for the bootstrap token; `None` when the server has none or keeps it.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn get_bootstrap_token(&self) -> Result<Option<SecretBytes>, DeviceError> {
        let step = Step::CheckIn("GetBootstrapToken");
        let response = self
            .0
            .channel()
            .check_in("GetBootstrapToken", self.0.awaiting())
            .await?;
        if response.body.is_empty() {
            return Ok(None);
        }
        let answer = response.plist().map_err(DeviceError::plist(step))?;
        let token = answer.get("BootstrapToken").and_then(Value::as_data);
        Ok(token.filter(|token| !token.is_empty()).map(SecretBytes::new))
    }

    /// Sends `CheckOut`. The device stays as it is; [`remove_enrollment`](Self::remove_enrollment) does both.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn check_out(&self) -> Result<(), DeviceError> {
        self.0.check_out().await
    }

    /// Removes the enrollment profile, as the person at the device can. The device says goodbye if the profile wants it;
    /// there is one attempt, and its failure changes nothing.
    ///
    /// # Errors
    /// [`DeviceError::NotReady`] when there is no enrollment.
    pub async fn remove_enrollment(&self) -> Result<(), DeviceError> {
        self.0.remove_enrollment().await
    }
}

impl Inner {
    pub(crate) async fn authenticate(&self) -> Result<(), DeviceError> {
        let facts = &self.settings.facts;
        let mut fields = Dictionary::from_iter([
            ("Topic", Value::from(self.mdm()?.topic)),
            ("DeviceName", Value::from(facts.device_name.as_str())),
            ("Model", Value::from(facts.model.as_str())),
            ("ModelName", Value::from(facts.model_name.as_str())),
            ("ProductName", Value::from(facts.product_name.as_str())),
            ("OSVersion", Value::from(facts.os_version.as_str())),
            ("BuildVersion", Value::from(facts.build_version.as_str())),
        ]);
        // A user enrollment hides what identifies the hardware.
        if self.settings.enrollment_id.is_none() {
            let serial_number = Some(&facts.serial_number);
            let identifiers = [
                ("SerialNumber", serial_number),
                ("IMEI", facts.imei.as_ref()),
                ("MEID", facts.meid.as_ref()),
            ];
            for (key, value) in identifiers {
                if let Some(value) = value {
                    fields.insert(key.to_owned(), Value::from(value.as_str()));
                }
            }
        }
        self.channel().check_in("Authenticate", fields).await?;
        Ok(())
    }

    pub(crate) async fn check_out(&self) -> Result<(), DeviceError> {
        let fields = Dictionary::from_iter([("Topic", Value::from(self.mdm()?.topic))]);
        self.channel().check_in("CheckOut", fields).await?;
        Ok(())
    }

    pub(crate) async fn remove_enrollment(&self) -> Result<(), DeviceError> {
        if self.mdm()?.check_out_when_removed
            && let Err(error) = self.check_out().await
        {
            tracing::debug!(error = %error, "a simulated device could not check out");
        }
        self.unenroll("the management profile was removed".to_owned());
        Ok(())
    }

    fn awaiting(&self) -> Dictionary {
        let awaiting = lock(&self.state).awaiting_configuration;
        Dictionary::from_iter([("AwaitingConfiguration", Value::Boolean(awaiting))])
    }
}

fn basic(credentials: &Credentials) -> Result<HeaderValue, DeviceError> {
    let pair = format!("{}:{}", credentials.user_name, credentials.password.expose());
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(pair))).map_err(DeviceError::crypto)?;
    value.set_sensitive(true);
    Ok(value)
}

fn refused(refusal: &Refusal) -> DeviceEvent {
    DeviceEvent::EnrollmentRefused {
        status: refusal.status(),
        code: refusal.code(),
        message: refusal.message().unwrap_or_else(|| refusal.text()),
    }
}
