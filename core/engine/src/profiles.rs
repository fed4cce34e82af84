//! Profiles that the server stores: as they are, or as templates.

use jiff::Timestamp;
use russet_pki::cms::{self, SignError};
use russet_protocol::profile::Profile;

use crate::{Engine, EngineError, TenantRef};

/// A profile to store.
#[derive(Clone, Debug)]
pub struct NewProfile {
    /// The configuration profile, signed or not, or the text of a template.
    pub content: Vec<u8>,
    /// The plugin that renders it.
    pub template: Option<String>,
    /// The values for the template: a JSON object.
    pub variables: serde_json::Value,
}

/// The largest profile that is stored.
const MAX_PROFILE: usize = 4 * 1024 * 1024;

/// The longest name of a profile.
const MAX_NAME: usize = 128;

impl Engine {
    /// Stores a profile in place of the one of that name. Devices get it when InstallProfile is sent.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] if it is no profile.
    pub async fn put_profile(
        &self,
        tenant: &TenantRef,
        name: &str,
        profile: NewProfile,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        if name.is_empty()
            || name.len() > MAX_NAME
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        {
            return Err(EngineError::invalid(format!(
                "the name of a profile has 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores"
            )));
        }
        if profile.content.len() > MAX_PROFILE {
            return Err(EngineError::invalid(format!(
                "a profile has at most {MAX_PROFILE} bytes"
            )));
        }
        if !profile.variables.is_object() {
            return Err(EngineError::invalid("the variables of a template are a JSON object"));
        }
        match &profile.template {
            Some(_) if std::str::from_utf8(&profile.content).is_err() => {
                return Err(EngineError::invalid("a template is UTF-8 text"));
            }
            Some(_) => {}
            None => check(&profile.content)?,
        }
        let stored = russet_store::Profile {
            name: name.to_owned(),
            content: profile.content,
            template: profile.template,
            settings: profile.variables,
            updated_at: now,
        };
        Ok(self.inner.store.put_profile(tenant.id, stored).await?)
    }

    /// Signs a profile, unless profiles stay unsigned.
    pub(crate) fn signed(&self, profile: Vec<u8>) -> Result<Vec<u8>, SignError> {
        match &self.inner.authorities.signer {
            None => Ok(profile),
            Some(signer) => cms::sign_attached(&profile, signer),
        }
    }
}

/// A profile that is delivered as it is must read as one; a signed one is looked into, its signature is the device's
/// to judge.
fn check(content: &[u8]) -> Result<(), EngineError> {
    let invalid =
        |error: &dyn std::fmt::Display| EngineError::invalid(format!("this is not a configuration profile: {error}"));
    let inner;
    let content = if content.first() == Some(&0x30) {
        (inner, _) =
            cms::verify_attached(content, &russet_pki::SignaturePolicy::legacy()).map_err(|error| invalid(&error))?;
        inner.as_slice()
    } else {
        content
    };
    Profile::inspect(content, &russet_protocol::Limits::default())
        .map(|_| ())
        .map_err(|error| invalid(&error))
}
