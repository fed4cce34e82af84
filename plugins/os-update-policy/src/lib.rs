//! Plans software updates: which version each family of devices has to have, and by when, for rings of devices.
//!
//! A device belongs to the first ring whose condition holds. While it runs an older version than its target, it gets a
//! declaration that enforces the update at the ring's deadline; once it has it, the declaration goes away. A ring may carry
//! settings of software updates beside that.

mod settings;

use russet_plugin::condition::Facts;
use russet_plugin::os::{Family, Version};
use russet_plugin::planner::{Declaration, DeclarationPlanner, PlanRequest};
use russet_plugin::{Device, Error};
use serde_json::{Value, json};
pub use settings::Settings;
use settings::{Ring, Target};

/// What a device tells of its version after an update, before it is asked for device information again.
const VERSION: &str = "device.operating-system.version";

/// The planner.
#[derive(Debug)]
pub struct Updates;

impl DeclarationPlanner for Updates {
    type Settings = Settings;

    fn plan(settings: Settings, request: &PlanRequest<'_>) -> Result<Vec<Declaration>, Error> {
        let (device, person) = (request.device(), request.person());
        let facts = Facts::of(&device, person.as_ref());
        let Some(ring) = settings.rings.iter().find(|ring| ring.when.holds(&facts)) else {
            return Ok(Vec::new());
        };
        let mut plan = Vec::new();
        if let Some(payload) = &ring.settings {
            plan.push(Declaration::new(
                identifier("settings", &ring.name),
                "com.apple.configuration.softwareupdate.settings",
                Value::Object(payload.clone()),
            ));
        }
        let family = device.product_name().as_deref().and_then(Family::of);
        let target = family.and_then(|family| settings.targets.get(&family));
        if let Some(target) = target
            && version(request, &device)?.is_none_or(|version| version < target.version)
        {
            plan.push(enforcement(ring, target, settings.details_url.as_deref())?);
        }
        if !plan.is_empty() {
            let configurations: Vec<&str> = plan.iter().map(|part| part.identifier.as_str()).collect();
            let activation = Declaration::activation(identifier("activation", &ring.name), configurations, None);
            plan.push(activation);
        }
        Ok(plan)
    }
}

/// The version that the device runs, by its last status report, else by what it said when it was asked.
fn version(request: &PlanRequest<'_>, device: &Device) -> Result<Option<Version>, Error> {
    let reported = request.status_as::<String>(VERSION)?.or_else(|| device.os_version());
    Ok(reported.as_deref().and_then(Version::parse))
}

fn enforcement(ring: &Ring, target: &Target, details_url: Option<&str>) -> Result<Declaration, Error> {
    let mut payload = json!({
        "TargetOSVersion": target.version.to_string(),
        "TargetLocalDateTime": ring.deadline(target.released)?.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
    });
    if let Some(build) = &target.build {
        payload["TargetBuildVersion"] = build.as_str().into();
    }
    if let Some(url) = details_url {
        payload["DetailsURL"] = url.into();
    }
    Ok(Declaration::new(
        identifier("enforcement", &ring.name),
        "com.apple.configuration.softwareupdate.enforcement.specific",
        payload,
    ))
}

fn identifier(part: &str, ring: &str) -> String {
    format!("os-update-policy.{ring}.{part}")
}

russet_plugin::declaration_planner!(Updates);

#[cfg(test)]
mod tests;
