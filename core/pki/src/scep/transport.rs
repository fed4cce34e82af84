//! The one piece of SCEP's transport that is an encoding: the `message` parameter of `PKIOperation` by GET
//! (RFC 8894 section 4.1).

use crate::encoding;

/// Longest `message` parameter that is read, in characters.
pub const MAX_GET_MESSAGE_LEN: usize = 64 * 1024;

/// Decodes the `message` query parameter of a GET request, percent-decoded already or not. Accepts standard and
/// URL-safe base64, with or without padding, and the spaces that a form decoder makes of unescaped plus signs.
///
/// `None` when it is not base64 or longer than [`MAX_GET_MESSAGE_LEN`].
pub fn decode_get_message(parameter: &str) -> Option<Vec<u8>> {
    if parameter.len() > MAX_GET_MESSAGE_LEN {
        return None;
    }
    encoding::base64(&encoding::percent(parameter)?.replace(' ', "+"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_spelling_of_a_client_decodes() {
        for parameter in ["+/8=", "%2B%2F8%3D", "%2b/8", " /8=", "-_8", "+/8%3D%0A"] {
            assert_eq!(decode_get_message(parameter).unwrap(), [0xfb, 0xff], "{parameter}");
        }
        assert_eq!(decode_get_message("<script>"), None);
        assert_eq!(decode_get_message("%"), None);
        assert_eq!(decode_get_message(&"A".repeat(MAX_GET_MESSAGE_LEN + 4)), None);
    }
}
