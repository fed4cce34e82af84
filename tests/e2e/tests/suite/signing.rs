//! Whose plugins a server installs: keys, signatures, the list of publishers, and versions that only go up.

use std::path::{Path, PathBuf};

use russet_tests::{Cli, World};
use serde_json::{Value, json};

/// A folder with plugins and keys in it, as a publisher has it.
struct Publisher {
    folder: tempfile::TempDir,
}

impl Publisher {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A key; its public half.
    fn key(&self, name: &str) -> String {
        let made = Cli::offline(&["plugin", "keys", "new", name, "--json"], self.folder.path());
        made.ok().json()["public_key"].as_str().unwrap().to_owned()
    }

    /// A version of the smallest gate, unsigned. What is `different` about it makes it another file.
    fn version(&self, name: &str, version: &str, different: &str) {
        let built = std::fs::read(russet_plugin_build::artifact("smallest-gate")).unwrap();
        std::fs::write(self.path(name), with_version(&built, version, different)).unwrap();
    }

    fn sign(&self, file: &str, key: &str) {
        let sign = ["plugin", "sign", file, "--key", key];
        Cli::offline(&sign, self.folder.path()).ok();
    }
}

/// The component with another version and description in its manifest, which is its last section.
fn with_version(component: &[u8], version: &str, description: &str) -> Vec<u8> {
    const NAME: &[u8] = b"russet-manifest";
    let name = component
        .windows(NAME.len())
        .rposition(|window| window == NAME)
        .unwrap();
    let mut manifest: Value = serde_json::from_slice(&component[name + NAME.len()..]).unwrap();
    // Before the name are its length in one byte, and the size of the section in two.
    let section = name - 1 - 2 - 1;
    assert_eq!(component[section], 0, "a custom section");
    manifest["version"] = json!(version);
    manifest["description"] = json!(description);
    let manifest = manifest.to_string();
    let size = 1 + NAME.len() + manifest.len();
    assert!((128..16_384).contains(&size));
    let mut changed = component[..section].to_vec();
    changed.extend([0, (size & 0x7f) as u8 | 0x80, (size >> 7) as u8, NAME.len() as u8]);
    changed.extend_from_slice(NAME);
    changed.extend_from_slice(manifest.as_bytes());
    changed
}

/// A world that insists on signatures, as servers do unless they are told otherwise.
async fn strict() -> World {
    World::builder().set("plugins.unsigned", "refuse").start().await
}

fn install(world: &World, file: &Path, more: &[&str]) -> Cli {
    let file = file.display().to_string();
    let install = ["plugin", "install", file.as_str(), "--grant-asked", "--settings"];
    let settings = world.server.folder().path().join("settings.json");
    std::fs::write(&settings, r#"{"prefix": "C02"}"#).unwrap();
    let settings = settings.display().to_string();
    world.server.cli(&[&install[..], &[settings.as_str()], more].concat())
}

fn complaint(world: &World, file: &Path, more: &[&str]) -> String {
    install(world, file, more).failed().complaint()
}

async fn version(world: &World) -> Value {
    world.admin.get("/plugins/smallest-gate").await.ok()["version"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_plugins_of_trusted_publishers_are_installed() {
    let world = strict().await;
    let acme = Publisher::new();
    let file = acme.path("gate.wasm");
    acme.version("gate.wasm", "1.0.0", "");

    let refused = complaint(&world, &file, &[]);
    assert!(
        refused.contains("not signed") && refused.contains("russet plugin sign"),
        "{refused}"
    );

    let public = acme.key("acme.pem");
    acme.sign("gate.wasm", "acme.pem");
    let refused = complaint(&world, &file, &[]);
    // As one line, which a terminal wraps.
    let line = format!("russet publisher add NAME {public}");
    assert!(refused.replace(' ', "").contains(&line.replace(' ', "")), "{refused}");

    world
        .server
        .cli(&["publisher", "add", "acme", &public, "--plugin", "smallest-gate"])
        .ok();
    install(&world, &file, &[]).ok();
    let shown = world.admin.get("/plugins/smallest-gate").await.ok();
    assert_eq!(
        (&shown["signature"]["status"], &shown["signature"]["publisher"]),
        (&json!("signed"), &json!("acme"))
    );
    world.enrolled("C02SIGNED01").await;

    // Every other byte is somebody else's plugin.
    let mut tampered = std::fs::read(&file).unwrap();
    let middle = tampered.len() / 2;
    tampered[middle] ^= 1;
    let changed = acme.path("changed.wasm");
    std::fs::write(&changed, &tampered).unwrap();
    use base64::Engine as _;
    let component = base64::engine::general_purpose::STANDARD.encode(&tampered);
    let refused = world
        .admin
        .put("/plugins/smallest-gate", &json!({"component": component}))
        .await
        .refused(422);
    assert!(
        refused["message"].as_str().unwrap().contains("does not fit the file"),
        "{refused}"
    );
    let checked = Cli::offline(&["plugin", "verify", "changed.wasm"], acme.folder.path()).failed();
    assert!(checked.complaint().contains("does not fit the file"), "{}", checked.err);
    let checked = Cli::offline(&["plugin", "verify", "gate.wasm", "--json"], acme.folder.path()).ok();
    assert_eq!(checked.json()["signatures"][0]["public_key"], json!(public));

    // A publisher who is gone publishes nothing new; what runs goes on, and can be set.
    let listed = world.server.cli(&["publisher", "list"]).ok().out;
    assert!(listed.contains("acme") && listed.contains("smallest-gate"), "{listed}");
    world.server.cli(&["publisher", "remove", "acme"]).ok();
    acme.version("next.wasm", "1.1.0", "");
    acme.sign("next.wasm", "acme.pem");
    let refused = complaint(&world, &acme.path("next.wasm"), &[]);
    assert!(refused.contains("does not trust"), "{refused}");
    let settings = json!({"settings": {"prefix": "F4K"}});
    world.admin.put("/plugins/smallest-gate", &settings).await.ok();
    world.enrolled("F4KSIGNED01").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_is_each_tenants_own() {
    let world = strict().await;
    let acme = Publisher::new();
    let public = acme.key("acme.pem");
    acme.version("gate.wasm", "1.0.0", "");
    acme.sign("gate.wasm", "acme.pem");
    world
        .admin
        .send(
            world
                .admin
                .request(http::Method::POST, "/v1/tenants")
                .json(&json!({"name": "orchard"})),
        )
        .await
        .ok();
    let trusted = json!({"name": "acme", "public_key": public});
    world.admin.post("/publishers", &trusted).await.ok();
    install(&world, &acme.path("gate.wasm"), &[]).ok();
    let refused = complaint(&world, &acme.path("gate.wasm"), &["--tenant", "orchard"]);
    assert!(refused.contains("does not trust"), "{refused}");

    let orchard = world.admin.at("orchard");
    assert!(orchard.list("/publishers").await.is_empty());
    orchard.delete("/publishers/acme").await.refused(404);
    let token = world
        .server
        .cli(&["token", "create", "theirs", "--tenant", "orchard", "--json"]);
    let token = token.ok().json()["token"].as_str().unwrap().to_owned();
    world.admin.with_token(&token).get("/publishers").await.refused(403);
    world
        .admin
        .with_token(&token)
        .post("/publishers", &trusted)
        .await
        .refused(403);

    // What makes no sense is refused, and a name or a key stands for one publisher.
    world.admin.post("/publishers", &trusted).await.refused(409);
    for wrong in [
        json!({"name": "", "public_key": public}),
        json!({"name": "a b", "public_key": public}),
        json!({"name": "-x", "public_key": public}),
        json!({"name": "x", "public_key": "ed25519:AAAA"}),
        json!({"name": "x", "public_key": public, "plugins": ["No Name"]}),
    ] {
        orchard.post("/publishers", &wrong).await.refused(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_only_go_up_unless_somebody_insists() {
    let world = strict().await;
    let acme = Publisher::new();
    let public = acme.key("acme.pem");
    world.server.cli(&["publisher", "add", "acme", &public]).ok();
    for (file, version, different) in [
        ("one.wasm", "1.0.0", ""),
        ("two.wasm", "2.0.0", ""),
        ("other-two.wasm", "2.0.0", "other"),
    ] {
        acme.version(file, version, different);
        acme.sign(file, "acme.pem");
    }
    install(&world, &acme.path("one.wasm"), &[]).ok();
    install(&world, &acme.path("two.wasm"), &[]).ok();
    let refused = complaint(&world, &acme.path("one.wasm"), &[]);
    assert!(
        refused.contains("older than 2.0.0") && refused.contains("--allow-downgrade"),
        "{refused}"
    );
    let refused = complaint(&world, &acme.path("other-two.wasm"), &[]);
    assert!(refused.contains("with other content"), "{refused}");
    assert_eq!(version(&world).await, "2.0.0");
    // The same content is the same version, also when it is signed again.
    acme.sign("two.wasm", "acme.pem");
    install(&world, &acme.path("two.wasm"), &[]).ok();
    install(&world, &acme.path("other-two.wasm"), &["--allow-downgrade"]).ok();
    install(&world, &acme.path("one.wasm"), &["--allow-downgrade"]).ok();
    assert_eq!(version(&world).await, "1.0.0");
    // The highest is remembered, although it runs no more.
    let refused = complaint(&world, &acme.path("one.wasm"), &[]);
    assert!(refused.contains("older than 2.0.0"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_unsigned_plugins_says_so_loudly() {
    let world = World::start().await;
    let warned = |line: &Value| {
        line["level"] == "WARN"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("plugins.unsigned"))
    };
    assert!(world.server.log_lines().iter().any(warned), "{}", world.server.log());
    world.admin.install("smallest-gate", json!({"prefix": "C02"})).await;
    let shown = world.admin.get("/plugins/smallest-gate").await.ok();
    assert_eq!(shown["signature"]["status"], "unsigned");

    let strict = strict().await;
    assert!(!strict.server.log_lines().iter().any(warned), "{}", strict.server.log());
}

#[test]
fn a_key_is_a_file_of_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let acme = Publisher::new();
    let public = acme.key("acme.pem");
    let mode = std::fs::metadata(acme.path("acme.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let folder = acme.folder.path();
    let shown = Cli::offline(&["plugin", "keys", "show", "acme.pem"], folder).ok().out;
    assert!(
        shown.contains(&format!("russet publisher add NAME {public}")),
        "{shown}"
    );
    let again = Cli::offline(&["plugin", "keys", "new", "acme.pem"], folder).failed();
    assert!(again.complaint().contains("acme.pem"), "{}", again.err);
    assert_eq!(
        Cli::offline(&["plugin", "keys", "show", "acme.pem", "--json"], folder)
            .ok()
            .json()["public_key"],
        json!(public)
    );
    // Keys of other tools are keys.
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out", "openssl.pem"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success());
    acme.version("gate.wasm", "1.0.0", "");
    acme.sign("gate.wasm", "openssl.pem");
    let other = Cli::offline(&["plugin", "verify", "gate.wasm", "--key", &public], folder).failed();
    assert!(other.complaint().contains("none of the given keys"), "{}", other.err);
}
