//! Profiles that the server stores, as they are or as templates; those that devices have for good; and the enrollment profile
//! that renews an enrollment.

use jiff::Timestamp;
use russet_pki::cms::{self, SignError};
use russet_protocol::profile::Profile;
use russet_protocol::{codec, plist};
use russet_store::{CommandOrigin, EnrollmentState, NewCommand};
use uuid::Uuid;

use crate::installation::ENROLLMENT_PROFILE;
use crate::{Administrator, Engine, EngineError, TenantRef};

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

/// What storing a profile did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileReport {
    /// There was none of this name.
    pub created: bool,
    /// In how many queues it is now, because devices have it and it changed.
    pub reinstalled: u64,
}

/// The largest profile that is stored.
const MAX_PROFILE: usize = 4 * 1024 * 1024;

/// The longest name of a profile.
const MAX_NAME: usize = 128;

impl Engine {
    /// Stores a profile in place of the one of that name. Devices that have it assigned get it again if it changed; others
    /// when InstallProfile is sent.
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
    ) -> Result<ProfileReport, EngineError> {
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
        let written = self.inner.store.put_profile(tenant.id, stored).await?;
        Ok(ProfileReport {
            created: written.created,
            reinstalled: written.reinstalled,
        })
    }

    /// Gives a profile to a device, which keeps it: it is installed now, and again whenever it changes. Whether the device
    /// did not have it already.
    ///
    /// # Errors
    ///
    /// Not found, or a failure of the store.
    pub async fn assign_profile(
        &self,
        tenant: &TenantRef,
        device: &str,
        profile: &str,
        by: &Administrator,
        now: Timestamp,
    ) -> Result<bool, EngineError> {
        let device = self.device(tenant, device).await?;
        let store = &self.inner.store;
        Ok(store
            .assign_profile(tenant.id, device.id, profile, &by.name, now)
            .await?)
    }

    /// Takes a profile away from a device again: its removal is queued. Whether the device had it.
    ///
    /// # Errors
    ///
    /// No such device, or a failure of the store.
    pub async fn unassign_profile(
        &self,
        tenant: &TenantRef,
        device: &str,
        profile: &str,
        by: &Administrator,
        now: Timestamp,
    ) -> Result<bool, EngineError> {
        let device = self.device(tenant, device).await?;
        let store = &self.inner.store;
        Ok(store
            .unassign_profile(tenant.id, device.id, profile, &by.name, now)
            .await?)
    }

    /// Has a device renew its identity: it gets its enrollment profile again, with a challenge for this enrollment alone,
    /// and stays enrolled. The profile is made when the device fetches it.
    ///
    /// # Errors
    ///
    /// Not found, or [`EngineError::Invalid`] if it is not an enrolled device.
    pub async fn renew_device(
        &self,
        tenant: &TenantRef,
        device: &str,
        by: &Administrator,
        now: Timestamp,
    ) -> Result<Uuid, EngineError> {
        let device = self.device(tenant, device).await?;
        if device.state != EnrollmentState::Active || device.parent.is_some() {
            return Err(EngineError::invalid(
                "only an enrolled device renews its identity; a user uses that of the device",
            ));
        }
        let uuid = Uuid::now_v7();
        let fields = [("RequestType".to_owned(), plist::Value::from("InstallProfile"))];
        let command = NewCommand {
            uuid,
            tenant: tenant.id,
            request_type: "InstallProfile".to_owned(),
            payload: codec::encode(&fields.into_iter().collect()),
            profile_name: Some(ENROLLMENT_PROFILE.to_owned()),
            priority: 0,
            not_before: None,
            expires_at: None,
            dedupe_key: Some(format!("InstallProfile:{ENROLLMENT_PROFILE}")),
            origin: CommandOrigin::Administrator,
            created_by: by.name.clone(),
            creator_token: Some(by.token),
            pace: None,
            hold: None,
            warnings: Vec::new(),
        };
        let queued = self.inner.store.enqueue(command, vec![device.id], now).await?;
        if queued.queued == 0 {
            return Err(EngineError::invalid("the device has not answered the last renewal yet"));
        }
        Ok(uuid)
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
