//! Plans declarations: every device has to have a passcode, but those with the attribute `kiosk`.

use russet_plugin::planner::{Declaration, DeclarationPlanner, PlanRequest};
use russet_plugin::{Error, log};
use serde_json::json;

/// The planner.
#[derive(Debug)]
pub struct Planner;

/// What the operator sets; `settings.schema.json` says the same to the server.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    /// How long passcodes have to be.
    pub minimum_length: u32,
}

impl DeclarationPlanner for Planner {
    type Settings = Settings;

    fn plan(settings: Settings, request: &PlanRequest) -> Result<Vec<Declaration>, Error> {
        if request.device().attribute("kiosk").is_some() {
            log::debug("a kiosk has no passcode");
            return Ok(Vec::new());
        }
        let passcode = Declaration::new(
            "passcode",
            "com.apple.configuration.passcode.settings",
            json!({"RequirePasscode": true, "MinimumLength": settings.minimum_length}),
        );
        let activation = Declaration::activation("passcode-active", ["passcode"], None);
        Ok(vec![passcode, activation])
    }
}

russet_plugin::declaration_planner!(Planner);

#[cfg(test)]
mod tests {
    use russet_plugin::{Device, DeviceBuilder};

    use super::*;

    fn plan(device: DeviceBuilder) -> Vec<Declaration> {
        let settings = Settings { minimum_length: 6 };
        let request = PlanRequest::builder().device(device.build());
        Planner::plan(settings, &request.build()).unwrap()
    }

    #[test]
    fn devices_have_a_passcode() {
        let plan = plan(Device::builder().serial_number("C02XK1"));
        assert_eq!(plan.len(), 2);
        assert_eq!(plan[0].payload["MinimumLength"], 6);
    }

    #[test]
    fn kiosks_have_none() {
        assert_eq!(plan(Device::builder().attribute("kiosk", "yes")), []);
    }
}
