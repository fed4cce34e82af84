//! The keys of the typed commands, after Apple's command schema of OS 18.1 and the keys added up to OS 27.

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Boolean,
    /// Bytes; base64 text in JSON.
    Data {
        max: Option<usize>,
    },
    /// Text that is not empty.
    Text,
    /// The six characters of a Mac's lock.
    Pin,
    /// A list of texts with at least one.
    Texts,
    OneOf(&'static [&'static str]),
    Dictionary(&'static [Key]),
}

/// One key of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// The schema of a typed command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema {
    pub(super) request_type: &'static str,
    pub(super) keys: &'static [Key],
}

const fn required(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        required: true,
    }
}

const fn optional(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        required: false,
    }
}

const BYTES: Kind = Kind::Data { max: None };

/// What a DeviceInformation nonce may hold at most, in bytes.
const MAX_NONCE: usize = 32;

const RETURN_TO_SERVICE: &[Key] = &[
    required("Enabled", Kind::Boolean),
    optional("WiFiProfileData", BYTES),
    optional("MDMProfileData", BYTES),
    optional("BootstrapToken", BYTES),
    optional("ShouldRetryEnrollment", Kind::Boolean),
];

const SCHEMAS: &[Schema] = &[
    Schema {
        request_type: "DeviceInformation",
        keys: &[
            required("Queries", Kind::Texts),
            optional("DeviceAttestationNonce", Kind::Data { max: Some(MAX_NONCE) }),
        ],
    },
    Schema {
        request_type: "SecurityInfo",
        keys: &[],
    },
    Schema {
        request_type: "ProfileList",
        keys: &[optional("ManagedOnly", Kind::Boolean)],
    },
    Schema {
        request_type: "InstallProfile",
        keys: &[required("Payload", BYTES)],
    },
    Schema {
        request_type: "RemoveProfile",
        keys: &[required("Identifier", Kind::Text)],
    },
    Schema {
        request_type: "DeviceLock",
        keys: &[
            optional("Message", Kind::Text),
            optional("PhoneNumber", Kind::Text),
            optional("PIN", Kind::Pin),
        ],
    },
    Schema {
        request_type: "EraseDevice",
        keys: &[
            optional("PreserveDataPlan", Kind::Boolean),
            optional("DisallowProximitySetup", Kind::Boolean),
            optional("PIN", Kind::Pin),
            optional(
                "ObliterationBehavior",
                Kind::OneOf(&["Default", "DoNotObliterate", "ObliterateWithWarning", "Always"]),
            ),
            optional("ReturnToService", Kind::Dictionary(RETURN_TO_SERVICE)),
        ],
    },
];

/// The schema of a typed command.
pub(super) fn of(request_type: &str) -> Option<&'static Schema> {
    SCHEMAS.iter().find(|schema| schema.request_type == request_type)
}
