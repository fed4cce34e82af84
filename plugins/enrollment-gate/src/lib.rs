//! Decides who may enroll: by rules of the operator's own, and by serial number, ownership, sign-in, group and version of
//! the operating system.
//!
//! Rules are asked first, in their order; the first that fits decides. What no rule fits is asked by the simple settings, in
//! this order, and the first that does not hold answers: ownership, serial number, sign-in, group,
//! operating system. A device is thus not sent to update before it is clear that it may enroll at all.
//!
//! At renewal only ownership, serial number and group (of a known person) are asked: a device that fell behind with its
//! updates must be able to keep its identity, or nobody could update it any more.

mod rules;
mod settings;

use russet_plugin::gate::{EnrollmentGate, EnrollmentRequest, Method, SoftwareUpdate, Stage, Verdict};
use russet_plugin::os::{Family, Version};
use russet_plugin::{Device, Error};
pub use settings::Settings;

/// The gate.
#[derive(Debug)]
pub struct Gate;

impl EnrollmentGate for Gate {
    type Settings = Settings;

    fn check(settings: Settings, request: &EnrollmentRequest) -> Result<Verdict, Error> {
        let device = request.device();
        if let Some(verdict) = rules::decide(&settings.rules, &settings.attributes, request, &device) {
            return Ok(verdict);
        }
        let refusal = ownership(&settings, request)
            .or_else(|| serial_number(&settings, request, &device))
            .or_else(|| person(&settings, request))
            .or_else(|| operating_system(&settings, request, &device));
        Ok(refusal.unwrap_or_else(|| Verdict::allow_with(settings.attributes)))
    }
}

fn ownership(settings: &Settings, request: &EnrollmentRequest) -> Option<Verdict> {
    if settings.ownership.is_empty() {
        return None;
    }
    let ownership = request.ownership();
    if settings.ownership.iter().any(|owner| owner.is(ownership)) {
        return None;
    }
    Some(deny(
        settings,
        "ownership",
        "Devices of this kind of ownership may not enroll.",
    ))
}

fn serial_number(settings: &Settings, request: &EnrollmentRequest, device: &Device) -> Option<Verdict> {
    let rules = &settings.serial_numbers;
    if rules.allow.is_empty() && rules.deny.is_empty() {
        return None;
    }
    let serial = device.serial_number().filter(|serial| !serial.is_empty());
    let Some(serial) = serial else {
        // A profile that is downloaded by hand says nothing of the device; Authenticate will.
        let later = request.stage() == Stage::Profile && request.method() == Method::Manual;
        return (!later && !rules.allow.is_empty()).then(|| not_listed(settings));
    };
    if rules.deny.iter().any(|pattern| pattern.matches(&serial)) {
        return Some(deny(settings, "serial-denied", "This device may not enroll."));
    }
    if !rules.allow.is_empty() && !rules.allow.iter().any(|pattern| pattern.matches(&serial)) {
        return Some(not_listed(settings));
    }
    None
}

fn not_listed(settings: &Settings) -> Verdict {
    deny(
        settings,
        "serial-not-listed",
        "This device is not on the list of devices that may enroll.",
    )
}

fn person(settings: &Settings, request: &EnrollmentRequest) -> Option<Verdict> {
    if !settings.require_sign_in && settings.required_groups.is_empty() {
        return None;
    }
    match request.person() {
        // Nobody can be asked to sign in while a device renews its certificate.
        None => (request.stage() != Stage::Renewal).then_some(Verdict::RequireSignIn),
        Some(_) if settings.required_groups.is_empty() => None,
        Some(person) => {
            let member = settings.required_groups.iter().any(|group| person.is_member_of(group));
            (!member).then(|| deny(settings, "group", "Your account may not enroll devices."))
        }
    }
}

fn operating_system(settings: &Settings, request: &EnrollmentRequest, device: &Device) -> Option<Verdict> {
    if settings.minimum_os.is_empty() || request.stage() == Stage::Renewal {
        return None;
    }
    let family = Family::of(&device.product_name()?)?;
    let minimum = settings.minimum_os.get(&family)?;
    // A version that can not be read is no proof that the device is up to date.
    let version = device.os_version().as_deref().and_then(Version::parse);
    if version.is_some_and(|version| version >= *minimum.version()) {
        return None;
    }
    Some(Verdict::RequireSoftwareUpdate(SoftwareUpdate {
        os_version: minimum.version().to_string(),
        build_version: minimum.build().map(str::to_owned),
        beta: None,
    }))
}

fn deny(settings: &Settings, reason: &str, message: &str) -> Verdict {
    Verdict::deny(reason, settings.messages.get(reason).map_or(message, |own| own))
}

russet_plugin::enrollment_gate!(Gate);

#[cfg(test)]
mod tests;
