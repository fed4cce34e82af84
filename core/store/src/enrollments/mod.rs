//! Enrollments: one row per channel of a device, from Authenticate to CheckOut.

mod arrivals;
mod at_once;
mod inventory;
mod read;
mod resolve;
mod touch;
mod write;

use jiff::Timestamp;
use russet_protocol::Channel;
use serde_json::Value as Json;

use crate::commands::NewCommand;
use crate::decisions::NewDecision;
use crate::ids::{EnrollmentId, Sha256, TenantId, words};

pub(crate) use arrivals::Arriving;
pub use read::{EnrollmentFilter, EnrollmentLookup};
pub use resolve::{Resolved, ResolvedCertificate, ResolvedEnrollment};

words! {
    /// How far an enrollment is.
    EnrollmentState {
        /// Authenticate was accepted; no push token came yet.
        Pending = "pending",
        /// TokenUpdate came: commands can be delivered.
        Active = "active",
        /// Checked out, removed, or (user channels) gone with a new enrollment of the device.
        Removed = "removed",
    }
}

/// What a device says about itself in Authenticate. In a write, `None` leaves the stored value unless
/// the device enrolls anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Apple's: see the doc page Authenticate")]
pub struct DeviceFacts {
    pub udid: Option<String>,
    pub serial_number: Option<String>,
    pub model: Option<String>,
    pub model_name: Option<String>,
    pub product_name: Option<String>,
    pub os_version: Option<String>,
    pub build_version: Option<String>,
    pub device_name: Option<String>,
    pub imei: Option<String>,
    pub meid: Option<String>,
}

impl DeviceFacts {
    /// Their values, in the order of the fields and of the columns.
    pub(crate) fn values(&self) -> [sea_orm::Value; 10] {
        [
            self.udid.clone(),
            self.serial_number.clone(),
            self.model.clone(),
            self.model_name.clone(),
            self.product_name.clone(),
            self.os_version.clone(),
            self.build_version.clone(),
            self.device_name.clone(),
            self.imei.clone(),
            self.meid.clone(),
        ]
        .map(Into::into)
    }
}

/// What a user channel says about its user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFacts {
    /// `UserID` or `EnrollmentUserID`.
    pub user_id: Option<String>,
    /// `UserShortName`; on Shared iPad the Managed Apple Account.
    pub short_name: Option<String>,
    /// `UserLongName`.
    pub long_name: Option<String>,
}

/// An accepted Authenticate.
#[derive(Clone, Debug)]
pub struct AuthenticateWrite {
    /// The tenant that the device enrolls into.
    pub tenant: TenantId,
    /// The enrollment's identity, normalised; unique in the tenant.
    pub key: String,
    /// The kind of channel; never a user's, which does not authenticate.
    pub channel: Channel,
    /// What the device said.
    pub facts: DeviceFacts,
    /// Digest of the identity certificate that the request came with.
    pub certificate_sha256: Sha256,
    /// The person that the certificate was issued for.
    pub person: Option<Json>,
    /// What the gate and the directory said; an object.
    pub attributes: Json,
    /// `Topic`, if the device said it.
    pub topic: Option<String>,
    /// Whether a known enrollment came back with a new certificate (and nothing else changed): queue, tokens and
    /// escrow stay.
    pub renewal: bool,
    /// The decisions that let it in.
    pub decisions: Vec<NewDecision>,
}

/// Whose TokenUpdate it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenTarget {
    /// A known enrollment.
    Enrollment(EnrollmentId),
    /// A user on a known device; the user's enrollment is made when it is missing.
    User {
        /// The device's enrollment.
        parent: EnrollmentId,
        /// The user channel's identity, normalised; unique in the tenant.
        key: String,
        /// The kind of user channel.
        channel: Channel,
        /// Who the user is.
        user: UserFacts,
    },
}

/// A TokenUpdate.
#[derive(Clone)]
pub struct TokenUpdateWrite {
    /// Whose it is.
    pub target: TokenTarget,
    /// `Topic`.
    pub topic: String,
    /// `Token`.
    pub token: Vec<u8>,
    /// `PushMagic`.
    pub magic: String,
    /// `AwaitingConfiguration`.
    pub awaiting_configuration: bool,
    /// Digest of the identity certificate that the request came with. The enrollment of a device that becomes active is
    /// bound to it: a device whose new identity failed goes back to the one before. `None` leaves it as it is.
    pub certificate_sha256: Option<Sha256>,
    /// What is queued for the enrollment if it becomes active with this.
    pub commands_at_first: Vec<NewCommand>,
    /// What is queued for it in any case.
    pub commands: Vec<NewCommand>,
}

impl std::fmt::Debug for TokenUpdateWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Token and magic are secrets.
        f.debug_struct("TokenUpdateWrite")
            .field("target", &self.target)
            .field("topic", &self.topic)
            .field("awaiting_configuration", &self.awaiting_configuration)
            .finish_non_exhaustive()
    }
}

/// What a TokenUpdate did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUpdated {
    /// The enrollment.
    pub id: EnrollmentId,
    /// Whether it became active with this: the moment of enrollment.
    pub first: bool,
}

/// The state of an enrollment's push token. The token itself leaves the store only in a push job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushState {
    /// The topic that the device listens on.
    pub topic: String,
    /// Since when APNs says that the token is dead.
    pub parked_at: Option<Timestamp>,
    /// When the device sent it.
    pub updated_at: Option<Timestamp>,
}

/// An enrollment as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EnrollmentRecord {
    /// Its row.
    pub id: EnrollmentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its identity, normalised.
    pub key: String,
    /// The kind of channel.
    pub channel: Channel,
    /// The device's enrollment, of a user channel.
    pub parent: Option<EnrollmentId>,
    /// How far it is.
    pub state: EnrollmentState,
    /// What the device said about itself.
    pub facts: DeviceFacts,
    /// Who the user is, of a user channel.
    pub user: UserFacts,
    /// The person that the device belongs to, as the directory gave it.
    pub person: Option<Json>,
    /// What the gate and the directory said; an object.
    pub attributes: Json,
    /// Digest of the certificate that it is bound to; user channels use their device's.
    pub certificate_sha256: Option<Sha256>,
    /// The push token, if there is one.
    pub push: Option<PushState>,
    /// Whether the device waits in Setup Assistant for DeviceConfigured.
    pub awaiting_configuration: bool,
    /// When its row was made.
    pub created_at: Timestamp,
    /// When it became active.
    pub enrolled_at: Option<Timestamp>,
    /// When it was heard of last.
    pub last_seen_at: Option<Timestamp>,
    /// When it was removed.
    pub removed_at: Option<Timestamp>,
}
