//! Publishers' keys: Ed25519, private ones as PKCS#8 in PEM, public ones as one line of text.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// How the text of a public key begins.
const PREFIX: &str = "ed25519:";
/// The size of a public key in bytes.
const PUBLIC_SIZE: usize = 32;
/// How much of the key's SHA-256 its name has, in bytes.
const ID_SIZE: usize = 16;

/// Why a text or a file is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no public key.
    #[error("not a public key; it is one line, ed25519: and 44 characters, as `russet plugin keys show` prints it")]
    Public,
    /// The file holds no private key that can sign.
    #[error("no Ed25519 private key in PEM (PKCS#8, unencrypted); `russet plugin keys new` makes one")]
    Private,
    /// The random number generator failed.
    #[error("no key could be made: the random number generator failed")]
    Random,
    /// The key did not sign.
    #[error("the key did not sign")]
    Sign,
}

/// The public half of a publisher's key. Its text is `ed25519:` and the 32 bytes in base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; PUBLIC_SIZE]);

/// What a key is called for short: the first 16 bytes of the SHA-256 of the public key, in hexadecimal. A label for
/// people; trust always goes by the whole key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID_SIZE]);

impl PublicKey {
    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; PUBLIC_SIZE]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_SIZE] {
        &self.0
    }

    /// Its short name.
    pub fn id(&self) -> KeyId {
        let mut id = [0; ID_SIZE];
        id.copy_from_slice(&digest(&SHA256, &self.0).as_ref()[..ID_SIZE]);
        KeyId(id)
    }

    /// Whether this key made the signature.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(KeyError::Public)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut id = [0; ID_SIZE];
        hex::decode_to_slice(text, &mut id).map_err(|_| KeyError::Public)?;
        Ok(Self(id))
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(PublicKey);
serde_as_text!(KeyId);

/// A publisher's private key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate()
            .map_err(|_| KeyError::Random)
            .and_then(|pair| Self::of(pair, KeyError::Random))
    }

    /// The key in a PEM file, as [`to_pem`](Self::to_pem) or `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    ///
    /// [`KeyError::Private`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::Private)?;
        // A file of OpenSSL's has no public half to check the private one against.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|_| KeyError::Private)
            .and_then(|pair| Self::of(pair, KeyError::Private))
    }

    fn of(pair: Ed25519KeyPair, error: KeyError) -> Result<Self, KeyError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| error)?;
        Ok(Self {
            pair,
            public: PublicKey(public),
        })
    }

    /// The key as a PEM file (PKCS#8), which is a secret.
    ///
    /// # Errors
    ///
    /// [`KeyError::Private`] if the key can not be written down.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| KeyError::Private)?;
        // 48 bytes of DER are one line of PEM.
        let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
        Ok(Zeroizing::new(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            body.as_str()
        )))
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.try_sign(message).map_err(|_| KeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The private key of RFC 8032, section 7.1, test 1, as OpenSSL writes keys: without the public half.
    const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
        -----END PRIVATE KEY-----\n";

    #[test]
    fn a_key_survives_its_file() {
        let key = SigningKey::generate().unwrap();
        let pem = key.to_pem().unwrap();
        assert!(pem.lines().all(|line| line.len() <= 64), "{}", pem.lines().count());
        let again = SigningKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(again.public(), key.public());
        let signature = again.sign(b"hello").unwrap();
        assert!(key.public().verifies(b"hello", &signature));
        assert!(!key.public().verifies(b"hellO", &signature));
        assert!(!format!("{key:?}").contains(pem.lines().nth(1).unwrap()));
    }

    #[test]
    fn keys_of_openssl_sign_too() {
        let key = SigningKey::from_pem(OPENSSL.as_bytes()).unwrap();
        assert_eq!(
            hex::encode(key.public().as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn a_public_key_is_one_line() {
        let key = *SigningKey::generate().unwrap().public();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert_eq!(key.to_string().len(), PREFIX.len() + 44);
        assert_eq!(key.id().to_string().parse::<KeyId>().unwrap(), key.id());
        assert_eq!(
            serde_json::from_str::<PublicKey>(&serde_json::to_string(&key).unwrap()).unwrap(),
            key
        );
        for text in [
            "",
            "ed25519:",
            "ed25519:AAAA",
            "rsa:AAAA",
            &key.to_string()[PREFIX.len()..],
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Public), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
            -----END PUBLIC KEY-----\n";
        for text in ["", "hello", public] {
            assert_eq!(SigningKey::from_pem(text.as_bytes()).unwrap_err(), KeyError::Private);
        }
    }
}
