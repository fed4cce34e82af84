//! As much of distinguished names (RFC 4514) as it takes to name a group.

/// The value of the first attribute: `Staff` of `cn=Staff,ou=groups,dc=example`.
pub(crate) fn first_value(dn: &str) -> Option<String> {
    let (_, rest) = dn.split_once('=')?;
    let mut bytes = Vec::new();
    let mut rest = rest.trim_start().bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b',' | b'+' | b';' => break,
            b'\\' => bytes.push(escaped(&mut rest)?),
            _ => bytes.push(byte),
        }
    }
    let value = String::from_utf8(bytes).ok()?;
    let value = value.trim_end();
    (!value.is_empty()).then(|| value.to_owned())
}

/// What follows a backslash: two hexadecimal digits, or the character itself.
fn escaped(rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = rest.next()?;
    let Some(high) = (first as char).to_digit(16) else {
        return Some(first);
    };
    let low = (rest.next()? as char).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_names_the_group() {
        for (dn, name) in [
            ("cn=Staff,ou=groups,dc=example", Some("Staff")),
            ("CN=Mac Admins,OU=Groups", Some("Mac Admins")),
            ("cn=Sales\\, North,dc=example", Some("Sales, North")),
            ("cn=M\\c3\\bcnchen,dc=example", Some("München")),
            ("cn=a+uid=b,dc=example", Some("a")),
            ("cn=alone", Some("alone")),
            ("cn=", None),
            ("staff", None),
            ("cn=broken\\", None),
            ("cn=broken\\c", None),
            ("cn=\\ff\\fe,dc=example", None),
        ] {
            assert_eq!(first_value(dn).as_deref(), name, "{dn}");
        }
    }
}
