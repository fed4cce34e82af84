//! Key pairs and public keys: RSA, P-256 and P-384. Knows nothing of certificates or where keys are kept.

mod private;
mod public;

pub use private::{KeyError, KeyKind, PrivateKey};
pub use public::{PublicKey, PublicKeyKind};
