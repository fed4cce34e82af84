//! Works at certain times: asks the devices of a group every hour how they are.

use russet_plugin::scheduled::{Scheduled, ScheduledRun};
use russet_plugin::{Error, effects, inventory, log};
use serde_json::json;

/// The most devices of one run; the next ones are asked an hour later.
const MOST: u32 = 50;

/// The work.
#[derive(Debug)]
pub struct Survey;

/// What the operator sets; `settings.schema.json` says the same to the server.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    /// The value of the attribute `group` of devices that are asked.
    pub group: String,
}

impl Scheduled for Survey {
    type Settings = Settings;

    fn run(settings: Settings, run: &ScheduledRun) -> Result<(), Error> {
        let devices = inventory::devices_with_attribute("group", &settings.group, None, MOST)?;
        for id in devices
            .iter()
            .filter_map(|found| found.device.enrollment_id())
        {
            let question = json!({"RequestType": "DeviceInformation", "Queries": ["OSVersion"]});
            // Work may be done twice: at most one such command waits for a device.
            effects::of(&id)
                .command(&question)
                .dedupe_key("survey")
                .enqueue()?;
        }
        log::info(format_args!(
            "{}: {} devices are asked",
            run.name(),
            devices.len()
        ));
        Ok(())
    }
}

russet_plugin::scheduled!(Survey);

#[cfg(test)]
mod tests {
    use russet_plugin::Device;
    use russet_plugin::testing::{Effect, Host};

    use super::*;

    fn device(id: &str, group: &str) -> Device {
        Device::builder()
            .enrollment_id(id)
            .attribute("group", group)
            .build()
    }

    fn run(host: Host) -> Vec<Effect> {
        let host = host.install();
        let settings = Settings {
            group: "lab".to_owned(),
        };
        Survey::run(settings, &ScheduledRun::builder("survey").build()).unwrap();
        host.effects()
    }

    #[test]
    fn the_devices_of_the_group_are_asked() {
        let host = Host::new().device(device("a", "lab"), None);
        let effects = run(host.device(device("b", "office"), None));
        let [Effect::EnqueueCommand { enrollment, .. }] = effects.as_slice() else {
            panic!("{effects:?}");
        };
        assert_eq!(enrollment.as_deref(), Some("a"));
    }

    #[test]
    fn without_devices_nothing_happens() {
        assert_eq!(run(Host::new()), []);
    }
}
