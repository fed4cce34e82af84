//! Query strings, pair by pair and in order: SCEP and repeated keys need more than a map.

/// What a plus sign stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plus {
    /// A space, as forms write it.
    Space,
    /// Itself: base64 has it, and many clients do not escape it.
    Plus,
}

/// The query is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query is not well formed; write other characters than letters and digits as %XX in UTF-8")]
pub(crate) struct QueryError;

/// The keys and values of a query.
pub(crate) fn pairs(query: &str, plus: Plus) -> Result<Vec<(String, String)>, QueryError> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key, plus)?, decode(value, plus)?))
        })
        .collect()
}

fn decode(text: &str, plus: Plus) -> Result<String, QueryError> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'%' => {
                let mut digit = || octets.next().and_then(|octet| char::from(octet).to_digit(16));
                let value = digit()
                    .zip(digit())
                    .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                out.push(value.ok_or(QueryError)?);
            }
            b'+' if plus == Plus::Space => out.push(b' '),
            octet => out.push(octet),
        }
    }
    String::from_utf8(out).map_err(|_| QueryError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, QueryError> {
        Ok(pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect())
    }

    #[test]
    fn pairs_keep_their_order_and_repetitions() {
        assert_eq!(
            pairs("device=a&device=b%20c&&x", Plus::Space),
            owned(&[("device", "a"), ("device", "b c"), ("x", "")])
        );
    }

    #[test]
    fn a_plus_is_what_the_caller_says() {
        assert_eq!(pairs("m=a+b%2B", Plus::Space), owned(&[("m", "a b+")]));
        assert_eq!(pairs("m=a+b%2B=", Plus::Plus), owned(&[("m", "a+b+=")]));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for query in ["m=%", "m=%2", "m=%zz", "m=%ff", "%c3=1"] {
            assert_eq!(pairs(query, Plus::Plus), Err(QueryError), "{query}");
        }
    }
}
