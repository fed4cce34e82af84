//! A registry with an authority of its own, behind a token server: the way that public registries have accounts. The
//! registry is a real one; the token server is as small as the distribution specification's token authentication lets it be.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_tests::program;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::registry::{Registry, signed_plugin};

const ISSUER: &str = "token server of the tests";
const SERVICE: &str = "plugins of the tests";

/// An authority, and a certificate of it for `localhost`, as files.
struct Authority {
    folder: tempfile::TempDir,
    chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root_key = rcgen::KeyPair::generate().unwrap();
        let mut root = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_certificate = root.self_signed(&root_key).unwrap();
        let issuer = rcgen::Issuer::from_params(&root, &root_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        for (name, content) in [
            ("ca.pem", root_certificate.pem()),
            ("tls.pem", leaf.pem()),
            ("tls.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Self {
            folder,
            chain: vec![leaf.der().clone()],
            key: key.serialize_der(),
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), PrivatePkcs8KeyDer::from(self.key.clone()).into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What somebody asked the token server for.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    scope: String,
    service: String,
    user: Option<String>,
}

/// Knows one account, `ada` with the password `apple`; who has none may pull.
struct TokenServer {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// The certificate of the key that signs tokens, which the registry trusts.
    certificate: String,
}

struct Tokens {
    key: PrivateKey,
    certificate: Vec<u8>,
}

impl TokenServer {
    async fn start(authority: &Authority) -> Self {
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let lifetime = SignedDuration::from_hours(1);
        let certificate = russet_pki::ca::self_signed(&Name::common(ISSUER), &key, lifetime, Timestamp::now()).unwrap();
        let path = authority.file("tokens.pem");
        std::fs::write(&path, certificate.to_pem()).unwrap();
        let certificate = certificate.der().to_vec();
        let tokens = Arc::new(Tokens { key, certificate });
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let listener = TcpListener::bind(("localhost", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, log) = (authority.acceptor(), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, tokens, log) = (acceptor.clone(), Arc::clone(&tokens), Arc::clone(&log));
                tokio::spawn(async move {
                    // Who does not trust the certificate is gone.
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(stream.read_u8().await.unwrap());
                    }
                    let answer = tokens.answer(&String::from_utf8(request).unwrap(), &log);
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.shutdown().await.unwrap();
                });
            }
        });
        Self {
            port,
            asked,
            certificate: path,
        }
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Tokens {
    fn answer(&self, request: &str, log: &Mutex<Vec<Asked>>) -> String {
        let (first, headers) = request.split_once("\r\n").unwrap();
        let path = first.strip_prefix("GET ").unwrap().split(' ').next().unwrap();
        let url = reqwest::Url::parse(&format!("https://localhost{path}")).unwrap();
        let of = |name: &str| {
            let mut pairs = url.query_pairs();
            pairs
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        let account = headers.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let encoded = value
                .strip_prefix("Basic ")
                .filter(|_| name.eq_ignore_ascii_case("authorization"))?;
            String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
        });
        let (scope, service) = (of("scope"), of("service"));
        let user = account
            .as_ref()
            .map(|account| account.split(':').next().unwrap().to_owned());
        log.lock().unwrap().push(Asked {
            scope: scope.clone(),
            service,
            user: user.clone(),
        });
        let (status, body) = match account.as_deref() {
            Some("ada:apple") => (
                200,
                json!({"token": self.token("ada", &scope, true), "expires_in": 300}),
            ),
            None => (200, json!({"token": self.token("", &scope, false), "expires_in": 300})),
            Some(_) => (
                401,
                json!({"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}),
            ),
        };
        let body = body.to_string();
        format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    /// A token for what was asked, as far as it is allowed.
    fn token(&self, subject: &str, scope: &str, may_push: bool) -> String {
        let (kind, rest) = scope.split_once(':').unwrap();
        let (name, actions) = rest.rsplit_once(':').unwrap();
        let actions: Vec<&str> = actions
            .split(',')
            .filter(|action| may_push || *action == "pull")
            .collect();
        let now = Timestamp::now().as_second();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [STANDARD.encode(&self.certificate)]});
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": SERVICE, "iat": now, "nbf": now - 5, "exp": now + 300, "jti": "1",
            "access": [{"type": kind, "name": name, "actions": actions}],
        });
        let signed = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
            .join(".");
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What a run of the command line said.
struct Said {
    done: bool,
    out: String,
    err: String,
}

impl Said {
    /// The kind of the failure that `--json` tells.
    fn kind(&self) -> Value {
        assert!(!self.done, "{}", self.out);
        let line: Value = serde_json::from_str(self.err.lines().last().unwrap()).unwrap();
        line["error"]["kind"].clone()
    }
}

/// Runs the command line with nobody's account but the one that is given.
fn russet(folder: &Path, arguments: &[&str], account: Option<(&str, &str)>) -> Said {
    let mut command = Command::new(program("russet"));
    command
        .args(arguments)
        .arg("--json")
        .current_dir(folder)
        .env_remove("REGISTRY_AUTH_FILE")
        .env_remove("XDG_RUNTIME_DIR")
        .env("DOCKER_CONFIG", folder);
    if let Some((user, password)) = account {
        command
            .env("RUSSET_REGISTRY_USER", user)
            .env("RUSSET_REGISTRY_PASSWORD", password);
    }
    let output = command.output().unwrap();
    Said {
        done: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_behind_a_token_server_is_asked_with_tokens_for_what_is_done() {
    let authority = Authority::new();
    let tokens = TokenServer::start(&authority).await;
    let tls = format!(
        "tls: {{certificate: {}, key: {}}}",
        authority.file("tls.pem"),
        authority.file("tls.key")
    );
    let auth = format!(
        "auth: {{token: {{realm: \"https://localhost:{}/token\", service: \"{SERVICE}\", issuer: \"{ISSUER}\", \
         rootcertbundle: {}}}}}\n",
        tokens.port, tokens.certificate
    );
    let registry = Registry::start_with(&tls, &auth).await;
    let (folder, _) = signed_plugin();
    let folder = folder.path();
    let repository = registry.reference("plugins/gate");
    let ca = authority.file("ca.pem");
    let push = ["plugin", "push", &repository, "gate.wasm", "--registry-ca", &ca];
    let pulled = format!("{repository}:0.1.0");
    let pull = ["plugin", "pull", &pulled, "-o", "back.wasm", "--registry-ca", &ca];
    let asked = |scope: &str, user: Option<&str>| Asked {
        scope: format!("repository:plugins/gate:{scope}"),
        service: SERVICE.to_owned(),
        user: user.map(str::to_owned),
    };

    // Who has no account gets a token that lets nobody push, and who has the wrong password none at all.
    let refused = russet(folder, &push, None);
    assert_eq!(refused.kind(), "registry-sign-in", "{}", refused.err);
    assert_eq!(tokens.asked()[0], asked("pull,push", None));
    let refused = russet(folder, &push, Some(("ada", "pear")));
    assert_eq!(refused.kind(), "registry-sign-in", "{}", refused.err);
    assert!(!refused.err.contains("pear"), "{}", refused.err);
    assert_eq!(tokens.asked()[0], asked("pull,push", Some("ada")));

    let pushed = russet(folder, &push, Some(("ada", "apple")));
    assert!(pushed.done, "{}", pushed.err);
    assert_eq!(
        tokens.asked(),
        [asked("pull,push", Some("ada"))],
        "one token for the whole push"
    );
    // Pulling takes no account here, and asks for no more than that.
    let fetched = russet(folder, &pull, None);
    assert!(fetched.done, "{}", fetched.err);
    assert_eq!(tokens.asked(), [asked("pull", None)]);
    let original = std::fs::read(folder.join("gate.wasm")).unwrap();
    assert_eq!(std::fs::read(folder.join("back.wasm")).unwrap(), original);

    // The authority has to be the right one, and has to be named.
    std::fs::remove_file(folder.join("back.wasm")).unwrap();
    let other = Authority::new();
    let (right, wrong) = (pull, other.file("ca.pem"));
    let mut pull = right;
    pull[pull.len() - 1] = &wrong;
    let refused = russet(folder, &pull, None);
    assert_eq!(refused.kind(), "registry", "{}", refused.err);
    assert!(
        refused.err.contains("--registry-ca") && refused.err.contains("invalid peer certificate"),
        "{}",
        refused.err
    );
    pull[pull.len() - 1] = "missing.pem";
    assert_eq!(russet(folder, &pull, None).kind(), "file");
    let without = &right[..right.len() - 2];
    assert!(
        !russet(folder, without, None).done,
        "a registry at localhost is asked without encryption"
    );
    assert!(!folder.join("back.wasm").exists());
    assert_eq!(tokens.asked(), []);
}
