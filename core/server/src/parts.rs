//! What the configuration means for each part of the server. Files are read here; nothing is opened or connected.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use russet_apns::{ClientOptions, Endpoint, Roots};
use russet_engine::EngineSettings;
use russet_engine::settings::{
    EnrollmentSettings, MachineInfoTrust, OnEnrollment, ProfileSigning, PushSettings, QueueSettings,
    WithoutGate as EngineWithoutGate, WorkSettings,
};
use russet_http::{AddressRange, ConnectionLimits, HttpSettings, ProxySettings, RateLimits, TlsError};
use russet_plugin_host::{
    Connections, EngineConfig, HttpAuthentication, HttpConnection, HttpConnections, IpNet, LdapConnection,
    LdapConnections, Limits,
};
use russet_store::{MasterKey, QueueRules, Retention, StoreConfig};
use zeroize::Zeroizing;

use crate::config::{self, Config, PolicyFailure, Signing, WithoutGate};
use crate::data_dir::DataDir;
use crate::start_error::StartError;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Reads a file that the configuration names.
pub(crate) fn read(key: &str, path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|source| StartError::File {
        key: key.to_owned(),
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn store(config: &Config, data_dir: &DataDir) -> StoreConfig {
    let database = &config.database;
    let url = match &database.url {
        Some(url) => url.expose().to_owned(),
        None => format!("sqlite://{}", data_dir.database().display()),
    };
    let mut store = StoreConfig::new(url);
    store.max_connections = database.max_connections;
    store.acquire_timeout = seconds(database.acquire_timeout_seconds);
    store.statement_timeout = seconds(database.statement_timeout_seconds);
    store.touch_interval = seconds(database.last_seen_interval_seconds);
    store.queue = queue_rules(config);
    store
}

pub(crate) fn master_key(config: &Config, data_dir: &DataDir) -> Result<MasterKey, StartError> {
    Ok(match (&config.secrets.master_key, &config.secrets.master_key_file) {
        (Some(key), _) => MasterKey::from_base64(key.expose())?,
        (None, Some(path)) => MasterKey::load_or_create(path)?,
        (None, None) => MasterKey::load_or_create(&data_dir.master_key())?,
    })
}

pub(crate) fn plugin_engine(config: &Config, data_dir: &DataDir) -> EngineConfig {
    let defaults = EngineConfig::default();
    EngineConfig {
        cache_dir: Some(
            config
                .plugins
                .cache_directory
                .clone()
                .unwrap_or_else(|| data_dir.plugin_cache()),
        ),
        max_memory_bytes: defaults.max_memory_bytes.max(config.plugins.limits.memory_bytes),
        ..defaults
    }
}

pub(crate) fn plugin_limits(config: &Config) -> Limits {
    let limits = &config.plugins.limits;
    let defaults = Limits::default();
    Limits {
        memory_bytes: limits.memory_bytes,
        cpu_ms: limits.cpu_milliseconds,
        wall_ms: limits.deadline_milliseconds,
        host_calls: limits.host_calls,
        log_lines: limits.log_lines,
        output_bytes: limits.output_bytes,
        // An answer is the output and what is around it.
        transfer_bytes: limits
            .output_bytes
            .saturating_add(defaults.transfer_bytes - defaults.output_bytes),
        concurrency: limits.concurrency,
        kv_keys: limits.store_keys,
        kv_bytes: limits.store_bytes,
        ..defaults
    }
}

/// The named connections that plugins may be granted.
pub(crate) fn connections(config: &Config) -> Result<Connections, StartError> {
    Ok(Connections {
        ldap: ldap(config)?,
        http: http_connections(config)?,
    })
}

fn tenants(names: &[String]) -> Option<BTreeSet<String>> {
    (!names.iter().any(|tenant| tenant == "*")).then(|| names.iter().cloned().collect())
}

fn http_connections(config: &Config) -> Result<HttpConnections, StartError> {
    let mut connections = HttpConnections::new();
    for (name, http) in &config.http {
        let secret = http.credential().map_err(|source| StartError::File {
            key: format!("http.{name}.secret_file"),
            path: http.secret_file.clone().unwrap_or_default(),
            source,
        })?;
        let secret = Zeroizing::new(secret.map(|secret| secret.expose().to_owned()).unwrap_or_default());
        let ca_pem = http
            .ca_file
            .as_ref()
            .map(|path| read(&format!("http.{name}.ca_file"), path))
            .transpose()?;
        let connection = HttpConnection {
            base_url: http.base_url.clone(),
            allow_plaintext: http.allow_plaintext,
            authentication: match http.authentication {
                config::HttpAuthentication::None => HttpAuthentication::None,
                config::HttpAuthentication::Bearer => HttpAuthentication::Bearer(secret),
                config::HttpAuthentication::Basic => HttpAuthentication::Basic {
                    user_name: http.user_name.clone().unwrap_or_default(),
                    password: secret,
                },
                config::HttpAuthentication::Header => HttpAuthentication::Header {
                    name: http.header_name.clone().unwrap_or_default(),
                    value: secret,
                },
            },
            // What is no network is refused when the configuration is read.
            allowed_networks: http
                .allowed_networks
                .iter()
                .filter_map(|range| IpNet::new(range.address(), range.prefix()).ok())
                .collect(),
            ca_pem,
            timeout: seconds(http.timeout_seconds),
            max_request_bytes: http.max_request_bytes,
            max_response_bytes: http.max_response_bytes,
            requests_per_minute: http.requests_per_minute,
            tenants: tenants(&http.tenants),
        };
        connections
            .insert(name, connection)
            .map_err(|source| StartError::Http {
                name: name.clone(),
                source,
            })?;
    }
    Ok(connections)
}

fn ldap(config: &Config) -> Result<LdapConnections, StartError> {
    let mut connections = LdapConnections::new();
    for (name, ldap) in &config.ldap {
        let password = ldap.password().map_err(|source| StartError::File {
            key: format!("ldap.{name}.bind_password_file"),
            path: ldap.bind_password_file.clone().unwrap_or_default(),
            source,
        })?;
        let ca_pem = ldap
            .ca_file
            .as_ref()
            .map(|path| read(&format!("ldap.{name}.ca_file"), path))
            .transpose()?;
        let connection = LdapConnection {
            url: ldap.url.clone(),
            start_tls: ldap.start_tls,
            allow_plaintext: ldap.allow_plaintext,
            bind_dn: ldap.bind_dn.clone(),
            bind_password: password.map(|password| Zeroizing::new(password.expose().to_owned())),
            base_dn: ldap.base_dn.clone(),
            ca_pem,
            timeout: seconds(ldap.timeout_seconds),
            max_entries: ldap.max_entries,
            tenants: tenants(&ldap.tenants),
        };
        connections
            .insert(name, connection)
            .map_err(|source| StartError::Ldap {
                name: name.clone(),
                source,
            })?;
    }
    Ok(connections)
}

fn work(config: &Config) -> WorkSettings {
    WorkSettings {
        record_calls: config.plugins.recorded_input_hours > 0,
        attempts: config.plugins.observer_attempts,
        parallel: config.plugins.observer_parallel,
        ..WorkSettings::default()
    }
}

fn queue(config: &Config) -> QueueSettings {
    let days = u64::from(config.queue.question_days);
    QueueSettings {
        query_lifetime: (days > 0).then(|| seconds(days * 24 * 60 * 60)),
        open_on_policy_failure: config.plugins.command_policy_failure == PolicyFailure::Open,
    }
}

fn queue_rules(config: &Config) -> QueueRules {
    let queue = &config.queue;
    QueueRules {
        offer_again_first: seconds(queue.offer_again_first_seconds),
        offer_again_longest: seconds(queue.offer_again_longest_seconds),
        stuck_after: queue.stuck_after_offers,
        stuck_again: seconds(queue.stuck_offer_hours * 60 * 60),
        push_again_first: seconds(queue.push_again_first_minutes * 60),
        push_again_per_day: queue.push_again_per_day,
        ..QueueRules::default()
    }
}

/// How long what is over is kept.
pub(crate) fn retention(config: &Config) -> Retention {
    const HOUR: u64 = 60 * 60;
    Retention {
        commands: seconds(u64::from(config.retention.commands_days) * 24 * HOUR),
        results: seconds(u64::from(config.retention.results_days) * 24 * HOUR),
        decisions: seconds(u64::from(config.plugins.decisions_days) * 24 * HOUR),
        recorded_calls: seconds(u64::from(config.plugins.recorded_input_hours) * HOUR),
        events: seconds(u64::from(config.plugins.events_days) * 24 * HOUR),
        plugin_data: seconds(u64::from(config.plugins.removed_data_days) * 24 * HOUR),
        ..Retention::default()
    }
}

/// What the engine is told when the server listens on `bound`.
pub(crate) fn engine(config: &Config, bound: SocketAddr) -> Result<EngineSettings, StartError> {
    Ok(EngineSettings {
        enrollment: enrollment(config, bound)?,
        push: push(config)?,
        queue: queue(config),
        work: work(config),
        hook_budget: Duration::from_millis(config.plugins.request_budget_milliseconds),
    })
}

fn enrollment(config: &Config, bound: SocketAddr) -> Result<EnrollmentSettings, StartError> {
    let enrollment = &config.enrollment;
    let files = |key: &str, paths: &[PathBuf]| -> Result<Vec<String>, StartError> {
        paths.iter().map(|path| read(key, path)).collect()
    };
    Ok(EnrollmentSettings {
        public_url: config.server.public_url_at(bound),
        organization: enrollment.organization.clone(),
        profile_identifier: enrollment.profile_identifier.clone(),
        access_rights: enrollment.access_rights,
        check_out_when_removed: enrollment.check_out_when_removed,
        sign_message: enrollment.sign_message,
        signing: signing(config)?,
        without_gate: match enrollment.without_gate {
            WithoutGate::Deny => EngineWithoutGate::Deny,
            WithoutGate::Allow => EngineWithoutGate::Allow,
        },
        challenge_lifetime: seconds(enrollment.challenge_lifetime_seconds),
        identity_lifetime: seconds(u64::from(enrollment.identity_lifetime_days) * 24 * 60 * 60),
        machine_info: match (&enrollment.device_ca_file, enrollment.verify_machine_info) {
            (_, false) => MachineInfoTrust::Unverified,
            (Some(path), true) => MachineInfoTrust::Anchors(read("enrollment.device_ca_file", path)?),
            (None, true) => MachineInfoTrust::Off,
        },
        legacy_algorithms: enrollment.legacy_algorithms,
        trust_anchors_pem: files("enrollment.trust_anchor_files", &enrollment.trust_anchor_files)?,
        trust_own_authority: config.server.tls.certificate_file.is_none(),
        on_enrollment: OnEnrollment {
            device_information: enrollment.ask_device_information,
            device_configured: enrollment.release_from_setup,
        },
        network_users: enrollment.network_users,
    })
}

fn signing(config: &Config) -> Result<ProfileSigning, StartError> {
    let enrollment = &config.enrollment;
    Ok(
        match (
            enrollment.profile_signing,
            &enrollment.signer_certificate_file,
            &enrollment.signer_private_key_file,
        ) {
            (Signing::Files, Some(certificate), Some(key)) => ProfileSigning::Identity {
                certificate_pem: read("enrollment.signer_certificate_file", certificate)?,
                key_pem: Zeroizing::new(read("enrollment.signer_private_key_file", key)?),
            },
            (Signing::None, ..) => ProfileSigning::Unsigned,
            // Files that are not named are refused by `Config::validate`.
            (Signing::Own | Signing::Files, ..) => ProfileSigning::OwnAuthority,
        },
    )
}

fn push(config: &Config) -> Result<PushSettings, StartError> {
    let (apns, push) = (&config.apns, &config.push);
    let roots = match &apns.roots_file {
        Some(path) => Roots::from_pem(read("apns.roots_file", path)?.as_bytes()).map_err(StartError::ApnsRoots)?,
        None => Roots::System,
    };
    let mut endpoint = Endpoint::new(&apns.host, apns.port, roots);
    endpoint.address = apns.address;
    let mut settings = PushSettings::new(endpoint);
    settings.client = ClientOptions {
        max_in_flight: push.concurrency,
        lifetime: seconds(push.lifetime_seconds),
        ..ClientOptions::default()
    };
    settings.batch = push.batch;
    settings.per_second = (push.per_second > 0).then_some(push.per_second);
    settings.lease = seconds(push.lease_seconds);
    settings.retry_first = seconds(push.retry_first_seconds);
    settings.retry_longest = seconds(push.retry_longest_seconds);
    Ok(settings)
}

pub(crate) fn http(config: &Config) -> HttpSettings {
    let server = &config.server;
    let mut settings = HttpSettings {
        realm: config.enrollment.organization.clone(),
        proxy: ProxySettings {
            trusted: ranges(config),
            // What is no name of a header is refused by `Config::validate`.
            address_header: server
                .proxy
                .address_header
                .as_ref()
                .and_then(|header| header.parse().ok()),
            ..ProxySettings::default()
        },
        device_body: server.limits.device_body_bytes,
        admin_body: server.limits.admin_body_bytes,
        body_timeout: seconds(server.limits.body_timeout_seconds),
        rates: RateLimits {
            enrollments_per_minute: NonZeroU32::new(server.limits.enrollment_requests_per_minute),
            sign_ins_per_minute: NonZeroU32::new(server.limits.sign_ins_per_minute),
            wrong_tokens_per_minute: NonZeroU32::new(server.limits.wrong_tokens_per_minute),
            device_messages_at_once: server.limits.device_messages_per_tenant,
            device_bodies: server.limits.device_bodies_bytes,
            ..RateLimits::default()
        },
    };
    // What is no name of a header is refused by `Config::validate`.
    if let Ok(header) = server.proxy.certificate_header.parse() {
        settings.proxy.certificate_header = header;
    }
    settings
}

fn ranges(config: &Config) -> Vec<AddressRange> {
    let trusted = &config.server.proxy.trusted;
    trusted
        .iter()
        .filter_map(|range| AddressRange::new(range.address(), range.prefix()))
        .collect()
}

pub(crate) fn connection_limits(config: &Config) -> ConnectionLimits {
    let limits = &config.server.limits;
    ConnectionLimits {
        connections: limits.connections,
        connections_per_address: limits.connections_per_address,
        handshake: seconds(limits.handshake_timeout_seconds),
        header: seconds(limits.header_timeout_seconds),
        idle: seconds(limits.idle_timeout_seconds),
        drain: seconds(limits.shutdown_timeout_seconds),
    }
}

/// The names and addresses in the certificate that the server issues itself.
pub(crate) fn tls_names(config: &Config, bound: SocketAddr) -> (Vec<String>, Vec<IpAddr>) {
    let mut names = vec!["localhost".to_owned()];
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16])];
    if !bound.ip().is_unspecified() {
        addresses.push(bound.ip());
    }
    let url = reqwest::Url::parse(&config.server.public_url_at(bound)).ok();
    let host = url
        .as_ref()
        .and_then(|url| url.host_str())
        .map(|host| host.trim_matches(['[', ']']).to_owned());
    for name in host.iter().chain(&config.server.tls.names) {
        match name.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(name.clone()),
        }
    }
    names.sort_unstable();
    names.dedup();
    addresses.sort_unstable();
    addresses.dedup();
    (names, addresses)
}

/// The operator's certificate and key, in PEM.
pub(crate) struct TlsFiles {
    pub(crate) chain: String,
    pub(crate) key: Zeroizing<String>,
}

/// Reads the operator's certificate and key, if there are some.
pub(crate) fn tls_files(config: &Config) -> Result<Option<TlsFiles>, StartError> {
    let tls = &config.server.tls;
    let (Some(chain), Some(key)) = (&tls.certificate_file, &tls.private_key_file) else {
        return Ok(None);
    };
    Ok(Some(TlsFiles {
        chain: read("server.tls.certificate_file", chain)?,
        key: Zeroizing::new(read("server.tls.private_key_file", key)?),
    }))
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_parts() {
        let config = Config::default();
        assert_eq!(plugin_limits(&config), Limits::default());
        assert_eq!(connection_limits(&config), ConnectionLimits::default());
        let (http, defaults) = (http(&config), HttpSettings::default());
        assert_eq!(
            (
                http.device_body,
                http.admin_body,
                http.body_timeout,
                http.proxy.certificate_header
            ),
            (
                defaults.device_body,
                defaults.admin_body,
                defaults.body_timeout,
                defaults.proxy.certificate_header
            )
        );
        let (push, defaults) = (push(&config).unwrap(), PushSettings::new(Endpoint::apple()));
        assert_eq!(push.endpoint.to_string(), defaults.endpoint.to_string());
        assert_eq!(
            (push.batch, push.lease, push.retry_first, push.retry_longest),
            (
                defaults.batch,
                defaults.lease,
                defaults.retry_first,
                defaults.retry_longest
            )
        );
        assert_eq!(
            (push.client.max_in_flight, push.client.lifetime),
            (defaults.client.max_in_flight, defaults.client.lifetime)
        );
        let (store, defaults) = (store(&config, &DataDir::new("d")), StoreConfig::new(""));
        assert_eq!(store.url, "sqlite://d/russet.sqlite");
        assert_eq!(
            (
                store.max_connections,
                store.acquire_timeout,
                store.statement_timeout,
                store.touch_interval
            ),
            (
                defaults.max_connections,
                defaults.acquire_timeout,
                defaults.statement_timeout,
                defaults.touch_interval
            )
        );
    }

    #[test]
    fn its_own_certificate_names_every_way_to_the_server() {
        let mut config = Config::default();
        let (names, addresses) = tls_names(&config, "0.0.0.0:1".parse().unwrap());
        assert_eq!(names, ["localhost"]);
        assert_eq!(
            addresses,
            ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]
        );

        config.server.public_url = Some("https://mdm.example.com:8443".to_owned());
        config.server.tls.names = vec!["192.0.2.1".to_owned(), "alias.example.com".to_owned()];
        let (names, addresses) = tls_names(&config, "198.51.100.1:1".parse().unwrap());
        assert_eq!(names, ["alias.example.com", "localhost", "mdm.example.com"]);
        assert!(addresses.contains(&"192.0.2.1".parse().unwrap()));
        assert!(addresses.contains(&"198.51.100.1".parse().unwrap()));
    }

    #[test]
    fn without_its_authorities_automated_enrollment_is_off() {
        let trust = |config: &Config| enrollment(config, config.server.listen).unwrap().machine_info;
        let mut config = Config::default();
        assert!(matches!(trust(&config), MachineInfoTrust::Off));
        config.enrollment.verify_machine_info = false;
        assert!(matches!(trust(&config), MachineInfoTrust::Unverified));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "PEM").unwrap();
        config.enrollment.verify_machine_info = true;
        config.enrollment.device_ca_file = Some(path);
        assert!(matches!(trust(&config), MachineInfoTrust::Anchors(pem) if pem == "PEM"));
    }
}
