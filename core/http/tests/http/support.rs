//! A site: the whole router over a real engine on a temporary store, with scripted native hooks, and devices that
//! speak to it as they would over the network.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use russet_apns::{Endpoint, Roots};
use russet_engine::settings::{
    EnrollmentSettings, MachineInfoTrust, OnEnrollment, ProfileSigning, PushSettings, WithoutGate,
};
use russet_engine::store::{MasterKey, PushCertificate, Store, StoreConfig};
use russet_engine::{Engine, EngineSettings};
use russet_hooks::{
    Ask, Directory, DirectoryHook, DirectoryRequest, DirectoryVerdict, EnrollmentGate, EscrowHook, EscrowPolicy,
    EscrowVerdict, FaultKind, GateHook, GateVerdict, HookSet, HookSetBuilder, Person, PluginFault,
};
use russet_http::{Api, HttpSettings, Peer, router};
use russet_pki::cms::{self, ContentCipher, Signer};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::scep::client::{Exchange, Outcome};
use russet_pki::{Certificate, SignaturePolicy, ca, mdm_signature, rfc9440};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{Connections, EngineConfig, Limits, MemoryRevisions, PluginEngine, PluginHost, PluginManager};
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{Limits as PlistLimits, codec};
use serde_json::Value as Json;
use tempfile::TempDir;
use tower::ServiceExt;
use zeroize::Zeroizing;

pub(crate) const TOPIC: &str = "com.apple.mgmt.External.russet-test";

/// What the scripted hooks answer; `None` is yes.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) gate: Mutex<Option<Result<GateVerdict, FaultKind>>>,
    pub(crate) escrow: Mutex<Option<Result<EscrowVerdict, FaultKind>>>,
}

impl Script {
    pub(crate) fn gate(&self, answer: Result<GateVerdict, FaultKind>) {
        *self.gate.lock().unwrap() = Some(answer);
    }
}

struct Scripted(Arc<Script>);

#[async_trait]
impl EnrollmentGate for Scripted {
    async fn check(&self, _: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        let scripted = self.0.gate.lock().unwrap().clone();
        scripted
            .unwrap_or_else(|| Ok(GateVerdict::Allow(Default::default())))
            .map_err(|kind| PluginFault::new("gate", kind, "scripted"))
    }
}

#[async_trait]
impl EscrowPolicy for Scripted {
    async fn decide(&self, _: &Ask<EscrowHook>) -> Result<EscrowVerdict, PluginFault> {
        let scripted = self.0.escrow.lock().unwrap().clone();
        scripted
            .unwrap_or(Ok(EscrowVerdict::Allow))
            .map_err(|kind| PluginFault::new("policy", kind, "scripted"))
    }
}

/// Knows one person: `anna`, with the password `secret:word`.
#[async_trait]
impl Directory for Scripted {
    async fn ask(&self, ask: &Ask<DirectoryHook>) -> Result<DirectoryVerdict, PluginFault> {
        if ask.request.user_name() != "anna" {
            return Ok(DirectoryVerdict::Unknown);
        }
        Ok(match &*ask.request {
            DirectoryRequest::SignIn(sign_in) if *sign_in.password != "secret:word" => {
                DirectoryVerdict::WrongCredentials
            }
            _ => DirectoryVerdict::Person(Person {
                id: "uid=anna".into(),
                user_name: "anna".into(),
                full_name: Some("Anna Example".into()),
                ..Person::default()
            }),
        })
    }
}

pub(crate) struct Site {
    pub(crate) api: Api,
    pub(crate) router: Router,
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) script: Arc<Script>,
    /// A token of the whole server.
    pub(crate) token: String,
    _folder: TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(HttpSettings::default()).await
    }

    pub(crate) async fn with(settings: HttpSettings) -> Self {
        Self::with_hooks(settings, |hooks| hooks).await
    }

    pub(crate) async fn with_hooks(
        settings: HttpSettings,
        more: impl FnOnce(HookSetBuilder) -> HookSetBuilder,
    ) -> Self {
        let script = Arc::new(Script::default());
        let native = HookSet::builder()
            .gate("gate", Scripted(Arc::clone(&script)))
            .directory("people", Scripted(Arc::clone(&script)))
            .escrow_policy("policy", Scripted(Arc::clone(&script)));
        let native = more(native).build();
        let host = Arc::new(PluginHost::with_native(native));
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("russet.db").display());
        let store = Store::open(StoreConfig::new(url), &MasterKey::from_bytes([7; 32]))
            .await
            .unwrap();
        let now = Timestamp::now();
        let engine_settings = EngineSettings {
            enrollment: enrollment(),
            push: PushSettings::new(Endpoint::new("localhost", 9, Roots::Custom(Vec::new()))),
            queue: russet_engine::settings::QueueSettings::default(),
            work: russet_engine::settings::WorkSettings::default(),
            hook_budget: Duration::from_secs(5),
        };
        let engine = Engine::open(store.clone(), Arc::clone(&host) as _, engine_settings, now)
            .await
            .unwrap();
        let tenant = engine.tenant("default").await.unwrap();
        // As far as enrollment needs a push certificate: its topic.
        let certificate = PushCertificate {
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
        let plugins = PluginManager::new(
            PluginEngine::new(&EngineConfig::default()).unwrap(),
            host,
            Arc::new(MemoryRevisions::new(["default"])),
            Connections::default(),
            Ports::memory(),
            Limits::default(),
        )
        .with_trust(russet_plugin_host::package::Trust::unsigned());
        let (_, token) = engine.create_token(None, "root", now).await.unwrap();
        let api = Api::new(engine.clone(), Arc::new(plugins), settings);
        Self {
            router: router(&api),
            api,
            engine,
            store,
            script,
            token: token.to_string(),
            _folder: folder,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// A call of the admin API, with the token of the whole server.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Option<Json>) -> Answer {
        self.admin_as(&self.token, method, path, body).await
    }

    pub(crate) async fn admin_as(&self, token: &str, method: Method, path: &str, body: Option<Json>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    /// Gets a profile and an identity, over HTTP.
    pub(crate) async fn identified(&self, serial: &str) -> Device {
        let profile = self.get("/enroll").await;
        assert_eq!(profile.status, StatusCode::OK, "{}", profile.text());
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let exchange = self.scep_exchange(&key, &challenge_of(&profile.body));
        let request = Request::post("/scep?operation=PKIOperation")
            .header("content-type", "application/x-pki-message")
            .body(Body::from(exchange.message().to_vec()))
            .unwrap();
        let answer = self.send(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let certificate = match exchange.read(&answer.body, &[self.authority()]).unwrap() {
            Outcome::Issued { certificate, .. } => certificate,
            refused => panic!("{refused:?}"),
        };
        Device {
            udid: format!("UDID-{serial}"),
            serial: serial.into(),
            signer: Signer::new(certificate.clone(), key.clone()),
            certificate,
            key,
        }
    }

    pub(crate) async fn enrolled(&self, serial: &str) -> Device {
        let device = self.identified(serial).await;
        for message in [device.authenticate(), device.token_update()] {
            let answer = self.send(device.signed("/mdm/checkin", &message)).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        device
    }

    pub(crate) fn authority(&self) -> Certificate {
        Certificate::parse(self.engine.device_authority_der()).unwrap()
    }

    pub(crate) fn scep_exchange(&self, key: &PrivateKey, challenge: &str) -> Exchange {
        let csr = CertificateRequest::build(&Name::common("device"), Some(challenge), key).unwrap();
        let lifetime = SignedDuration::from_hours(1);
        let own = ca::self_signed(&Name::common("device"), key, lifetime, Timestamp::now()).unwrap();
        let signer = Signer::new(own, key.clone());
        Exchange::enroll(&csr, signer, &self.authority(), ContentCipher::Aes256Cbc).unwrap()
    }
}

fn enrollment() -> EnrollmentSettings {
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
        trust_own_authority: false,
        on_enrollment: OnEnrollment {
            device_information: false,
            device_configured: true,
        },
        network_users: false,
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn plist(&self) -> Dictionary {
        codec::decode(&self.body, &PlistLimits::default()).unwrap()
    }

    /// The code of a failure, in the one form of errors.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// A device with an identity.
pub(crate) struct Device {
    pub(crate) udid: String,
    pub(crate) serial: String,
    pub(crate) signer: Signer,
    pub(crate) certificate: Certificate,
    pub(crate) key: PrivateKey,
}

impl Device {
    /// A device whose identity is from nobody.
    pub(crate) fn stranger() -> Self {
        let key = PrivateKey::generate(KeyKind::P256).unwrap();
        let lifetime = SignedDuration::from_hours(1);
        let certificate = ca::self_signed(&Name::common("stranger"), &key, lifetime, Timestamp::now()).unwrap();
        Self {
            udid: "UDID-STRANGER".into(),
            serial: "STRANGER".into(),
            signer: Signer::new(certificate.clone(), key.clone()),
            certificate,
            key,
        }
    }

    pub(crate) fn message(&self, fields: &[(&str, Value)]) -> Dictionary {
        let own = [("UDID".to_owned(), Value::from(self.udid.as_str()))];
        own.into_iter()
            .chain(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())))
            .collect()
    }

    pub(crate) fn authenticate(&self) -> Dictionary {
        self.message(&[
            ("MessageType", "Authenticate".into()),
            ("Topic", TOPIC.into()),
            ("SerialNumber", self.serial.as_str().into()),
            ("OSVersion", "27.1".into()),
        ])
    }

    pub(crate) fn token_update(&self) -> Dictionary {
        self.message(&[
            ("MessageType", "TokenUpdate".into()),
            ("Topic", TOPIC.into()),
            ("Token", Value::Data(vec![1; 32])),
            ("PushMagic", "the-push-magic".into()),
        ])
    }

    pub(crate) fn idle(&self) -> Dictionary {
        self.message(&[("Status", "Idle".into())])
    }

    /// A message with an `Mdm-Signature`, without a Content-Type.
    pub(crate) fn signed(&self, path: &str, message: &Dictionary) -> Request<Body> {
        let body = codec::encode(message);
        let signature = mdm_signature::sign(&body, &self.signer).unwrap();
        Request::put(path)
            .header("mdm-signature", signature)
            .body(Body::from(body))
            .unwrap()
    }

    /// A message over a connection with the device's TLS certificate.
    pub(crate) fn over_tls(&self, path: &str, message: &Dictionary) -> Request<Body> {
        let peer = Peer::new(client(), Some(self.certificate.der().into()));
        Request::put(path)
            .extension(peer)
            .body(Body::from(codec::encode(message)))
            .unwrap()
    }

    /// The device's certificate as a proxy writes it.
    pub(crate) fn header(&self) -> String {
        rfc9440::to_header(&self.certificate)
    }
}

pub(crate) fn client() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 7], 40_000))
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn basic(user_name: &str, password: &Zeroizing<String>) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user_name}:{}", **password)))
}

/// The challenge in a signed enrollment profile.
pub(crate) fn challenge_of(profile: &[u8]) -> String {
    let (content, _) = cms::verify_attached(profile, &SignaturePolicy::strict()).unwrap();
    let profile = codec::decode(&content, &PlistLimits::default()).unwrap();
    let payloads = profile.get("PayloadContent").unwrap().as_array().unwrap();
    payloads
        .iter()
        .filter_map(|payload| {
            let content = payload.as_dictionary()?.get("PayloadContent")?;
            content.as_dictionary()?.get("Challenge")?.as_string()
        })
        .next()
        .unwrap()
        .to_owned()
}
