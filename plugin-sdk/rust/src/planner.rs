//! `declaration-planner`: which declarations a device has (Apple: declarative management).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::declaration_planner::exports::russet::plugin::declaration_planner as wire;
use crate::bindings::russet::plugin::context as host;
use crate::input::input;
use crate::{Device, Error, Person};

/// Plans which declarations a device has. Asked when something that a plan may rest on has changed. Several planners: their
/// declarations are united; two that differ under one identifier are a conflict, which is shown, and the first stays.
pub trait DeclarationPlanner {
    /// The plugin's settings; `()` if it has none.
    type Settings: DeserializeOwned + 'static;

    /// Plans. Called again with the same input it must give the same plan, or devices never come to rest.
    ///
    /// # Errors
    ///
    /// An error means that the planner could not plan. The last good plan of the plugin stays.
    fn plan(settings: Self::Settings, request: &PlanRequest<'_>) -> Result<Vec<Declaration>, Error>;
}

/// A declaration. The server makes its token from the payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Its identifier, unique for the device.
    pub identifier: String,
    /// Its type, such as `com.apple.configuration.passcode.settings`; which of the four kinds it is follows from it.
    pub declaration_type: String,
    /// Its payload: an object.
    pub payload: Value,
}

impl Declaration {
    /// A declaration of an identifier, a type and a payload.
    ///
    /// ```
    /// use russet_plugin::planner::Declaration;
    ///
    /// let passcode = Declaration::new(
    ///     "passcode",
    ///     "com.apple.configuration.passcode.settings",
    ///     serde_json::json!({"RequirePasscode": true}),
    /// );
    /// assert_eq!(passcode.identifier, "passcode");
    /// ```
    pub fn new(identifier: impl Into<String>, declaration_type: impl Into<String>, payload: Value) -> Self {
        Self {
            identifier: identifier.into(),
            declaration_type: declaration_type.into(),
            payload,
        }
    }

    /// An activation: it puts these configurations into force, always or where a predicate holds.
    pub fn activation<C: Into<String>>(
        identifier: impl Into<String>,
        configurations: impl IntoIterator<Item = C>,
        predicate: Option<&str>,
    ) -> Self {
        let configurations: Vec<String> = configurations.into_iter().map(Into::into).collect();
        let mut payload = serde_json::json!({"StandardConfigurations": configurations});
        if let Some(predicate) = predicate {
            payload["Predicate"] = predicate.into();
        }
        Self::new(identifier, "com.apple.activation.simple", payload)
    }
}

input! {
    /// What a planner plans for.
    PlanRequest, PlanRequestBuilder, PlanRequest;
    /// The name of the tenant.
    tenant: text;
    /// The device.
    device: value<Device>;
    /// The person behind the enrollment, if known.
    person: maybe<Person>;
    + {
        status: BTreeMap<String, String>,
    }
}

impl PlanRequest<'_> {
    /// A request in memory, for tests: at first for an unknown device of the tenant `default` that reported nothing.
    pub fn builder() -> PlanRequestBuilder {
        PlanRequestBuilder(Memory {
            tenant: "default".to_owned(),
            device: Device::default(),
            person: None,
            status: BTreeMap::new(),
        })
    }

    /// What the device last reported for a status item, such as `device.operating-system.version`: a JSON value.
    pub fn status(&self, item: &str) -> Option<String> {
        match &self.0 {
            Source::Host(request) => request.status(item),
            Source::Memory(request) => request.status.get(item).cloned(),
        }
    }

    /// What the device last reported for a status item, parsed.
    ///
    /// # Errors
    ///
    /// If it does not fit the type.
    pub fn status_as<T: DeserializeOwned>(&self, item: &str) -> Result<Option<T>, Error> {
        let parse = |text: String| {
            serde_json::from_str(&text).map_err(|error| Error::new(format_args!("status item `{item}`: {error}")))
        };
        self.status(item).map(parse).transpose()
    }
}

impl PlanRequestBuilder {
    /// What the device last reported for a status item.
    #[must_use]
    pub fn status(mut self, item: impl Into<String>, value: Value) -> Self {
        self.0.status.insert(item.into(), value.to_string());
        self
    }
}

impl From<Declaration> for wire::Declaration {
    fn from(declaration: Declaration) -> Self {
        Self {
            identifier: declaration.identifier,
            declaration_type: declaration.declaration_type,
            payload: declaration.payload.to_string(),
        }
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __plan<P: DeclarationPlanner>(request: &host::PlanRequest) -> Result<Vec<wire::Declaration>, String> {
    crate::glue::call(|settings| {
        let plan = P::plan(settings, &PlanRequest(Source::Host(request)))?;
        Ok(plan.into_iter().map(Into::into).collect())
    })
}

/// Exports a type as the plugin's planner of declarations.
///
/// The type implements [`planner::DeclarationPlanner`](crate::planner::DeclarationPlanner).
#[macro_export]
macro_rules! declaration_planner {
    ($planner:ty) => {
        $crate::__export!(declaration_planner, $crate::planner::DeclarationPlanner, $planner, {
            fn plan(
                request: &$crate::bindings::russet::plugin::context::PlanRequest,
            ) -> Result<
                Vec<$crate::bindings::declaration_planner::exports::russet::plugin::declaration_planner::Declaration>,
                String,
            > {
                $crate::planner::__plan::<$planner>(request)
            }
        });
    };
}
