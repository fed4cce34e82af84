//! The names of rows and the closed word lists of columns, as types.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<$name> for sea_orm::Value {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }
    };
}

id! {
    /// A customer of the server; everything that belongs to one carries its id.
    TenantId
}
id! {
    /// One channel of one device: the device itself, or a user on it.
    EnrollmentId
}
id! {
    /// A bearer token of the admin API (the row, never the token).
    ApiTokenId
}
id! {
    /// An identity certificate that this server knows.
    CertificateId
}
id! {
    /// A one-time SCEP challenge.
    ChallengeId
}
id! {
    /// One command of one enrollment's queue.
    EntryId
}
id! {
    /// A named set of devices.
    GroupId
}
id! {
    /// One uploaded revision of a plugin.
    RevisionId
}
id! {
    /// One comparison of two revisions of a plugin.
    RolloutId
}
id! {
    /// A recorded decision of a hook.
    DecisionId
}

id! {
    /// Something that happened, for observers.
    EventId
}
id! {
    /// Work of a plugin that is due at some time.
    ScheduleId
}

/// A SHA-256 digest: of a certificate, a token, a challenge, a public key or a component.
pub type Sha256 = [u8; 32];

/// Declares an enum that is stored and served as a fixed word per variant.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word that stands for it in the database and in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The variant of a word, if the word is known.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl From<$name> for sea_orm::Value {
            fn from(word: $name) -> Self {
                word.as_str().into()
            }
        }
    };
}
pub(crate) use words;
