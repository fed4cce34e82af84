//! Content encryption: AES and DES in CBC mode with PKCS#7 padding.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use zeroize::Zeroizing;

use crate::ObjectIdentifier;
use crate::algorithm::{identifier, identifier_parts};
use crate::asn1::{self, Asn1Error, Element, OCTET_STRING};
use crate::oid;

/// How content is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentCipher {
    /// AES-128 in CBC mode: what SCEP makes mandatory.
    Aes128Cbc,
    /// AES-192 in CBC mode.
    Aes192Cbc,
    /// AES-256 in CBC mode.
    Aes256Cbc,
    /// Triple DES with three keys, in CBC mode.
    TripleDesCbc,
    /// Single DES in CBC mode: only under a legacy policy.
    DesCbc,
}

impl ContentCipher {
    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Aes128Cbc => oid::AES128_CBC,
            Self::Aes192Cbc => oid::AES192_CBC,
            Self::Aes256Cbc => oid::AES256_CBC,
            Self::TripleDesCbc => oid::DES_EDE3_CBC,
            Self::DesCbc => oid::DES_CBC,
        }
    }

    /// Length of the key in octets.
    pub(super) fn key_len(self) -> usize {
        match self {
            Self::Aes128Cbc => 16,
            Self::Aes192Cbc | Self::TripleDesCbc => 24,
            Self::Aes256Cbc => 32,
            Self::DesCbc => 8,
        }
    }

    fn iv_len(self) -> usize {
        match self {
            Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc => 16,
            Self::TripleDesCbc | Self::DesCbc => 8,
        }
    }

    #[expect(
        deprecated,
        reason = "SCEP clients still use triple DES, and single DES under the legacy policy"
    )]
    fn implementation(self) -> &'static Algorithm {
        match self {
            Self::Aes128Cbc => &AES_128,
            Self::Aes192Cbc => &AES_192,
            Self::Aes256Cbc => &AES_256,
            Self::TripleDesCbc => &aws_lc_rs::cipher::DES_EDE3_FOR_LEGACY_USE_ONLY,
            Self::DesCbc => &aws_lc_rs::cipher::DES_FOR_LEGACY_USE_ONLY,
        }
    }

    /// Parses a content encryption AlgorithmIdentifier; the error names the algorithm when it is unknown.
    pub(super) fn parse(element: Element<'_>) -> Result<Result<(Self, &[u8]), ObjectIdentifier>, Asn1Error> {
        let (algorithm, parameters) = identifier_parts(element)?;
        let known = [
            Self::Aes128Cbc,
            Self::Aes192Cbc,
            Self::Aes256Cbc,
            Self::TripleDesCbc,
            Self::DesCbc,
        ];
        let Some(cipher) = known.into_iter().find(|cipher| cipher.oid() == algorithm) else {
            return Ok(Err(algorithm));
        };
        match parameters {
            Some(iv) if iv.tag == OCTET_STRING && iv.content.len() == cipher.iv_len() => Ok(Ok((cipher, iv.content))),
            _ => Err(Asn1Error("bad initialization vector")),
        }
    }

    /// Pads and encrypts. Returns the AlgorithmIdentifier with the random IV, and the ciphertext.
    pub(super) fn encrypt(self, key: &[u8], content: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let key = UnboundCipherKey::new(self.implementation(), key).ok()?;
        let mut text = Vec::with_capacity(content.len() + 16);
        text.extend_from_slice(content);
        let context = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?.encrypt(&mut text).ok()?;
        let iv: &[u8] = (&context).try_into().ok()?;
        Some((identifier(self.oid(), &asn1::tlv(OCTET_STRING, iv)), text))
    }

    /// Decrypts and removes the padding; `None` whatever is wrong.
    pub(super) fn decrypt(self, key: &[u8], iv: &[u8], text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let context = match self.iv_len() {
            16 => DecryptionContext::Iv128(iv.try_into().ok()?),
            _ => DecryptionContext::Iv64(iv.try_into().ok()?),
        };
        let key = UnboundCipherKey::new(self.implementation(), key).ok()?;
        let mut buffer = Zeroizing::new(text.to_vec());
        let length = PaddedBlockDecryptingKey::cbc_pkcs7(key)
            .ok()?
            .decrypt(&mut buffer, context)
            .ok()?
            .len();
        buffer.truncate(length);
        Some(buffer)
    }
}
