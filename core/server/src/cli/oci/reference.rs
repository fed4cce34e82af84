//! Where in which registry: `registry/repository:tag` or `registry/repository@digest`.

use std::fmt;

use oci_client::Reference;
use semver::Version;

use super::error::OciError;

/// How the address of something in a registry may begin.
const SCHEME: &str = "oci://";

/// A reference as it was given, and what of it was said and not assumed.
#[derive(Debug)]
pub(super) struct Address {
    text: String,
    reference: Reference,
    /// A tag or a digest was given.
    exact: bool,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, OciError> {
        let plain = text.strip_prefix(SCHEME).unwrap_or(text);
        let wrong = |reason: &str| OciError::Reference {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        // Without a registry, the usual reading is one particular company's.
        let registry = plain.split_once('/').map(|(registry, _)| registry);
        if !registry.is_some_and(|registry| registry.contains(['.', ':']) || registry == "localhost") {
            return Err(wrong("it names no registry"));
        }
        let reference: Reference = plain.parse().map_err(|error| wrong(&format!("{error}")))?;
        let last = plain.rsplit_once('/').map_or(plain, |(_, last)| last);
        Ok(Self {
            text: plain.to_owned(),
            reference,
            exact: last.contains([':', '@']),
        })
    }

    /// The host and port.
    pub(super) fn registry(&self) -> &str {
        self.reference.resolve_registry()
    }

    /// Whether the registry is on this machine.
    pub(super) fn is_local(&self) -> bool {
        let host = self
            .registry()
            .rsplit_once(':')
            .map_or(self.registry(), |(host, _)| host);
        matches!(host, "localhost" | "127.0.0.1")
    }

    /// Where to push to; a plugin's version is its tag unless another was given.
    pub(super) fn to_push(&self, version: &Version) -> Result<Reference, OciError> {
        if self.reference.digest().is_some() {
            return Err(OciError::Reference {
                text: self.to_string(),
                reason: "a digest follows from what is pushed; give a tag".to_owned(),
            });
        }
        if self.exact {
            return Ok(self.reference.clone());
        }
        Ok(Reference::with_tag(
            self.reference.registry().to_owned(),
            self.reference.repository().to_owned(),
            // A tag has no `+`, which is what build metadata of a version begins with.
            version.to_string().replace('+', "_"),
        ))
    }

    /// Where to pull from. Nothing is assumed: what would be newest is for a person to say.
    pub(super) fn to_pull(&self) -> Result<&Reference, OciError> {
        if self.exact {
            return Ok(&self.reference);
        }
        Err(OciError::Reference {
            text: self.to_string(),
            reason: "give a tag or a digest".to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The reference in an argument that can also be a file.
pub(in crate::cli) fn of_argument(argument: &std::path::Path) -> Option<&str> {
    argument.to_str().filter(|text| text.starts_with(SCHEME))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reference_names_its_registry() {
        for text in [
            "gate",
            "plugins/gate:1",
            "oci://plugins/gate:1",
            "",
            "/gate",
            "registry.example.com/UPPER:1",
        ] {
            assert!(
                matches!(Address::parse(text), Err(OciError::Reference { .. })),
                "{text}"
            );
        }
        let address = Address::parse("oci://registry.example.com:5000/plugins/gate:1.0").unwrap();
        assert_eq!(address.registry(), "registry.example.com:5000");
        assert_eq!(address.to_pull().unwrap().tag(), Some("1.0"));
        assert!(!address.is_local());
        for local in ["localhost/gate", "localhost:5000/gate", "127.0.0.1:5000/gate"] {
            assert!(Address::parse(local).unwrap().is_local(), "{local}");
        }
        for other in ["localhost.example.com/gate", "127.0.0.1.example.com:5000/gate"] {
            assert!(!Address::parse(other).unwrap().is_local(), "{other}");
        }
    }

    #[test]
    fn the_version_is_the_tag_unless_another_is_given() {
        let version = Version::parse("1.2.3-rc.1+build.7").unwrap();
        let tag = |text: &str| {
            let reference = Address::parse(text).unwrap().to_push(&version).unwrap();
            reference.tag().unwrap().to_owned()
        };
        assert_eq!(tag("localhost:5000/gate"), "1.2.3-rc.1_build.7");
        assert_eq!(tag("localhost:5000/gate:stable"), "stable");
        let digest = format!("localhost:5000/gate@sha256:{}", "ab".repeat(32));
        assert!(Address::parse(&digest).unwrap().to_push(&version).is_err());
        assert!(Address::parse(&digest).unwrap().to_pull().is_ok());
        assert!(Address::parse("localhost:5000/gate").unwrap().to_pull().is_err());
    }
}
