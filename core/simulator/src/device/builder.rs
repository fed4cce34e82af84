//! Setting a simulated device up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use russet_pki::key::KeyKind;
use russet_protocol::SecretString;

use super::SimulatedDevice;
use super::ca::{DeviceIdentityCa, FactoryIdentity};
use super::error::DeviceError;
use super::event::{DeviceEvent, Observer};
use super::facts::{DeviceFacts, Platform};
use super::identity::{IdentityMode, SignatureDigest};
use super::scep::ScepMethod;
use super::transport::ServerTrust;
use crate::apns::ApnsStandIn;

/// A name and password that the person at the device types.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The name.
    pub user_name: String,
    /// The password.
    pub password: SecretString,
}

impl Credentials {
    /// Credentials of a person.
    pub fn new(user_name: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user_name: user_name.into(),
            password: SecretString::new(password),
        }
    }
}

/// Everything about a device that does not change while it runs.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) facts: DeviceFacts,
    /// Set for a user enrollment, which names itself so instead of by `UDID`.
    pub(crate) enrollment_id: Option<String>,
    pub(crate) server: String,
    pub(crate) enroll_path: String,
    pub(crate) trust: ServerTrust,
    pub(crate) factory: Option<FactoryIdentity>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) identity_mode: IdentityMode,
    pub(crate) digest: SignatureDigest,
    pub(crate) key_kind: Option<KeyKind>,
    pub(crate) scep_method: ScepMethod,
    pub(crate) content_type: bool,
    pub(crate) awaiting_configuration: bool,
    pub(crate) timeout: Duration,
    pub(crate) retry_after: Duration,
    pub(crate) observer: Option<Observer>,
    pub(crate) push_service: Option<ApnsStandIn>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("facts", &self.facts)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Builds a [`SimulatedDevice`]: a Mac that enrolls by hand, unless told otherwise.
#[derive(Debug, Clone)]
#[must_use]
pub struct DeviceBuilder {
    settings: Settings,
    made_by: Option<DeviceIdentityCa>,
}

impl Default for DeviceBuilder {
    fn default() -> Self {
        Self {
            settings: Settings {
                facts: DeviceFacts::new(Platform::Mac),
                enrollment_id: None,
                server: String::new(),
                enroll_path: "/enroll".to_owned(),
                trust: ServerTrust::default(),
                factory: None,
                credentials: None,
                identity_mode: IdentityMode::default(),
                digest: SignatureDigest::default(),
                key_kind: None,
                scep_method: ScepMethod::default(),
                content_type: true,
                awaiting_configuration: false,
                timeout: Duration::from_secs(30),
                retry_after: Duration::from_secs(60),
                observer: None,
                push_service: None,
            },
            made_by: None,
        }
    }
}

impl DeviceBuilder {
    /// A Mac. Call it before the methods that set single facts.
    pub fn mac(self) -> Self {
        self.platform(Platform::Mac)
    }

    /// An iPhone. Call it before the methods that set single facts.
    pub fn iphone(self) -> Self {
        self.platform(Platform::IPhone)
    }

    /// An iPad. Call it before the methods that set single facts.
    pub fn ipad(self) -> Self {
        self.platform(Platform::IPad)
    }

    /// A plausible device of the platform. Call it before the methods that set single facts.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.settings.facts = DeviceFacts::new(platform);
        self
    }

    /// The serial number.
    pub fn serial_number(mut self, serial_number: impl Into<String>) -> Self {
        self.settings.facts.serial_number = serial_number.into();
        self
    }

    /// The hardware identifier.
    pub fn udid(mut self, udid: impl Into<String>) -> Self {
        self.settings.facts.udid = udid.into();
        self
    }

    /// The version of the operating system.
    pub fn os_version(mut self, os_version: impl Into<String>) -> Self {
        self.settings.facts.os_version = os_version.into();
        self
    }

    /// The build of the operating system.
    pub fn build_version(mut self, build_version: impl Into<String>) -> Self {
        self.settings.facts.build_version = build_version.into();
        self
    }

    /// The device's name.
    pub fn device_name(mut self, device_name: impl Into<String>) -> Self {
        self.settings.facts.device_name = device_name.into();
        self
    }

    /// Changes any other fact.
    pub fn facts(mut self, change: impl FnOnce(&mut DeviceFacts)) -> Self {
        change(&mut self.settings.facts);
        self
    }

    /// Makes it a user enrollment, which names itself by this identifier and hides serial number and `UDID`.
    pub fn user_enrollment(mut self, enrollment_id: impl Into<String>) -> Self {
        self.settings.enrollment_id = Some(enrollment_id.into());
        self
    }

    /// The server, such as `https://mdm.example.com:8443`, without a path.
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.settings.server = url.into();
        self
    }

    /// Where the server gives out enrollment profiles. Default: `/enroll`.
    pub fn enroll_path(mut self, path: impl Into<String>) -> Self {
        self.settings.enroll_path = path.into();
        self
    }

    /// Enrolls with one tenant: `/t/{tenant}/enroll`.
    pub fn tenant(self, tenant: &str) -> Self {
        self.enroll_path(format!("/t/{tenant}/enroll"))
    }

    /// Which servers it trusts; what an enrollment profile brings is added.
    pub fn trust(mut self, trust: ServerTrust) -> Self {
        self.settings.trust = trust;
        self
    }

    /// Gives it a factory certificate of this authority, so that it enrolls automatically.
    pub fn made_by(mut self, authority: &DeviceIdentityCa) -> Self {
        self.made_by = Some(authority.clone());
        self
    }

    /// What the person at the device answers when the server asks them to sign in.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.settings.credentials = Some(credentials);
        self
    }

    /// How it shows its identity.
    pub fn identity_mode(mut self, mode: IdentityMode) -> Self {
        self.settings.identity_mode = mode;
        self
    }

    /// Shows its identity in a header, as from a proxy that ended TLS.
    pub fn proxy_header(self, name: HeaderName) -> Self {
        self.identity_mode(IdentityMode::ProxyHeader(name))
    }

    /// The digest of its `Mdm-Signature`.
    pub fn signature_digest(mut self, digest: SignatureDigest) -> Self {
        self.settings.digest = digest;
        self
    }

    /// The key that it makes for its identity, whatever the profile says. Default: RSA of the size in the profile.
    pub fn key_kind(mut self, kind: KeyKind) -> Self {
        self.settings.key_kind = Some(kind);
        self
    }

    /// How it sends SCEP operations. Default: by `POST` when the server says that it can.
    pub fn scep_method(mut self, method: ScepMethod) -> Self {
        self.settings.scep_method = method;
        self
    }

    /// Leaves the `Content-Type` of check-in and connect messages out, as some proxies do.
    pub fn without_content_type(mut self) -> Self {
        self.settings.content_type = false;
        self
    }

    /// Waits in Setup Assistant after it enrolled, until the server sends `DeviceConfigured`.
    pub fn awaiting_configuration(mut self) -> Self {
        self.settings.awaiting_configuration = true;
        self
    }

    /// How long it waits for an answer. Default: 30 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How long it waits, while it listens for pushes, before it tries again what failed or what it could not do at the
    /// time. Default: 60 seconds.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.settings.retry_after = delay;
        self
    }

    /// Calls `observer` with everything that happens to the device, as it happens.
    pub fn observe(mut self, observer: impl Fn(&DeviceFacts, &DeviceEvent) + Send + Sync + 'static) -> Self {
        self.settings.observer = Some(Arc::new(observer));
        self
    }

    /// Lets it register its push tokens with the stand-in of Apple's push service before it tells them to the server, as
    /// a real device does. Without this, see [`SimulatedDevice::register_for_push`].
    pub fn push_service(mut self, apns: &ApnsStandIn) -> Self {
        self.settings.push_service = Some(apns.clone());
        self
    }

    /// Makes the device. Nothing is sent yet.
    ///
    /// # Errors
    /// [`DeviceError::Setup`] when a setting makes no sense, [`DeviceError::Crypto`] when a key cannot be made.
    pub fn build(mut self) -> Result<SimulatedDevice, DeviceError> {
        let server = self.settings.server.trim_end_matches('/');
        if !server.starts_with("https://") && !server.starts_with("http://") {
            return Err(DeviceError::Setup(
                "name the server by its URL, such as https://mdm.example.com".to_owned(),
            ));
        }
        self.settings.server = server.to_owned();
        if let Some(authority) = &self.made_by {
            self.settings.factory = Some(authority.issue(&self.settings.facts.udid)?);
        }
        SimulatedDevice::new(self.settings)
    }
}
