//! The smallest useful plugin: it lets in the devices whose serial number starts as the operator set it.

use russet_plugin::Error;
use russet_plugin::gate::{EnrollmentGate, EnrollmentRequest, Stage, Verdict};

/// The gate.
#[derive(Debug)]
pub struct SerialPrefix;

/// What the operator sets.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    prefix: String,
}

impl EnrollmentGate for SerialPrefix {
    type Settings = Settings;

    fn check(settings: Settings, request: &EnrollmentRequest) -> Result<Verdict, Error> {
        Ok(match request.device().serial_number() {
            Some(serial) if serial.starts_with(&settings.prefix) => Verdict::allow(),
            None if request.stage() == Stage::Profile => Verdict::allow(), // Not known yet: asked again at Authenticate.
            _ => Verdict::deny("serial-prefix", "This device does not belong to the company."),
        })
    }
}

russet_plugin::enrollment_gate!(SerialPrefix);

#[cfg(test)]
mod tests {
    use russet_plugin::Device;

    use super::*;

    fn check(stage: Stage, device: Device) -> Verdict {
        let settings = Settings {
            prefix: "C02".to_owned(),
        };
        SerialPrefix::check(
            settings,
            &EnrollmentRequest::builder().stage(stage).device(device).build(),
        )
        .unwrap()
    }

    #[test]
    fn the_prefix_decides() {
        let ours = Device::builder().serial_number("C02XK1").build();
        let theirs = Device::builder().serial_number("F4K9Z2").build();
        assert_eq!(check(Stage::Authenticate, ours), Verdict::allow());
        assert!(matches!(check(Stage::Authenticate, theirs), Verdict::Deny { .. }));
    }

    #[test]
    fn an_unknown_serial_number_is_let_in_only_to_the_profile() {
        assert_eq!(check(Stage::Profile, Device::default()), Verdict::allow());
        assert!(matches!(
            check(Stage::Authenticate, Device::default()),
            Verdict::Deny { .. }
        ));
    }
}
