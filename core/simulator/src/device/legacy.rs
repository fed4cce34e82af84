//! Signatures as old systems made them: RSA PKCS#1 v1.5 with SHA-1, so that a test can see them refused, and accepted
//! where a server is set to. No cryptographic library of the project makes these any more, so the arithmetic is here. It
//! is not constant time and must never sign for anything but a simulated device.

use num_bigint::BigUint;
use russet_pki::fingerprint::sha1;
use x509_cert::der::{Decode, Encode};

use super::error::DeviceError;
use super::identity::Identity;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;

/// Encoded object identifiers.
const DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const CONTENT_TYPE: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SHA1: &[u8] = &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a];
const NULL: &[u8] = &[0x05, 0x00];

/// Signs content with SHA-1 without embedding it (RFC 5652), as the `Mdm-Signature` of old systems.
pub(crate) fn sign_detached_sha1(identity: &Identity, content: &[u8]) -> Result<Vec<u8>, DeviceError> {
    let certificate = identity.certificate().der();
    let parsed = x509_cert::Certificate::from_der(certificate).map_err(DeviceError::crypto)?;
    let tbs = parsed.tbs_certificate();
    let issuer = tbs.issuer().to_der().map_err(DeviceError::crypto)?;
    let serial = tbs.serial_number().to_der().map_err(DeviceError::crypto)?;

    let attribute = |kind: &[u8], value: &[u8]| tlv(SEQUENCE, &[kind, &tlv(SET, &[value])]);
    // In the order that DER gives a set: the shorter attribute first.
    let attributes = [
        attribute(CONTENT_TYPE, DATA),
        attribute(MESSAGE_DIGEST, &tlv(OCTET_STRING, &[&sha1(content)])),
    ]
    .concat();
    let signature = sign(identity, &tlv(SET, &[&attributes]))?;

    let digest = tlv(SEQUENCE, &[SHA1, NULL]);
    let version = tlv(INTEGER, &[&[1]]);
    let signer = tlv(
        SEQUENCE,
        &[
            &version,
            &tlv(SEQUENCE, &[&issuer, &serial]),
            &digest,
            &tlv(CONTEXT_0, &[&attributes]),
            &tlv(SEQUENCE, &[RSA_ENCRYPTION, NULL]),
            &tlv(OCTET_STRING, &[&signature]),
        ],
    );
    let signed = tlv(
        SEQUENCE,
        &[
            &version,
            &tlv(SET, &[&digest]),
            &tlv(SEQUENCE, &[DATA]),
            &tlv(CONTEXT_0, &[certificate]),
            &tlv(SET, &[&signer]),
        ],
    );
    Ok(tlv(SEQUENCE, &[SIGNED_DATA, &tlv(CONTEXT_0, &[&signed])]))
}

/// RSASSA-PKCS1-v1_5 with SHA-1 (RFC 8017 section 8.2.1).
fn sign(identity: &Identity, message: &[u8]) -> Result<Vec<u8>, DeviceError> {
    let pkcs8 = identity.key().to_pkcs8();
    let (modulus, exponent) =
        rsa_parts(&pkcs8).ok_or_else(|| DeviceError::Crypto("SHA-1 signatures need an RSA identity".to_owned()))?;
    let length = modulus.to_bytes_be().len();
    let digest_info = tlv(
        SEQUENCE,
        &[&tlv(SEQUENCE, &[SHA1, NULL]), &tlv(OCTET_STRING, &[&sha1(message)])],
    );
    let mut block = vec![0, 1];
    block.resize(length - digest_info.len() - 1, 0xff);
    block.push(0);
    block.extend_from_slice(&digest_info);
    let signature = BigUint::from_bytes_be(&block).modpow(&exponent, &modulus).to_bytes_be();
    let mut padded = vec![0; length - signature.len()];
    padded.extend_from_slice(&signature);
    Ok(padded)
}

/// Modulus and private exponent of an RSA key in PKCS#8 (RFC 5958, RFC 8017 appendix A.1.2).
fn rsa_parts(pkcs8: &[u8]) -> Option<(BigUint, BigUint)> {
    let (_, outer, _) = read(pkcs8)?;
    let (_, _version, rest) = read(outer)?;
    let (_, algorithm, rest) = read(rest)?;
    if !algorithm.starts_with(RSA_ENCRYPTION) {
        return None;
    }
    let (_, key, _) = read(rest)?;
    let (_, fields, _) = read(key)?;
    let (_, _version, rest) = read(fields)?;
    let (_, modulus, rest) = read(rest)?;
    let (_, _public_exponent, rest) = read(rest)?;
    let (_, private_exponent, _) = read(rest)?;
    Some((
        BigUint::from_bytes_be(modulus),
        BigUint::from_bytes_be(private_exponent),
    ))
}

/// Tag, content and what follows of the first DER element.
fn read(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                octets
                    .iter()
                    .fold(0, |length, octet| (length << 8) | usize::from(*octet)),
                rest,
            )
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Encodes one DER element around its parts.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        let length = content.len().to_be_bytes();
        let octets: Vec<u8> = length.into_iter().skip_while(|octet| *octet == 0).collect();
        out.push(0x80 | octets.len() as u8);
        out.extend(octets);
    }
    out.extend(content);
    out
}
