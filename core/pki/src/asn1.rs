//! Reading and writing DER by hand: a cursor over borrowed bytes, and a few functions that build.
//!
//! Typed ASN.1 structures re-encode what they parse and re-sort sets, which loses the bytes that a signature covers and
//! the order in which a SCEP server put its certificates. So this crate walks the bytes and keeps them.
//! Knows tags and lengths; knows nothing about what they mean.

use der::{Decode, Header, Reader, SliceReader, oid::ObjectIdentifier};

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const TELETEX_STRING: u8 = 0x14;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The identifier octet of a constructed context-specific tag, `[number]`.
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The identifier octet of a primitive context-specific tag, `[number] IMPLICIT`.
pub(crate) const fn context_primitive(number: u8) -> u8 {
    0x80 | number
}

/// Bytes that are not the DER structure they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed ASN.1: {0}")]
pub struct Asn1Error(pub(crate) &'static str);

/// One tag-length-value, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    /// Identifier octet; tag numbers above 30 are refused.
    pub(crate) tag: u8,
    /// The value.
    pub(crate) content: &'a [u8],
    /// Tag, length and value as received.
    pub(crate) raw: &'a [u8],
}

impl<'a> Element<'a> {
    /// Reads one element that must fill `bytes`.
    pub(crate) fn only(bytes: &'a [u8]) -> Result<Self, Asn1Error> {
        let mut cursor = Cursor::new(bytes);
        let element = cursor.next()?;
        cursor.finish()?;
        Ok(element)
    }

    /// A cursor over the value.
    pub(crate) fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.content)
    }

    /// The value as an object identifier.
    pub(crate) fn oid(&self) -> Result<ObjectIdentifier, Asn1Error> {
        if self.tag != OID {
            return Err(Asn1Error("expected an object identifier"));
        }
        ObjectIdentifier::from_bytes(self.content).map_err(|_| Asn1Error("invalid object identifier"))
    }

    /// The octets of a BIT STRING without unused bits.
    pub(crate) fn bit_string(&self) -> Result<&'a [u8], Asn1Error> {
        match (self.tag, self.content.split_first()) {
            (BIT_STRING, Some((0, octets))) => Ok(octets),
            _ => Err(Asn1Error("expected a bit string of whole octets")),
        }
    }

    /// The text of one of the string types that names and attributes use; `None` for another type or bad text.
    pub(crate) fn text(&self) -> Option<String> {
        match self.tag {
            UTF8_STRING | PRINTABLE_STRING | IA5_STRING | 0x12 | 0x1a => {
                std::str::from_utf8(self.content).ok().map(str::to_owned)
            }
            // Teletex is Latin-1 in practice.
            TELETEX_STRING => Some(self.content.iter().map(|&octet| char::from(octet)).collect()),
            BMP_STRING if self.content.len().is_multiple_of(2) => {
                let units: Vec<u16> = self
                    .content
                    .chunks_exact(2)
                    .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                    .collect();
                String::from_utf16(&units).ok()
            }
            _ => None,
        }
    }
}

/// Reads elements one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Asn1Error> {
        let tag = *self.rest.first().ok_or(Asn1Error("ends too early"))?;
        if tag & 0x1f == 0x1f {
            return Err(Asn1Error("tag number above 30"));
        }
        let mut reader = SliceReader::new(self.rest).map_err(|_| Asn1Error("too long"))?;
        let header = Header::decode(&mut reader).map_err(|_| Asn1Error("bad tag or length"))?;
        let content = reader
            .read_slice(header.length())
            .map_err(|_| Asn1Error("shorter than its length says"))?;
        let consumed = usize::try_from(reader.position()).map_err(|_| Asn1Error("too long"))?;
        let (raw, rest) = self.rest.split_at_checked(consumed).ok_or(Asn1Error("too long"))?;
        self.rest = rest;
        Ok(Element { tag, content, raw })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, Asn1Error> {
        let element = self.next()?;
        if element.tag == tag {
            Ok(element)
        } else {
            Err(Asn1Error("unexpected tag"))
        }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Asn1Error> {
        if self.rest.first() == Some(&tag) {
            self.next().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The next element, which must be a SEQUENCE, as a cursor over its content.
    pub(crate) fn sequence(&mut self) -> Result<Cursor<'a>, Asn1Error> {
        Ok(self.expect(SEQUENCE)?.cursor())
    }

    /// A small non-negative INTEGER such as a version.
    pub(crate) fn small_integer(&mut self) -> Result<u32, Asn1Error> {
        let content = self.expect(INTEGER)?.content;
        if content.is_empty() || content.len() > 4 || content[0] & 0x80 != 0 {
            return Err(Asn1Error("integer out of range"));
        }
        Ok(content.iter().fold(0, |value, &octet| (value << 8) | u32::from(octet)))
    }

    /// Errors when something is left.
    pub(crate) fn finish(&self) -> Result<(), Asn1Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Asn1Error("trailing data"))
        }
    }
}

/// Where `inner`, a slice of `outer`, starts and ends in it.
pub(crate) fn subrange(outer: &[u8], inner: &[u8]) -> std::ops::Range<usize> {
    let start = inner.as_ptr().addr().wrapping_sub(outer.as_ptr().addr());
    debug_assert!(start + inner.len() <= outer.len());
    start..start + inner.len()
}

/// Encodes a tag, the definite length and the content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    push_length(&mut out, content.len());
    out.extend_from_slice(content);
    out
}

/// Appends a definite length in the fewest octets.
pub(crate) fn push_length(out: &mut Vec<u8>, length: usize) {
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out.push(short);
        return;
    }
    let octets = length.to_be_bytes();
    let skip = octets.iter().take_while(|&&octet| octet == 0).count();
    let significant = &octets[skip..];
    // At most eight octets, so the count fits.
    out.push(0x80 | significant.len() as u8);
    out.extend_from_slice(significant);
}

/// Encodes a constructed element of already encoded parts, in the order given.
pub(crate) fn constructed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

/// Encodes a SEQUENCE of already encoded parts.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    constructed(SEQUENCE, parts)
}

/// Encodes a SET OF with the element order that DER asks for, under `tag`.
pub(crate) fn set_of(tag: u8, mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    tlv(tag, &parts.concat())
}

/// Encodes an object identifier.
pub(crate) fn oid(value: ObjectIdentifier) -> Vec<u8> {
    tlv(OID, value.as_bytes())
}

/// Encodes an unsigned big-endian number as INTEGER.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let skip = bytes.iter().take_while(|&&octet| octet == 0).count();
    let significant = &bytes[skip..];
    let mut content = Vec::with_capacity(significant.len() + 1);
    if significant.first().is_none_or(|octet| octet & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(significant);
    tlv(INTEGER, &content)
}

/// Encodes a BIT STRING of whole octets.
pub(crate) fn bit_string(octets: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(octets.len() + 1);
    content.push(0);
    content.extend_from_slice(octets);
    tlv(BIT_STRING, &content)
}

/// Encodes NULL.
pub(crate) fn null() -> Vec<u8> {
    vec![NULL, 0]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn lengths_are_minimal_and_read_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let encoded = tlv(OCTET_STRING, &content);
            let element = Element::only(&encoded).unwrap();
            assert_eq!((element.tag, element.content), (OCTET_STRING, &content[..]));
        }
    }

    #[test]
    fn unsigned_integers_keep_their_sign() {
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
    }

    #[test]
    fn a_truncated_element_is_an_error() {
        let encoded = tlv(SEQUENCE, &[5, 0, 5, 0]);
        for cut in 0..encoded.len() {
            assert!(Element::only(&encoded[..cut]).is_err());
        }
    }

    #[test]
    fn indefinite_and_overlong_lengths_are_not_der() {
        assert!(Element::only(&[0x30, 0x80, 0, 0]).is_err());
        assert!(Element::only(&[0x04, 0x81, 0x01, 0xff]).is_err());
    }
}
