//! What an operator sets about the engine. Parsed and validated elsewhere; here only meaning and defaults.

use std::time::Duration;

use russet_apns::{ClientOptions, Endpoint};

/// Everything that the engine is told at start.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// How devices enroll.
    pub enrollment: EnrollmentSettings,
    /// How pushes are sent.
    pub push: PushSettings,
    /// How commands are queued.
    pub queue: QueueSettings,
    /// How observers and scheduled work are served, and what of calls is recorded.
    pub work: WorkSettings,
    /// The longest that the hook calls of one device request may take together.
    pub hook_budget: Duration,
}

/// How devices enroll.
#[derive(Clone, Debug)]
pub struct EnrollmentSettings {
    /// The address that devices reach this server at, such as `https://mdm.example.com`, without a slash at its end.
    pub public_url: String,
    /// The organisation, as devices show it.
    pub organization: String,
    /// The identifier of the enrollment profile (`PayloadIdentifier`); renewal only works while it stays the same.
    pub profile_identifier: String,
    /// `AccessRights` of the MDM payload.
    pub access_rights: u32,
    /// `CheckOutWhenRemoved` of the MDM payload.
    pub check_out_when_removed: bool,
    /// `SignMessage` of the MDM payload: devices sign each message. Needed unless clients authenticate by TLS.
    pub sign_message: bool,
    /// How the enrollment profile and rendered profiles are signed.
    pub signing: ProfileSigning,
    /// Whether a device may enroll when the tenant has no enrollment gate.
    pub without_gate: WithoutGate,
    /// How long the one-time SCEP challenge in an enrollment profile is good for.
    pub challenge_lifetime: Duration,
    /// How long identity certificates are valid.
    pub identity_lifetime: Duration,
    /// Which certificates may sign a MachineInfo.
    pub machine_info: MachineInfoTrust,
    /// Accept DES, SHA-1 and RSA keys of 1,024 bits, which only old clients use.
    pub legacy_algorithms: bool,
    /// Certificates in PEM that devices have to trust to reach this server; put into the enrollment profile.
    pub trust_anchors_pem: Vec<String>,
    /// Whether devices have to trust the server's own authority too, because it issued the TLS certificate.
    pub trust_own_authority: bool,
    /// The commands that a device gets when it has enrolled.
    pub on_enrollment: OnEnrollment,
    /// Manage network users of Macs (`UserAuthenticate`) without asking for their password again; else they are told
    /// that they are not managed.
    pub network_users: bool,
}

/// What a device is asked for right after it has enrolled.
#[derive(Clone, Copy, Debug)]
pub struct OnEnrollment {
    /// Ask for DeviceInformation.
    pub device_information: bool,
    /// Release a device that waits in Setup Assistant (`DeviceConfigured`).
    pub device_configured: bool,
}

/// How profiles are signed.
#[derive(Clone, Debug)]
pub enum ProfileSigning {
    /// Not at all.
    Unsigned,
    /// With an identity that the server made itself.
    OwnAuthority,
    /// With an identity of the operator's.
    Identity {
        /// The certificate, followed by its issuers, in PEM.
        certificate_pem: String,
        /// The private key in PEM.
        key_pem: zeroize::Zeroizing<String>,
    },
}

/// What the absence of any enrollment gate means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutGate {
    /// Nobody enrolls.
    Deny,
    /// Everybody enrolls.
    Allow,
}

/// Which certificates may sign a MachineInfo (automated device enrollment).
#[derive(Clone, Debug)]
pub enum MachineInfoTrust {
    /// Those that lead to one of these anchors, in PEM.
    Anchors(String),
    /// Any: for tests only, because everybody can make such a request.
    Unverified,
    /// None: automated device enrollment is off.
    Off,
}

/// How commands are queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a question that changes nothing waits for its answer, if whoever asks says nothing else; `None` for as long
    /// as it takes.
    pub query_lifetime: Option<Duration>,
    /// Whether a command goes on when a command policy fails. One that is destructive never does.
    pub open_on_policy_failure: bool,
}

impl Default for QueueSettings {
    /// Questions wait for 30 days; a failing policy lets commands go on that are not destructive.
    fn default() -> Self {
        Self {
            query_lifetime: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            open_on_policy_failure: true,
        }
    }
}

/// How observers and scheduled work are served, and what of calls is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkSettings {
    /// Whether questions, answers and what plugins ask the server are kept in full for a while.
    pub record_calls: bool,
    /// How often an event or a piece of work is tried before it is given up.
    pub attempts: u32,
    /// How long to wait after the first failure; each further one doubles it.
    pub retry_first: Duration,
    /// The longest wait after a failure.
    pub retry_longest: Duration,
    /// How many observers are served at once, and how many pieces of work.
    pub observers: usize,
    /// How many events are handed to one observer at once; those of one enrollment always one after the other.
    pub parallel: usize,
    /// How long an observer or a piece of work belongs to this node before another may take it.
    pub lease: Duration,
    /// How often to look for what nobody announced.
    pub idle_interval: Duration,
}

impl Default for WorkSettings {
    fn default() -> Self {
        Self {
            record_calls: true,
            attempts: 10,
            retry_first: Duration::from_secs(5),
            retry_longest: Duration::from_secs(60 * 60),
            observers: 16,
            parallel: 8,
            lease: Duration::from_secs(60),
            idle_interval: Duration::from_secs(5),
        }
    }
}

/// How pushes are sent.
#[derive(Clone, Debug)]
pub struct PushSettings {
    /// Where.
    pub endpoint: Endpoint,
    /// Limits and timings of each connection.
    pub client: ClientOptions,
    /// How many pushes are taken from the outbox at once.
    pub batch: u32,
    /// The most pushes that this node sends in a second; `None` for as many as it can.
    pub per_second: Option<u32>,
    /// How long a taken push belongs to this node before another may take it.
    pub lease: Duration,
    /// How long to wait after the first failure; each further one doubles it.
    pub retry_first: Duration,
    /// The longest wait after a failure.
    pub retry_longest: Duration,
    /// How often to look for pushes that nobody announced.
    pub idle_interval: Duration,
}

impl PushSettings {
    /// The defaults, for an endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            client: ClientOptions::default(),
            batch: 1_000,
            per_second: None,
            lease: Duration::from_secs(120),
            retry_first: Duration::from_secs(10),
            retry_longest: Duration::from_secs(60 * 60),
            idle_interval: Duration::from_secs(5),
        }
    }
}
