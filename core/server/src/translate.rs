//! From the configuration's words to what each crate is told.

use std::io;
use std::path::Path;
use std::time::Duration;

use russet_apns::{ClientOptions, Endpoint, Roots};
use russet_engine::EngineSettings;
use russet_engine::settings::{
    EnrollmentSettings, MachineInfoTrust, OnEnrollment, ProfileSigning, PushSettings, WithoutGate,
};
use russet_http::{AddressRange, ConnectionLimits, HttpSettings, ProxySettings};
use russet_plugin_host::{EngineConfig, Limits};
use russet_store::StoreConfig;
use zeroize::Zeroizing;

use crate::config::{self, Config, Signing};
use crate::data_dir::DataDir;
use crate::start::StartError;

pub(crate) fn store(config: &Config, data: &DataDir) -> StoreConfig {
    let url = match &config.database.url {
        Some(url) => url.expose().to_owned(),
        None => format!("sqlite://{}", data.database().display()),
    };
    let mut store = StoreConfig::new(url);
    store.max_connections = config.database.max_connections;
    store.acquire_timeout = Duration::from_secs(config.database.acquire_timeout_seconds);
    store.statement_timeout = Duration::from_secs(config.database.statement_timeout_seconds);
    store
}

pub(crate) fn plugin_engine(config: &Config, data: &DataDir) -> EngineConfig {
    let cache = config.plugins.cache_directory.clone().unwrap_or_else(|| data.plugin_cache());
    EngineConfig { cache_dir: Some(cache), ..EngineConfig::default() }
}

pub(crate) fn plugin_limits(config: &Config) -> Limits {
    let limits = &config.plugins.limits;
    Limits {
        memory_bytes: limits.memory_bytes,
        cpu_ms: limits.cpu_milliseconds,
        wall_ms: limits.deadline_milliseconds,
        concurrency: limits.concurrency,
        host_calls: limits.host_calls,
        log_lines: limits.log_lines,
        output_bytes: limits.output_bytes,
        ..Limits::default()
    }
}

/// # Errors
/// When a file that the connection names cannot be read.
pub(crate) fn ldap(connection: &config::LdapConnection) -> io::Result<russet_plugin_host::LdapConnection> {
    Ok(russet_plugin_host::LdapConnection {
        url: connection.url.clone(),
        start_tls: connection.start_tls,
        allow_plaintext: connection.allow_plaintext,
        bind_dn: connection.bind_dn.clone(),
        bind_password: connection.password()?.map(|password| Zeroizing::new(password.expose().to_owned())),
        base_dn: connection.base_dn.clone(),
        ca_pem: connection.ca_file.as_deref().map(std::fs::read_to_string).transpose()?,
        timeout: Duration::from_secs(connection.timeout_seconds),
        max_entries: connection.max_entries,
    })
}

pub(crate) fn http(config: &Config) -> Result<HttpSettings, StartError> {
    let certificate_header = config
        .server
        .proxy
        .certificate_header
        .parse()
        .map_err(|_| StartError::ProxyHeader(config.server.proxy.certificate_header.clone()))?;
    let trusted = &config.server.proxy.trusted;
    Ok(HttpSettings {
        realm: format!("{} device enrollment", config.enrollment.organization),
        proxy: ProxySettings {
            trusted: trusted.iter().filter_map(|range| AddressRange::new(range.address(), range.prefix())).collect(),
            certificate_header,
        },
        device_body: config.server.limits.device_body_bytes,
        admin_body: config.server.limits.admin_body_bytes,
        body_timeout: Duration::from_secs(config.server.limits.body_timeout_seconds),
    })
}

pub(crate) fn connection_limits(config: &Config) -> ConnectionLimits {
    let limits = &config.server.limits;
    ConnectionLimits {
        connections: limits.connections,
        handshake: Duration::from_secs(limits.handshake_timeout_seconds),
        header: Duration::from_secs(limits.header_timeout_seconds),
        drain: Duration::from_secs(limits.shutdown_timeout_seconds),
        ..ConnectionLimits::default()
    }
}

pub(crate) fn engine(config: &Config, public_url: &str) -> Result<EngineSettings, StartError> {
    Ok(EngineSettings {
        enrollment: enrollment(config, public_url)?,
        push: push(config)?,
        hook_budget: Duration::from_millis(config.plugins.request_budget_milliseconds),
    })
}

fn enrollment(config: &Config, public_url: &str) -> Result<EnrollmentSettings, StartError> {
    let enrollment = &config.enrollment;
    let signing = match (enrollment.profile_signing, &enrollment.signer_certificate_file, &enrollment.signer_private_key_file) {
        (Signing::None, ..) => ProfileSigning::Unsigned,
        (Signing::Files, Some(certificate), Some(key)) => ProfileSigning::Identity {
            certificate_pem: text(certificate)?,
            key_pem: Zeroizing::new(text(key)?),
        },
        _ => ProfileSigning::OwnAuthority,
    };
    let machine_info = match (&enrollment.device_ca_file, enrollment.verify_machine_info) {
        (_, false) => MachineInfoTrust::Unverified,
        (Some(file), true) => MachineInfoTrust::Anchors(text(file)?),
        (None, true) => MachineInfoTrust::Off,
    };
    Ok(EnrollmentSettings {
        public_url: public_url.to_owned(),
        organization: enrollment.organization.clone(),
        profile_identifier: enrollment.profile_identifier.clone(),
        access_rights: enrollment.access_rights,
        check_out_when_removed: enrollment.check_out_when_removed,
        sign_message: enrollment.sign_message,
        signing,
        without_gate: match enrollment.without_gate {
            config::WithoutGate::Deny => WithoutGate::Deny,
            config::WithoutGate::Allow => WithoutGate::Allow,
        },
        challenge_lifetime: Duration::from_secs(enrollment.challenge_lifetime_seconds),
        identity_lifetime: Duration::from_secs(u64::from(enrollment.identity_lifetime_days) * 24 * 60 * 60),
        machine_info,
        legacy_algorithms: enrollment.legacy_algorithms,
        trust_anchors_pem: enrollment.trust_anchor_files.iter().map(|file| text(file)).collect::<Result<_, _>>()?,
        trust_own_authority: config.server.tls.certificate_file.is_none(),
        on_enrollment: OnEnrollment {
            device_information: enrollment.ask_device_information,
            device_configured: enrollment.release_from_setup,
        },
        network_users: enrollment.network_users,
    })
}

fn push(config: &Config) -> Result<PushSettings, StartError> {
    let apns = &config.apns;
    let roots = match &apns.roots_file {
        Some(file) => Roots::from_pem(text(file)?.as_bytes())?,
        None => Roots::System,
    };
    let mut endpoint = Endpoint::new(apns.host.clone(), apns.port, roots);
    if let Some(address) = apns.address {
        endpoint = endpoint.with_address(address);
    }
    Ok(PushSettings {
        client: ClientOptions {
            max_in_flight: config.push.concurrency,
            lifetime: Duration::from_secs(config.push.lifetime_seconds),
            ..ClientOptions::default()
        },
        batch: config.push.batch,
        lease: Duration::from_secs(config.push.lease_seconds),
        retry_first: Duration::from_secs(config.push.retry_first_seconds),
        retry_longest: Duration::from_secs(config.push.retry_longest_seconds),
        ..PushSettings::new(endpoint)
    })
}

fn text(file: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(file).map_err(|source| StartError::File { path: file.to_owned(), source })
}
