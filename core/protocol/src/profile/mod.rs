//! Configuration profiles: building the one that enrolls a device, and looking into one that somebody uploads.

mod enrollment;
mod inspect;
mod payload_uuid;

pub use enrollment::{
    AccessRights, EnrollmentMode, EnrollmentProfile, MdmPayload, ProfileError, ScepPayload, ServerCapability,
};
pub use inspect::{InspectError, PayloadSummary, Profile};
pub use payload_uuid::payload_uuid;
