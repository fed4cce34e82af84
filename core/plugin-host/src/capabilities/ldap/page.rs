//! Pages of a search (RFC 2696). What the server sends is read without panics, which the library's own reader is not.

use ldap3::LdapResult;
use ldap3::asn1::{parse_tag, parse_uint};
use ldap3::controls::{Control, PagedResults, RawControl};

/// The control's OID.
const OID: &str = "1.2.840.113556.1.4.319";

/// Asks for a page of at most so many entries, after the one that ended with this cookie. Not critical: a server that knows
/// no pages sends everything.
pub(super) fn page_control(size: u32, cookie: &[u8]) -> RawControl {
    PagedResults {
        size: i32::try_from(size).unwrap_or(i32::MAX),
        cookie: cookie.to_vec(),
    }
    .into()
}

/// The cookie to go on with: empty at the end, `None` from a server that knows no pages.
pub(super) fn next_cookie(answer: &LdapResult) -> Result<Option<Vec<u8>>, ()> {
    let found = answer.ctrls.iter().find(|Control(_, control)| control.ctype == OID);
    let Some(Control(_, control)) = found else {
        return Ok(None);
    };
    let value = control.val.as_deref().ok_or(())?;
    cookie(value).map(Some).ok_or(())
}

/// `SEQUENCE { size INTEGER, cookie OCTET STRING }`.
fn cookie(value: &[u8]) -> Option<Vec<u8>> {
    let (_, sequence) = parse_tag(value).ok()?;
    let mut parts = sequence.match_id(16)?.expect_constructed()?.into_iter();
    let size = parts.next()?.match_id(2)?.expect_primitive()?;
    parse_uint(&size).ok()?;
    parts.next()?.match_id(4)?.expect_primitive()
}

#[cfg(test)]
mod tests {
    use super::{cookie, page_control};

    #[test]
    fn a_cookie_is_read_or_refused() {
        let control = page_control(500, b"place");
        assert_eq!(control.ctype, super::OID);
        assert!(!control.crit);
        let value = control.val.unwrap_or_default();
        assert_eq!(cookie(&value).as_deref(), Some(&b"place"[..]));
        for broken in [
            &b""[..],
            b"\x30",
            b"\x30\x00",
            b"\x30\x03\x02\x01\x05",
            b"\x30\x05\x04\x01a\x04\x00",
            b"\x30\x80",
            b"\x04\x01a",
            &value[..value.len() - 1],
        ] {
            assert_eq!(cookie(broken), None, "{broken:02x?}");
        }
    }
}
