//! The configuration: what is read from where, and what an operator is told when it is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use russet::config::{Config, ConfigError, LogFormat, Problem, Signing, WithoutGate, example};
use tempfile::TempDir;

/// A configuration file with this text, and a folder that the text can name as `DIR`.
struct Case {
    folder: TempDir,
    file: PathBuf,
}

impl Case {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("russet.toml");
        std::fs::write(&file, text.replace("DIR", folder.path().to_str().unwrap())).unwrap();
        Self { folder, file }
    }

    fn with_file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(Some(&self.file), [])
    }

    /// The problems, whether reading or checking finds them.
    fn problems(&self) -> Vec<Problem> {
        match self.load().and_then(|config| config.validate()) {
            Err(ConfigError::Invalid { problems }) => problems,
            other => panic!("expected problems, got {other:?}"),
        }
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn example_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/russet.toml")
}

#[test]
fn the_defaults_can_be_used_as_they_are() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config, Config::default());
    config.validate().unwrap();
    assert_eq!(config.enrollment.without_gate, WithoutGate::Deny);
    assert!(config.enrollment.verify_machine_info && !config.enrollment.legacy_algorithms);
}

#[test]
fn the_example_file_is_the_documentation_of_the_keys() {
    let kept = std::fs::read_to_string(example_file()).unwrap_or_default();
    assert!(
        kept == example(),
        "examples/russet.toml is out of date; write it again with \
         `cargo run -p russet -- config example --write examples/russet.toml`"
    );
}

#[test]
fn the_example_file_means_the_defaults() {
    assert_eq!(Config::load(Some(&example_file()), []).unwrap(), Config::default());
}

#[test]
fn every_key_of_the_example_file_is_one() {
    // Assignments have no space after the comment mark; text has one.
    let uncommented: String = example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = Case::new(&uncommented).load().unwrap();
    assert_eq!(config.server.public_url.as_deref(), Some("https://mdm.example.com"));
    assert_eq!(config.push, Config::default().push);
    assert_eq!(config.server.limits, Config::default().server.limits);
    assert_eq!(config.ldap["corp"].url, "ldaps://ldap.example.com");
    assert_eq!(config.http["scim"].base_url, "https://scim.example.com/v2");
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let case = Case::new(
        "data_dir = \"from-file\"\n[server]\nlisten = \"127.0.0.1:1\"\n[log]\nformat = \"json\"\n[push]\nbatch = 7\n",
    );
    let variables = variables(&[
        ("RUSSET_DATA_DIR", "from-environment"),
        ("RUSSET_SERVER__LISTEN", "127.0.0.1:2"),
        ("RUSSET_SERVER__TLS__NAMES", "a.example.com, 192.0.2.1"),
        ("RUSSET_ENROLLMENT__SIGN_MESSAGE", "false"),
        ("RUSSET_PUSH__CONCURRENCY", " 12 "),
        ("RUSSET_LDAP__CORP__BIND_PASSWORD", "0123"),
        ("RUSSET_TOKEN", "belongs to the command line"),
        ("RUSSET_SERVER", "so does this"),
        ("PATH", "/bin"),
    ]);
    let config = Config::load(Some(&case.file), variables).unwrap();
    assert_eq!(config.data_dir, Path::new("from-environment"));
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.server.tls.names, ["a.example.com", "192.0.2.1"]);
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(!config.enrollment.sign_message);
    assert_eq!(
        (config.push.batch, config.push.concurrency, config.push.lease_seconds),
        (7, 12, 120)
    );
    assert_eq!(config.ldap["corp"].bind_password.as_ref().unwrap().expose(), "0123");
}

#[test]
fn a_wrong_value_in_the_environment_names_the_variable() {
    for (name, value, expected) in [
        (
            "RUSSET_PUSH__BATCH",
            "many",
            "RUSSET_PUSH__BATCH: must be a whole number, not negative, not text",
        ),
        (
            "RUSSET_SERVER__LISTN",
            "127.0.0.1:1",
            "RUSSET_SERVER__LISTN: there is no such key; did you mean listen?",
        ),
        (
            "RUSSET_SERVER__TLS__PORT",
            "1",
            "RUSSET_SERVER__TLS__PORT: there is no such key; the keys here are certificate_file, \
             private_key_file, names",
        ),
    ] {
        let error = Config::load(None, variables(&[(name, value)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the configuration can not be used: {expected}")
        );
    }
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/russet.toml")), []).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration file /nowhere/russet.toml can not be read; check its path and permissions"
    );
}

#[test]
fn a_syntax_error_names_the_line_and_does_not_show_it() {
    let case = Case::new("[ldap.corp]\nbind_password = \"hunter2\n");
    let message = case.load().unwrap_err().to_string();
    assert!(message.contains("russet.toml, line 2: "), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn secrets_are_not_shown() {
    let case = Case::new(
        "[database]\nurl = \"postgres://russet:hunter2@db/russet\"\n[secrets]\nmaster_key = \"hunter2\"\n\
         [ldap.corp]\nbind_password = \"hunter2\"\n",
    );
    let config = case.load().unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!config.validate().unwrap_err().to_string().contains("hunter2"));

    let message = Case::new("[ldap.corp]\nbind_password = 8675309\n")
        .load()
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "the configuration can not be used: ldap.corp.bind_password: must be text in quotes"
    );
}

/// Each text has one thing wrong with it.
#[test]
fn each_wrong_value_gets_its_message() {
    let ldap = "[ldap.corp]\nurl = \"ldaps://ldap\"\nbase_dn = \"dc=example\"\n";
    #[rustfmt::skip]
    let table: &[(&str, &str, &str)] = &[
        ("data_dir = \"\"", "data_dir", "must not be empty"),
        ("data_dirs = \"x\"", "data_dirs", "there is no such key; did you mean data_dir?"),
        ("[server]\nport = 1", "server.port", "there is no such key; the keys here are listen, public_url"),
        ("[server]\nlisten = 8443", "server.listen", "must be"),
        ("[server]\nlisten = \"localhost\"", "server.listen", "invalid socket address"),
        ("[server]\nlisten = \"0.0.0.0:1\"", "server.public_url", "is missing; a server that listens on all addresses"),
        ("[server]\npublic_url = \"mdm\"", "server.public_url", "is no URL; write it like https://mdm.example.com"),
        ("[server]\npublic_url = \"http://mdm\"", "server.public_url", "must begin with https://"),
        ("[server]\npublic_url = \"https://a:b@mdm\"", "server.public_url", "must not hold a user name or password"),
        ("[server]\npublic_url = \"https://mdm/x\"", "server.public_url", "must end after the host and port"),
        ("[server.tls]\nnames = [\"a b\"]", "server.tls.names", "`a b` is neither a host name nor an IP address"),
        ("[server.tls]\nnames = \"a\"", "server.tls.names", "must be a list such as [\"…\"], not text"),
        ("[server.tls]\nprivate_key_file = \"k\"", "server.tls.certificate_file", "is missing"),
        ("[server.tls]\ncertificate_file = \"c\"", "server.tls.private_key_file", "is missing"),
        ("[server.proxy]\ntrusted = [\"10/8\"]", "server.proxy.trusted.0", "`10/8` is no range of addresses"),
        ("[server.proxy]\ntrusted = [\"::/0\"]", "server.proxy.trusted", "trusts every address"),
        ("[server.proxy]\ncertificate_header = \"a b\"", "server.proxy.certificate_header", "is no name of an HTTP"),
        ("[server.limits]\nconnections = 0", "server.limits.connections", "must be between 1 and 1000000"),
        ("[server.limits]\nconnections = -1", "server.limits.connections", "must be a whole number, not negative"),
        ("[server.limits]\ndevice_bodies_bytes = 9", "server.limits.device_bodies_bytes", "must be between 8388608 and"),
        ("[server.limits]\ndevice_body_bytes = 9", "server.limits.device_body_bytes", "must be between 65536 and"),
        ("[server.limits]\nhandshake_timeout_seconds = 0", "server.limits.handshake_timeout_seconds", "must be"),
        ("[database]\nurl = \"mysql://db\"", "database.url", "must begin with sqlite:// and the path of a file, or"),
        ("[database]\nurl = \"sqlite://\"", "database.url", "must begin with sqlite:// and the path of a file, or"),
        ("[database]\nmax_connections = 0", "database.max_connections", "must be between 1 and 1000"),
        ("[secrets]\nmaster_key = \"abc\"", "secrets.master_key", "must be 32 bytes in base64; `openssl rand"),
        ("[enrollment]\norganization = \" \"", "enrollment.organization", "must not be empty"),
        ("[enrollment]\nprofile_identifier = \"a b\"", "enrollment.profile_identifier", "must be letters, digits"),
        ("[enrollment]\nwithout_gate = \"yes\"", "enrollment.without_gate", "`yes` is none of the words that are"),
        ("[enrollment]\nsign_message = 1", "enrollment.sign_message", "must be true or false, not a whole number"),
        ("[enrollment]\naccess_rights = 0", "enrollment.access_rights", "must be between 1 and 8191"),
        ("[enrollment]\naccess_rights = 2", "enrollment.access_rights", "holds 2, which devices refuse without 1;"),
        ("[enrollment]\naccess_rights = 128", "enrollment.access_rights", "holds 128, which devices refuse without 64"),
        ("[enrollment]\nidentity_lifetime_days = 0", "enrollment.identity_lifetime_days", "must be between 1 and 3650"),
        ("[enrollment]\nchallenge_lifetime_seconds = 1", "enrollment.challenge_lifetime_seconds", "must be between 60"),
        ("[enrollment]\nsigner_private_key_file = \"k\"", "enrollment.signer_private_key_file", "is not used; set"),
        ("[enrollment]\ndevice_ca_file = \"/nowhere\"", "enrollment.device_ca_file", "/nowhere can not be read"),
        ("[enrollment]\ndevice_ca_file = \"DIR/text\"", "enrollment.device_ca_file", "/text holds no certificate"),
        ("[enrollment]\ntrust_anchor_files = [\"DIR/text\"]", "enrollment.trust_anchor_files", "holds no certificate"),
        ("[apns]\nhost = \"a b\"", "apns.host", "is neither a host name nor an IP address; Apple's is"),
        ("[apns]\nport = 0", "apns.port", "must be between 1 and 65535"),
        ("[apns]\nport = 70000", "apns.port", "must be a whole number from 0 to 65535"),
        ("[apns]\nroots_file = \"DIR/text\"", "apns.roots_file", "holds no certificate in PEM"),
        ("[push]\nbatch = 0", "push.batch", "must be between 1 and 10000"),
        ("[push]\nretry_first_seconds = 60\nretry_longest_seconds = 5", "push.retry_longest_seconds", "must not be"),
        ("[plugins]\nrequest_budget_milliseconds = 1", "plugins.request_budget_milliseconds", "must be between 100"),
        ("[plugins.limits]\nmemory_bytes = 1", "plugins.limits.memory_bytes", "must be between 1048576 and 1073741824"),
        ("[plugins.limits]\ncpu_milliseconds = 1.5", "plugins.limits.cpu_milliseconds", "not a number with a fraction"),
        ("[log]\nformat = \"xml\"", "log.format", "`xml` is none of the words that are possible here: text, json"),
        ("[log]\nfilter = \"a=b=c\"", "log.filter", "is no filter; write it like info or"),
        ("[ldap.corp]\nurl = \"ldaps://ldap\"", "ldap.corp.base_dn", "is missing; name the entry"),
        ("[ldap.corp]\nbase_dn = \"dc=example\"", "ldap.corp.url", "is missing; write it like ldaps://"),
        ("[ldap.corp]\nurl = \"http://ldap\"\nbase_dn = \"dc=example\"", "ldap.corp.url", "must begin with ldaps://"),
        ("[ldap.corp]\nurl = \"ldaps://\"\nbase_dn = \"dc=example\"", "ldap.corp.url", "names no host"),
        ("[ldap.corp]\nurl = \"ldaps://u@h\"\nbase_dn = \"dc=example\"", "ldap.corp.url", "must not hold credentials"),
        ("[ldap.corp]\nurl = \"ldap://h\"\nbase_dn = \"dc=example\"", "ldap.corp.url", "would send passwords in clear"),
        ("[ldap.\"A b\"]\nurl = \"ldaps://h\"\nbase_dn = \"dc=example\"", "ldap.A b", "is no good name; use up to 64"),
        (&format!("{ldap}start_tls = true"), "ldap.corp.start_tls", "is only for ldap:// addresses"),
        (&format!("{ldap}bind_dn = \"cn=a\""), "ldap.corp.bind_password_file", "is missing; bind_dn needs a password"),
        (&format!("{ldap}bind_password = \"x\""), "ldap.corp.bind_dn", "is missing; a password needs a name"),
        (&format!("{ldap}bind_dn = \"a\"\nbind_password = \"\""), "ldap.corp.bind_password", "is empty, which"),
        (&format!("{ldap}bind_dn = \"a\"\nbind_password_file = \"DIR/no\""), "ldap.corp.bind_password_file", "/no can"),
        (&format!("{ldap}ca_file = \"DIR/text\""), "ldap.corp.ca_file", "holds no certificate in PEM"),
        (&format!("{ldap}timeout_seconds = 0"), "ldap.corp.timeout_seconds", "must be between 1 and 60"),
        (&format!("{ldap}max_entries = 0"), "ldap.corp.max_entries", "must be between 1 and 10000"),
        (&format!("{ldap}max_entrys = 1"), "ldap.corp.max_entrys", "there is no such key; did you mean max_entries?"),
    ];
    for (text, key, message) in table {
        let problems = Case::new(text).with_file("text", "not PEM").problems();
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert_eq!(problems[0].key, *key, "{text}: {problems:?}");
        assert!(problems[0].message.contains(message), "{text}: {problems:?}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let case = Case::new(
        "[server]\npublic_url = \"http://mdm\"\n[enrollment]\naccess_rights = 2\nprofile_signing = \"files\"\n\
         [ldap.corp]\nbase_dn = \"dc=example\"\n",
    );
    let error = case.load().unwrap().validate().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration can not be used; 5 keys are wrong:\n\
         - server.public_url: must begin with https://; devices refuse anything else\n\
         - enrollment.signer_certificate_file: is missing; enrollment.profile_signing = \"files\" needs it\n\
         - enrollment.signer_private_key_file: is missing; enrollment.profile_signing = \"files\" needs it\n\
         - enrollment.access_rights: holds 2, which devices refuse without 1; add 1\n\
         - ldap.corp.url: is missing; write it like ldaps://ldap.example.com"
    );
}

#[test]
fn certificate_and_key_have_to_belong_together() {
    let one = rcgen::generate_simple_self_signed(["mdm.example.com".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let text = "[server.tls]\ncertificate_file = \"DIR/tls.pem\"\nprivate_key_file = \"DIR/tls.key\"\n";
    let case = |key: &str| {
        Case::new(text)
            .with_file("tls.pem", &one.cert.pem())
            .with_file("tls.key", key)
    };

    case(&one.signing_key.serialize_pem())
        .load()
        .unwrap()
        .validate()
        .unwrap();

    for (key, message) in [
        (other.serialize_pem(), "does not belong to the certificate"),
        (one.cert.pem(), "holds no private key in PEM"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned(),
            "is encrypted; decrypt it",
        ),
    ] {
        let problems = case(&key).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key, "server.tls.private_key_file");
        assert!(problems[0].message.contains(message), "{problems:?}");
    }
}

#[test]
fn a_password_file_may_end_with_a_line_break() {
    let text = "[ldap.corp]\nurl = \"ldap://h\"\nstart_tls = true\nbase_dn = \"dc=example\"\nbind_dn = \"cn=a\"\n\
                bind_password_file = \"DIR/password\"\n";
    let case = Case::new(text).with_file("password", "pass word\r\n");
    let config = case.load().unwrap();
    config.validate().unwrap();
    assert_eq!(config.ldap["corp"].password().unwrap().unwrap().expose(), "pass word");
    let problems = Case::new(text).with_file("password", "\n").problems();
    assert!(problems[0].message.contains("is empty"), "{problems:?}");
}

#[test]
fn signing_by_files_needs_files_that_can_be_read() {
    let signer = rcgen::generate_simple_self_signed(["signer".to_owned()]).unwrap();
    let text = "[enrollment]\nprofile_signing = \"files\"\nsigner_certificate_file = \"DIR/signer.pem\"\n\
                signer_private_key_file = \"DIR/signer.key\"\n";
    let case = Case::new(text)
        .with_file("signer.pem", &signer.cert.pem())
        .with_file("signer.key", &signer.signing_key.serialize_pem());
    let config = case.load().unwrap();
    config.validate().unwrap();
    assert_eq!(config.enrollment.profile_signing, Signing::Files);
}

#[test]
fn the_public_url_follows_the_port_when_it_is_not_given() {
    let mut config = Config::default();
    assert_eq!(
        config.server.public_url_at("127.0.0.1:4433".parse().unwrap()),
        "https://localhost:4433"
    );
    config.server.public_url = Some("https://mdm.example.com/".to_owned());
    assert_eq!(
        config.server.public_url_at("127.0.0.1:4433".parse().unwrap()),
        "https://mdm.example.com"
    );
}
