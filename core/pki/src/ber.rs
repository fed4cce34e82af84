//! BER to DER: what real CMS and SCEP senders emit, made readable for strict parsers.
//!
//! Converts indefinite lengths, constructed strings and long-form lengths; leaves the order of sets and the content of
//! primitive values alone. A constructed *implicitly tagged* string cannot be told from a structure without the
//! schema, so it stays constructed; the reader of the field joins it.

use std::borrow::Cow;

use crate::asn1::{BIT_STRING, OCTET_STRING, push_length};

/// Deepest nesting that [`to_der`] ever accepts, whatever the caller says: recursion stays far below a small stack.
pub const DEPTH_LIMIT: usize = 64;

const CONSTRUCTED: u8 = 0x20;
const END_OF_CONTENTS: [u8; 2] = [0, 0];

/// Why bytes could not be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BerError {
    /// Longer than the caller allows.
    #[error("the message is larger than allowed")]
    TooLong,
    /// Nested deeper than the caller or [`DEPTH_LIMIT`] allows.
    #[error("the message is nested deeper than allowed")]
    TooDeep,
    /// Not BER.
    #[error("malformed BER: {0}")]
    Malformed(&'static str),
}

/// Converts one BER element that fills `input`. Borrows when it was DER already.
///
/// # Errors
/// [`BerError`] when it is longer than `max_len` octets, deeper than `max_depth`, not BER, or followed by anything.
pub fn to_der(input: &[u8], max_depth: usize, max_len: usize) -> Result<Cow<'_, [u8]>, BerError> {
    if input.len() > max_len {
        return Err(BerError::TooLong);
    }
    // What nearly every sender emits: nothing has to be copied.
    let mut rest = input;
    if is_der(&mut rest, max_depth.min(DEPTH_LIMIT)) && rest.is_empty() {
        return Ok(Cow::Borrowed(input));
    }
    let mut out = Vec::with_capacity(input.len());
    let mut rest = input;
    convert(&mut rest, max_depth.min(DEPTH_LIMIT), &mut out)?;
    if !rest.is_empty() {
        return Err(BerError::Malformed("trailing data"));
    }
    Ok(Cow::Owned(out))
}

/// Whether [`convert`] would leave the first element of `rest` as it is. What is not BER is not DER either.
fn is_der(rest: &mut &[u8], depth: usize) -> bool {
    let before = rest.len();
    let Ok((tag, Some(length))) = header(rest) else {
        return false;
    };
    if before - rest.len() != header_len(length) {
        return false;
    }
    let Ok(mut content) = take(rest, length) else {
        return false;
    };
    if tag & CONSTRUCTED == 0 {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    if is_string(tag) {
        return false;
    }
    while !content.is_empty() {
        if !is_der(&mut content, depth) {
            return false;
        }
    }
    true
}

/// How many octets a tag and a length take in DER.
fn header_len(length: usize) -> usize {
    match length {
        0..=0x7f => 2,
        _ => 2 + (usize::BITS - length.leading_zeros()).div_ceil(8) as usize,
    }
}

/// Converts the first element of `rest` and appends it to `out`. `depth` counts down.
fn convert(rest: &mut &[u8], depth: usize, out: &mut Vec<u8>) -> Result<(), BerError> {
    let (tag, length) = header(rest)?;
    if tag & CONSTRUCTED == 0 {
        let length = length.ok_or(BerError::Malformed("indefinite length of a primitive value"))?;
        let content = take(rest, length)?;
        out.push(tag);
        push_length(out, length);
        out.extend_from_slice(content);
        return Ok(());
    }
    let depth = depth.checked_sub(1).ok_or(BerError::TooDeep)?;
    let mut content = Vec::new();
    match length {
        Some(length) => {
            let mut inner = take(rest, length)?;
            while !inner.is_empty() {
                convert(&mut inner, depth, &mut content)?;
            }
        }
        None => loop {
            if let Some(after) = rest.strip_prefix(&END_OF_CONTENTS) {
                *rest = after;
                break;
            }
            convert(rest, depth, &mut content)?;
        },
    }
    let (tag, content) = if is_string(tag) {
        (tag & !CONSTRUCTED, join(tag & !CONSTRUCTED, &content)?)
    } else {
        (tag, content)
    };
    out.push(tag);
    push_length(out, content.len());
    out.extend_from_slice(&content);
    Ok(())
}

/// Whether a constructed identifier octet belongs to a universal type that DER has only as primitive.
fn is_string(tag: u8) -> bool {
    matches!(tag & !CONSTRUCTED, BIT_STRING | OCTET_STRING | 0x0c | 0x12..=0x1e) && tag & 0xc0 == 0
}

/// Reads tag and length; no length means indefinite.
fn header(rest: &mut &[u8]) -> Result<(u8, Option<usize>), BerError> {
    let [tag, first, tail @ ..] = *rest else {
        return Err(BerError::Malformed("ends too early"));
    };
    *rest = tail;
    if *tag & 0x1f == 0x1f {
        return Err(BerError::Malformed("tag number above 30"));
    }
    if *tag == 0 {
        return Err(BerError::Malformed("unexpected end of contents"));
    }
    let length = match first {
        0..=0x7f => usize::from(*first),
        0x80 => return Ok((*tag, None)),
        _ => {
            let octets = take(rest, usize::from(first & 0x7f))?;
            let skip = octets.iter().take_while(|&&octet| octet == 0).count();
            let significant = &octets[skip..];
            if significant.len() > 4 {
                return Err(BerError::Malformed("length out of range"));
            }
            significant
                .iter()
                .fold(0, |length, &octet| (length << 8) | usize::from(octet))
        }
    };
    Ok((*tag, Some(length)))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], BerError> {
    let (content, after) = rest
        .split_at_checked(length)
        .ok_or(BerError::Malformed("shorter than its length says"))?;
    *rest = after;
    Ok(content)
}

/// Joins the already converted segments of a constructed string.
fn join(tag: u8, segments: &[u8]) -> Result<Vec<u8>, BerError> {
    let mut joined = Vec::with_capacity(segments.len());
    if tag == BIT_STRING {
        joined.push(0);
    }
    let mut rest = segments;
    while !rest.is_empty() {
        let (segment_tag, length) = header(&mut rest)?;
        if segment_tag != tag && segment_tag != OCTET_STRING {
            return Err(BerError::Malformed("segment of another type in a constructed string"));
        }
        let content = take(&mut rest, length.unwrap_or(0))?;
        if tag != BIT_STRING {
            joined.extend_from_slice(content);
            continue;
        }
        let Some((&unused, bits)) = content.split_first() else {
            return Err(BerError::Malformed("empty bit string segment"));
        };
        if unused != 0 && !rest.is_empty() {
            return Err(BerError::Malformed("unused bits before the last segment"));
        }
        joined[0] = unused;
        joined.extend_from_slice(bits);
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn der(input: &[u8]) -> Result<Vec<u8>, BerError> {
        to_der(input, 16, 1 << 20).map(Cow::into_owned)
    }

    #[test]
    fn der_is_borrowed() {
        let input = [0x30, 5, 2, 1, 5, 5, 0];
        assert!(matches!(to_der(&input, 4, 100), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn indefinite_lengths_become_definite() {
        assert_eq!(
            der(&[0x30, 0x80, 0x30, 0x80, 2, 1, 5, 0, 0, 5, 0, 0, 0]).unwrap(),
            [0x30, 7, 0x30, 3, 2, 1, 5, 5, 0]
        );
    }

    #[test]
    fn constructed_strings_are_joined() {
        assert_eq!(
            der(&[0x24, 0x80, 4, 2, 1, 2, 0x24, 3, 4, 1, 3, 0, 0]).unwrap(),
            [4, 3, 1, 2, 3]
        );
        assert_eq!(
            der(&[0x23, 8, 3, 2, 0, 0xaa, 3, 2, 4, 0xb0]).unwrap(),
            [3, 3, 4, 0xaa, 0xb0]
        );
        assert_eq!(
            der(&[0x2c, 6, 4, 1, b'a', 0x0c, 1, b'b']).unwrap(),
            [0x0c, 2, b'a', b'b']
        );
    }

    #[test]
    fn long_form_lengths_become_short() {
        assert_eq!(der(&[4, 0x84, 0, 0, 0, 1, 7]).unwrap(), [4, 1, 7]);
    }

    #[test]
    fn broken_forms_are_errors() {
        for input in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x80, 0],
            &[4, 0x80, 0, 0],
            &[4, 2, 1],
            &[0, 0],
            &[0x30, 0, 0],
            &[0x1f, 0x81, 0, 0],
            &[0x24, 3, 2, 1, 5],
            &[0x23, 8, 3, 2, 4, 0xb0, 3, 2, 0, 0xaa],
            &[4, 0x85, 1, 0, 0, 0, 0],
        ] {
            assert!(matches!(der(input), Err(BerError::Malformed(_))), "{input:?}");
        }
    }

    /// Runs on the stack that a tokio worker has.
    fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(test)
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn nesting_bombs_are_refused_without_a_stack_overflow() {
        on_a_small_stack(|| {
            let indefinite = [0x30, 0x80].repeat(500_000);
            assert_eq!(to_der(&indefinite, usize::MAX, usize::MAX), Err(BerError::TooDeep));
            let strings = [0x24, 0x80].repeat(500_000);
            assert_eq!(to_der(&strings, usize::MAX, usize::MAX), Err(BerError::TooDeep));
            let mut definite = Vec::new();
            for _ in 0..10_000 {
                definite = crate::asn1::tlv(0x30, &definite);
            }
            assert_eq!(to_der(&definite, usize::MAX, usize::MAX), Err(BerError::TooDeep));
        });
    }

    #[test]
    fn caps_are_exact() {
        let two_deep = [0x30, 2, 0x30, 0];
        assert!(to_der(&two_deep, 2, 4).is_ok());
        assert_eq!(to_der(&two_deep, 1, 4), Err(BerError::TooDeep));
        assert_eq!(to_der(&two_deep, 2, 3), Err(BerError::TooLong));
    }
}
