//! `profile-template`: profiles that differ from device to device.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::canonical::{canonical, digest};
use crate::{Ask, Device, Hook, HookInput, HookKind, HookService, Person, PluginFault, native};

/// What a template is rendered from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRequest {
    /// The name of the profile.
    pub name: String,
    /// The template's text.
    pub template: String,
    /// The variables stored with the profile: a JSON object.
    pub variables: String,
    /// The device that the profile is for.
    pub device: Device,
    /// The person behind the enrollment.
    pub person: Option<Person>,
}

/// A rendered configuration profile: an XML property list, not yet signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedProfile(pub Vec<u8>);

/// The hook, as a type.
#[derive(Clone, Copy, Debug)]
pub struct TemplateHook;

impl Hook for TemplateHook {
    const KIND: HookKind = HookKind::ProfileTemplate;
    type Request = TemplateRequest;
    type Verdict = RenderedProfile;

    fn subject(request: &TemplateRequest) -> &str {
        request.device.label()
    }

    fn input(request: &Arc<TemplateRequest>) -> Option<HookInput> {
        Some(HookInput::ProfileTemplate(Arc::clone(request)))
    }

    fn verdict_name(_: &RenderedProfile) -> &'static str {
        "rendered"
    }

    fn verdict_json(profile: &RenderedProfile) -> String {
        // A profile may hold a password.
        canonical(&serde_json::json!({ "rendered": digest(&profile.0) }))
    }
}

/// A template engine in native Rust.
#[async_trait]
pub trait ProfileTemplate: Send + Sync + 'static {
    /// Renders.
    ///
    /// # Errors
    ///
    /// On a fault the delivery waits and is shown.
    async fn render(&self, ask: &Ask<TemplateHook>) -> Result<RenderedProfile, PluginFault>;
}

impl TemplateHook {
    /// Makes a service of a native template engine.
    pub fn service(engine: impl ProfileTemplate) -> HookService<Self> {
        native(engine, |engine, ask| Box::pin(async move { engine.render(&ask).await }))
    }
}
