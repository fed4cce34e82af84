//! Distinguished names (RFC 4514), as far as it takes to tell whether one lies below another.

/// A distinguished name in a form that can be compared: types and values in lower case, escapes resolved, the parts of
/// one level sorted. An entry that a server would call equal may compare unequal here (an OID against a short name):
/// then it counts as outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dn {
    /// From the entry up to the root.
    levels: Vec<Vec<(String, String)>>,
}

impl Dn {
    /// Absent if the text is not a distinguished name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self { levels: Vec::new() });
        }
        let mut levels = Vec::new();
        for level in split(text, ',')? {
            let mut parts = Vec::new();
            for part in split(level, '+')? {
                let (kind, value) = part.split_once('=')?;
                let kind = kind.trim().to_lowercase();
                let value = unescape(value)?;
                if kind.is_empty()
                    || !kind
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b';'))
                    || value.is_empty()
                {
                    return None;
                }
                parts.push((kind, value));
            }
            parts.sort();
            levels.push(parts);
        }
        Some(Self { levels })
    }

    /// Whether it is the empty name.
    pub(super) fn is_root(&self) -> bool {
        self.levels.is_empty()
    }

    /// Whether it is `base` or lies below it.
    pub(super) fn is_within(&self, base: &Self) -> bool {
        self.levels.ends_with(&base.levels)
    }
}

/// The pieces between unescaped separators.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if matches!(c, '"' | ';' | '<' | '>' | '\0') {
            // The quoting of RFC 2253, or a character that has to be escaped.
            return None;
        } else if c == separator {
            pieces.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    if escaped {
        return None;
    }
    pieces.push(&text[start..]);
    Some(pieces)
}

/// The value without its escapes, in lower case, runs of spaces as one (caseIgnoreMatch, RFC 4518).
fn unescape(value: &str) -> Option<String> {
    let value = value.trim_start();
    let mut bytes = Vec::with_capacity(value.len());
    // Up to here trailing spaces are part of the value, because they were escaped.
    let mut keep = 0;
    let mut rest = value.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&first, tail) = rest.split_first()?;
        if first.is_ascii_hexdigit() {
            let (&second, tail) = tail.split_first()?;
            let high = char::from(first).to_digit(16)?;
            let low = char::from(second).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
            rest = tail;
        }
        keep = bytes.len();
    }
    while bytes.len() > keep && bytes.last() == Some(&b' ') {
        bytes.pop();
    }
    let text = String::from_utf8(bytes).ok()?.to_lowercase();
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        if c != ' ' || !folded.ends_with(' ') {
            folded.push(c);
        }
    }
    Some(folded)
}

#[cfg(test)]
mod tests {
    use super::Dn;

    fn within(dn: &str, base: &str) -> bool {
        Dn::parse(dn).unwrap().is_within(&Dn::parse(base).unwrap())
    }

    #[test]
    fn an_entry_lies_within_its_base() {
        assert!(within(
            "uid=anna,ou=people,dc=example,dc=org",
            "ou=people,dc=example,dc=org"
        ));
        assert!(within("dc=example,dc=org", "dc=example,dc=org"));
        assert!(within(
            "UID=Anna, OU=People , DC=Example,DC=org",
            "ou=people,dc=example,dc=org"
        ));
        assert!(within("cn=a+uid=b,dc=org", "uid=B+cn=A,dc=org"));
        assert!(within(r"cn=Doe\, Jane,dc=org", r"cn=doe\2c jane,dc=org"));
    }

    #[test]
    fn a_neighbour_does_not() {
        assert!(!within("dc=org", "dc=example,dc=org"));
        assert!(!within("ou=people,dc=other,dc=org", "dc=example,dc=org"));
        // A suffix of the text that is not a suffix of the name.
        assert!(!within("uid=anna,xdc=example,dc=org", "dc=example,dc=org"));
        assert!(!within(r"uid=anna\,dc=example,dc=org", "dc=example,dc=org"));
        assert!(!within("", "dc=example,dc=org"));
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for text in [
            "anna",
            "=x",
            "uid=",
            "uid=a,",
            r"uid=a\",
            r"uid=\zz,dc=x\",
            "uid=\"a\",dc=org",
            "u id=a",
            "uid=a;dc=b",
        ] {
            assert!(Dn::parse(text).is_none(), "{text}");
        }
    }
}
