//! Simulated Apple devices: they enroll, check in, poll and answer over the network, as real ones do.
//!
//! A device is built by [`SimulatedDevice::builder`]. [`SimulatedDevice::enroll`] takes all steps of an enrollment; each
//! step is also a method of its own, so that a test can leave one out, repeat it or change its order. A device keeps to
//! the rules of real ones: it repeats a report until the server takes it, it drops its enrollment on a 401, it acts on a
//! push only when token and magic are right.
//!
//! What this module deliberately does not know: anything about the server beyond its address and what it trusts.
//!
//! ```no_run
//! use russet_simulator::SimulatedDevice;
//! use russet_simulator::device::ServerTrust;
//!
//! # async fn run(root_pem: &str) -> Result<(), russet_simulator::device::DeviceError> {
//! let mac = SimulatedDevice::builder()
//!     .mac()
//!     .serial_number("C02EXAMPLE1")
//!     .server("https://localhost:8443")
//!     .trust(ServerTrust::from_pem(root_pem)?)
//!     .build()?;
//! mac.enroll().await?;
//! for answered in mac.run_until_idle().await?.answered {
//!     println!("{}: {}", answered.request_type, answered.answer.status_name());
//! }
//! # Ok(())
//! # }
//! ```

mod answer;
mod builder;
mod ca;
mod channel;
mod commands;
mod declarations;
mod enroll;
mod error;
mod event;
mod facts;
mod identity;
mod legacy;
mod listen;
mod profile;
mod raw;
mod scep;
mod session;
mod state;
mod transport;
mod user;

use std::fmt;
use std::sync::{Arc, Mutex};

use russet_protocol::SecretBytes;
use russet_protocol::plist::Dictionary;

pub use answer::{Answer, ReceivedCommand, chain_item};
pub use builder::{Credentials, DeviceBuilder};
pub use ca::{DeviceIdentityCa, FactoryIdentity, machine_info};
pub use channel::UserNames;
pub use enroll::ProfileRequest;
pub use error::{DeviceError, Refusal, Step};
pub use event::DeviceEvent;
pub use facts::{DeviceFacts, Platform};
pub use identity::{Identity, IdentityMode, SignatureDigest, signature_header};
pub use listen::{ListenEnd, PushSource, Wake};
pub use profile::{EnrollmentProfile, InstalledProfile, MdmSettings, ProfileError, ProfileSignature, ScepSettings};
pub use scep::{ScepFailure, ScepMethod, ScepServer};
pub use session::Session;
pub use state::{Answered, Declaration, Lock, PushCredentials, Scripted, UserAuthenticated};
pub use transport::{RawResponse, ServerTrust};
pub use user::SimulatedUser;

use builder::Settings;
use channel::{Channel, Enrolled};
use scep::ScepClient;
use state::{ChannelState, DeviceState, Enrollment, Script, lock, random_token};

/// A simulated device. Cloning gives another handle to the same device, so that one task can listen for pushes while
/// another looks at what happened.
#[derive(Clone)]
pub struct SimulatedDevice(Arc<Inner>);

/// The device behind its handles. No lock is held while a request is under way, but the session's.
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) state: Mutex<DeviceState>,
    channel: Mutex<ChannelState>,
    session: tokio::sync::Mutex<()>,
}

impl fmt::Debug for SimulatedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDevice")
            .field("serial_number", &self.0.settings.facts.serial_number)
            .field("enrolled", &self.0.is_enrolled())
            .finish_non_exhaustive()
    }
}

impl SimulatedDevice {
    /// Starts building a device.
    pub fn builder() -> DeviceBuilder {
        DeviceBuilder::default()
    }

    pub(crate) fn new(settings: Settings) -> Result<Self, DeviceError> {
        let client = transport::client(
            &settings.trust,
            &[],
            None,
            settings.facts.platform.user_agent(),
            settings.timeout,
        )?;
        // A Mac has no unlock token; other devices make theirs when they enroll.
        let unlock_token = (!settings.facts.platform.is_mac() && settings.enrollment_id.is_none()).then(random_token);
        let state = DeviceState {
            client,
            enrollment: None,
            automated: false,
            awaiting_configuration: false,
            profiles: Vec::new(),
            bootstrap_token: None,
            unlock_token,
            lock: None,
            erased: false,
            restarts: 0,
            settings: std::collections::BTreeMap::new(),
            unenrolled: None,
        };
        Ok(Self(Arc::new(Inner {
            settings,
            state: Mutex::new(state),
            channel: Mutex::new(ChannelState::new()),
            session: tokio::sync::Mutex::new(()),
        })))
    }

    /// What the device is.
    pub fn facts(&self) -> &DeviceFacts {
        &self.0.settings.facts
    }

    /// A user of the device, with a channel of its own.
    pub fn user(&self, names: UserNames) -> SimulatedUser {
        SimulatedUser::new(self.clone(), names)
    }

    /// Whether the device is managed: it has a profile and its first token update was taken.
    pub fn is_enrolled(&self) -> bool {
        self.0.is_enrolled()
    }

    /// Why the device is not managed any more; `None` while it is, and before it ever was.
    pub fn unenrolled(&self) -> Option<String> {
        lock(&self.0.state).unenrolled.clone()
    }

    /// The enrollment profile.
    pub fn enrollment_profile(&self) -> Option<EnrollmentProfile> {
        let state = lock(&self.0.state);
        state.enrollment.as_ref().map(|enrollment| enrollment.profile.clone())
    }

    /// The certificate and key that the server gave it.
    pub fn identity(&self) -> Option<Identity> {
        let state = lock(&self.0.state);
        state
            .enrollment
            .as_ref()
            .and_then(|enrollment| enrollment.identity.clone())
    }

    /// Gives the device another identity than the server gave it, to see what the server does about that.
    ///
    /// # Errors
    /// [`DeviceError::NotReady`] without a profile.
    pub fn set_identity(&self, identity: Identity) -> Result<(), DeviceError> {
        let profile = self.0.profile("an identity")?;
        self.0.set_enrollment(profile, Some(identity))
    }

    /// What a push must have to reach the device.
    ///
    /// # Errors
    /// [`DeviceError::NotReady`] without a profile, which names the topic.
    pub fn push_credentials(&self) -> Result<PushCredentials, DeviceError> {
        self.0.channel().push_credentials()
    }

    /// Lets the stand-in of Apple's push service know the device's token, as Apple's does.
    ///
    /// # Errors
    /// [`DeviceError::NotReady`] without a profile, which names the topic.
    pub fn register_for_push(&self, apns: &crate::apns::ApnsStandIn) -> Result<(), DeviceError> {
        let push = self.push_credentials()?;
        apns.register(push.token.expose(), &push.topic);
        Ok(())
    }

    /// Waits for the end of a session that runs, and keeps the next one waiting as long as what it returns is held: a device
    /// does one thing after the other, and in a session its identity may change. Do not start a session meanwhile.
    pub async fn between_sessions(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.session.lock().await
    }

    /// Gets a new push token and magic, as after a restore; the server knows them after the next token update.
    pub fn renew_push_credentials(&self) {
        let fresh = ChannelState::new();
        let mut state = lock(&self.0.channel);
        state.token = fresh.token;
        state.magic = fresh.magic;
    }

    /// The installed profiles; the enrollment profile is the first.
    pub fn profiles(&self) -> Vec<InstalledProfile> {
        lock(&self.0.state).profiles.clone()
    }

    /// The declarations that it has, by identifier.
    pub fn declarations(&self) -> std::collections::BTreeMap<String, Declaration> {
        lock(&self.0.channel).declarations.clone()
    }

    /// The commands that it answered since it was built, and the answers that the server took.
    pub fn answered(&self) -> Vec<Answered> {
        lock(&self.0.channel).answered.clone()
    }

    /// How it is locked.
    pub fn locked(&self) -> Option<Lock> {
        lock(&self.0.state).lock.clone()
    }

    /// Whether it was erased.
    pub fn is_erased(&self) -> bool {
        lock(&self.0.state).erased
    }

    /// How often it was told to restart or shut down.
    pub fn restarts(&self) -> u32 {
        lock(&self.0.state).restarts
    }

    /// Whether it waits in Setup Assistant.
    pub fn is_awaiting_configuration(&self) -> bool {
        lock(&self.0.state).awaiting_configuration
    }

    /// The bootstrap token that it made and, if the server took it, deposited.
    pub fn bootstrap_token(&self) -> Option<SecretBytes> {
        lock(&self.0.state).bootstrap_token.clone()
    }

    /// What clears its passcode; none on a Mac.
    pub fn unlock_token(&self) -> Option<SecretBytes> {
        lock(&self.0.state).unlock_token.clone()
    }

    /// Answers "not now" to the next command, once.
    pub fn answer_not_now_once(&self) {
        self.script(None, Scripted::NotNow);
    }

    /// Answers the next command with an error, once.
    pub fn answer_error(&self, error_code: i64, error_domain: &str, description: &str) {
        self.script(
            None,
            Scripted::Error(vec![chain_item(error_code, error_domain, description)]),
        );
    }

    /// Gives this answer, once, to the next command of a type, or to the next of any. Scripts apply in the order given.
    pub fn script(&self, request_type: Option<&str>, answer: Scripted) {
        lock(&self.0.channel).scripts.push_back(Script {
            request_type: request_type.map(str::to_owned),
            answer,
        });
    }

    /// Forgets the scripted answers that no command took.
    pub fn unscript(&self) {
        lock(&self.0.channel).scripts.clear();
    }

    /// Sends one report, and returns the command that came back.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn poll(&self, answer: &Answer) -> Result<Option<ReceivedCommand>, DeviceError> {
        self.0.channel().poll(answer).await
    }

    /// Carries a command out and returns the answer without sending it. The device sends it in its next session, unless
    /// [`poll`](Self::poll) does before; what follows from the command is done once the server took the answer.
    pub async fn execute(&self, command: &ReceivedCommand) -> Answer {
        self.0.channel().execute(command).await
    }

    /// Carries a command out, sends the answer, does what follows from it, and returns the next command.
    ///
    /// # Errors
    /// [`DeviceError`]; the answer is kept and goes out first in the next session.
    pub async fn answer(&self, command: &ReceivedCommand) -> Result<Option<ReceivedCommand>, DeviceError> {
        let channel = self.0.channel();
        let answer = channel.execute(command).await;
        channel.poll(&answer).await
    }

    /// Polls and answers until the server has no command left. What the server did not take last time goes first.
    ///
    /// # Errors
    /// [`DeviceError`]; an answer that was not taken is kept for the next session.
    pub async fn run_until_idle(&self) -> Result<Session, DeviceError> {
        Box::pin(self.0.channel().run_until_idle()).await
    }

    /// Listens for pushes and runs a session for each that is meant for it. Returns when there will be none any more, or
    /// when the device is not managed any more.
    pub async fn listen(&self, pushes: impl PushSource) -> ListenEnd {
        self.0.channel().listen(pushes).await
    }

    /// Sends a request of the declarative protocol. `data` is the JSON of a status report.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn declarative(&self, endpoint: &str, data: Option<Vec<u8>>) -> Result<RawResponse, DeviceError> {
        self.0.channel().declarative(endpoint, data).await
    }

    /// Synchronises declarations as after the command `DeclarativeManagement`.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn sync_declarations(&self) -> Result<(), DeviceError> {
        self.0.channel().sync_declarations().await
    }

    /// Asks for a token of one of Apple's services; `None` when the answer has none.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn get_token(&self, service: &str, parameters: Dictionary) -> Result<Option<Vec<u8>>, DeviceError> {
        self.0.channel().get_token(service, parameters).await
    }
}

impl Inner {
    pub(crate) fn channel(&self) -> Channel<'_> {
        Channel {
            device: self,
            user: None,
            state: &self.channel,
            session: &self.session,
        }
    }

    pub(crate) fn emit(&self, event: &DeviceEvent) {
        if let Some(observer) = &self.settings.observer {
            observer(&self.settings.facts, event);
        }
    }

    pub(crate) fn is_enrolled(&self) -> bool {
        lock(&self.state)
            .enrollment
            .as_ref()
            .is_some_and(|enrollment| enrollment.complete)
    }

    pub(crate) fn client(&self) -> reqwest::Client {
        lock(&self.state).client.clone()
    }

    pub(crate) fn profile(&self, step: &'static str) -> Result<EnrollmentProfile, DeviceError> {
        let state = lock(&self.state);
        let enrollment = state.enrollment.as_ref().ok_or(DeviceError::NotReady {
            step,
            needs: "an enrollment profile",
        })?;
        Ok(enrollment.profile.clone())
    }

    pub(crate) fn mdm(&self) -> Result<MdmSettings, DeviceError> {
        Ok(self.profile("the push topic")?.mdm)
    }

    pub(crate) fn enrolled(&self, step: &'static str) -> Result<Enrolled, DeviceError> {
        let state = lock(&self.state);
        let enrollment = state.enrollment.as_ref().ok_or(DeviceError::NotReady {
            step,
            needs: "an enrollment profile",
        })?;
        let identity = enrollment.identity.clone().ok_or(DeviceError::NotReady {
            step,
            needs: "an identity",
        })?;
        Ok(Enrolled {
            client: state.client.clone(),
            identity,
            mdm: enrollment.profile.mdm.clone(),
        })
    }

    /// Takes a profile and perhaps an identity; the client trusts and shows them from now on.
    pub(crate) fn set_enrollment(
        &self,
        profile: EnrollmentProfile,
        identity: Option<Identity>,
    ) -> Result<(), DeviceError> {
        self.restore_enrollment(Some(Enrollment {
            complete: self.is_enrolled(),
            profile,
            identity,
        }))
    }

    pub(crate) fn restore_enrollment(&self, enrollment: Option<Enrollment>) -> Result<(), DeviceError> {
        let settings = &self.settings;
        let anchors = enrollment
            .as_ref()
            .map(|enrollment| enrollment.profile.anchors.clone())
            .unwrap_or_default();
        let identity = enrollment.as_ref().and_then(|enrollment| enrollment.identity.clone());
        let client = transport::client(
            &settings.trust,
            &anchors,
            identity.as_ref().filter(|_| settings.identity_mode.in_tls()),
            settings.facts.platform.user_agent(),
            settings.timeout,
        )?;
        let mut state = lock(&self.state);
        state.client = client;
        state.enrollment = enrollment;
        Ok(())
    }

    pub(crate) fn scep_client<'a>(&'a self, scep: &'a ScepSettings, http: &'a reqwest::Client) -> ScepClient<'a> {
        ScepClient {
            http,
            scep,
            facts: &self.settings.facts,
            method: self.settings.scep_method,
            key_kind: self.settings.key_kind,
        }
    }

    /// Puts the enrollment profile first among the installed ones.
    pub(crate) fn replace_profile(&self, profile: InstalledProfile) {
        let mut state = lock(&self.state);
        state.profiles.retain(|own| own.identifier != profile.identifier);
        state.profiles.insert(0, profile);
    }

    /// Drops the enrollment and everything that came by it.
    pub(crate) fn unenroll(&self, reason: String) {
        let mut state = lock(&self.state);
        if let Some(enrollment) = state.enrollment.take() {
            let own = enrollment.profile.profile.identifier;
            state
                .profiles
                .retain(|profile| !profile.managed && profile.identifier != own);
            state.unenrolled = Some(reason.clone());
            drop(state);
            let mut channel = lock(&self.channel);
            *channel = ChannelState::forgetting(&channel);
            drop(channel);
            self.emit(&DeviceEvent::Unenrolled { reason });
        }
    }

    /// Forgets everything, as `EraseDevice` says.
    pub(crate) fn erase(&self) {
        self.unenroll("the device was erased".to_owned());
        let mut state = lock(&self.state);
        state.profiles.clear();
        state.bootstrap_token = None;
        state.lock = None;
        state.settings.clear();
        state.erased = true;
    }
}
