//! Posts events to a web server, in the JSON format of the webhooks of MicroMDM and NanoMDM, signed with HMAC-SHA-256.
//!
//! What a receiver answers with anything but success is tried again later by the host, in the order of the device's events. A
//! receiver may see an event twice; `event_id` is the same then.

mod body;
mod message;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russet_plugin::observer::{Event, Kind, Observer};
use russet_plugin::{Error, http, signer};
use serde::Deserialize;

/// What the operator sets; `settings.schema.json` describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    connection: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    hmac_secret: Option<String>,
    #[serde(default = "hmac_header")]
    hmac_header: String,
    #[serde(default = "yes")]
    check_ins: bool,
    #[serde(default = "yes")]
    answers: bool,
    #[serde(default = "yes")]
    raw_payload: bool,
}

fn hmac_header() -> String {
    "x-hmac-signature".to_owned()
}

fn yes() -> bool {
    true
}

/// The observer.
#[derive(Debug)]
pub struct Webhook;

impl Observer for Webhook {
    type Settings = Settings;

    fn observe(settings: Settings, event: &Event<'_>) -> Result<(), Error> {
        let wanted = match event.kind() {
            Kind::CommandAnswered => settings.answers,
            _ => settings.check_ins,
        };
        let Some(body) = wanted
            .then(|| body::of(event, settings.raw_payload))
            .transpose()?
            .flatten()
        else {
            return Ok(());
        };
        let body = serde_json::to_vec(&body)?;
        let mut request = http::post(&settings.connection, &settings.path).header("content-type", "application/json");
        if let Some(secret) = &settings.hmac_secret {
            let signature = signer::hmac_sha256(secret, &body)?;
            request = request.header(&settings.hmac_header, STANDARD.encode(signature));
        }
        request.body(body).send()?.ok()?;
        Ok(())
    }
}

russet_plugin::observer!(Webhook);

#[cfg(test)]
mod tests;
