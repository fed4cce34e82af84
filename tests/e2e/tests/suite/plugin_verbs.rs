//! The operator's verbs of `russet plugin`, each in words and as JSON, over the life of one plugin: it waits for its grants,
//! runs, is compared, answers a share, is promoted, goes back, and is taken out of use. The plugin is the hostile one.

use russet_tests::{Cli, World, soon};
use serde_json::{Value, json};

const NAME: &str = "hostile";

/// A server, and what is on its disk.
struct Operator {
    world: World,
}

impl Operator {
    async fn new() -> Self {
        let world = World::start().await;
        let folder = world.server.folder().path().to_owned();
        std::fs::copy(russet_plugin_build::artifact(NAME), folder.join("hostile.wasm")).unwrap();
        for label in ["one", "two"] {
            let settings = json!({"mode": "label", "label": label}).to_string();
            std::fs::write(folder.join(format!("{label}.json")), settings).unwrap();
        }
        Self { world }
    }

    fn plugin(&self, arguments: &[&str]) -> Cli {
        self.world.server.cli(&[&["plugin"], arguments].concat())
    }

    /// What people read.
    #[track_caller]
    fn words(&self, arguments: &[&str]) -> String {
        self.plugin(arguments).ok().out
    }

    /// What programs read.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        self.plugin(&[arguments, &["--json"]].concat()).ok().json()
    }

    /// The error in words, and the one that programs read.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> (String, Value) {
        let words = self.plugin(arguments).failed().complaint();
        let told = self.plugin(&[arguments, &["--json"]].concat()).failed();
        let line: Value = serde_json::from_str(told.err.lines().last().unwrap()).unwrap();
        (words, line["error"].clone())
    }
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_waits_for_its_grants_is_shown_and_explained() {
    let operator = Operator::new().await;
    let install = ["install", "hostile.wasm", "--settings", "one.json"];
    let (words, error) = operator.refused(&install);
    has(&words, &["asks for more than it was granted", "--grant ldap.search"]);
    assert_eq!(error["kind"], "pending", "{error}");
    assert!(
        error["help"].as_str().unwrap().contains("russet plugin grant hostile"),
        "{error}"
    );
    let waiting = operator.json(&["show", NAME]);
    assert_eq!(
        (&waiting["state"], &waiting["contract"]),
        (&json!("pending"), &json!(null))
    );

    // Not all of it: it goes on waiting, and what was given stays given.
    let (words, _) = operator.refused(&["grant", NAME, "--grant", "log.write", "--grant", "settings.get"]);
    assert!(
        !words.contains("--grant log.write") && words.contains("--grant ldap.search"),
        "{words}"
    );
    let ran = operator
        .plugin(&["grant", NAME, "--grant-asked", "--connection", "ldap:corp"])
        .ok();
    has(&ran.out, &["hostile 0.1.0 runs as revision"]);
    assert!(
        ran.err.contains("the server compiles hostile"),
        "the progress: {}",
        ran.err
    );
    let granted = operator.json(&["grant", NAME, "--grant-asked"]);
    assert_eq!((&granted["state"], &granted["missing"]), (&json!("active"), &json!([])));
    let (words, error) = operator.refused(&["grant", "nobody", "--grant-asked"]);
    has(&words, &["nobody"]);
    assert_eq!(error["kind"], "not-found", "{error}");

    let shown = operator.words(&["show", NAME]);
    has(
        &shown,
        &[
            "state",
            "active",
            "enrollment-gate",
            "ldap.search",
            "contract, version",
            "0.1.0",
        ],
    );
    let shown = operator.json(&["show", NAME]);
    assert_eq!(shown["contract"], json!({"version": "0.1.0", "deprecated": null}));
    assert_eq!(shown["settings"]["label"], "one");
    let (words, error) = operator.refused(&["show", "nobody"]);
    has(&words, &["not found"]);
    assert_eq!(error["kind"], "not-found");
    let listed = operator.words(&["list"]);
    has(&listed, &["CONTRACT", NAME, "0.1.0"]);
    assert!(!listed.contains("has to be rebuilt"), "{listed}");

    soon("an enrollment", operator.world.enrolled("C02EXPLAIN01")).await;
    let decisions = operator.world.admin.decisions().await;
    let id = decisions[0]["id"].to_string();
    let why = operator.words(&["explain", &id]);
    has(&why, &["allow: enrollment-gate of plugin hostile", "C02EXPLAIN01"]);
    let why = operator.json(&["explain", &id]);
    assert_eq!((&why["plugin"], &why["verdict"]), (&json!(NAME), &json!("allow")));
    assert!(why["call"]["input"].as_str().unwrap().contains("C02EXPLAIN01"), "{why}");
    let (words, error) = operator.refused(&["explain", "999999"]);
    has(&words, &["not found"]);
    assert_eq!(error["kind"], "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_was_asked_for_begins_with_the_grants() {
    let operator = Operator::new().await;
    let settings = json!({"mode": "label", "label": "one"});
    operator.world.admin.install(NAME, settings).await;
    let before = operator.json(&["show", NAME])["revision"].clone();
    let fewer = [
        "install",
        "hostile.wasm",
        "--settings",
        "two.json",
        "--grant",
        "log.write",
        "--shadow",
    ];
    let (_, error) = operator.refused(&fewer);
    let help = error["help"].as_str().unwrap();
    has(help, &["russet plugin grant hostile", "compares the revision"]);
    let granted = operator.words(&["grant", NAME, "--grant-asked", "--connection", "ldap:corp"]);
    has(&granted, &["is compared as revision", "russet plugin shadow report"]);
    let shown = operator.json(&["show", NAME]);
    assert_eq!(
        (&shown["revision"], &shown["rollout"]["phase"]),
        (&before, &json!("shadow"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_is_compared_shared_promoted_taken_back_and_taken_out() {
    let operator = Operator::new().await;
    let first = operator
        .world
        .admin
        .install(NAME, json!({"mode": "label", "label": "one"}))
        .await;
    let (words, error) = operator.refused(&["shadow", "start", NAME]);
    has(&words, &["no revision to roll out"]);
    assert_eq!(error["kind"], "refused");
    let kept = ["install", "hostile.wasm", "--settings", "two.json", "--keep"];
    has(&operator.words(&kept), &["is kept as revision", "does not run"]);
    let second = operator.json(&["show", NAME])["pending"].clone();
    assert!(second["id"].is_number(), "{second}");

    // Beside the devices, in words; then with others gates, for programs.
    let ran = operator.plugin(&["shadow", "start", NAME, "--min-samples", "50"]).ok();
    has(&ran.out, &["hostile 0.1.0 is compared with 0.1.0", "settings: ~ label"]);
    has(&ran.err, &["the server loads the other revision of hostile"]);
    let started = operator.json(&["shadow", "start", NAME, "--min-samples", "40", "--max-new-denies", "5%"]);
    assert_eq!((&started["phase"], &started["permille"]), (&json!("shadow"), &json!(0)));
    assert_eq!(started["gates"]["max_new_denies_permille"], 50, "{started}");
    has(&operator.words(&["shadow", "report", NAME]), &["gate min_samples"]);
    let report = operator.json(&["shadow", "report", NAME]);
    assert_eq!(report["failures"][0]["gate"], "min_samples", "{report}");

    // A share.
    has(
        &operator.words(&["canary", "12.5%", NAME]),
        &["hostile 0.1.0 answers 12.5% of the enrollments in place of 0.1.0"],
    );
    let canary = operator.json(&["canary", "100%", NAME]);
    assert_eq!(
        (&canary["phase"], &canary["permille"]),
        (&json!("canary"), &json!(1000))
    );
    soon("an enrollment", operator.world.enrolled("C02VERBS0001")).await;
    let device = operator.world.admin.device("C02VERBS0001").await;
    assert_eq!(device["attributes"]["label"], "two");

    // Not before its gates; and all the same, if somebody insists.
    let (words, error) = operator.refused(&["promote", NAME]);
    has(&words, &["does not keep to its gates", "force it if it is wanted"]);
    assert_eq!(
        (&error["kind"], &error["server"]["code"]),
        (&json!("refused"), &json!("gates")),
        "{error}"
    );
    let ran = operator
        .plugin(&["promote", NAME, "--force", "--reason", "it is late"])
        .ok();
    has(
        &ran.out,
        &["runs as revision", "overruled:", "the revision before watches it until"],
    );
    has(&ran.err, &["the server puts the other revision of hostile into use"]);
    let watched = operator.json(&["shadow", "report", NAME]);
    assert_eq!(watched["phase"], "watch", "{watched}");
    has(&operator.words(&["shadow", "stop", NAME]), &["is watched by"]);
    let (_, error) = operator.refused(&["shadow", "stop", NAME]);
    assert_eq!(error["kind"], "not-found", "{error}");

    // Back and forth.
    let back = operator.words(&["rollback", NAME, "--reason", "a drill"]);
    has(&back, &["runs as revision", first["revision"].as_str().unwrap()]);
    // What was gone back from is nothing to go back to.
    let (words, error) = operator.refused(&["rollback", NAME]);
    has(&words, &["no such earlier revision"]);
    assert_eq!(error["kind"], "not-found", "{error}");
    let number = second["id"].to_string();
    let forth = operator.json(&["promote", NAME, "--revision", &number, "--force", "--watch", "0s"]);
    assert_ne!(forth["active"]["revision"], first["revision"]);
    assert_eq!(forth["watch_until"], json!(null));
    let back = operator.json(&["rollback", NAME]);
    assert_eq!(back["active"]["revision"], first["revision"]);
    let history = operator.words(&["history", NAME]);
    has(&history, &["it is late", "a drill", "first administrator"]);
    let history = operator.json(&["history", NAME]);
    assert!(
        history["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["reason"] == "a drill"),
        "{history}"
    );

    // Out of use, and in again.
    has(
        &operator.words(&["disable", NAME]),
        &[
            "hostile is out of use since generation",
            "`russet plugin install` brings it back",
        ],
    );
    assert_eq!(operator.json(&["show", NAME])["state"], "disabled");
    let (words, error) = operator.refused(&["disable", NAME]);
    has(&words, &["not found"]);
    assert_eq!(error["kind"], "not-found");
    operator.words(&["install", "hostile.wasm"]);
    std::fs::write(operator.world.server.folder().path().join("secret"), "hunter2").unwrap();
    operator.words(&["secret", "put", NAME, "api", "--file", "secret"]);
    let data = operator.world.admin.delete("/plugins/hostile/data").await.refused(409);
    assert_eq!(data["code"], "in-use", "what runs keeps what it has");
    let removed = operator.words(&["remove", NAME]);
    has(&removed, &["is out of use since generation", "--purge-data deletes it"]);
    let removed = operator.words(&["remove", NAME, "--purge-data"]);
    has(
        &removed,
        &["was out of use already", "deleted: 0 values, 1 secrets, 0 keys"],
    );
    operator.words(&["install", "hostile.wasm"]);
    let removed = operator.json(&["remove", NAME, "--purge-data"]);
    assert_eq!(removed["purged"], json!({"values": 0, "secrets": 0, "keys": 0}));
    assert!(removed["generation"].is_number(), "{removed}");
    let (_, error) = operator.refused(&["remove", NAME]);
    assert_eq!(error["kind"], "not-found");
    operator.words(&["install", "hostile.wasm"]);
    let disabled = operator.json(&["disable", NAME]);
    assert_eq!(disabled["name"], NAME);
    assert!(disabled["generation"].is_number(), "{disabled}");
}
