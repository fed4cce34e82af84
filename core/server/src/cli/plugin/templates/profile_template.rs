//! Renders templates of profiles: `$SERIAL`, `$USER` and `$ORGANIZATION` become what they stand for.

use russet_plugin::template::{ProfileTemplate, TemplateRequest};
use russet_plugin::{Error, log};

/// The template engine.
#[derive(Debug)]
pub struct Template;

/// What the operator sets; `settings.schema.json` says the same to the server.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    /// What `$ORGANIZATION` becomes.
    pub organization: String,
}

impl ProfileTemplate for Template {
    type Settings = Settings;

    fn render(settings: Settings, request: &TemplateRequest) -> Result<Vec<u8>, Error> {
        let values = [
            ("$SERIAL", request.device().serial_number()),
            ("$USER", request.person().map(|person| person.user_name())),
            ("$ORGANIZATION", Some(settings.organization)),
        ];
        let mut text = request.template();
        for (name, value) in values {
            if !text.contains(name) {
                continue;
            }
            // A profile with a hole in it must not reach a device: without the value there is no profile.
            let value = value.ok_or_else(|| format!("{name} is not known for this device"))?;
            text = text.replace(name, &escaped(&value));
        }
        log::debug(format_args!("rendered {}", request.name()));
        Ok(text.into_bytes())
    }
}

/// A value as XML text, so that none can add keys to the profile.
fn escaped(value: &str) -> String {
    value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

russet_plugin::profile_template!(Template);

#[cfg(test)]
mod tests {
    use russet_plugin::Device;

    use super::*;

    fn render(template: &str, device: Device) -> Result<String, String> {
        let settings = Settings {
            organization: "Fish & Chips".to_owned(),
        };
        let request = TemplateRequest::builder(template).device(device).build();
        let bytes = Template::render(settings, &request).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn values_are_filled_in_and_escaped() {
        let device = Device::builder().serial_number("C02XK1").build();
        assert_eq!(
            render("<string>$SERIAL of $ORGANIZATION</string>", device).unwrap(),
            "<string>C02XK1 of Fish &amp; Chips</string>"
        );
    }

    #[test]
    fn a_missing_value_is_an_error() {
        let error = render("<string>$USER</string>", Device::default()).unwrap_err();
        assert!(error.contains("$USER is not known"), "{error}");
    }
}
