//! Reacts to events: a device that has enrolled gets an attribute and is asked what it is.

use russet_plugin::observer::{Event, Kind, Observer};
use russet_plugin::{Error, effects, log};
use serde_json::json;

/// The observer.
#[derive(Debug)]
pub struct Welcome;

/// What the operator sets; `settings.schema.json` says the same to the server.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    /// The value of the attribute `group` of devices that enroll.
    pub group: String,
}

impl Observer for Welcome {
    type Settings = Settings;

    fn observe(settings: Settings, event: &Event) -> Result<(), Error> {
        // plugin.toml asks for events of this kind alone; the same one may come again.
        if event.kind() != Kind::Enrolled {
            return Ok(());
        }
        effects::set_attribute("group", &settings.group)?;
        effects::command(&json!({
            "RequestType": "DeviceInformation",
            "Queries": ["OSVersion", "DeviceName"],
        }))
        .dedupe_key("welcome")
        .enqueue()?;
        log::debug(format_args!("event {} is done", event.id()));
        Ok(())
    }
}

russet_plugin::observer!(Welcome);

#[cfg(test)]
mod tests {
    use russet_plugin::testing::{Effect, Host};

    use super::*;

    fn observe(kind: Kind) -> Vec<Effect> {
        let host = Host::new().install();
        let settings = Settings {
            group: "new".to_owned(),
        };
        Welcome::observe(settings, &Event::builder(kind).build()).unwrap();
        host.effects()
    }

    #[test]
    fn a_device_that_has_enrolled_is_welcomed() {
        let effects = observe(Kind::Enrolled);
        let group = Effect::SetAttribute {
            enrollment: None,
            name: "group".to_owned(),
            value: "new".to_owned(),
        };
        assert_eq!(effects[0], group);
        assert!(matches!(&effects[1], Effect::EnqueueCommand { .. }));
    }

    #[test]
    fn other_events_have_no_effect() {
        assert_eq!(observe(Kind::CheckedOut), []);
    }
}
