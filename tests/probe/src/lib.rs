//! A template engine that does what its template says, with every capability, for the tests of the host.
//!
//! The template is a JSON list of steps, see [`Step`]; `extra` in the settings is a list of more. What it renders is the JSON
//! list of what each step gave: text, a number, `null` and so on, or `{"error": "…"}`.

use std::fmt::Debug;
use std::time::Duration;

use russet_plugin::template::{ProfileTemplate, TemplateRequest};
use russet_plugin::{Error, clock, http, inventory, kv, ldap, random, secrets, signer};
use serde::Deserialize;
use serde_json::{Value, json};

/// Something to do. Values of the store and secrets are text, other bytes are in hexadecimal.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of wit/capabilities.wit")]
pub enum Step {
    /// The time.
    Now,
    /// Random bytes.
    Random { count: usize },
    /// The value of a key.
    KvGet { key: String },
    /// The version of a key's value.
    KvVersion { key: String },
    /// Sets a key.
    KvSet {
        key: String,
        value: String,
        #[serde(default)]
        expires_in_ms: Option<u64>,
    },
    /// Sets a key to as many bytes.
    KvFill { key: String, bytes: usize },
    /// Replaces the value that is there now.
    KvReplace { key: String, value: String },
    /// Sets a key if it has this version.
    KvCompareAndSet {
        key: String,
        version: Option<u64>,
        value: String,
    },
    /// Removes a key.
    KvDelete { key: String },
    /// Lists keys.
    KvKeys {
        #[serde(default)]
        prefix: String,
        #[serde(default)]
        after: Option<String>,
        limit: u32,
    },
    /// The serial number and the user name of a device.
    FindDevice { name: String },
    /// Serial numbers of devices.
    DevicesWithAttribute {
        name: String,
        value: String,
        #[serde(default)]
        after: Option<String>,
        limit: u32,
    },
    /// Serial numbers of devices.
    DevicesOfPerson { user_name: String },
    /// Sends a request: the status, the headers and the body.
    Http {
        connection: String,
        #[serde(default = "get")]
        method: String,
        path: String,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        body: String,
    },
    /// The first values of an attribute of all entries.
    LdapSearch {
        connection: String,
        filter: String,
        #[serde(default)]
        values: Vec<String>,
        attribute: String,
        limit: u32,
    },
    /// Checks credentials.
    LdapBind {
        connection: String,
        dn: String,
        password: String,
    },
    /// A secret.
    SecretGet { name: String },
    /// Keeps a secret.
    SecretPut { name: String, value: String },
    /// Keeps a secret of as many bytes.
    SecretFill { name: String, bytes: usize },
    /// Removes a secret.
    SecretDelete { name: String },
    /// Seals a text.
    Seal { value: String },
    /// Opens what was sealed.
    Open { sealed: String },
    /// Seals a text and opens it again.
    SealAndOpen { value: String },
    /// Authenticates a message.
    Hmac { secret: String, message: String },
    /// Signs a message.
    Sign { key: String, message: String },
    /// A public key.
    PublicKey { key: String },
}

fn get() -> String {
    "GET".to_owned()
}

/// The settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Settings {
    /// More steps.
    #[serde(default)]
    extra: Vec<Step>,
}

/// The engine.
#[derive(Clone, Copy, Debug)]
pub struct Probe;

impl ProfileTemplate for Probe {
    type Settings = Settings;

    fn render(settings: Settings, request: &TemplateRequest<'_>) -> Result<Vec<u8>, Error> {
        let steps: Vec<Step> = serde_json::from_str(&request.template()).map_err(Error::new)?;
        let given: Vec<Value> = steps.into_iter().chain(settings.extra).map(run).collect();
        serde_json::to_vec(&given).map_err(Error::new)
    }
}

/// What a step gave.
fn told<T, E: Debug>(result: Result<T, E>, tell: impl FnOnce(T) -> Value) -> Value {
    match result {
        Ok(given) => tell(given),
        Err(error) => json!({ "error": format!("{error:?}") }),
    }
}

fn text(bytes: Vec<u8>) -> Value {
    String::from_utf8(bytes).map_or(Value::Null, Value::from)
}

fn serials(found: Vec<inventory::Found>) -> Value {
    found.iter().map(|found| json!(found.device.serial_number())).collect()
}

fn run(step: Step) -> Value {
    match step {
        Step::Now => json!(clock::now_ms()),
        Step::Random { count } => json!(hex::encode(random::bytes(count))),
        Step::FindDevice { name } => told(inventory::find_device(&name), |found| match found {
            Some(found) => json!([
                found.device.serial_number(),
                found.person.map(|person| person.user_name())
            ]),
            None => Value::Null,
        }),
        Step::DevicesWithAttribute {
            name,
            value,
            after,
            limit,
        } => told(
            inventory::devices_with_attribute(&name, &value, after.as_deref(), limit),
            serials,
        ),
        Step::DevicesOfPerson { user_name } => told(inventory::devices_of_person(&user_name), serials),
        Step::Http {
            connection,
            method,
            path,
            headers,
            body,
        } => {
            let mut request = http::Request::new(connection, method, path).body(body);
            request.headers = headers;
            told(request.send(), |response| {
                json!({
                    "status": response.status,
                    "headers": response.headers,
                    "body": String::from_utf8_lossy(&response.body),
                })
            })
        }
        Step::LdapSearch {
            connection,
            filter,
            values,
            attribute,
            limit,
        } => {
            let search = ldap::Search::under(connection)
                .filter(filter, values)
                .attributes([attribute.as_str()])
                .limit(limit);
            told(search.run(), |entries| {
                entries.iter().map(|entry| json!(entry.first(&attribute))).collect()
            })
        }
        Step::LdapBind {
            connection,
            dn,
            password,
        } => told(ldap::bind(&connection, &dn, &password), Value::from),
        other => run_kept(other),
    }
}

/// Steps with what the plugin keeps.
fn run_kept(step: Step) -> Value {
    match step {
        Step::KvGet { key } => told(kv::get(&key), |entry| {
            entry.map_or(Value::Null, |entry| text(entry.value))
        }),
        Step::KvVersion { key } => told(kv::get(&key), |entry| json!(entry.map(|entry| entry.version))),
        Step::KvSet {
            key,
            value,
            expires_in_ms: None,
        } => told(kv::set(&key, value.as_bytes()), |()| json!(true)),
        Step::KvSet {
            key,
            value,
            expires_in_ms: Some(ms),
        } => told(kv::set_for(&key, value.as_bytes(), Duration::from_millis(ms)), |()| {
            json!(true)
        }),
        Step::KvFill { key, bytes } => told(kv::set(&key, &vec![b'x'; bytes]), |()| json!(true)),
        Step::KvReplace { key, value } => told(kv::get(&key), |entry| {
            let version = entry.map(|entry| entry.version);
            told(kv::compare_and_set(&key, version, value.as_bytes(), None), Value::from)
        }),
        Step::KvCompareAndSet { key, version, value } => {
            told(kv::compare_and_set(&key, version, value.as_bytes(), None), Value::from)
        }
        Step::KvDelete { key } => told(kv::delete(&key), Value::from),
        Step::KvKeys { prefix, after, limit } => told(kv::keys(&prefix, after.as_deref(), limit), |keys| json!(keys)),
        Step::SecretGet { name } => told(secrets::get(&name), |secret| secret.map_or(Value::Null, text)),
        Step::SecretPut { name, value } => told(secrets::put(&name, value.as_bytes()), |()| json!(true)),
        Step::SecretFill { name, bytes } => told(secrets::put(&name, &vec![b'x'; bytes]), |()| json!(true)),
        Step::SecretDelete { name } => told(secrets::delete(&name), Value::from),
        Step::Seal { value } => told(secrets::seal(value.as_bytes()), |sealed| json!(hex::encode(sealed))),
        Step::Open { sealed } => told(secrets::open(&hex::decode(sealed).unwrap_or_default()), text),
        Step::SealAndOpen { value } => told(secrets::seal(value.as_bytes()), |sealed| {
            told(secrets::open(&sealed), text)
        }),
        Step::Hmac { secret, message } => told(signer::hmac_sha256(&secret, message.as_bytes()), |mac| {
            json!(hex::encode(mac))
        }),
        Step::Sign { key, message } => told(signer::sign(&key, message.as_bytes()), |signature| {
            json!(hex::encode(signature))
        }),
        Step::PublicKey { key } => told(signer::public_key(&key), |key| json!(hex::encode(key))),
        // The other steps are done above.
        _ => Value::Null,
    }
}

russet_plugin::profile_template!(Probe);
