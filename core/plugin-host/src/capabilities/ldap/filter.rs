//! Search filters (RFC 4515) with places for values, which the host fills in so that no value can change the filter.

use ldap3::{ldap_escape, parse_filter};

/// The longest filter, filled in, in bytes.
const MAX_FILTER: usize = 8 << 10;

/// Fills the places `{0}`, `{1}`, … in. Each value is escaped. A place has to stand where a value stands: to the right of
/// the comparison of its item. Text of the error is meant for the plugin's author.
pub(super) fn fill(template: &str, values: &[String]) -> Result<String, String> {
    let mut filled = String::with_capacity(template.len() + 32);
    // Whether the current item is past its comparison.
    let mut in_value = false;
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        match c {
            '(' | ')' => in_value = false,
            '=' => in_value = true,
            '{' => {
                let (number, after) = place(rest).ok_or("a `{` that starts no place such as {0}; escape it as \\7b")?;
                if !in_value {
                    return Err(format!("the place {{{number}}} does not stand where a value stands"));
                }
                let value = values
                    .get(number)
                    .ok_or_else(|| format!("the place {{{number}}} has no value"))?;
                filled.push_str(&ldap_escape(value.as_str()));
                rest = after;
                continue;
            }
            _ => {}
        }
        filled.push(c);
        rest = &rest[c.len_utf8()..];
    }
    if filled.len() > MAX_FILTER {
        return Err(format!("the filter is longer than {MAX_FILTER} bytes"));
    }
    parse_filter(&filled).map_err(|()| "not an LDAP filter (RFC 4515)".to_owned())?;
    Ok(filled)
}

/// The number of the place at the start of the text, and what follows it.
fn place(text: &str) -> Option<(usize, &str)> {
    let (number, after) = text.strip_prefix('{')?.split_once('}')?;
    if number.is_empty() || number.len() > 3 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::fill;

    fn filled(template: &str, values: &[&str]) -> Result<String, String> {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        fill(template, &values)
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(
            filled("(&(objectClass=person)(uid={0}))", &["anna"]).unwrap(),
            "(&(objectClass=person)(uid=anna))"
        );
        assert_eq!(
            filled("(|(uid={0})(mail={0})(cn={1}*))", &["*)(uid=*", "a\\b\0"]).unwrap(),
            "(|(uid=\\2a\\29\\28uid=\\2a)(mail=\\2a\\29\\28uid=\\2a)(cn=a\\5cb\\00*))"
        );
    }

    #[test]
    fn a_value_may_be_without_a_place() {
        // An operator's filter takes of a plugin's values what it needs.
        assert_eq!(
            filled("(member={1})", &["anna", "uid=anna,dc=org"]).unwrap(),
            "(member=uid=anna,dc=org)"
        );
    }

    #[test]
    fn a_place_is_a_value_and_has_one() {
        for (template, values) in [
            ("({0}=anna)", &["uid"][..]),
            ("({0})", &["uid=anna"]),
            ("(uid={1})", &["anna"]),
            ("(uid={anna})", &["anna"]),
            ("(uid={0}", &["anna"]),
            ("{0}", &["(uid=anna)"]),
            ("(&(uid={0})){0}", &["anna"]),
            ("", &[]),
        ] {
            assert!(filled(template, values).is_err(), "{template}");
        }
    }

    #[test]
    fn no_value_can_end_its_item() {
        for value in ["*", ")(x=*", "\\2a", "a)(|(b=c", "{0}", "\0"] {
            let text = filled("(uid={0})", &[value]).unwrap();
            assert_eq!(text.matches('(').count(), 1, "{text}");
            assert_eq!(text.matches(')').count(), 1, "{text}");
            assert!(!text.contains('*'), "{text}");
        }
    }
}
