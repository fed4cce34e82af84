//! An engine on a temporary store, with native hooks, and a device that speaks to it without a network.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "support of tests, shared by binaries that each use a part"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use russet_apns::{Endpoint, Roots};
use russet_engine::settings::{
    EnrollmentSettings, MachineInfoTrust, OnEnrollment, ProfileSigning, PushSettings, WithoutGate, WorkSettings,
};
use russet_engine::{
    Administrator, Audience, CommandSource, DeviceAnswer, DeviceError, Engine, EngineSettings, EnqueueRequest,
    ProfileRefusal, ProfileRequest, ProfileSource, Request,
};
use russet_hooks::{
    Ask, DeclarationPlanner, EnrollmentGate, EscrowHook, EscrowPolicy, EscrowRequest, EscrowVerdict, FaultKind,
    FixedHooks, GateHook, GateVerdict, HookSet, HookSource, PlanRequest, PlannedDeclaration, PlannerHook, PluginFault,
    ProfileTemplate, RenderedProfile, SignIn, TemplateHook,
};
use russet_pki::cms::{self, ContentCipher, Signer};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::scep::client::{Exchange, Outcome};
use russet_pki::{Certificate, SignaturePolicy, ca, mdm_signature};
use russet_protocol::{DeviceMessage, Limits, codec, plist};
use russet_store::testing::Inspection;
use russet_store::{MasterKey, Store, StoreConfig};
use serde_json::json;
use tempfile::TempDir;

pub const TOPIC: &str = "com.apple.mgmt.External.russet-test";

/// What the scripted hooks answer; changed by tests as they go.
#[derive(Debug, Default)]
pub struct Script {
    pub gate: Mutex<Option<Result<GateVerdict, FaultKind>>>,
    pub asked: Mutex<Vec<russet_hooks::EnrollmentRequest>>,
    pub escrow: Mutex<Option<Result<EscrowVerdict, FaultKind>>>,
    pub escrow_asked: Mutex<Vec<EscrowRequest>>,
    pub plan: Mutex<Option<Result<Vec<PlannedDeclaration>, FaultKind>>>,
    pub plan_asked: Mutex<Vec<PlanRequest>>,
    pub template: Mutex<Option<Result<String, FaultKind>>>,
    /// A command that is taken back while its profile is rendered.
    pub take_back: Mutex<Option<(Store, uuid::Uuid, Timestamp)>>,
}

/// A gate that lets everybody in.
pub struct Allowing;

#[async_trait]
impl EnrollmentGate for Allowing {
    async fn check(&self, _: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        Ok(GateVerdict::Allow(Default::default()))
    }
}

struct Scripted(Arc<Script>);

/// A gate that answers as the script says.
pub fn scripted(script: &Arc<Script>) -> impl EnrollmentGate + use<> {
    Scripted(Arc::clone(script))
}

#[async_trait]
impl EnrollmentGate for Scripted {
    async fn check(&self, ask: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        self.0.asked.lock().unwrap().push((*ask.request).clone());
        let answer = self
            .0
            .gate
            .lock()
            .unwrap()
            .clone()
            .unwrap_or(Ok(GateVerdict::Allow(Default::default())));
        answer.map_err(|kind| PluginFault::new("gate", kind, "scripted"))
    }
}

#[async_trait]
impl EscrowPolicy for Scripted {
    async fn decide(&self, ask: &Ask<EscrowHook>) -> Result<EscrowVerdict, PluginFault> {
        self.0.escrow_asked.lock().unwrap().push((*ask.request).clone());
        let answer = self
            .0
            .escrow
            .lock()
            .unwrap()
            .clone()
            .unwrap_or(Ok(EscrowVerdict::Allow));
        answer.map_err(|kind| PluginFault::new("policy", kind, "scripted"))
    }
}

#[async_trait]
impl DeclarationPlanner for Scripted {
    async fn plan(&self, ask: &Ask<PlannerHook>) -> Result<Vec<PlannedDeclaration>, PluginFault> {
        self.0.plan_asked.lock().unwrap().push((*ask.request).clone());
        let answer = self.0.plan.lock().unwrap().clone().unwrap_or(Ok(Vec::new()));
        answer.map_err(|kind| PluginFault::new("planner", kind, "scripted"))
    }
}

#[async_trait]
impl ProfileTemplate for Scripted {
    async fn render(&self, ask: &Ask<TemplateHook>) -> Result<RenderedProfile, PluginFault> {
        let take_back = self.0.take_back.lock().unwrap().take();
        if let Some((store, uuid, now)) = take_back {
            store.cancel(store.default_tenant(), uuid, None, now).await.unwrap();
        }
        let scripted = self.0.template.lock().unwrap().clone();
        let serial = ask.request.device.serial_number.clone().unwrap_or_default();
        scripted
            .unwrap_or_else(|| Ok(ask.request.template.replace("SERIAL", &serial)))
            .map(|text| RenderedProfile(text.into_bytes()))
            .map_err(|kind| PluginFault::new("template", kind, "scripted"))
    }
}

pub struct World {
    pub engine: Engine,
    pub script: Arc<Script>,
    pub store: Store,
    pub now: Timestamp,
    folder: TempDir,
}

fn url(folder: &TempDir) -> String {
    format!("sqlite://{}", folder.path().join("russet.db").display())
}

pub fn settings() -> EnrollmentSettings {
    EnrollmentSettings {
        public_url: "https://mdm.example.com".into(),
        organization: "Example".into(),
        profile_identifier: "com.example.mdm".into(),
        access_rights: 8191,
        check_out_when_removed: true,
        sign_message: true,
        signing: ProfileSigning::OwnAuthority,
        without_gate: WithoutGate::Deny,
        challenge_lifetime: Duration::from_secs(3600),
        identity_lifetime: Duration::from_secs(365 * 24 * 3600),
        machine_info: MachineInfoTrust::Unverified,
        legacy_algorithms: false,
        trust_anchors_pem: Vec::new(),
        trust_own_authority: true,
        on_enrollment: OnEnrollment {
            device_information: false,
            device_configured: true,
        },
        network_users: false,
    }
}

impl World {
    pub async fn new() -> Self {
        let script = Arc::new(Script::default());
        let hooks = HookSet::builder()
            .gate("gate", Scripted(Arc::clone(&script)))
            .escrow_policy("policy", Scripted(Arc::clone(&script)))
            .template("template", Scripted(Arc::clone(&script)))
            .planner("planner", Scripted(Arc::clone(&script)))
            .build();
        Self::with(settings(), hooks, script).await
    }

    pub async fn with(enrollment: EnrollmentSettings, hooks: Arc<HookSet>, script: Arc<Script>) -> Self {
        Self::with_work(enrollment, WorkSettings::default(), hooks, script).await
    }

    pub async fn with_work(
        enrollment: EnrollmentSettings,
        work: WorkSettings,
        hooks: Arc<HookSet>,
        script: Arc<Script>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = url(&folder);
        let store = Store::open(StoreConfig::new(url), &MasterKey::from_bytes([7; 32]))
            .await
            .unwrap();
        let settings = EngineSettings {
            enrollment,
            push: PushSettings::new(Endpoint::new("localhost", 9, Roots::Custom(Vec::new()))),
            queue: russet_engine::settings::QueueSettings::default(),
            work,
            hook_budget: Duration::from_secs(5),
        };
        let now = Timestamp::now();
        let hooks: Arc<dyn HookSource> = Arc::new(FixedHooks(hooks));
        let engine = Engine::open(store.clone(), hooks, settings, now).await.unwrap();
        // A push certificate as far as enrollment needs one: its topic.
        let tenant = engine.tenant("default").await.unwrap();
        let certificate = russet_store::PushCertificate {
            topic: TOPIC.into(),
            certificate: Vec::new(),
            subject: String::new(),
            not_after: now + SignedDuration::from_hours(1000),
            updated_at: now,
        };
        store
            .put_push_certificate(tenant.id, certificate, b"key")
            .await
            .unwrap();
        Self {
            engine,
            script,
            store,
            now,
            folder,
        }
    }

    pub async fn request(&self) -> Request {
        self.engine.begin("default", "test").await.unwrap()
    }

    pub async fn profile(&self, source: ProfileSource, sign_in: Option<SignIn>) -> Result<Vec<u8>, ProfileRefusal> {
        let ask = ProfileRequest {
            source,
            credentials: sign_in,
        };
        self.engine
            .enrollment_profile(&self.request().await, ask, self.now)
            .await
    }

    /// A device that got its profile and its identity, and has not checked in yet.
    pub async fn identified(&self, serial: &str) -> Device {
        let profile = self.profile(ProfileSource::Manual, None).await.unwrap();
        let challenge = challenge_of(&profile);
        let (certificate, key) = self.enroll_identity(&challenge).await.unwrap();
        Device {
            udid: format!("UDID-{serial}"),
            serial: serial.into(),
            signer: Signer::new(certificate, key),
        }
    }

    /// A device that is enrolled.
    pub async fn enrolled(&self, serial: &str) -> Device {
        let device = self.identified(serial).await;
        self.send(&device, device.authenticate()).await.unwrap();
        self.send(&device, device.token_update()).await.unwrap();
        device
    }

    pub fn authority(&self) -> Certificate {
        Certificate::parse(self.engine.device_authority_der()).unwrap()
    }

    pub async fn enroll_identity(&self, challenge: &str) -> Result<(Certificate, PrivateKey), String> {
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let exchange = self.scep_request(&key, challenge);
        self.scep(&exchange).await.map(|certificate| (certificate, key))
    }

    pub fn scep_request(&self, key: &PrivateKey, challenge: &str) -> Exchange {
        let csr = CertificateRequest::build(&Name::common("device"), Some(challenge), key).unwrap();
        let own = ca::self_signed(&Name::common("device"), key, SignedDuration::from_hours(1), self.now).unwrap();
        Exchange::enroll(
            &csr,
            Signer::new(own, key.clone()),
            &self.authority(),
            ContentCipher::Aes256Cbc,
        )
        .unwrap()
    }

    pub async fn scep(&self, exchange: &Exchange) -> Result<Certificate, String> {
        let answer = self
            .engine
            .scep(&self.request().await, exchange.message(), self.now)
            .await
            .unwrap();
        match exchange.read(&answer.body, &[self.authority()]).unwrap() {
            Outcome::Issued { certificate, .. } => Ok(certificate),
            refused => Err(format!("{refused:?}")),
        }
    }

    pub async fn send(&self, device: &Device, message: plist::Dictionary) -> Result<DeviceAnswer, DeviceError> {
        self.send_at(device, message, self.now).await
    }

    pub async fn send_at(
        &self,
        device: &Device,
        message: plist::Dictionary,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let body = codec::encode(&message);
        let header = mdm_signature::sign(&body, &device.signer).unwrap();
        let signature = self.engine.signature(&header, now)?;
        let identity = self.engine.identity_from_signature(signature, &body, now)?;
        let message = DeviceMessage::decode(&body, &Limits::default()).unwrap();
        self.engine.handle(&self.request().await, &identity, message, now).await
    }

    /// The store's tables, for a look and a change behind its back.
    pub async fn tables(&self) -> Inspection {
        Inspection::open(&url(&self.folder)).await.unwrap()
    }

    /// Polls; the command, if one came.
    pub async fn poll(&self, device: &Device, report: plist::Dictionary) -> Option<(String, plist::Dictionary)> {
        self.poll_at(device, report, self.now).await
    }

    pub async fn poll_at(
        &self,
        device: &Device,
        report: plist::Dictionary,
        now: Timestamp,
    ) -> Option<(String, plist::Dictionary)> {
        match self.send_at(device, report, now).await.unwrap() {
            DeviceAnswer::Empty => None,
            DeviceAnswer::Plist(body) => {
                let mut envelope = codec::decode(&body, &Limits::default()).unwrap();
                let uuid = envelope.get("CommandUUID").unwrap().as_string().unwrap().to_owned();
                Some((uuid, envelope.remove("Command").unwrap().into_dictionary().unwrap()))
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn enqueue(&self, device: &Device, source: CommandSource) -> String {
        let ask = EnqueueRequest {
            source,
            audience: Audience::Devices(vec![device.serial.clone()]),
            priority: 0,
            not_before: None,
            expires_at: None,
            pace: None,
            administrator: administrator("test", 1),
        };
        let report = self.engine.enqueue(&self.request().await, ask, self.now).await.unwrap();
        report.command_uuid.to_string().to_uppercase()
    }

    /// One request of declarative management; the answer's JSON, if it has one.
    pub async fn declarative(&self, device: &Device, endpoint: &str, data: Option<serde_json::Value>) -> DeviceAnswer {
        let mut fields = vec![
            ("MessageType", "DeclarativeManagement".into()),
            ("Endpoint", endpoint.into()),
        ];
        if let Some(data) = data {
            fields.push(("Data", plist::Value::Data(data.to_string().into_bytes())));
        }
        self.send(device, device.message(&fields)).await.unwrap()
    }

    /// Makes every plan that is due.
    pub async fn make_plans(&self) {
        while self.engine.make_due_plans(self.now).await.unwrap() > 0 {}
    }

    pub async fn key_of(&self, device: &Device) -> russet_store::EnrollmentId {
        let tenant = self.engine.tenant("default").await.unwrap();
        self.engine.device(&tenant, &device.serial).await.unwrap().id
    }

    pub fn allow_again(&self) {
        *self.script.gate.lock().unwrap() = None;
    }
}

/// An administrator with a token of this number.
pub fn administrator(name: &str, token: i64) -> Administrator {
    Administrator {
        name: name.into(),
        token: russet_store::ApiTokenId(token),
        tenant: None,
    }
}

pub struct Device {
    pub udid: String,
    pub serial: String,
    pub signer: Signer,
}

impl Device {
    pub fn message(&self, fields: &[(&str, plist::Value)]) -> plist::Dictionary {
        let own = [("UDID".to_owned(), plist::Value::from(self.udid.as_str()))];
        own.into_iter()
            .chain(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())))
            .collect()
    }

    pub fn authenticate(&self) -> plist::Dictionary {
        self.message(&[
            ("MessageType", "Authenticate".into()),
            ("Topic", TOPIC.into()),
            ("SerialNumber", self.serial.as_str().into()),
            ("OSVersion", "27.1".into()),
        ])
    }

    pub fn token_update(&self) -> plist::Dictionary {
        self.message(&[
            ("MessageType", "TokenUpdate".into()),
            ("Topic", TOPIC.into()),
            ("Token", plist::Value::Data(vec![1; 32])),
            ("PushMagic", "magic".into()),
        ])
    }

    pub fn idle(&self) -> plist::Dictionary {
        self.message(&[("Status", "Idle".into())])
    }

    pub fn report(&self, status: &str, uuid: &str) -> plist::Dictionary {
        self.message(&[("Status", status.into()), ("CommandUUID", uuid.into())])
    }
}

/// The challenge in a signed enrollment profile.
pub fn challenge_of(profile: &[u8]) -> String {
    let (content, _) = cms::verify_attached(profile, &SignaturePolicy::strict()).unwrap();
    let profile = codec::decode(&content, &Limits::default()).unwrap();
    let payloads = profile.get("PayloadContent").unwrap().as_array().unwrap();
    payloads
        .iter()
        .filter_map(|payload| {
            payload
                .as_dictionary()?
                .get("PayloadContent")?
                .as_dictionary()?
                .get("Challenge")
        })
        .find_map(plist::Value::as_string)
        .unwrap()
        .to_owned()
}

/// An administrator.
pub fn ada() -> Administrator {
    Administrator {
        name: "ada".into(),
        token: russet_store::ApiTokenId(1),
        tenant: None,
    }
}

pub fn device_information() -> CommandSource {
    CommandSource::Json(json!({"RequestType": "DeviceInformation", "Queries": ["OSVersion"]}))
}

pub fn security_info() -> CommandSource {
    CommandSource::Json(json!({"RequestType": "SecurityInfo"}))
}
