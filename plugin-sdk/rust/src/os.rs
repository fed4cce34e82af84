//! Operating systems and the families of products that share their versions.

use std::cmp::Ordering;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A version such as `27.1`. A missing number counts as zero, so `27` and `27.0` are equal.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    numbers: Vec<u32>,
}

impl Version {
    /// Reads what a device reports; `None` if that is no version. Anything after the numbers, such as the ` (a)` of a security response, does not count.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(text.len());
        let numbers: Option<Vec<u32>> = text[..end].split('.').map(|number| number.parse().ok()).collect();
        Some(Self {
            text: text[..end].to_owned(),
            numbers: numbers?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let longest = self.numbers.len().max(other.numbers.len());
        let number = |version: &Self, at: usize| version.numbers.get(at).copied().unwrap_or(0);
        (0..longest)
            .map(|at| number(self, at).cmp(&number(other, at)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Self::parse(&text) {
            Some(version) if version.text == text => Ok(version),
            _ => Err(D::Error::custom(format_args!("`{text}` is no version such as 27.1"))),
        }
    }
}

/// A family of products that shares an operating system's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Family {
    /// macOS.
    Mac,
    /// iOS.
    #[serde(rename = "iPhone")]
    Phone,
    /// iPadOS.
    #[serde(rename = "iPad")]
    Pad,
    /// iOS, on what is no phone.
    #[serde(rename = "iPod")]
    Pod,
    /// tvOS.
    #[serde(rename = "AppleTV")]
    Tv,
    /// watchOS.
    Watch,
    /// visionOS.
    Vision,
}

impl Family {
    /// The family of a product type, such as `Mac15,3`, `MacBookPro18,1` or `iPhone17,1`.
    pub fn of(product_name: &str) -> Option<Self> {
        let kind = product_name.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',');
        Some(match kind {
            "iPhone" => Self::Phone,
            "iPad" => Self::Pad,
            "iPod" => Self::Pod,
            "AppleTV" => Self::Tv,
            "Watch" => Self::Watch,
            "RealityDevice" => Self::Vision,
            // Mac, MacBookPro, MacBookAir, Macmini, MacPro, iMac, iMacPro, VirtualMac.
            kind if kind.contains("Mac") => Self::Mac,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn numbers_compare_as_numbers() {
        let ordered = ["9.3.6", "26.9", "26.10", "27", "27.0.1", "27.1", "27.1.1", "100.0"];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("27"), version("27.0.0"));
    }

    #[test]
    fn what_follows_the_numbers_does_not_count() {
        assert_eq!(version("27.1 (a)"), version("27.1"));
        assert_eq!(version("27.1 (a)").to_string(), "27.1");
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "beta", "27.", ".1", "27..1", "99999999999"] {
            assert!(Version::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn families_by_product_type() {
        for (product, family) in [
            ("Mac15,3", Some(Family::Mac)),
            ("MacBookPro18,1", Some(Family::Mac)),
            ("iMac21,1", Some(Family::Mac)),
            ("VirtualMac2,1", Some(Family::Mac)),
            ("iPhone17,1", Some(Family::Phone)),
            ("iPad16,3", Some(Family::Pad)),
            ("AppleTV14,1", Some(Family::Tv)),
            ("RealityDevice14,1", Some(Family::Vision)),
            ("Toaster1,1", None),
            ("", None),
        ] {
            assert_eq!(Family::of(product), family, "{product}");
        }
    }
}
