//! Decides who may enroll: devices whose serial number begins as the operator set it.

use russet_plugin::gate::{EnrollmentGate, EnrollmentRequest, Stage, Verdict};
use russet_plugin::{Error, log};

/// The gate.
#[derive(Debug)]
pub struct Gate;

/// What the operator sets; `settings.schema.json` says the same to the server.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    /// How the serial numbers of devices that may enroll begin.
    pub prefixes: Vec<String>,
}

impl EnrollmentGate for Gate {
    type Settings = Settings;

    fn check(settings: Settings, request: &EnrollmentRequest) -> Result<Verdict, Error> {
        let Some(serial) = request.device().serial_number() else {
            // A profile that is downloaded by hand is asked for before the device is known;
            // Authenticate decides.
            return Ok(match request.stage() {
                Stage::Profile => Verdict::allow(),
                _ => Verdict::deny(
                    "no-serial-number",
                    "This device does not say which one it is.",
                ),
            });
        };
        if settings
            .prefixes
            .iter()
            .any(|prefix| serial.starts_with(prefix))
        {
            return Ok(Verdict::allow());
        }
        log::info(format_args!("{serial} is not one of ours"));
        Ok(Verdict::deny(
            "serial-not-listed",
            "This device does not belong to the organization.",
        ))
    }
}

russet_plugin::enrollment_gate!(Gate);

#[cfg(test)]
mod tests {
    use russet_plugin::Device;

    use super::*;

    fn check(stage: Stage, device: Device) -> Verdict {
        let settings = Settings {
            prefixes: vec!["C02".to_owned()],
        };
        let request = EnrollmentRequest::builder().stage(stage).device(device);
        Gate::check(settings, &request.build()).unwrap()
    }

    fn device(serial: &str) -> Device {
        Device::builder().serial_number(serial).build()
    }

    #[test]
    fn the_serial_number_decides() {
        assert_eq!(
            check(Stage::Authenticate, device("C02XK1")),
            Verdict::allow()
        );
        let refused = check(Stage::Authenticate, device("F4K9Z2"));
        assert!(matches!(refused, Verdict::Deny { .. }));
    }

    #[test]
    fn an_unknown_device_gets_no_further_than_the_profile() {
        assert_eq!(check(Stage::Profile, Device::default()), Verdict::allow());
        let refused = check(Stage::Authenticate, Device::default());
        assert!(matches!(refused, Verdict::Deny { .. }));
    }
}
