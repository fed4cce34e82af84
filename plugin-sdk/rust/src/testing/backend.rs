//! The scripted capabilities, with the signatures of the generated imports, so that the modules of the capabilities are the
//! same in WebAssembly and outside.

use super::{Effect, Host, INSTALLED, now};
use crate::bindings::russet::plugin as contract;

const HINT: &str = "script it with russet_plugin::testing::Host";

pub(crate) mod log {
    use super::contract::log::Level as Wire;
    use super::{INSTALLED, contract};
    use crate::log::Level;

    #[expect(clippy::print_stderr, reason = "outside the host this is where the log goes")]
    pub(crate) fn write(level: contract::log::Level, message: &str) {
        let level = match level {
            Wire::Debug => Level::Debug,
            Wire::Info => Level::Info,
            Wire::Warn => Level::Warn,
            Wire::Error => Level::Error,
        };
        INSTALLED.with_borrow_mut(|host| match host {
            Some(host) => host.log.push((level, message.to_owned())),
            None => eprintln!("{level:?}: {message}"),
        });
    }
}

pub(crate) mod settings {
    use super::{HINT, now};
    use crate::Error;

    pub(crate) fn get() -> Result<String, Error> {
        let settings = now(|host| host.settings.clone());
        settings.ok_or_else(|| Error::new(format_args!("no settings outside the host; {HINT}")))
    }
}

pub(crate) mod clock {
    use std::time::SystemTime;

    use super::now;

    pub(crate) fn now_ms() -> u64 {
        now(|host| host.now_ms).unwrap_or_else(|| crate::clock::millis(SystemTime::now()))
    }
}

pub(crate) mod random {
    use super::now;

    /// SplitMix64, so that a test sees the same numbers each time.
    pub(crate) fn bytes(count: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        now(|host| {
            while bytes.len() < count as usize {
                host.random = host.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = host.random;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                bytes.extend((mixed ^ (mixed >> 31)).to_le_bytes());
            }
        });
        bytes.truncate(count as usize);
        bytes
    }
}

pub(crate) mod kv {
    use super::contract::kv::{Entry, Error};
    use super::{Host, clock, now};

    const MAX_KEY: usize = 256;
    const MAX_VALUE: usize = 64 << 10;

    fn check(key: &str, value: &[u8]) -> Result<(), Error> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Error::Invalid(format!("a key has 1 to {MAX_KEY} bytes")));
        }
        if value.len() > MAX_VALUE {
            return Err(Error::Invalid(format!("a value has at most {MAX_VALUE} bytes")));
        }
        Ok(())
    }

    /// The store at this moment: what expired is gone.
    fn store<T>(part: impl FnOnce(&mut Host, u64) -> T) -> T {
        let time = clock::now_ms();
        now(|host| {
            host.kv
                .retain(|_, entry| entry.expires_at_ms.is_none_or(|at| at > time));
            part(host, time)
        })
    }

    fn put(host: &mut Host, time: u64, key: &str, value: &[u8], expires_in_ms: Option<u64>) {
        host.writes += 1;
        let entry = crate::kv::Entry {
            value: value.to_owned(),
            version: host.writes,
            expires_at_ms: expires_in_ms.map(|span| time.saturating_add(span)),
        };
        host.kv.insert(key.to_owned(), entry);
    }

    pub(crate) fn get(key: &str) -> Result<Option<Entry>, Error> {
        check(key, &[])?;
        Ok(store(|host, _| {
            host.kv.get(key).map(|entry| Entry {
                value: entry.value.clone(),
                version: entry.version,
                expires_at_ms: entry.expires_at_ms,
            })
        }))
    }

    pub(crate) fn set(key: &str, value: &[u8], expires_in_ms: Option<u64>) -> Result<(), Error> {
        check(key, value)?;
        store(|host, time| put(host, time, key, value, expires_in_ms));
        Ok(())
    }

    pub(crate) fn compare_and_set(
        key: &str,
        version: Option<u64>,
        value: &[u8],
        expires_in_ms: Option<u64>,
    ) -> Result<bool, Error> {
        check(key, value)?;
        Ok(store(|host, time| {
            let same = host.kv.get(key).map(|entry| entry.version) == version;
            if same {
                put(host, time, key, value, expires_in_ms);
            }
            same
        }))
    }

    pub(crate) fn delete(key: &str) -> Result<bool, Error> {
        check(key, &[])?;
        Ok(store(|host, _| host.kv.remove(key).is_some()))
    }

    pub(crate) fn keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Error> {
        Ok(store(|host, _| {
            host.kv
                .keys()
                .filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after))
                .take(limit.min(1000) as usize)
                .cloned()
                .collect()
        }))
    }
}

pub(crate) mod inventory {
    use super::now;
    use crate::inventory::{Error, Found};

    /// The devices that fit, by their enrollment identifiers.
    fn find(fits: impl Fn(&Found) -> bool) -> Vec<Found> {
        let mut found: Vec<Found> = now(|host| host.inventory.iter().filter(|found| fits(found)).cloned().collect());
        found.sort_by_key(|found| found.device.enrollment_id());
        found
    }

    pub(crate) fn find_device(name: &str) -> Result<Option<Found>, Error> {
        let found = find(|found| {
            let device = &found.device;
            [device.enrollment_id(), device.serial_number(), device.udid()]
                .iter()
                .any(|value| value.as_deref() == Some(name))
        });
        Ok(found.into_iter().next())
    }

    pub(crate) fn devices_with_attribute(
        name: &str,
        value: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Found>, Error> {
        let mut found = find(|found| {
            found.device.attribute(name).as_deref() == Some(value)
                && after.is_none_or(|after| found.device.enrollment_id().as_deref() > Some(after))
        });
        found.truncate(limit.min(1000) as usize);
        Ok(found)
    }

    pub(crate) fn devices_of_person(user_name: &str) -> Result<Vec<Found>, Error> {
        Ok(find(|found| {
            found
                .person
                .as_ref()
                .is_some_and(|person| person.user_name() == user_name)
        }))
    }
}

pub(crate) mod http {
    use super::contract::http::{Error, Request, Response};
    use super::{HINT, now};
    use crate::http::Error as Own;

    // The script is called without a borrow held: it may log. So it is below.
    pub(crate) fn send(request: &Request) -> Result<Response, Error> {
        let Some(answer) = now(|host| host.http.get(&request.connection).cloned()) else {
            let name = &request.connection;
            return Err(Error::NotGranted(format!("`{name}` is no connection here; {HINT}")));
        };
        let answer = answer(&crate::http::Request {
            connection: request.connection.clone(),
            method: request.method.clone(),
            path: request.path.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        });
        match answer {
            Ok(answer) => Ok(Response {
                status: answer.status,
                headers: answer.headers,
                body: answer.body,
            }),
            Err(Own::NotGranted(text)) => Err(Error::NotGranted(text)),
            Err(Own::Invalid(text)) => Err(Error::Invalid(text)),
            Err(Own::Forbidden(text)) => Err(Error::Forbidden(text)),
            Err(Own::Unavailable(text)) => Err(Error::Unavailable(text)),
            Err(Own::TooLarge(text)) => Err(Error::TooLarge(text)),
        }
    }
}

pub(crate) mod ldap {
    use super::contract::ldap::{Entry, Error, Scope as Wire, SearchRequest};
    use super::{HINT, now};
    use crate::ldap::{Error as Own, Scope, Search};

    fn wire(error: Own) -> Error {
        match error {
            Own::NotGranted(text) => Error::NotGranted(text),
            Own::Invalid(text) => Error::Invalid(text),
            Own::Unavailable(text) => Error::Unavailable(text),
            Own::Refused(text) => Error::Refused(text),
        }
    }

    fn unscripted() -> Error {
        Error::Unavailable(format!("no directory outside the host; {HINT}"))
    }

    pub(crate) fn search(request: &SearchRequest) -> Result<Vec<Entry>, Error> {
        let answer = now(|host| host.search.clone()).ok_or_else(unscripted)?;
        let found = answer(&Search {
            connection: request.connection.clone(),
            base: request.base.clone(),
            scope: match request.scope {
                Wire::Base => Scope::Base,
                Wire::OneLevel => Scope::OneLevel,
                Wire::Subtree => Scope::Subtree,
            },
            filter: request.filter.clone(),
            values: request.values.clone(),
            attributes: request.attributes.clone(),
            limit: request.limit,
        })
        .map_err(wire)?;
        Ok(found
            .into_iter()
            .map(|entry| Entry {
                dn: entry.dn,
                attributes: entry.attributes,
            })
            .collect())
    }

    pub(crate) fn bind(connection: &str, dn: &str, password: &str) -> Result<bool, Error> {
        let answer = now(|host| host.bind.clone()).ok_or_else(unscripted)?;
        if password.is_empty() {
            return Ok(false);
        }
        answer(connection, dn, password).map_err(wire)
    }
}

pub(crate) mod secrets {
    use super::contract::secrets::Error;
    use super::now;

    /// What sealed bytes begin with here. They are not encrypted: this is no server.
    const MARK: &[u8] = b"sealed in a test:";
    const MAX_NAME: usize = 128;
    const MAX_VALUE: usize = 16 << 10;
    const MAX_SECRETS: usize = 100;

    fn check(name: &str, value: &[u8]) -> Result<(), Error> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::Invalid(format!("a name has 1 to {MAX_NAME} bytes")));
        }
        if value.len() > MAX_VALUE {
            return Err(Error::Invalid(format!("a secret has at most {MAX_VALUE} bytes")));
        }
        Ok(())
    }

    pub(crate) fn get(name: &str) -> Result<Option<Vec<u8>>, Error> {
        check(name, &[])?;
        Ok(now(|host| host.secrets.get(name).cloned()))
    }

    pub(crate) fn put(name: &str, value: &[u8]) -> Result<(), Error> {
        check(name, value)?;
        now(|host| {
            if host.secrets.len() >= MAX_SECRETS && !host.secrets.contains_key(name) {
                return Err(Error::Quota(format!("at most {MAX_SECRETS} secrets")));
            }
            host.secrets.insert(name.to_owned(), value.to_owned());
            Ok(())
        })
    }

    pub(crate) fn delete(name: &str) -> Result<bool, Error> {
        check(name, &[])?;
        Ok(now(|host| host.secrets.remove(name).is_some()))
    }

    pub(crate) fn seal(value: &[u8]) -> Result<Vec<u8>, Error> {
        Ok([MARK, value].concat())
    }

    pub(crate) fn open(sealed: &[u8]) -> Result<Vec<u8>, Error> {
        match sealed.strip_prefix(MARK) {
            Some(value) => Ok(value.to_owned()),
            None => Err(Error::Invalid("these bytes were not sealed here".to_owned())),
        }
    }
}

pub(crate) mod signer {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use super::contract::signer::Error;
    use super::{HINT, now};

    pub(crate) fn hmac_sha256(secret: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
        let key = now(|host| host.secrets.get(secret).cloned())
            .ok_or_else(|| Error::Invalid(format!("there is no secret `{secret}`")))?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| Error::Invalid(error.to_string()))?;
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }

    pub(crate) fn sign(key: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
        let answer = now(|host| host.sign.clone())
            .ok_or_else(|| Error::Unavailable(format!("no signing keys outside the host; {HINT}")))?;
        Ok(answer(key, message))
    }

    pub(crate) fn public_key(key: &str) -> Result<Vec<u8>, Error> {
        sign(key, &[])
    }
}

pub(crate) mod effects {
    use serde_json::Value;

    use super::contract::effects::{CommandOptions, Error};
    use super::{Effect, now};

    fn record(effect: Effect) -> Result<(), Error> {
        now(|host| host.effects.push(effect));
        Ok(())
    }

    fn object(what: &str, text: &str) -> Result<Value, Error> {
        match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Ok(value),
            _ => Err(Error::Invalid(format!("{what} is no JSON object"))),
        }
    }

    fn owned(text: Option<&str>) -> Option<String> {
        text.map(str::to_owned)
    }

    pub(crate) fn set_attribute(enrollment: Option<&str>, name: &str, value: &str) -> Result<(), Error> {
        record(Effect::SetAttribute {
            enrollment: owned(enrollment),
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }

    pub(crate) fn clear_attribute(enrollment: Option<&str>, name: &str) -> Result<(), Error> {
        record(Effect::ClearAttribute {
            enrollment: owned(enrollment),
            name: name.to_owned(),
        })
    }

    pub(crate) fn enqueue_command(
        enrollment: Option<&str>,
        command: &str,
        options: &CommandOptions,
    ) -> Result<String, Error> {
        let command = object("the command", command)?;
        if !command["RequestType"].is_string() {
            return Err(Error::Invalid("the command has no `RequestType`".to_owned()));
        }
        let uuid = format!("00000000-0000-4000-8000-{:012}", now(|host| host.effects.len()) + 1);
        record(Effect::EnqueueCommand {
            enrollment: owned(enrollment),
            uuid: uuid.clone(),
            command,
            priority: options.priority,
            not_before_ms: options.not_before_ms,
            expires_at_ms: options.expires_at_ms,
            dedupe_key: options.dedupe_key.clone(),
        })?;
        Ok(uuid)
    }

    pub(crate) fn cancel_command(enrollment: Option<&str>, uuid: &str) -> Result<(), Error> {
        record(Effect::CancelCommand {
            enrollment: owned(enrollment),
            uuid: uuid.to_owned(),
        })
    }

    pub(crate) fn push(enrollment: Option<&str>) -> Result<(), Error> {
        record(Effect::Push {
            enrollment: owned(enrollment),
        })
    }

    pub(crate) fn assign_profile(enrollment: Option<&str>, profile: &str) -> Result<(), Error> {
        record(Effect::AssignProfile {
            enrollment: owned(enrollment),
            profile: profile.to_owned(),
        })
    }

    pub(crate) fn unassign_profile(enrollment: Option<&str>, profile: &str) -> Result<(), Error> {
        record(Effect::UnassignProfile {
            enrollment: owned(enrollment),
            profile: profile.to_owned(),
        })
    }

    pub(crate) fn assign_declarations(enrollment: Option<&str>, name: &str) -> Result<(), Error> {
        record(Effect::AssignDeclarations {
            enrollment: owned(enrollment),
            name: name.to_owned(),
        })
    }

    pub(crate) fn unassign_declarations(enrollment: Option<&str>, name: &str) -> Result<(), Error> {
        record(Effect::UnassignDeclarations {
            enrollment: owned(enrollment),
            name: name.to_owned(),
        })
    }

    pub(crate) fn put_secret(name: &str, value: &[u8]) -> Result<(), Error> {
        record(Effect::PutSecret {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }

    pub(crate) fn schedule_call(name: &str, at_ms: u64, payload: &str) -> Result<(), Error> {
        record(Effect::ScheduleCall {
            name: name.to_owned(),
            at_ms,
            payload: payload.to_owned(),
        })
    }

    pub(crate) fn emit_event(enrollment: Option<&str>, kind: &str, detail: &str) -> Result<(), Error> {
        record(Effect::EmitEvent {
            enrollment: owned(enrollment),
            kind: kind.to_owned(),
            detail: object("the detail", detail)?,
        })
    }
}
