//! How the content key reaches the recipient: RSA PKCS#1 v1.5 key transport (RFC 3370), or ephemeral-static ECDH with
//! the X9.63 key derivation and AES key wrap (RFC 5753).

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, UnparsedPublicKey};
use aws_lc_rs::digest::Context;
use aws_lc_rs::key_wrap::{AES_128, AES_256, AesKek, KeyWrap};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::enveloped::{DecryptError, EncryptError};
use super::rsa_legacy;
use super::signed::identifies;
use crate::algorithm::{Digest, identifier, identifier_parts};
use crate::asn1::{self, Asn1Error, Element, OCTET_STRING, SEQUENCE};
use crate::certificate::Certificate;
use crate::key::{PrivateKey, PublicKeyKind};
use crate::oid;

/// The part of a RecipientInfo that is for us.
pub(super) enum Recipient<'a> {
    Transport { encrypted: &'a [u8] },
    Agreement(Agreement<'a>),
}

/// A KeyAgreeRecipientInfo with an ephemeral originator key.
pub(super) struct Agreement<'a> {
    /// The originator's point.
    point: &'a [u8],
    ukm: Option<&'a [u8]>,
    kdf: Digest,
    /// The wrap AlgorithmIdentifier exactly as received: it goes into the key derivation.
    wrap: &'a [u8],
    wrap_key_len: usize,
    encrypted: &'a [u8],
}

impl<'a> Recipient<'a> {
    /// Parses a RecipientInfo; `None` when it is for somebody else or of a kind that is not used here.
    pub(super) fn parse(element: Element<'a>, certificate: &Certificate) -> Result<Option<Self>, DecryptError> {
        let mut fields = element.cursor();
        match element.tag {
            SEQUENCE => {
                fields.small_integer()?;
                if !identifies(fields.next()?, certificate) {
                    return Ok(None);
                }
                let (algorithm, _) = identifier_parts(fields.next()?)?;
                if algorithm != oid::RSA_ENCRYPTION {
                    return Err(DecryptError::KeyEncryption);
                }
                Ok(Some(Self::Transport {
                    encrypted: fields.expect(OCTET_STRING)?.content,
                }))
            }
            tag if tag == asn1::context(1) => {
                Agreement::parse(element, certificate).map(|ours| ours.map(Self::Agreement))
            }
            _ => Ok(None),
        }
    }
}

impl<'a> Agreement<'a> {
    fn parse(element: Element<'a>, certificate: &Certificate) -> Result<Option<Self>, DecryptError> {
        let mut fields = element.cursor();
        fields.small_integer()?;
        let originator = Element::only(fields.expect(asn1::context(0))?.content)?;
        let ukm = match fields.optional(asn1::context(1))? {
            Some(wrapper) => Some(wrapper.cursor().expect(OCTET_STRING)?.content),
            None => None,
        };
        let (scheme, wrap) = identifier_parts(fields.next()?)?;
        let mut keys = fields.sequence()?;
        let mut encrypted = None;
        while !keys.is_empty() {
            let mut key = keys.sequence()?;
            let recipient = key.next()?;
            let value = key.expect(OCTET_STRING)?.content;
            if names(recipient, certificate)? {
                encrypted = Some(value);
            }
        }
        let Some(encrypted) = encrypted else { return Ok(None) };
        let kdf = match scheme {
            oid::ECDH_STD_SHA1_KDF => Digest::Sha1,
            oid::ECDH_STD_SHA256_KDF => Digest::Sha256,
            oid::ECDH_STD_SHA384_KDF => Digest::Sha384,
            oid::ECDH_STD_SHA512_KDF => Digest::Sha512,
            _ => return Err(DecryptError::KeyEncryption),
        };
        let wrap = wrap.ok_or(Asn1Error("no key wrap algorithm"))?;
        let wrap_key_len = match identifier_parts(wrap)?.0 {
            oid::AES128_WRAP => 16,
            oid::AES256_WRAP => 32,
            _ => return Err(DecryptError::KeyEncryption),
        };
        if originator.tag != asn1::context(1) {
            return Err(DecryptError::KeyEncryption);
        }
        let mut key = originator.cursor();
        key.expect(SEQUENCE)?;
        let point = key.next()?.bit_string()?;
        Ok(Some(Self {
            point,
            ukm,
            kdf,
            wrap: wrap.raw,
            wrap_key_len,
            encrypted,
        }))
    }
}

/// Whether a KeyAgreeRecipientIdentifier means this certificate. RecipientKeyIdentifier wraps the identifier.
fn names(recipient: Element<'_>, certificate: &Certificate) -> Result<bool, Asn1Error> {
    if recipient.tag == asn1::context(0) {
        let wanted = recipient.cursor().expect(OCTET_STRING)?.content;
        return Ok(certificate.subject_key_id() == Some(wanted));
    }
    Ok(identifies(recipient, certificate))
}

/// KeyTransRecipientInfo for an RSA certificate.
pub(super) fn transport(recipient: &Certificate, key: &[u8]) -> Result<Vec<u8>, EncryptError> {
    let encrypted = match recipient.public_key().kind() {
        // The library refuses these, which only the legacy policy lets through to here.
        PublicKeyKind::Rsa { bits: ..2048 } => rsa_legacy::encrypt(recipient.public_key(), key)?,
        _ => {
            let public = PublicEncryptingKey::from_der(recipient.public_key_der())
                .ok()
                .and_then(|public| Pkcs1PublicEncryptingKey::new(public).ok())
                .ok_or(EncryptError::Recipient)?;
            let mut buffer = vec![0; public.ciphertext_size()];
            public
                .encrypt(key, &mut buffer)
                .map_err(|_| EncryptError::Operation)?
                .to_vec()
        }
    };
    Ok(asn1::sequence(&[
        &asn1::unsigned(&[0]),
        &recipient.issuer_and_serial(),
        &identifier(oid::RSA_ENCRYPTION, &asn1::null()),
        &asn1::tlv(OCTET_STRING, &encrypted),
    ]))
}

/// Decrypts a transported key; whatever is wrong with it, a random key of the right length comes out instead
/// (RFC 3218 section 2.3.2), chosen without a branch on the outcome.
pub(super) fn receive(encrypted: &[u8], key: &PrivateKey, length: usize) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let rsa = key.rsa_decryption().ok_or(DecryptError::KeyEncryption)?;
    let mut chosen = Zeroizing::new(vec![0; length]);
    rand::fill(&mut chosen).map_err(|_| DecryptError::Failed)?;
    let mut buffer = Zeroizing::new(vec![0; rsa.min_output_size().max(length)]);
    let received = rsa.decrypt(encrypted, &mut buffer).map_or(0, |plain| plain.len());
    let good: Choice = (received as u64).ct_eq(&(length as u64));
    for (random, octet) in chosen.iter_mut().zip(buffer.iter()) {
        *random = u8::conditional_select(random, octet, good);
    }
    Ok(chosen)
}

/// KeyAgreeRecipientInfo for an EC certificate: a fresh key on the recipient's curve, SHA-256, AES-256 wrap (AES-128
/// for P-256).
pub(super) fn agreement(recipient: &Certificate, key: &[u8]) -> Result<Vec<u8>, EncryptError> {
    let (algorithm, curve, wrap, wrap_key_len) = match recipient.public_key().kind() {
        PublicKeyKind::P256 => (&ECDH_P256, oid::P256, oid::AES128_WRAP, 16),
        PublicKeyKind::P384 => (&ECDH_P384, oid::P384, oid::AES256_WRAP, 32),
        _ => return Err(EncryptError::Recipient),
    };
    let ephemeral = agreement::PrivateKey::generate(algorithm).map_err(|_| EncryptError::Operation)?;
    let point = ephemeral.compute_public_key().map_err(|_| EncryptError::Operation)?;
    let wrap = identifier(wrap, &[]);
    let peer = UnparsedPublicKey::new(algorithm, recipient.public_key().key_octets());
    let wrapping_key = agreement::agree(&ephemeral, peer, EncryptError::Recipient, |secret| {
        Ok(derive(Digest::Sha256, secret, &wrap, None, wrap_key_len))
    })?;
    let wrapped = wrap_key(&wrapping_key, key).ok_or(EncryptError::Operation)?;
    let originator = asn1::constructed(
        asn1::context(1),
        &[
            &identifier(oid::EC_PUBLIC_KEY, &asn1::oid(curve)),
            &asn1::bit_string(point.as_ref()),
        ],
    );
    let encrypted_key = asn1::sequence(&[&recipient.issuer_and_serial(), &asn1::tlv(OCTET_STRING, &wrapped)]);
    Ok(asn1::constructed(
        asn1::context(1),
        &[
            &asn1::unsigned(&[3]),
            &asn1::tlv(asn1::context(0), &originator),
            &identifier(oid::ECDH_STD_SHA256_KDF, &wrap),
            &asn1::sequence(&[&encrypted_key]),
        ],
    ))
}

/// The content key of a key agreement.
pub(super) fn agree(
    message: &Agreement<'_>,
    key: &PrivateKey,
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let algorithm = match key.public_key().kind() {
        PublicKeyKind::P256 => &ECDH_P256,
        PublicKeyKind::P384 => &ECDH_P384,
        _ => return Err(DecryptError::KeyEncryption),
    };
    let own = agreement::PrivateKey::from_private_key_der(algorithm, &key.to_pkcs8())
        .map_err(|_| DecryptError::KeyEncryption)?;
    let peer = UnparsedPublicKey::new(algorithm, message.point);
    let wrapping_key = agreement::agree(&own, peer, DecryptError::Failed, |secret| {
        Ok(derive(
            message.kdf,
            secret,
            message.wrap,
            message.ukm,
            message.wrap_key_len,
        ))
    })?;
    // AES key wrap carries its own integrity check, so there is no oracle to hide here.
    unwrap_key(&wrapping_key, message.encrypted)
        .filter(|key| key.len() == length)
        .ok_or(DecryptError::Failed)
}

/// X9.63 key derivation over ECC-CMS-SharedInfo (RFC 5753 sections 7.1.8 and 7.2).
fn derive(kdf: Digest, secret: &[u8], wrap: &[u8], ukm: Option<&[u8]>, length: usize) -> Zeroizing<Vec<u8>> {
    let ukm = ukm
        .map(|ukm| asn1::tlv(asn1::context(0), &asn1::tlv(OCTET_STRING, ukm)))
        .unwrap_or_default();
    let bits = (length as u32 * 8).to_be_bytes();
    let shared = asn1::sequence(&[
        wrap,
        &ukm,
        &asn1::tlv(asn1::context(2), &asn1::tlv(OCTET_STRING, &bits)),
    ]);
    let mut out = Zeroizing::new(Vec::with_capacity(length + 64));
    let mut counter = 1_u32;
    while out.len() < length {
        let mut context = Context::new(kdf.implementation());
        context.update(secret);
        context.update(&counter.to_be_bytes());
        context.update(&shared);
        out.extend_from_slice(context.finish().as_ref());
        counter += 1;
    }
    out.truncate(length);
    out
}

fn kek(wrapping_key: &[u8]) -> Option<AesKek> {
    let cipher = if wrapping_key.len() == 16 { &AES_128 } else { &AES_256 };
    AesKek::new(cipher, wrapping_key).ok()
}

/// AES key wrap works on blocks of eight octets and at least two of them, which excludes a single DES key.
fn wrap_key(wrapping_key: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; key.len() + 8];
    let length = kek(wrapping_key)?.wrap(key, &mut out).ok()?.len();
    out.truncate(length);
    Some(out)
}

fn unwrap_key(wrapping_key: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(vec![0; wrapped.len()]);
    let length = kek(wrapping_key)?.unwrap(wrapped, &mut out).ok()?.len();
    out.truncate(length);
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::key::KeyKind;

    /// A wrapped key whose padded block is given.
    fn wrap(key: &PrivateKey, block: &[u8]) -> Vec<u8> {
        let (modulus, exponent) = key.public_key().rsa_parts().unwrap();
        rsa_legacy::power(block, exponent, &modulus[1..])
    }

    #[test]
    fn a_bad_padding_becomes_a_random_key_of_the_right_length() {
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let mut block = [0x5c; 256];
        block[..2].copy_from_slice(&[0, 2]);
        block[239] = 0;
        assert_eq!(
            *receive(&wrap(&key, &block), &key, 16).unwrap(),
            [0x5c; 16],
            "a good padding is honoured"
        );

        let mut bad = Vec::new();
        for (position, value) in [(0, 1), (1, 1), (1, 0), (239, 1), (5, 0), (238, 0)] {
            let mut changed = block;
            changed[position] = value;
            bad.push(wrap(&key, &changed));
        }
        bad.push(vec![0xff; 256]);
        bad.push(vec![0; 256]);
        bad.push(vec![1; 255]);
        bad.push(Vec::new());
        let mut seen = Vec::new();
        for wrapped in bad {
            let first = receive(&wrapped, &key, 16).unwrap();
            let second = receive(&wrapped, &key, 16).unwrap();
            assert_eq!((first.len(), second.len()), (16, 16));
            assert_ne!(*first, *second, "random each time");
            assert!(!seen.contains(&first));
            seen.push(first);
        }
    }
}
