//! Families of products.

use serde::Deserialize;

/// A family of products that shares an operating system's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Family {
    Mac,
    #[serde(rename = "iPhone")]
    Phone,
    #[serde(rename = "iPad")]
    Pad,
    #[serde(rename = "iPod")]
    Pod,
    #[serde(rename = "AppleTV")]
    Tv,
    Watch,
    Vision,
}

impl Family {
    /// The family of a product type, such as `Mac15,3`, `MacBookPro18,1` or `iPhone17,1`.
    pub(crate) fn of(product_name: &str) -> Option<Self> {
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
    use super::*;

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
