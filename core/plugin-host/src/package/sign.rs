//! Making signatures, and reading them back with their proof.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::format::{self, FormatError};
use super::key::{KeyError, PublicKey, SigningKey};
use super::trust::PackageError;

/// What a signature is for: a signature of anything else made with the same key is none of a plugin.
const DOMAIN: &[u8] = b"russet plugin signature v1\0";
/// The only algorithm.
const ALGORITHM: &str = "ed25519";

/// What a signature section holds, in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    algorithm: String,
    key_id: String,
    /// In base64.
    public_key: String,
    /// In base64.
    signature: String,
    /// RFC 3339, in UTC and whole seconds. Covered by the signature.
    signed_at: String,
}

/// A signature that fits the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// Whose it is.
    pub public_key: PublicKey,
    /// When it was made, as its maker says.
    pub signed_at: Timestamp,
}

/// A file whose signatures all fit it. Says nothing about whether anybody trusts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package<'a> {
    /// What the signatures cover: the file without them.
    pub content: &'a [u8],
    /// The signatures, each of another key.
    pub signatures: Vec<Signature>,
}

impl<'a> Package<'a> {
    /// Reads a file and checks every signature in it.
    ///
    /// # Errors
    ///
    /// [`PackageError::Format`], and [`PackageError::Tampered`] if a signature does not fit. A file without signatures is
    /// no error here.
    pub fn read(file: &'a [u8]) -> Result<Self, PackageError> {
        let cut = format::cut(file)?;
        let digest = digest(&SHA256, cut.content);
        let mut signatures: Vec<Signature> = Vec::with_capacity(cut.documents.len());
        for (index, document) in cut.documents.iter().enumerate() {
            let malformed = |reason| FormatError::Malformed { at: index + 1, reason };
            let (signature, proof) = parse(document).map_err(malformed)?;
            if signatures.iter().any(|other| other.public_key == signature.public_key) {
                return Err(malformed("a key signs twice").into());
            }
            let message = message(digest.as_ref(), &signature.signed_at.to_string());
            if !signature.public_key.verifies(&message, &proof) {
                return Err(PackageError::Tampered(signature.public_key.id()));
            }
            signatures.push(signature);
        }
        Ok(Self {
            content: cut.content,
            signatures,
        })
    }

    /// The SHA-256 of what the signatures cover, in hexadecimal: the same however often the file is signed.
    pub fn content_digest(&self) -> String {
        hex::encode(digest(&SHA256, self.content))
    }
}

/// Adds a signature to a plugin's file. A key that has signed it before signs it anew.
///
/// # Errors
///
/// The file is no component, its signatures do not fit it, there are too many, or the key does not sign.
pub fn sign(file: &[u8], key: &SigningKey, at: Timestamp) -> Result<Vec<u8>, PackageError> {
    let cut = format::cut(file)?;
    Package::read(file)?;
    let mut signed = cut.content.to_vec();
    for (index, document) in cut.documents.iter().enumerate() {
        let (signature, _) = parse(document).map_err(|reason| FormatError::Malformed { at: index + 1, reason })?;
        if signature.public_key != *key.public() {
            signed.extend(format::encode(document));
        }
    }
    let document = document(&digest(&SHA256, cut.content), key, at)?;
    signed.extend(format::encode(&document));
    format::cut(&signed)?;
    Ok(signed)
}

fn document(digest: &aws_lc_rs::digest::Digest, key: &SigningKey, at: Timestamp) -> Result<Vec<u8>, PackageError> {
    let signed_at = Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
    let signature = key.sign(&message(digest.as_ref(), &signed_at))?;
    let document = Document {
        algorithm: ALGORITHM.to_owned(),
        key_id: key.public().id().to_string(),
        public_key: STANDARD.encode(key.public().as_bytes()),
        signature: STANDARD.encode(signature),
        signed_at,
    };
    // Strings have a JSON form.
    serde_json::to_vec(&document).map_err(|_| KeyError::Sign.into())
}

/// What is signed.
fn message(digest: &[u8], signed_at: &str) -> Vec<u8> {
    [DOMAIN, digest, signed_at.as_bytes()].concat()
}

/// A document's claim and its proof, not yet checked.
fn parse(bytes: &[u8]) -> Result<(Signature, Vec<u8>), &'static str> {
    let document: Document = serde_json::from_slice(bytes).map_err(|_| "it is not the JSON of a signature")?;
    if serde_json::to_vec(&document).ok().as_deref() != Some(bytes) {
        return Err("its JSON is written in another way");
    }
    if document.algorithm != ALGORITHM {
        return Err("its algorithm is not ed25519");
    }
    let key = STANDARD
        .decode(&document.public_key)
        .ok()
        .and_then(|key| key.try_into().ok())
        .map(PublicKey::from_bytes)
        .ok_or("its public key is not 32 bytes in base64")?;
    if document.key_id != key.id().to_string() {
        return Err("its key id is not that of its public key");
    }
    let proof = STANDARD
        .decode(&document.signature)
        .map_err(|_| "its signature is not base64")?;
    let signed_at: Timestamp = document.signed_at.parse().map_err(|_| "its time is not one")?;
    if signed_at.to_string() != document.signed_at || signed_at.subsec_nanosecond() != 0 {
        return Err("its time is written in another way");
    }
    Ok((
        Signature {
            public_key: key,
            signed_at,
        },
        proof,
    ))
}
