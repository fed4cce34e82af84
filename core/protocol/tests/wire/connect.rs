//! Reports, command envelopes, and telling reports and check-in messages apart.

use russet_protocol::connect::{MAX_COMMAND_UUID, command_envelope};
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{
    CheckInError, DecodeError, DeviceMessage, FieldError, KeyError, Limits, MessageError, MessageKind, Report,
    ReportError, ReportStatus, content_type,
};

use crate::{message, read, root, strings};

fn report(entries: &[(&str, &str)], more: &str) -> Result<Report, ReportError> {
    Report::decode(&message(&(strings(entries) + more)), &Limits::default())
}

#[test]
fn every_status_is_read() {
    let idle = report(&[("UDID", "D1"), ("Status", "Idle")], "").unwrap();
    assert_eq!((idle.status, idle.command_uuid), (ReportStatus::Idle, None));
    for (text, status) in [
        ("Acknowledged", ReportStatus::Acknowledged),
        ("Error", ReportStatus::Error),
        ("CommandFormatError", ReportStatus::CommandFormatError),
        ("NotNow", ReportStatus::NotNow),
        ("Postponed", ReportStatus::Unknown("Postponed".to_owned())),
    ] {
        let read = report(&[("UDID", "D1"), ("Status", text), ("CommandUUID", "c-1")], "").unwrap();
        assert_eq!((&read.status, read.status.as_str()), (&status, text));
        assert_eq!(read.command_uuid.as_deref(), Some("c-1"));
    }
}

#[test]
fn an_idle_report_answers_no_command() {
    let idle = report(&[("UDID", "D1"), ("Status", "Idle"), ("CommandUUID", "c-1")], "").unwrap();
    assert_eq!(idle.command_uuid, None);
}

#[test]
fn bad_reports_are_named() {
    assert_eq!(
        report(&[("UDID", "D1")], ""),
        Err(FieldError::Missing { key: "Status" }.into())
    );
    let no_uuid = report(&[("UDID", "D1"), ("Status", "Acknowledged")], "");
    assert_eq!(no_uuid, Err(FieldError::Missing { key: "CommandUUID" }.into()));
    let long = "x".repeat(MAX_COMMAND_UUID + 1);
    let long = report(
        &[("UDID", "D1"), ("Status", "Acknowledged"), ("CommandUUID", &long)],
        "",
    );
    assert_eq!(long, Err(ReportError::CommandUuidTooLong));
    let missing = KeyError::Missing {
        key: "UDID or EnrollmentID",
    };
    assert_eq!(report(&[("Status", "Idle")], ""), Err(ReportError::Enrollment(missing)));
    assert_eq!(
        Report::decode(b"", &Limits::default()),
        Err(ReportError::Plist(DecodeError::Empty))
    );
}

#[test]
fn the_error_chain_is_read_as_far_as_it_can_be() {
    let more = "<key>ErrorChain</key><array>\
        <dict><key>ErrorCode</key><integer>12021</integer><key>ErrorDomain</key><string>MCMDMErrorDomain</string>\
        <key>LocalizedDescription</key><string>Befehl unbekannt</string>\
        <key>USEnglishDescription</key><string>unknown command</string></dict>\
        <string>not an error</string><dict><key>ErrorCode</key><string>x</string></dict></array>";
    let read = report(&[("UDID", "D1"), ("Status", "Error"), ("CommandUUID", "c-1")], more).unwrap();
    assert_eq!(read.error_chain.len(), 2);
    let first = &read.error_chain[0];
    assert_eq!(
        (first.error_code, first.error_domain.as_str()),
        (12021, "MCMDMErrorDomain")
    );
    assert_eq!(first.us_english_description.as_deref(), Some("unknown command"));
    assert_eq!(read.error_chain[1].error_code, 0);
    let endless = format!("<key>ErrorChain</key><array>{}</array>", "<dict/>".repeat(1000));
    let read = report(&[("UDID", "D1"), ("Status", "Error"), ("CommandUUID", "c-1")], &endless).unwrap();
    assert_eq!(read.error_chain.len(), 16);
}

#[test]
fn the_result_is_the_body_without_its_envelope() {
    let more = "<key>QueryResponses</key><dict><key>OSVersion</key><string>26.1</string></dict>";
    let ids = [
        ("UDID", "D1"),
        ("UserID", "U1"),
        ("UserShortName", "jo"),
        ("UserLongName", "Jo"),
    ];
    let entries = [&ids[..], &[("Status", "Acknowledged"), ("CommandUUID", "c-1")]].concat();
    let read = report(&entries, more).unwrap();
    assert_eq!(
        read.result_json(),
        serde_json::json!({"QueryResponses": {"OSVersion": "26.1"}})
    );
    assert_eq!(read.body.len(), 7);
    assert!(!format!("{read:?}").contains("26.1"), "results do not show");
}

#[test]
fn envelope() {
    let command = Dictionary::from_iter([("RequestType", Value::from("SecurityInfo"))]);
    insta::assert_snapshot!(root(&command_envelope("c-1", &command)), @r"
    <dict>
      <key>Command</key>
      <dict>
        <key>RequestType</key>
        <string>SecurityInfo</string>
      </dict>
      <key>CommandUUID</key>
      <string>c-1</string>
    </dict>
    ");
}

#[test]
fn the_message_decides_its_kind_and_the_header_only_in_doubt() {
    let check_in = read(&message(&strings(&[("MessageType", "CheckOut")])));
    let connect = read(&message(&strings(&[("Status", "Idle")])));
    let both = read(&message(&strings(&[("MessageType", "CheckOut"), ("Status", "Idle")])));
    let neither = Dictionary::new();
    let with_charset = "application/x-apple-aspen-mdm; charset=UTF-8";
    for (header, message, expected) in [
        (None, &check_in, Some(MessageKind::CheckIn)),
        (Some(with_charset), &check_in, Some(MessageKind::CheckIn)),
        (None, &connect, Some(MessageKind::Connect)),
        (Some(content_type::CHECK_IN), &connect, Some(MessageKind::Connect)),
        (None, &both, Some(MessageKind::CheckIn)),
        (Some(with_charset), &both, Some(MessageKind::Connect)),
        (None, &neither, None),
        (Some("text/plain"), &neither, None),
        (Some(content_type::CHECK_IN), &neither, Some(MessageKind::CheckIn)),
        (Some(content_type::CONNECT), &neither, Some(MessageKind::Connect)),
    ] {
        assert_eq!(MessageKind::of(header, message), expected, "{header:?} {message:?}");
    }
}

#[test]
fn one_entry_reads_both_protocols() {
    let limits = Limits::default();
    let decode = |entries: &[(&str, &str)]| DeviceMessage::decode(&message(&strings(entries)), &limits);
    let check_out = decode(&[("MessageType", "CheckOut"), ("UDID", "D1")]).unwrap();
    assert!(matches!(&check_out, DeviceMessage::CheckIn(message) if message.message_type() == "CheckOut"));
    let idle = decode(&[("Status", "Idle"), ("UDID", "D2")]).unwrap();
    assert!(matches!(&idle, DeviceMessage::Connect(report) if report.status == ReportStatus::Idle));
    assert_eq!((check_out.key().as_str(), idle.key().as_str()), ("D1", "D2"));
    assert_eq!(decode(&[("UDID", "D1")]), Err(MessageError::Unrecognized));
    let typeless = DeviceMessage::decode_as(Some(content_type::CHECK_IN), &message(""), &limits);
    assert_eq!(typeless, Err(MessageError::CheckIn(CheckInError::MissingMessageType)));
    assert_eq!(
        DeviceMessage::decode(b"", &limits),
        Err(MessageError::Plist(DecodeError::Empty))
    );
}
