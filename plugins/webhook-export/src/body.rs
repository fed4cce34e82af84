//! The body of a webhook.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russet_plugin::observer::{Event, Kind};
use russet_plugin::{Device, Error};
use serde::{Deserialize, Serialize};

use crate::message;

/// What is posted. Receivers tell check-ins from answers by which member is there.
#[derive(Debug, Serialize)]
pub(crate) struct Body {
    topic: &'static str,
    event_id: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledge_event: Option<Acknowledge>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkin_event: Option<CheckIn>,
}

#[derive(Debug, Serialize)]
struct Acknowledge {
    #[serde(flatten)]
    who: Who,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_payload: Option<String>,
}

#[derive(Debug, Serialize)]
struct CheckIn {
    #[serde(flatten)]
    who: Who,
    raw_payload: String,
}

#[derive(Debug, Serialize)]
struct Who {
    #[serde(skip_serializing_if = "Option::is_none")]
    udid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_id: Option<String>,
}

/// The detail of `command.answered`.
#[derive(Debug, Deserialize)]
struct Answered {
    command_uuid: String,
    status: String,
    #[serde(default)]
    report: Option<String>,
}

/// The body for an event; none for a kind that the format does not have.
pub(crate) fn of(event: &Event<'_>, raw_payload: bool) -> Result<Option<Body>, Error> {
    let device = event.device().unwrap_or_default();
    let who = Who {
        udid: device.udid(),
        enrollment_id: device.enrollment_id(),
    };
    let (topic, message_type) = match event.kind() {
        Kind::CommandAnswered => {
            let answered: Answered = event.detail_as()?;
            return body(event, "mdm.Connect").map(|mut body| {
                body.acknowledge_event = Some(Acknowledge {
                    who,
                    status: answered.status,
                    command_uuid: Some(answered.command_uuid),
                    raw_payload: answered.report.filter(|_| raw_payload),
                });
                Some(body)
            });
        }
        Kind::Authenticated => ("mdm.Authenticate", "Authenticate"),
        // `enrollment.enrolled` comes beside it the first time: one message, one webhook.
        Kind::TokenUpdated => ("mdm.TokenUpdate", "TokenUpdate"),
        Kind::CheckedOut => ("mdm.CheckOut", "CheckOut"),
        _ => return Ok(None),
    };
    let mut body = body(event, topic)?;
    body.checkin_event = Some(CheckIn {
        who,
        raw_payload: STANDARD.encode(rebuilt(message_type, &device)),
    });
    Ok(Some(body))
}

fn body(event: &Event<'_>, topic: &'static str) -> Result<Body, Error> {
    let milliseconds = i64::try_from(event.time_ms()).map_err(Error::new)?;
    Ok(Body {
        topic,
        // The same each time the event is posted, so that a receiver can tell.
        event_id: format!("00000000-0000-8000-8000-{:012x}", event.id()),
        created_at: jiff::Timestamp::from_millisecond(milliseconds)
            .map_err(Error::new)?
            .to_string(),
        acknowledge_event: None,
        checkin_event: None,
    })
}

/// A check-in message with what the server keeps of it. Push tokens and other secrets do not leave the server.
fn rebuilt(message_type: &str, device: &Device) -> String {
    let mut facts = vec![("MessageType", message_type.to_owned())];
    let known = [
        ("UDID", device.udid()),
        ("SerialNumber", device.serial_number()),
        ("ProductName", device.product_name()),
        ("Model", device.model()),
        ("ModelName", device.model_name()),
        ("DeviceName", device.device_name()),
        ("OSVersion", device.os_version()),
        ("BuildVersion", device.build_version()),
        ("IMEI", device.imei()),
        ("MEID", device.meid()),
    ];
    facts.extend(known.into_iter().filter_map(|(key, value)| Some((key, value?))));
    message::plist(&facts)
}
