//! `profile-template`: profiles that differ from device to device.

use serde::de::DeserializeOwned;

use crate::bindings::russet::plugin::context as host;
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

/// What a template is rendered from.
#[derive(Clone, Debug)]
pub struct TemplateRequest<'a>(Source<'a>);

#[derive(Clone, Debug)]
enum Source<'a> {
    Host(&'a host::TemplateRequest),
    Memory(Box<Memory>),
}

#[derive(Clone, Debug)]
struct Memory {
    name: String,
    template: String,
    tenant: String,
    device: Device,
    person: Option<Person>,
    variables: String,
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

    /// The name of the profile.
    pub fn name(&self) -> String {
        match &self.0 {
            Source::Host(request) => request.name(),
            Source::Memory(request) => request.name.clone(),
        }
    }

    /// The template's text.
    pub fn template(&self) -> String {
        match &self.0 {
            Source::Host(request) => request.template(),
            Source::Memory(request) => request.template.clone(),
        }
    }

    /// The name of the tenant.
    pub fn tenant(&self) -> String {
        match &self.0 {
            Source::Host(request) => request.tenant(),
            Source::Memory(request) => request.tenant.clone(),
        }
    }

    /// The device that the profile is for.
    pub fn device(&self) -> Device {
        match &self.0 {
            Source::Host(request) => request.device().into(),
            Source::Memory(request) => request.device.clone(),
        }
    }

    /// The person behind the enrollment, if known.
    pub fn person(&self) -> Option<Person> {
        match &self.0 {
            Source::Host(request) => request.person().map(Person::from),
            Source::Memory(request) => request.person.clone(),
        }
    }

    /// The variables stored with the profile, as a JSON object.
    pub fn variables(&self) -> String {
        match &self.0 {
            Source::Host(request) => request.variables(),
            Source::Memory(request) => request.variables.clone(),
        }
    }
}

/// Builds a [`TemplateRequest`] in memory.
#[derive(Clone, Debug)]
pub struct TemplateRequestBuilder(Memory);

impl TemplateRequestBuilder {
    /// The name of the profile.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// The name of the tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.0.tenant = tenant.into();
        self
    }

    /// The device that the profile is for.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.0.device = device;
        self
    }

    /// The person behind the enrollment.
    #[must_use]
    pub fn person(mut self, person: Person) -> Self {
        self.0.person = Some(person);
        self
    }

    /// The variables stored with the profile, as a JSON object.
    #[must_use]
    pub fn variables(mut self, json: impl Into<String>) -> Self {
        self.0.variables = json.into();
        self
    }

    /// The request.
    pub fn build(self) -> TemplateRequest<'static> {
        TemplateRequest(Source::Memory(Box::new(self.0)))
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
