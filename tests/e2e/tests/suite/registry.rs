//! Plugins in an OCI registry: pushed to and pulled from a real one, installed from there, and refused when the registry
//! gives back something else.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use russet_tests::{Cli, World, eventually, program};
use serde_json::{Value, json};

/// Ada's password is `apple`: as `htpasswd -B` writes it.
const ACCOUNTS: &str = "ada:$2b$05$plvYCzA9gSpAERzm6bWgyeORymJOAkfldFb6c0/QLeMCfCC5z4ROa\n";

/// The registry of Debian's package `docker-registry`, which keeps its blobs in a folder.
pub(crate) struct Registry {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Registry {
    async fn start(more: &str) -> Self {
        Self::start_with("", more).await
    }

    /// With more for the section `http` of its configuration, and more sections.
    pub(crate) async fn start_with(http: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Somebody else may take the port between the two; then the registry does not start, and the next try has another.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let config = folder.path().join("config.yml");
            let blobs = folder.path().join("blobs");
            let accounts = folder.path().join("accounts");
            std::fs::write(&accounts, ACCOUNTS).unwrap();
            let more = more.replace("ACCOUNTS", &accounts.display().to_string());
            let text = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: \"127.0.0.1:{port}\", {http}}}\n{more}",
                blobs.display()
            );
            std::fs::write(&config, text).unwrap();
            let mut process = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("docker-registry is not installed; `make setup-test` installs it");
            let ready = eventually("the registry answers or ends", || {
                let ended = process.try_wait().unwrap().map(|_| false);
                async move {
                    let answer = client().get(format!("http://127.0.0.1:{port}/v2/")).send().await;
                    ended.or(answer.is_ok().then_some(true))
                }
            });
            if ready.await {
                return Self { process, folder, port };
            }
        }
        panic!("the registry does not start");
    }

    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("localhost:{}/{rest}", self.port)
    }

    /// The file of a blob.
    fn blob(&self, digest: &str) -> PathBuf {
        let digest = digest.strip_prefix("sha256:").unwrap_or(digest);
        let folder = self.folder.path().join("blobs/docker/registry/v2/blobs/sha256");
        folder.join(&digest[..2]).join(digest).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder with the smallest gate in it, signed; the public key.
pub(crate) fn signed_plugin() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        russet_plugin_build::artifact("smallest-gate"),
        folder.path().join("gate.wasm"),
    )
    .unwrap();
    let key = russet(folder.path(), &["plugin", "keys", "new", "key.pem", "--json"])
        .ok()
        .json();
    russet(folder.path(), &["plugin", "sign", "gate.wasm", "--key", "key.pem"]).ok();
    (folder, key["public_key"].as_str().unwrap().to_owned())
}

pub(crate) fn client() -> reqwest::Client {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    client.build().unwrap()
}

fn russet(folder: &Path, arguments: &[&str]) -> Cli {
    Cli::offline(arguments, folder)
}

fn size(folder: &Path, name: &str) -> u64 {
    std::fs::metadata(folder.join(name)).map_or(0, |file| file.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_comes_back_as_it_was_pushed_or_not_at_all() {
    let registry = Registry::start("").await;
    let (folder, _) = signed_plugin();
    let folder = folder.path();
    let repository = registry.reference("plugins/smallest-gate");
    let pushed = russet(folder, &["plugin", "push", &repository, "gate.wasm", "--json"])
        .ok()
        .json();
    let reference = pushed["reference"].as_str().unwrap();
    assert!(
        reference.ends_with("/smallest-gate:0.1.0"),
        "the version is the tag: {reference}"
    );
    let by_digest = format!("{repository}@{}", pushed["digest"].as_str().unwrap());

    // As other tools see it.
    let manifest = std::fs::read(registry.blob(pushed["digest"].as_str().unwrap())).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["artifactType"], "application/vnd.russet.plugin.v1+wasm");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["annotations"]["org.opencontainers.image.version"], "0.1.0");
    assert_eq!(
        manifest["annotations"]["org.opencontainers.image.title"],
        "smallest-gate"
    );

    let original = std::fs::read(folder.join("gate.wasm")).unwrap();
    for from in [reference, &by_digest, &format!("oci://{reference}")] {
        let pull = ["plugin", "pull", from, "-o", "back.wasm"];
        russet(folder, &pull).ok();
        assert_eq!(std::fs::read(folder.join("back.wasm")).unwrap(), original);
        std::fs::remove_file(folder.join("back.wasm")).unwrap();
    }
    for (from, expected) in [
        (format!("{repository}:9.9.9"), "is not there"),
        (registry.reference("plugins/other:1"), "is not there"),
        (repository.clone(), "give a tag or a digest"),
        ("smallest-gate:1".to_owned(), "names no registry"),
        ("localhost:1/gate:1".to_owned(), "refused"),
    ] {
        let refused = russet(folder, &["plugin", "pull", &from, "-o", "back.wasm"]).failed();
        assert!(refused.complaint().contains(expected), "{from}: {}", refused.err);
    }

    // A registry that gives back other bytes, fewer, or more.
    let layer = registry.blob(manifest["layers"][0]["digest"].as_str().unwrap());
    let mut changed = original.clone();
    changed[1000] ^= 1;
    let longer = [&original[..], b"more"].concat();
    for wrong in [&changed[..], &original[..original.len() - 1], &longer, b""] {
        std::fs::write(&layer, wrong).unwrap();
        let refused = russet(folder, &["plugin", "pull", reference, "-o", "back.wasm"]).failed();
        let complaint = refused.complaint();
        assert!(
            complaint.contains("does not have its digest") || complaint.contains("localhost"),
            "{complaint}"
        );
        assert_eq!(size(folder, "back.wasm"), 0, "nothing is written");
    }
    std::fs::write(&layer, &original).unwrap();

    // Another manifest under the digest that was asked for.
    let file = registry.blob(pushed["digest"].as_str().unwrap());
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("smallest-gate", "smallest-gaTe")).unwrap();
    let refused = russet(folder, &["plugin", "pull", &by_digest, "-o", "back.wasm"]).failed();
    assert!(
        refused.complaint().contains("does not have its digest"),
        "{}",
        refused.err
    );
    // An artifact that is no plugin.
    std::fs::write(&file, &text).unwrap();
    let other = text.replace("vnd.russet.plugin.v1+wasm", "vnd.example.other.v1+wasm");
    put_manifest(&registry, "plugins/smallest-gate", "other", &other).await;
    let from = format!("{repository}:other");
    let refused = russet(folder, &["plugin", "pull", &from, "-o", "back.wasm"]).failed();
    assert!(refused.complaint().contains("is no Russet plugin"), "{}", refused.err);
    assert_eq!(size(folder, "back.wasm"), 0);
}

async fn put_manifest(registry: &Registry, repository: &str, tag: &str, manifest: &str) {
    let put = client()
        .put(format!(
            "http://127.0.0.1:{}/v2/{repository}/manifests/{tag}",
            registry.port
        ))
        .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        .body(manifest.to_owned());
    assert_eq!(put.send().await.unwrap().status().as_u16(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_taken_from_where_it_is_kept() {
    let registry = Registry::start("auth: {htpasswd: {realm: plugins, path: ACCOUNTS}}\n").await;
    let (folder, _) = signed_plugin();
    let folder = folder.path();
    let repository = registry.reference("plugins/gate");
    let push = |environment: &[(&str, &str)]| {
        let mut command = Command::new(program("russet"));
        command
            .args(["plugin", "push", &repository, "gate.wasm"])
            .current_dir(folder)
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("XDG_RUNTIME_DIR")
            .env("DOCKER_CONFIG", folder)
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied());
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (pushed, said) = push(&[]);
    assert!(!pushed && said.contains("refused the sign-in"), "{said}");
    let (pushed, said) = push(&[("RUSSET_REGISTRY_USER", "ada")]);
    assert!(!pushed && said.contains("RUSSET_REGISTRY_PASSWORD"), "{said}");
    let (pushed, said) = push(&[("RUSSET_REGISTRY_USER", "ada"), ("RUSSET_REGISTRY_PASSWORD", "pear")]);
    assert!(!pushed && !said.contains("pear"), "{said}");
    let (pushed, said) = push(&[("RUSSET_REGISTRY_USER", "ada"), ("RUSSET_REGISTRY_PASSWORD", "apple")]);
    assert!(pushed, "{said}");

    use base64::Engine as _;
    let auth = base64::engine::general_purpose::STANDARD.encode("ada:apple");
    let host = format!("localhost:{}", registry.port);
    let config = json!({"auths": {host: {"auth": auth}}});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let (pushed, said) = push(&[]);
    assert!(pushed, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_installs_from_a_registry_what_it_would_install_from_a_file() {
    let world = World::builder().set("plugins.unsigned", "refuse").start().await;
    let registry = Registry::start("").await;
    let (folder, public) = signed_plugin();
    let reference = registry.reference("plugins/smallest-gate:stable");
    russet(folder.path(), &["plugin", "push", &reference, "gate.wasm"]).ok();
    let from = format!("oci://{reference}");
    let settings = folder.path().join("settings.json");
    std::fs::write(&settings, r#"{"prefix": "C02"}"#).unwrap();
    let settings = settings.display().to_string();
    let install = || {
        world
            .server
            .cli(&["plugin", "install", &from, "--grant-asked", "--settings", &settings])
    };
    let refused = install().failed().complaint();
    assert!(refused.contains("does not trust"), "{refused}");
    world.server.cli(&["publisher", "add", "acme", &public]).ok();
    install().ok();
    world.enrolled("C02REGISTRY1").await;
    let refusal = world.mac("F4KREGISTRY1").build().unwrap().enroll().await.unwrap_err();
    assert_eq!(refusal.status(), Some(403), "{refusal}");
}
