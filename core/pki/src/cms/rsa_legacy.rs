//! RSA PKCS#1 v1.5 encryption for keys of 1,024 to 2,047 bits, which aws-lc-rs refuses: old SCEP clients with such keys
//! can be answered only by encrypting to them. A public-key operation; its only secret is the content key of a reply
//! that a key of this size protects badly anyway. Reached only through a legacy policy.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::enveloped::EncryptError;
use crate::key::PublicKey;

/// Encrypts with PKCS#1 v1.5 padding (RFC 8017 section 7.2.1).
pub(super) fn encrypt(key: &PublicKey, message: &[u8]) -> Result<Vec<u8>, EncryptError> {
    let (modulus, exponent) = key.rsa_parts().ok_or(EncryptError::Recipient)?;
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let length = modulus.len();
    // From 1,024 bits; modulus and exponent odd as RSA has them; an exponent of 1 would encrypt nothing.
    let odd = |number: &[u8]| number.last().is_some_and(|octet| octet & 1 == 1);
    if !(128..=256).contains(&length) || exponent.len() > 5 || !odd(modulus) || !odd(exponent) || exponent == [1] {
        return Err(EncryptError::Recipient);
    }
    let padding = length.checked_sub(message.len() + 3).filter(|&padding| padding >= 8);
    let padding = padding.ok_or(EncryptError::Recipient)?;
    let mut block = Zeroizing::new(vec![0; length]);
    block[1] = 2;
    rand::fill(&mut block[2..2 + padding]).map_err(|_| EncryptError::Operation)?;
    for octet in &mut block[2..2 + padding] {
        while *octet == 0 {
            rand::fill(std::slice::from_mut(octet)).map_err(|_| EncryptError::Operation)?;
        }
    }
    block[3 + padding..].copy_from_slice(message);
    Ok(power(&block, exponent, modulus))
}

/// `base ^ exponent mod modulus`, big-endian, by square and multiply.
pub(super) fn power(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Vec<u8> {
    let n = limbs(modulus);
    let base = limbs(base);
    let mut result = vec![0; n.len()];
    result[0] = 1;
    for octet in exponent {
        for bit in (0..8).rev() {
            result = multiply(&result, &result, &n);
            if octet >> bit & 1 == 1 {
                result = multiply(&result, &base, &n);
            }
        }
    }
    let mut out: Vec<u8> = result.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
    out.drain(..out.len() - modulus.len());
    out
}

/// Little-endian 32-bit limbs.
fn limbs(bytes: &[u8]) -> Vec<u32> {
    bytes
        .rchunks(4)
        .map(|chunk| chunk.iter().fold(0, |limb, &octet| (limb << 8) | u32::from(octet)))
        .collect()
}

/// `a * b mod n`, bit by bit: double and add from the top of `a`. All three have the same number of limbs; `b < n`.
fn multiply(a: &[u32], b: &[u32], n: &[u32]) -> Vec<u32> {
    let mut sum = vec![0; n.len()];
    for limb in a.iter().rev() {
        for bit in (0..32).rev() {
            let carry = double(&mut sum);
            reduce(&mut sum, carry, n);
            if limb >> bit & 1 == 1 {
                let carry = add(&mut sum, b);
                reduce(&mut sum, carry, n);
            }
        }
    }
    sum
}

fn double(value: &mut [u32]) -> bool {
    let mut carry = 0;
    for limb in value {
        let next = *limb >> 31;
        *limb = (*limb << 1) | carry;
        carry = next;
    }
    carry == 1
}

fn add(value: &mut [u32], other: &[u32]) -> bool {
    let mut carry = false;
    for (limb, other) in value.iter_mut().zip(other) {
        let (sum, first) = limb.overflowing_add(*other);
        let (sum, second) = sum.overflowing_add(u32::from(carry));
        *limb = sum;
        carry = first || second;
    }
    carry
}

/// Subtracts `n` once when `value` (with the carry above it) is not below it.
fn reduce(value: &mut [u32], carry: bool, n: &[u32]) {
    if !carry && value.iter().rev().lt(n.iter().rev()) {
        return;
    }
    let mut borrow = false;
    for (limb, n) in value.iter_mut().zip(n) {
        let (difference, first) = limb.overflowing_sub(*n);
        let (difference, second) = difference.overflowing_sub(u32::from(borrow));
        *limb = difference;
        borrow = first || second;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::key::{KeyKind, PrivateKey};

    #[test]
    fn powers_of_small_numbers() {
        // 4^13 mod 497 = 445; the modulus is one limb here.
        assert_eq!(power(&[4], &[13], &497_u32.to_be_bytes()), 445_u32.to_be_bytes());
        // 2^255 mod (2^64 - 59), over two limbs: 2^64 = 59 (mod n), so 2^255 = 59^3 * 2^63 mod n.
        let n = u64::MAX - 58;
        let expected = (u128::from(59_u64.pow(3)) * (1 << 63) % u128::from(n)) as u64;
        let mut two = [0; 8];
        two[7] = 2;
        assert_eq!(power(&two, &[255], &n.to_be_bytes()), expected.to_be_bytes());
    }

    #[test]
    fn the_library_decrypts_what_this_encrypts() {
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let encrypted = encrypt(key.public_key(), b"a content key").unwrap();
        let mut buffer = vec![0; 256];
        let plain = key.rsa_decryption().unwrap().decrypt(&encrypted, &mut buffer).unwrap();
        assert_eq!(plain, b"a content key");
    }
}
