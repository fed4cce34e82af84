//! Property lists of strangers: the codec, every message of a device, and what operators upload.
//!
//! Beyond "no panic": what was read can be written, reads back, and writes the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use russet_protocol::codec::{decode_value, encode_value, from_json, to_json};
use russet_protocol::ddm::{Endpoint, StatusReport};
use russet_protocol::profile::Profile;
use russet_protocol::{CheckIn, Command, DeviceMessage, Limits, MachineInfo};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    if let Ok(value) = decode_value(bytes, &limits) {
        let written = encode_value(&value);
        let again = decode_value(&written, &limits).expect("what was read can be written and read again");
        assert_eq!(encode_value(&again), written);
        let _ = from_json(&to_json(&value));
    }
    match DeviceMessage::decode(bytes, &limits) {
        Ok(DeviceMessage::CheckIn(CheckIn::DeclarativeManagement(message))) => {
            let _ = Endpoint::parse(&message.endpoint);
            let _ = message.data.map(|data| StatusReport::decode(&data, limits.max_bytes));
        }
        Ok(DeviceMessage::Connect(report)) => drop(report.result_json()),
        Ok(DeviceMessage::CheckIn(_)) | Err(_) => {}
    }
    let _ = CheckIn::decode(bytes, &limits);
    let _ = MachineInfo::decode(bytes, &limits);
    let _ = Profile::inspect(bytes, &limits);
    let _ = StatusReport::decode(bytes, limits.max_bytes);
    if let Ok(validated) = Command::from_plist(bytes, &limits) {
        let written = russet_protocol::codec::encode(&validated.command.dictionary());
        let again = Command::from_plist(&written, &limits).expect("a valid command stays valid");
        assert_eq!(again.command, validated.command);
    }
});
