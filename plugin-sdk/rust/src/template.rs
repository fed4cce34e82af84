//! `profile-template`: profiles that differ from device to device.

use serde::de::DeserializeOwned;

use crate::bindings::russet::plugin::context as host;
use crate::input::input;
use crate::{Device, Error, Person};

/// Renders templates of profiles. The profile names the plugin that renders it.
pub trait ProfileTemplate {
    /// The plugin's settings; `()` if it has none.
    type Settings: DeserializeOwned + 'static;

    /// Renders the template to a configuration profile (an XML property list).
    ///
    /// # Errors
    ///
    /// An error means that the profile could not be made. The delivery waits and is shown.
    fn render(settings: Self::Settings, request: &TemplateRequest<'_>) -> Result<Vec<u8>, Error>;
}

input! {
    /// What a template is rendered from.
    TemplateRequest, TemplateRequestBuilder, TemplateRequest;
    /// The name of the profile.
    name: text;
    /// The template's text.
    template: text;
    /// The name of the tenant.
    tenant: text;
    /// The device that the profile is for.
    device: value<Device>;
    /// The person behind the enrollment, if known.
    person: maybe<Person>;
    /// The variables stored with the profile, as a JSON object.
    variables: text;
}

impl TemplateRequest<'_> {
    /// A request in memory, for tests: at first a profile named `test` for an unknown device in the tenant `default`,
    /// without variables.
    pub fn builder(template: impl Into<String>) -> TemplateRequestBuilder {
        TemplateRequestBuilder(Memory {
            name: "test".to_owned(),
            template: template.into(),
            tenant: "default".to_owned(),
            device: Device::default(),
            person: None,
            variables: "{}".to_owned(),
        })
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __render<T: ProfileTemplate>(request: &host::TemplateRequest) -> Result<Vec<u8>, String> {
    crate::glue::call(|settings| T::render(settings, &TemplateRequest(Source::Host(request))))
}

/// Exports a type as the plugin's template engine.
///
/// The type implements [`template::ProfileTemplate`](crate::template::ProfileTemplate).
#[macro_export]
macro_rules! profile_template {
    ($engine:ty) => {
        $crate::__export!(profile_template, $crate::template::ProfileTemplate, $engine, {
            fn render(request: &$crate::bindings::russet::plugin::context::TemplateRequest) -> Result<Vec<u8>, String> {
                $crate::template::__render::<$engine>(request)
            }
        });
    };
}
