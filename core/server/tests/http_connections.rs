//! The sections `[http.<name>]`: what they mean, and what an operator is told when they are wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use russet::config::{Config, ConfigError, HttpAuthentication, Problem};
use tempfile::TempDir;

/// A configuration file with this text, in which `DIR` is a folder with the files `token`, `empty` and `text`.
fn load(text: &str, variables: &[(&str, &str)]) -> (TempDir, Result<Config, ConfigError>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("russet.toml");
    std::fs::write(&file, text.replace("DIR", folder.path().to_str().unwrap())).unwrap();
    std::fs::write(folder.path().join("token"), "from a file\r\n").unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    std::fs::write(folder.path().join("text"), "no certificate").unwrap();
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let config = Config::load(Some(&file), variables);
    (folder, config)
}

fn problems(text: &str) -> Vec<Problem> {
    let (_folder, config) = load(text, &[]);
    match config.and_then(|config| config.validate()) {
        Err(ConfigError::Invalid { problems }) => problems,
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn a_connection_has_safe_defaults() {
    let (_folder, config) = load("[http.scim]\nbase_url = \"https://scim.example/v2\"\n", &[]);
    let config = config.unwrap();
    config.validate().unwrap();
    let connection = &config.http["scim"];
    assert!(!connection.allow_plaintext);
    assert_eq!(connection.authentication, HttpAuthentication::None);
    assert!(connection.allowed_networks.is_empty());
    assert_eq!(connection.tenants, ["default"]);
    assert!(connection.credential().unwrap().is_none());
}

#[test]
fn a_secret_comes_from_the_file_a_file_or_the_environment_and_is_never_shown() {
    let section = "[http.scim]\nbase_url = \"https://scim.example\"\nauthentication = \"bearer\"\n";
    for (text, variables, secret) in [
        (format!("{section}secret = \"inline\"\n"), &[][..], "inline"),
        (format!("{section}secret_file = \"DIR/token\"\n"), &[], "from a file"),
        (
            section.to_owned(),
            &[("RUSSET_HTTP__SCIM__SECRET", "from the environment")],
            "from the environment",
        ),
    ] {
        let (_folder, config) = load(&text, variables);
        let config = config.unwrap();
        config.validate().unwrap();
        assert_eq!(config.http["scim"].credential().unwrap().unwrap().expose(), secret);
        assert!(!format!("{config:?}").contains(secret), "{secret}");
    }
}

#[test]
fn networks_are_read_and_refused() {
    let (_folder, config) = load(
        "[http.scim]\nbase_url = \"https://scim.example\"\nallowed_networks = [\"10.20.0.0/16\", \"fd00::/8\", \"127.0.0.1\"]\n",
        &[],
    );
    let config = config.unwrap();
    let networks: Vec<String> = config.http["scim"]
        .allowed_networks
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(networks, ["10.20.0.0/16", "fd00::/8", "127.0.0.1/32"]);
    let found = problems("[http.scim]\nbase_url = \"https://scim.example\"\nallowed_networks = [\"all\"]\n");
    assert!(found[0].message.contains("no range of addresses"), "{found:?}");
}

#[test]
fn each_mistake_is_told_with_its_key() {
    let scim = "[http.scim]\nbase_url = \"https://scim.example\"\n";
    let bearer = format!("{scim}authentication = \"bearer\"\n");
    for (text, key, message) in [
        (
            "[http.scim]\n".to_owned(),
            "base_url",
            "is missing; write it like https://",
        ),
        ("[http.scim]\nbase_url = \"scim\"".to_owned(), "base_url", "is no URL"),
        (
            "[http.scim]\nbase_url = \"http://h\"".to_owned(),
            "base_url",
            "in clear text; use https://",
        ),
        (
            "[http.scim]\nbase_url = \"ldap://h\"".to_owned(),
            "base_url",
            "must begin with https://",
        ),
        (
            "[http.scim]\nbase_url = \"https://u:p@h\"".to_owned(),
            "base_url",
            "must not hold credentials",
        ),
        (
            "[http.scim]\nbase_url = \"https://h/?q\"".to_owned(),
            "base_url",
            "must end with its path",
        ),
        (
            format!("{scim}secret = \"x\""),
            "authentication",
            "is missing; say how the secret is sent",
        ),
        (
            bearer.clone(),
            "secret_file",
            "is missing; the authentication needs a secret",
        ),
        (
            format!("{bearer}secret = \"x\"\nsecret_file = \"DIR/token\""),
            "secret",
            "keep one of the two",
        ),
        (
            format!("{bearer}secret_file = \"DIR/none\""),
            "secret_file",
            "can not be read",
        ),
        (format!("{bearer}secret_file = \"DIR/empty\""), "secret", "is empty"),
        (
            format!("{bearer}secret = \"a\\nb\""),
            "secret",
            "characters that no header may hold",
        ),
        (
            format!("{bearer}secret = \"x\"\nuser_name = \"u\""),
            "user_name",
            "the authentication does not use it",
        ),
        (
            format!("{scim}authentication = \"basic\"\nsecret = \"x\""),
            "user_name",
            "is missing",
        ),
        (
            format!("{scim}authentication = \"header\"\nsecret = \"x\""),
            "header_name",
            "is missing",
        ),
        (
            format!("{scim}authentication = \"magic\""),
            "authentication",
            "none of the words that are possible",
        ),
        (
            format!("{scim}ca_file = \"DIR/text\""),
            "ca_file",
            "holds no certificate in PEM",
        ),
        (
            format!("{scim}timeout_seconds = 0"),
            "timeout_seconds",
            "must be between 1 and 60",
        ),
        (
            format!("{scim}max_response_bytes = 0"),
            "max_response_bytes",
            "must be between 1 and",
        ),
        (
            format!("{scim}requests_per_minute = 0"),
            "requests_per_minute",
            "must be between 1 and",
        ),
        (format!("{scim}bsae_url = \"x\""), "bsae_url", "did you mean base_url?"),
    ] {
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].key, format!("http.scim.{key}"), "{text}: {found:?}");
        assert!(found[0].message.contains(message), "{text}: {found:?}");
    }
    let found = problems("[http.\"A b\"]\nbase_url = \"https://h\"");
    assert_eq!(found[0].key, "http.A b");
}
