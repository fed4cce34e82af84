//! Calls that are answered by the ports. Each ends with the call's deadline at the latest.

use std::future::Future;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use russet_hooks::Secret;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::{HostAnswer, HostCall, HostValue, Journal, Withheld};
use crate::ports::{CallError, Expected, KvQuota, KvWrite, Ports, Space};
use crate::state::{CallState, PluginContext};

/// The most devices of one person that are returned.
const MAX_OF_PERSON: u32 = 1_000;

/// Waits until the deadline at the latest.
async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T, CallError>> + Send) -> Result<T, CallError> {
    match timeout_at(deadline, work).await {
        Ok(answer) => answer,
        Err(_) => Err(CallError::Unavailable("no answer in time".to_owned())),
    }
}

/// Who asks, until when, apart from the state of the call, which is not for sharing while somebody waits.
pub(super) struct Asking {
    plugin: Arc<PluginContext>,
    deadline: Instant,
    /// What a recorded call made of the secret that it asks about: it is then in its overlay only.
    overlaid: Option<Option<Secret>>,
}

impl Asking {
    pub(super) fn of(state: &CallState, call: &HostCall) -> Self {
        let overlaid = match (&state.journal, call) {
            (Journal::Recorded(replay), HostCall::SignerHmac { secret, .. }) => replay.secret(secret),
            _ => None,
        };
        Self {
            plugin: Arc::clone(&state.plugin),
            deadline: state.scope.deadline,
            overlaid,
        }
    }
}

/// Answers what needs no waiting.
pub(super) fn answer_now(ports: &Ports, call: &HostCall) -> HostAnswer {
    match call {
        HostCall::ClockNow => Ok(HostValue::Time(
            u64::try_from(ports.clock.now().as_millisecond()).unwrap_or_default(),
        )),
        HostCall::RandomBytes { count } => {
            let mut bytes = vec![0; *count as usize];
            ports.random.fill(&mut bytes)?;
            Ok(HostValue::Bytes(bytes))
        }
        _ => Err(CallError::Unavailable("this call has to wait".to_owned())),
    }
}

/// Answers any call.
pub(super) async fn answer(asking: Asking, call: &HostCall) -> HostAnswer {
    let plugin = asking.plugin.as_ref();
    let (ports, space, deadline) = (&plugin.ports, &plugin.space, asking.deadline);
    match call {
        HostCall::ClockNow | HostCall::RandomBytes { .. } => answer_now(ports, call),
        HostCall::KvGet { key } => within(deadline, ports.kv.get(space, key)).await.map(HostValue::Entry),
        HostCall::KvSet {
            key,
            value,
            expires_in_ms,
        } => {
            let write = write(plugin, key, value, *expires_in_ms, Expected::Anything);
            within(deadline, ports.kv.write(space, write))
                .await
                .map(|_| HostValue::Done)
        }
        HostCall::KvCompareAndSet {
            key,
            version,
            value,
            expires_in_ms,
        } => {
            let expected = version.map_or(Expected::Absent, Expected::Version);
            let write = write(plugin, key, value, *expires_in_ms, expected);
            within(deadline, ports.kv.write(space, write))
                .await
                .map(HostValue::Flag)
        }
        HostCall::KvDelete { key } => within(deadline, ports.kv.delete(space, key)).await.map(HostValue::Flag),
        HostCall::KvKeys { prefix, after, limit } => {
            within(deadline, ports.kv.keys(space, prefix, after.as_deref(), *limit))
                .await
                .map(HostValue::Keys)
        }
        HostCall::FindDevice { name } => within(deadline, ports.inventory.find_device(&space.tenant, name))
            .await
            .map(|found| HostValue::Device(found.map(Box::new))),
        HostCall::DevicesWithAttribute {
            name,
            value,
            after,
            limit,
        } => {
            let asked = ports
                .inventory
                .devices_with_attribute(&space.tenant, name, value, after.as_deref(), *limit);
            within(deadline, asked).await.map(HostValue::Devices)
        }
        HostCall::DevicesOfPerson { user_name } => {
            let asked = ports
                .inventory
                .devices_of_person(&space.tenant, user_name, MAX_OF_PERSON);
            within(deadline, asked).await.map(HostValue::Devices)
        }
        HostCall::HttpSend(request) => {
            let Some(port) = plugin.http.get(&request.connection) else {
                return Err(not_granted("http", &request.connection));
            };
            within(deadline, port.send(space, request.clone(), deadline))
                .await
                .map(HostValue::Response)
        }
        HostCall::LdapSearch(search) => {
            let Some(port) = plugin.ldap.get(&search.connection) else {
                return Err(not_granted("ldap", &search.connection));
            };
            within(deadline, port.search(search.clone(), deadline))
                .await
                .map(HostValue::Entries)
        }
        HostCall::LdapBind {
            connection,
            dn,
            password,
        } => {
            let Some(port) = plugin.ldap.get(connection) else {
                return Err(not_granted("ldap", connection));
            };
            let password = std::str::from_utf8(password.expose())
                .map_err(|_| CallError::Invalid("the password is not text".to_owned()))?;
            within(deadline, port.bind(dn, password, deadline))
                .await
                .map(HostValue::Flag)
        }
        HostCall::SecretsGet { .. }
        | HostCall::SecretsPut { .. }
        | HostCall::SecretsDelete { .. }
        | HostCall::SecretsSeal { .. }
        | HostCall::SecretsOpen { .. } => within(deadline, secrets(ports, space, call)).await,
        HostCall::SignerHmac { secret, message } => {
            within(deadline, hmac_sha256(plugin, asking.overlaid, secret, message)).await
        }
        HostCall::SignerSign { key, message } => {
            within(deadline, async {
                let pair = key_pair(ports, space, key).await?;
                Ok(HostValue::Bytes(pair.sign(message).as_ref().to_vec()))
            })
            .await
        }
        HostCall::SignerPublicKey { key } => {
            within(deadline, async {
                let pair = key_pair(ports, space, key).await?;
                Ok(HostValue::Bytes(pair.public_key().as_ref().to_vec()))
            })
            .await
        }
    }
}

fn not_granted(kind: &str, name: &str) -> CallError {
    CallError::NotGranted(format!(
        "the connection {name:?} is not granted to this plugin; add --connection {kind}:{name}"
    ))
}

fn write(plugin: &PluginContext, key: &str, value: &[u8], expires_in_ms: Option<u64>, expected: Expected) -> KvWrite {
    let limits = &plugin.limits;
    KvWrite {
        key: key.to_owned(),
        value: value.to_vec(),
        expires_in_ms,
        expected,
        quota: KvQuota {
            keys: limits.kv_keys,
            bytes: limits.kv_bytes,
        },
    }
}

fn hidden(bytes: &Vec<u8>) -> Secret {
    Secret::new(bytes.as_slice())
}

async fn secrets(ports: &Ports, space: &Space, call: &HostCall) -> HostAnswer {
    let secrets = &ports.secrets;
    match call {
        HostCall::SecretsGet { name } => {
            let secret = secrets.get(space, name).await?;
            Ok(HostValue::Secret(Withheld::new(secret.as_deref().map(hidden))))
        }
        HostCall::SecretsPut { name, value } => {
            secrets.put(space, name, value.expose()).await?;
            Ok(HostValue::Done)
        }
        HostCall::SecretsDelete { name } => secrets.delete(space, name).await.map(HostValue::Flag),
        HostCall::SecretsSeal { value } => secrets.seal(space, value.expose()).await.map(HostValue::Bytes),
        HostCall::SecretsOpen { sealed } => {
            let opened = secrets.open(space, sealed).await?;
            Ok(HostValue::Secret(Withheld::new(Some(hidden(&opened)))))
        }
        _ => Err(CallError::Unavailable("not a secret".to_owned())),
    }
}

async fn hmac_sha256(
    plugin: &PluginContext,
    overlaid: Option<Option<Secret>>,
    name: &str,
    message: &[u8],
) -> HostAnswer {
    let secret = match overlaid {
        Some(secret) => secret,
        None => plugin
            .ports
            .secrets
            .get(&plugin.space, name)
            .await?
            .as_deref()
            .map(hidden),
    };
    let secret = secret.ok_or_else(|| CallError::Invalid(format!("there is no secret {name:?}")))?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    Ok(HostValue::Bytes(hmac::sign(&key, message).as_ref().to_vec()))
}

/// The key of that name, made now if there is none.
async fn key_pair(ports: &Ports, space: &Space, name: &str) -> Result<Ed25519KeyPair, CallError> {
    let mut fresh = Zeroizing::new([0; 32]);
    ports.random.fill(fresh.as_mut())?;
    let seed = ports.secrets.signing_key(space, name, fresh).await?;
    Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
        .map_err(|_| CallError::Unavailable("the key can not be used".to_owned()))
}
