//! Stored enrollments as hooks see them.

use std::collections::BTreeMap;

use russet_hooks::{Device, EnrollmentMethod, Ownership, Person};
use russet_protocol::checkin::Authenticate;
use russet_protocol::{Channel, MachineInfo};
use russet_store::EnrollmentRecord;
use serde_json::Value as Json;

/// The attribute that says how a device enrolled. Set by the server only.
pub(crate) const METHOD: &str = "enrollment-method";

/// A stored enrollment as hooks see it: its device, and its person if that is known.
pub fn as_hooks_see(enrollment: &EnrollmentRecord) -> (Device, Option<Person>) {
    (device(enrollment), person(enrollment.person.as_ref()))
}

/// The device of a stored enrollment.
pub(crate) fn device(enrollment: &EnrollmentRecord) -> Device {
    let facts = &enrollment.facts;
    Device {
        udid: facts.udid.clone(),
        serial_number: facts.serial_number.clone(),
        product_name: facts.product_name.clone(),
        model: facts.model.clone(),
        model_name: facts.model_name.clone(),
        device_name: facts.device_name.clone(),
        os_version: facts.os_version.clone(),
        build_version: facts.build_version.clone(),
        imei: facts.imei.clone(),
        meid: facts.meid.clone(),
        language: None,
        enrollment_id: Some(enrollment.key.clone()),
        attributes: attributes(&enrollment.attributes),
    }
}

/// The person of a stored enrollment.
pub(crate) fn person(json: Option<&Json>) -> Option<Person> {
    json.and_then(|json| serde_json::from_value(json.clone()).ok())
}

/// The device of a MachineInfo.
pub(crate) fn device_of_machine_info(info: &MachineInfo) -> Device {
    Device {
        udid: info.udid.clone(),
        serial_number: info.serial.clone(),
        product_name: Some(info.product.clone()),
        os_version: info.os_version.clone(),
        build_version: Some(info.build_version.clone()),
        imei: info.imei.clone(),
        meid: info.meid.clone(),
        language: info.language.clone(),
        ..Device::default()
    }
}

/// The device of an Authenticate message.
pub(crate) fn device_of_authenticate(message: &Authenticate, attributes: &BTreeMap<String, String>) -> Device {
    Device {
        udid: (message.key.channel() == Channel::Device).then(|| message.key.device_id().to_owned()),
        serial_number: message.serial_number.clone(),
        product_name: message.product_name.clone(),
        model: message.model.clone(),
        model_name: message.model_name.clone(),
        device_name: message.device_name.clone(),
        os_version: message.os_version.clone(),
        build_version: message.build_version.clone(),
        imei: message.imei.clone(),
        meid: message.meid.clone(),
        language: None,
        enrollment_id: Some(message.key.as_str().to_owned()),
        attributes: attributes.clone(),
    }
}

/// Notes how a device enrolls among the attributes that its certificate carries to Authenticate.
pub(crate) fn note_method(attributes: &mut BTreeMap<String, String>, method: EnrollmentMethod) {
    let word = match method {
        EnrollmentMethod::Automated => "automated",
        EnrollmentMethod::Manual => "manual",
    };
    attributes.insert(METHOD.to_owned(), word.to_owned());
}

/// How a device enrolled, as noted.
pub(crate) fn noted_method(attributes: &BTreeMap<String, String>) -> EnrollmentMethod {
    match attributes.get(METHOD).map(String::as_str) {
        Some("automated") => EnrollmentMethod::Automated,
        _ => EnrollmentMethod::Manual,
    }
}

/// Who owns a device, from the way it enrolls and its channel.
pub(crate) fn ownership(method: EnrollmentMethod, channel: Option<Channel>) -> Ownership {
    match (method, channel) {
        (_, Some(Channel::UserEnrollmentDevice | Channel::UserEnrollmentUser)) => Ownership::Personal,
        (EnrollmentMethod::Automated, _) => Ownership::Organization,
        (EnrollmentMethod::Manual, _) => Ownership::Unknown,
    }
}

/// Attributes as stored: an object of strings.
pub(crate) fn attributes(json: &Json) -> BTreeMap<String, String> {
    let pairs = json.as_object().into_iter().flatten();
    pairs
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Attributes, to be stored.
pub(crate) fn attributes_json(attributes: &BTreeMap<String, String>) -> Json {
    attributes
        .iter()
        .map(|(name, value)| (name.clone(), Json::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
