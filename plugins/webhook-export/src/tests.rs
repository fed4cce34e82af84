use std::cell::RefCell;
use std::rc::Rc;

use russet_plugin::http::{Request, Response};
use russet_plugin::testing::{Host, Installed};
use russet_plugin::{Device, settings};
use serde_json::{Value, json};

use super::*;

type Posted = Rc<RefCell<Vec<Request>>>;

fn receiver(status: u16) -> (Installed, Posted) {
    let posted = Posted::default();
    let seen = Rc::clone(&posted);
    let host = Host::new()
        .http("hook", move |request: &Request| {
            seen.borrow_mut().push(request.clone());
            Ok(Response::new(status))
        })
        .secret("key", "secret")
        .install();
    (host, posted)
}

fn settings_with(more: &str) -> Settings {
    settings::parse(&format!(r#"{{"connection": "hook", "path": "/mdm?site=1"{more}}}"#)).unwrap()
}

fn mac() -> Device {
    Device::builder()
        .udid("UDID-1")
        .enrollment_id("UDID-1")
        .serial_number("C02XK1")
        .device_name("Ada & Bob's <Mac>\u{1}")
        .build()
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn an_answer_is_posted_as_mdm_connect() {
    let (_host, posted) = receiver(200);
    let event = Event::builder(Kind::CommandAnswered)
        .id(258)
        .time_ms(1_795_424_400_000)
        .device(mac())
        .detail(r#"{"command_uuid": "0B3C", "request_type": "ProfileList", "status": "Acknowledged", "report": "PHBsaXN0Lz4="}"#)
        .build();
    Webhook::observe(settings_with(""), &event).unwrap();
    let posted = posted.borrow();
    assert_eq!(
        (posted[0].method.as_str(), posted[0].path.as_str()),
        ("POST", "/mdm?site=1")
    );
    assert_eq!(
        body(&posted[0]),
        json!({
            "topic": "mdm.Connect",
            "event_id": "00000000-0000-8000-8000-000000000102",
            "created_at": "2026-11-23T09:00:00Z",
            "acknowledge_event": {
                "udid": "UDID-1",
                "enrollment_id": "UDID-1",
                "status": "Acknowledged",
                "command_uuid": "0B3C",
                "raw_payload": "PHBsaXN0Lz4="
            }
        })
    );
}

#[test]
fn a_check_in_is_rebuilt_without_secrets() {
    let (_host, posted) = receiver(204);
    for (kind, topic) in [
        (Kind::Authenticated, "mdm.Authenticate"),
        (Kind::TokenUpdated, "mdm.TokenUpdate"),
        (Kind::CheckedOut, "mdm.CheckOut"),
    ] {
        Webhook::observe(settings_with(""), &Event::builder(kind).device(mac()).build()).unwrap();
        let posted = posted.borrow();
        let body = body(posted.last().unwrap());
        assert_eq!(body["topic"], topic);
        let raw = STANDARD
            .decode(body["checkin_event"]["raw_payload"].as_str().unwrap())
            .unwrap();
        let raw = String::from_utf8(raw).unwrap();
        assert!(raw.contains(&format!("<string>{}</string>", &topic[4..])), "{raw}");
        assert!(raw.contains("<string>Ada &amp; Bob's &lt;Mac&gt;</string>"), "{raw}");
        assert!(!raw.contains("Token<"), "{raw}");
    }
}

#[test]
fn bodies_are_signed() {
    let (_host, posted) = receiver(200);
    let signed = settings_with(r#", "hmac_secret": "key", "hmac_header": "x-signature""#);
    Webhook::observe(signed, &Event::builder(Kind::TokenUpdated).device(mac()).build()).unwrap();
    let posted = posted.borrow();
    let header = posted[0]
        .headers
        .iter()
        .find(|(name, _)| name == "x-signature")
        .unwrap();
    let expected = signer::hmac_sha256("key", &posted[0].body).unwrap();
    assert_eq!(header.1, STANDARD.encode(expected));
}

#[test]
fn what_is_not_taken_is_tried_again() {
    let (_host, posted) = receiver(500);
    let event = Event::builder(Kind::TokenUpdated).device(mac()).build();
    let error = Webhook::observe(settings_with(""), &event).unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert_eq!(posted.borrow().len(), 1);
}

#[test]
fn what_is_not_wanted_is_not_posted() {
    let (_host, posted) = receiver(200);
    let answered = || {
        let event = Event::builder(Kind::CommandAnswered).device(mac());
        event
            .detail(r#"{"command_uuid": "1", "status": "Error", "report": "PHBsaXN0Lz4="}"#)
            .build()
    };
    Webhook::observe(settings_with(r#", "answers": false"#), &answered()).unwrap();
    let enrolled = Event::builder(Kind::TokenUpdated).device(mac()).build();
    Webhook::observe(settings_with(r#", "check_ins": false"#), &enrolled).unwrap();
    Webhook::observe(settings_with(""), &Event::builder(Kind::PushFailed).build()).unwrap();
    Webhook::observe(settings_with(""), &Event::builder(Kind::Enrolled).device(mac()).build()).unwrap();
    assert!(posted.borrow().is_empty());
    Webhook::observe(settings_with(r#", "raw_payload": false"#), &answered()).unwrap();
    assert!(
        body(&posted.borrow()[0])["acknowledge_event"]
            .get("raw_payload")
            .is_none()
    );
}
