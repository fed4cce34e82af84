//! The smallest server that a device can enroll with: one profile, SCEP, check-in and a queue in memory. It checks what a
//! device sends and notes it; it decides nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::{CaOptions, CertificateAuthority, DeviceCertificate, SignerUse};
use russet_pki::cms::{self, Signer};
use russet_pki::key::KeyKind;
use russet_pki::scep::{self, FailInfo, MessageType, RaContext, ScepPolicy};
use russet_pki::{Certificate, SignaturePolicy, mdm_signature};
use russet_protocol::codec::Limits;
use russet_protocol::ddm::{DeclarationItems, TokensResponse};
use russet_protocol::plist::Dictionary;
use russet_protocol::profile::{EnrollmentProfile, MdmPayload, ScepPayload};
use russet_protocol::{CheckIn, DeviceMessage, ReportStatus, SecretString, checkin, connect, content_type};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) const TOPIC: &str = "com.apple.mgmt.External.simulator-tests";
pub(crate) const CHALLENGE: &str = "one-time-secret";

/// A message as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) message: DeviceMessage,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The certificate that TLS presented.
    pub(crate) client: Option<Certificate>,
}

/// What the server has, does and saw. Tests change it and look at it.
pub(crate) struct State {
    pub(crate) ca: CertificateAuthority,
    pub(crate) signed_profile: bool,
    pub(crate) sign_message: bool,
    pub(crate) seed: String,
    pub(crate) fingerprint: Option<Vec<u8>>,
    pub(crate) capabilities: String,
    pub(crate) queue: VecDeque<(String, Dictionary)>,
    pub(crate) received: Vec<Received>,
    pub(crate) enroll_bodies: Vec<Bytes>,
    pub(crate) scep_requests: Vec<(Method, MessageType)>,
    pub(crate) issued: Vec<Certificate>,
    pub(crate) bootstrap_token: Option<Vec<u8>>,
    pub(crate) declarations: Vec<(String, serde_json::Value)>,
    /// Answers the next request to a path so.
    pub(crate) refuse: BTreeMap<&'static str, (StatusCode, &'static str, Vec<u8>)>,
    pub(crate) base: String,
}

#[derive(Clone)]
pub(crate) struct TestServer(pub(crate) Arc<Mutex<State>>);

impl TestServer {
    pub(crate) async fn start() -> Self {
        let now = Timestamp::now();
        let ca = CertificateAuthority::generate(
            &CaOptions {
                common_name: "Test CA".to_owned(),
                organization: "Tests".to_owned(),
                key: KeyKind::Rsa2048,
                lifetime: SignedDuration::from_hours(24),
            },
            now,
        )
        .unwrap();
        let (chain, key) = ca
            .issue_tls_server(&["localhost".to_owned()], &[], SignedDuration::from_hours(1), now)
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(ca.certificate().der().to_vec()))
            .unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let chain = chain
            .iter()
            .map(|link| CertificateDer::from(link.der().to_vec()))
            .collect();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.to_pkcs8().to_vec().into()))
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let server = Self(Arc::new(Mutex::new(State {
            ca,
            signed_profile: true,
            sign_message: true,
            seed: "first".to_owned(),
            fingerprint: None,
            capabilities: scep::capabilities(&ScepPolicy::default()),
            queue: VecDeque::new(),
            received: Vec::new(),
            enroll_bodies: Vec::new(),
            scep_requests: Vec::new(),
            issued: Vec::new(),
            bootstrap_token: None,
            declarations: Vec::new(),
            refuse: BTreeMap::new(),
            base,
        })));
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), accepting.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let client = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let client = client.map(|certificate| Certificate::parse(certificate).unwrap());
                    let service = service_fn(move |request| {
                        let (server, client) = (server.clone(), client.clone());
                        async move { Ok::<_, Infallible>(server.answer(request, client).await) }
                    });
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
            }
        });
        server
    }

    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.state().base.clone()
    }

    pub(crate) fn root_pem(&self) -> String {
        self.state().ca.certificate().to_pem()
    }

    pub(crate) fn enqueue(&self, uuid: &str, command: Dictionary) {
        self.state().queue.push_back((uuid.to_owned(), command));
    }

    /// The types of the check-in messages that arrived, in order.
    pub(crate) fn check_ins(&self) -> Vec<&'static str> {
        let state = self.state();
        let types = state.received.iter().filter_map(|received| match &received.message {
            DeviceMessage::CheckIn(message) => Some(message.message_type()),
            DeviceMessage::Connect(_) => None,
        });
        types.collect()
    }

    /// The profile that enrolls a device, signed or not.
    pub(crate) fn profile(&self) -> Vec<u8> {
        let state = self.state();
        let mut scep = ScepPayload::new(format!("{}/scep", state.base));
        scep.challenge = Some(SecretString::new(CHALLENGE));
        scep.subject = vec![
            ("O".to_owned(), "Tests".to_owned()),
            ("CN".to_owned(), "%SerialNumber%".to_owned()),
        ];
        scep.ca_fingerprint = state.fingerprint.clone();
        let mut mdm = MdmPayload::new(format!("{}/mdm/connect", state.base), TOPIC);
        mdm.check_in_url = Some(format!("{}/mdm/checkin", state.base));
        mdm.sign_message = state.sign_message;
        let profile = EnrollmentProfile {
            identifier: "com.example.mdm".to_owned(),
            display_name: "Management".to_owned(),
            description: None,
            organization: Some("Tests".to_owned()),
            identity_seed: state.seed.clone(),
            scep,
            mdm,
            trust_anchors: vec![state.ca.certificate().der().to_vec()],
        };
        let plist = profile.to_plist().unwrap();
        if !state.signed_profile {
            return plist;
        }
        let lifetime = SignedDuration::from_hours(1);
        let (certificate, key) = state
            .ca
            .issue_signer("Profile signer", SignerUse::Profiles, lifetime, Timestamp::now())
            .unwrap();
        cms::sign_attached(&plist, &Signer::new(certificate, key)).unwrap()
    }

    async fn answer(&self, request: Request<Incoming>, client: Option<Certificate>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let refusal = self.state().refuse.remove(path.as_str());
        if let Some((status, media_type, body)) = refusal {
            return respond(status, media_type, body);
        }
        match path.as_str() {
            "/enroll" => {
                self.state().enroll_bodies.push(body);
                respond(StatusCode::OK, content_type::PROFILE, self.profile())
            }
            "/scep" => self.scep(&parts.method, parts.uri.query().unwrap_or_default(), &body),
            "/mdm/checkin" | "/mdm/connect" => self.mdm(parts.headers, body, client),
            _ => respond(StatusCode::NOT_FOUND, "text/plain", b"no such page".to_vec()),
        }
    }

    fn scep(&self, method: &Method, query: &str, body: &Bytes) -> Response<Full<Bytes>> {
        let mut state = self.state();
        let context = RaContext::from_ca(&state.ca).unwrap();
        let operation = query.split('&').find_map(|pair| pair.strip_prefix("operation="));
        match operation {
            Some("GetCACaps") => respond(StatusCode::OK, "text/plain", state.capabilities.clone().into_bytes()),
            Some("GetCACert") => {
                let (media_type, body) = scep::ca_certificates(&context);
                respond(StatusCode::OK, media_type, body)
            }
            Some("PKIOperation") => {
                let message = match *method {
                    Method::POST => body.to_vec(),
                    _ => from_query(query),
                };
                let request = scep::Request::parse(&message, &context, &ScepPolicy::default()).unwrap();
                state.scep_requests.push((method.clone(), request.message_type()));
                let renewal = request.message_type() == MessageType::RenewalReq;
                let known = state.issued.contains(request.signer());
                if (renewal && !known) || (!renewal && request.challenge() != Some(CHALLENGE)) {
                    let reply = request.failure(FailInfo::BadRequest, "not allowed", &context).unwrap();
                    return respond(StatusCode::OK, scep::PKI_MESSAGE_TYPE, reply);
                }
                let device = DeviceCertificate {
                    common_name: request.csr().common_name().unwrap(),
                    extra: Vec::new(),
                    lifetime: SignedDuration::from_hours(1),
                };
                let issued = state.ca.issue_device(request.csr(), &device, Timestamp::now()).unwrap();
                state.issued.push(issued.certificate.clone());
                let reply = request.success(&issued.certificate, &issued.chain, &context).unwrap();
                respond(StatusCode::OK, scep::PKI_MESSAGE_TYPE, reply)
            }
            _ => respond(StatusCode::BAD_REQUEST, "text/plain", Vec::new()),
        }
    }

    fn mdm(&self, headers: HeaderMap, body: Bytes, client: Option<Certificate>) -> Response<Full<Bytes>> {
        let message = DeviceMessage::decode(&body, &Limits::default());
        let Ok(message) = message else {
            return respond(StatusCode::BAD_REQUEST, "text/plain", b"not a message".to_vec());
        };
        if let Some(signature) = headers.get("mdm-signature") {
            let signature = signature.to_str().unwrap();
            let signer = mdm_signature::verify(signature, &body, &SignaturePolicy::legacy()).unwrap();
            assert!(
                self.state().issued.contains(&signer),
                "signed by an unknown certificate"
            );
        }
        let mut state = self.state();
        state.received.push(Received {
            message: message.clone(),
            headers,
            body,
            client,
        });
        let plist = |body: Vec<u8>| respond(StatusCode::OK, content_type::PLIST, body);
        match message {
            DeviceMessage::Connect(report) => {
                // The head of the queue is out until something else than "not now" comes back for it.
                if report.status != ReportStatus::Idle {
                    let answered = report.command_uuid.unwrap();
                    match report.status {
                        ReportStatus::NotNow => state.queue.rotate_left(1),
                        _ => state.queue.retain(|(uuid, _)| *uuid != answered),
                    }
                    if report.status == ReportStatus::NotNow && state.queue.len() == 1 {
                        return plist(Vec::new());
                    }
                }
                let next = state.queue.front();
                plist(next.map_or_else(Vec::new, |(uuid, command)| connect::command_envelope(uuid, command)))
            }
            DeviceMessage::CheckIn(CheckIn::SetBootstrapToken(message)) => {
                state.bootstrap_token = message.bootstrap_token.map(|token| token.expose().to_vec());
                plist(Vec::new())
            }
            DeviceMessage::CheckIn(CheckIn::GetBootstrapToken(_)) => {
                plist(checkin::bootstrap_token_response(state.bootstrap_token.as_deref()))
            }
            DeviceMessage::CheckIn(CheckIn::UserAuthenticate(message)) => plist(match message.digest_response {
                None => checkin::digest_challenge_response("a challenge"),
                Some(digest) if digest.expose() == "right" => checkin::auth_token_response("a token"),
                Some(_) => checkin::auth_token_response(""),
            }),
            DeviceMessage::CheckIn(CheckIn::GetToken(_)) => plist(checkin::get_token_response(b"a token")),
            DeviceMessage::CheckIn(CheckIn::DeclarativeManagement(message)) => declarations(&state, &message.endpoint),
            DeviceMessage::CheckIn(_) => plist(Vec::new()),
        }
    }
}

fn declarations(state: &State, endpoint: &str) -> Response<Full<Bytes>> {
    let json = |body| respond(StatusCode::OK, content_type::JSON, body);
    match endpoint {
        "tokens" => {
            let token = format!("{} declarations", state.declarations.len());
            json(TokensResponse::new(token, Timestamp::UNIX_EPOCH).encode())
        }
        "declaration-items" => {
            let mut items = serde_json::to_value(DeclarationItems::empty()).unwrap();
            for (path, declaration) in &state.declarations {
                let list = if path.contains("/activation/") {
                    "Activations"
                } else {
                    "Configurations"
                };
                let item = serde_json::json!({
                    "Identifier": declaration["Identifier"],
                    "ServerToken": declaration["ServerToken"],
                });
                items["Declarations"][list].as_array_mut().unwrap().push(item);
            }
            json(serde_json::to_vec(&items).unwrap())
        }
        "status" => json(Vec::new()),
        path => match state.declarations.iter().find(|(own, _)| own.ends_with(path)) {
            Some((_, declaration)) => json(serde_json::to_vec(declaration).unwrap()),
            None => respond(StatusCode::NOT_FOUND, "text/plain", Vec::new()),
        },
    }
}

fn from_query(query: &str) -> Vec<u8> {
    use base64::Engine;
    let message = query.split('&').find_map(|pair| pair.strip_prefix("message=")).unwrap();
    let message = message.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    base64::engine::general_purpose::STANDARD.decode(message).unwrap()
}

fn respond(status: StatusCode, media_type: &str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let response = Response::builder()
        .status(status)
        .header(http::header::CONTENT_TYPE, media_type);
    response.body(Full::new(Bytes::from(body))).unwrap()
}
