//! Search filters (RFC 4515) with places for values, which the host fills in so that no value can change the filter.

use ldap3::{ldap_escape, parse_filter};

/// The longest filter, filled in, in bytes.
const MAX_FILTER: usize = 8 << 10;
/// How deep a filter may nest. It is parsed by recursion, on the small stack of the plugin's call.
const MAX_DEPTH: usize = 32;

/// Fills the places `{0}`, `{1}`, … in. Each value is escaped. A place has to stand where a value stands: to the right of
/// the comparison of its item. Text of the error is meant for the plugin's author.
pub(super) fn fill(template: &str, values: &[String]) -> Result<String, String> {
    let mut filled = String::with_capacity(template.len() + 32);
    // Whether the current item is past its comparison.
    let mut in_value = false;
    let mut depth = 0_usize;
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        // At every step: places can multiply a long value.
        if filled.len() > MAX_FILTER {
            return Err(too_long());
        }
        match c {
            '(' | ')' => {
                in_value = false;
                depth = if c == '(' { depth + 1 } else { depth.saturating_sub(1) };
                if depth > MAX_DEPTH {
                    return Err(format!("the filter nests deeper than {MAX_DEPTH} levels"));
                }
            }
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
        return Err(too_long());
    }
    parse_filter(&filled).map_err(|()| "not an LDAP filter (RFC 4515)".to_owned())?;
    Ok(filled)
}

fn too_long() -> String {
    format!("the filter is longer than {MAX_FILTER} bytes")
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
    fn a_filter_has_a_depth_and_a_length() {
        let nested = |depth: usize| format!("{}(uid=anna){}", "(!".repeat(depth), ")".repeat(depth));
        assert!(filled(&nested(31), &[]).is_ok());
        // As deep as its length allows: parsed, it would overflow the stack and end the server.
        let stack = std::thread::Builder::new().stack_size(256 << 10);
        let deep = stack
            .spawn(move || filled(&nested(2_600), &[]))
            .unwrap()
            .join()
            .unwrap();
        assert!(deep.unwrap_err().contains("deeper"));
        // 1 GB, were it filled in before it is measured.
        let (places, value) = ("{0}".repeat(10_000), "x".repeat(100_000));
        assert!(
            filled(&format!("(uid={places})"), &[&value])
                .unwrap_err()
                .contains("longer")
        );
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
