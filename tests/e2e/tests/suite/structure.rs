//! The house rules that a compiler does not check: which crate may use which, and who alone knows what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use russet_tests::workspace;
use serde_json::Value;

/// What cargo says, from the lock file as it is and without a network.
fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let output = command
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The crates of the workspace with what they depend on, tests and build scripts aside.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
    let of = |package: &Value| {
        let normal = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null());
        normal.map(|dependency| text(&dependency["name"])).collect()
    };
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (text(&package["name"]), of(package)))
        .collect()
}

/// Which crates of ours each crate of the core may use.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("russet-protocol", &[]),
    ("russet-pki", &["russet-protocol"]),
    ("russet-hooks", &["russet-protocol"]),
    ("russet-store", &["russet-protocol"]),
    ("russet-apns", &[]),
    ("russet-plugin-host", &["russet-hooks"]),
    (
        "russet-engine",
        &[
            "russet-protocol",
            "russet-pki",
            "russet-hooks",
            "russet-store",
            "russet-apns",
        ],
    ),
    (
        "russet-http",
        &["russet-engine", "russet-plugin-host", "russet-protocol", "russet-hooks"],
    ),
    ("russet-simulator", &["russet-protocol", "russet-pki"]),
    (
        "russet",
        &[
            "russet-protocol",
            "russet-pki",
            "russet-hooks",
            "russet-store",
            "russet-apns",
            "russet-plugin-host",
            "russet-plugin-build",
            "russet-plugin-test",
            "russet-engine",
            "russet-http",
            "russet-simulator",
        ],
    ),
    ("russet-plugin", &[]),
    ("russet-plugin-build", &[]),
    (
        "russet-plugin-test",
        &["russet-hooks", "russet-plugin-build", "russet-plugin-host"],
    ),
    // Plugins see the SDK and nothing of the server; a vendor's server sees the one crate that has it all.
    ("enrollment-gate", &["russet-plugin"]),
    ("vendor-server", &["russet"]),
];

#[test]
fn crates_use_only_those_below_them() {
    let dependencies = dependencies();
    let ours: BTreeSet<&String> = dependencies.keys().collect();
    let rules: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    for (name, uses) in &dependencies {
        let used: Vec<_> = uses.iter().filter(|used| ours.contains(used)).collect();
        let allowed = match rules.get(name.as_str()) {
            Some(allowed) => *allowed,
            // The other plugins, and the tests and benches, which use what they test.
            None if folder_of(name, "plugins")
                || name == "smallest-gate"
                || name.starts_with("russet-hostile")
                || name == "russet-probe" =>
            {
                &["russet-plugin"]
            }
            None if name == "russet-tests" || name == "russet-bench" || name == "russet-faults" => continue,
            None => panic!("{name} has no place in the design; add it to the table"),
        };
        for used in used {
            assert!(allowed.contains(&used.as_str()), "{name} must not depend on {used}");
        }
    }
}

fn folder_of(name: &str, parent: &str) -> bool {
    workspace().join(parent).join(name).join("Cargo.toml").is_file()
}

#[test]
fn what_one_crate_alone_knows_no_other_depends_on() {
    let alone: [(&[&str], &[&str]); 5] = [
        (&["wasmtime", "wasmtime-wasi"], &["russet-plugin-host"]),
        (&["axum", "tower-http"], &["russet-http", "russet", "vendor-server"]),
        (&["sea-orm", "sea-orm-migration", "sqlx"], &["russet-store"]),
        (&["plist", "quick-xml"], &["russet-protocol"]),
        (&["ldap3"], &["russet-plugin-host"]),
    ];
    for (name, uses) in dependencies() {
        for (things, owners) in alone {
            for thing in things {
                let allowed = owners.contains(&name.as_str());
                assert!(
                    allowed || !uses.contains(*thing),
                    "{name} must not depend on {thing}; {owners:?} may"
                );
            }
        }
    }
}

#[test]
fn one_tls_stack_and_one_provider_of_cryptography_are_compiled() {
    // Not the lock file, which also names what is optional and left out, but what is compiled for any target.
    let tree = cargo(&[
        "tree",
        "--workspace",
        "--target",
        "all",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let compiled: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(
        compiled.contains("rustls") && compiled.contains("aws-lc-rs"),
        "the list is read wrongly: {tree}"
    );
    for unwanted in [
        "ring",
        "rsa",
        "openssl",
        "openssl-sys",
        "native-tls",
        "boring",
        "async-std",
    ] {
        assert!(
            !compiled.contains(unwanted),
            "{unwanted} is compiled; see it with: cargo tree --invert {unwanted}"
        );
    }
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The crates in a folder of the checkout.
fn crates(folder: &str) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(workspace().join(folder))
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    folders.filter(|path| path.join("Cargo.toml").is_file()).collect()
}

#[test]
fn status_codes_are_for_those_who_speak_http() {
    let speak = ["core/http", "core/apns", "core/simulator"].map(|folder| workspace().join(folder));
    // Asks other servers for plugins.
    let client = workspace().join("core/plugin-host/src/capabilities/http");
    let mut looked = 0;
    for folder in crates("core").into_iter().filter(|folder| !speak.contains(folder)) {
        for file in sources(&folder.join("src"))
            .into_iter()
            .filter(|file| !file.starts_with(&client))
        {
            looked += 1;
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(
                !text.contains("StatusCode"),
                "{} knows status codes; that is for core/http",
                file.display()
            );
        }
    }
    assert!(looked > 50, "only {looked} files were looked at");
}

#[test]
fn every_crate_forbids_unsafe_code_and_takes_the_workspaces_lints() {
    let read = |path: PathBuf| -> toml::Table { std::fs::read_to_string(path).unwrap().parse().unwrap() };
    let root = read(workspace().join("Cargo.toml"));
    assert_eq!(
        root["workspace"]["lints"]["rust"]["unsafe_code"].as_str(),
        Some("forbid")
    );
    for folder in ["core", "tests"].into_iter().flat_map(crates) {
        let manifest = read(folder.join("Cargo.toml"));
        if manifest.contains_key("workspace") {
            continue;
        }
        let lints = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        let own = manifest
            .get("lints")
            .and_then(|lints| lints.get("rust")?.get("unsafe_code")?.as_str());
        // Glue that the generator of WIT bindings writes needs unsafe code: such crates say so themselves.
        let generated = std::fs::read_to_string(folder.join("Cargo.toml"))
            .unwrap()
            .contains("russet-plugin.workspace");
        assert!(
            lints == Some(true) || own == Some("forbid") || generated,
            "{} takes no lints",
            folder.display()
        );
    }
}

#[test]
fn every_crate_and_module_of_the_core_says_what_it_is() {
    for folder in ["core", "plugin-sdk", "plugins", "examples", "tests"]
        .into_iter()
        .flat_map(crates)
    {
        let root = [folder.join("src/lib.rs"), folder.join("src/main.rs")]
            .into_iter()
            .find(|root| root.is_file());
        let Some(root) = root else { continue };
        assert!(
            begins_with_its_subject(&root),
            "{} does not begin with //!",
            root.display()
        );
    }
    for file in crates("core").iter().flat_map(|folder| sources(&folder.join("src"))) {
        assert!(
            begins_with_its_subject(&file),
            "{} does not begin with //!",
            file.display()
        );
    }
}

fn begins_with_its_subject(file: &Path) -> bool {
    std::fs::read_to_string(file).unwrap().starts_with("//! ")
}
