//! Serial numbers, and beginnings of them.

use serde::Deserialize;

/// A serial number, or the beginning of one with a `*` at the end. Case does not matter: people type them.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct SerialPattern(String);

impl SerialPattern {
    pub(crate) fn matches(&self, serial: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => serial
                .get(..start.len())
                .is_some_and(|beginning| beginning.eq_ignore_ascii_case(start)),
            None => serial.eq_ignore_ascii_case(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_and_prefix_patterns() {
        for (pattern, serial, expected) in [
            ("C02XK1", "C02XK1", true),
            ("c02xk1", "C02XK1", true),
            ("C02XK1", "C02XK12", false),
            ("C02*", "C02XK1", true),
            ("C02*", "C02", true),
            ("C02*", "C0", false),
            ("C02*", "XC02", false),
            ("*", "anything", true),
            // A boundary within a character is no match, and no panic.
            ("ab*", "aé", false),
        ] {
            assert_eq!(
                SerialPattern(pattern.to_owned()).matches(serial),
                expected,
                "{pattern} {serial}"
            );
        }
    }
}
