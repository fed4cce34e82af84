//! Distinguished names: building one, and writing one as text (RFC 4514).

use std::fmt::Write as _;

use crate::ObjectIdentifier;
use crate::asn1::{self, Asn1Error, Element, IA5_STRING, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING};
use crate::oid;

/// A distinguished name under construction, most significant part (country) first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    parts: Vec<(ObjectIdentifier, String)>,
}

impl Name {
    /// The empty name.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name of only a common name.
    pub fn common(value: impl Into<String>) -> Self {
        Self::new().with(oid::COMMON_NAME, value)
    }

    /// Adds an attribute; an empty value adds nothing.
    #[must_use]
    pub fn with(mut self, attribute: ObjectIdentifier, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.parts.push((attribute, value));
        }
        self
    }

    /// The DER encoding: UTF8String, but PrintableString for a country and IA5String for mail and domain parts.
    pub fn to_der(&self) -> Vec<u8> {
        let rdns: Vec<u8> = self
            .parts
            .iter()
            .flat_map(|(attribute, value)| {
                let tag = match *attribute {
                    oid::COUNTRY | oid::SERIAL_NUMBER if is_printable(value) => PRINTABLE_STRING,
                    oid::EMAIL_ADDRESS | oid::DOMAIN_COMPONENT if value.is_ascii() => IA5_STRING,
                    _ => UTF8_STRING,
                };
                let pair = asn1::sequence(&[&asn1::oid(*attribute), &asn1::tlv(tag, value.as_bytes())]);
                asn1::tlv(SET, &pair)
            })
            .collect();
        asn1::tlv(SEQUENCE, &rdns)
    }
}

fn is_printable(value: &str) -> bool {
    value
        .bytes()
        .all(|octet| octet.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&octet))
}

/// The attributes of an encoded name, in order, as (type, value).
pub(crate) fn attributes(der: &[u8]) -> Result<Vec<(ObjectIdentifier, Element<'_>)>, Asn1Error> {
    Ok(rdns(der)?.into_iter().flatten().collect())
}

type Rdn<'a> = Vec<(ObjectIdentifier, Element<'a>)>;

fn rdns(der: &[u8]) -> Result<Vec<Rdn<'_>>, Asn1Error> {
    let outer = Element::only(der)?;
    if outer.tag != SEQUENCE {
        return Err(Asn1Error("expected a name"));
    }
    let mut all = Vec::new();
    let mut sets = outer.cursor();
    while !sets.is_empty() {
        let mut pairs = sets.expect(SET)?.cursor();
        let mut rdn = Vec::new();
        while !pairs.is_empty() {
            let mut pair = pairs.sequence()?;
            let attribute = pair.next()?.oid()?;
            let value = pair.next()?;
            pair.finish()?;
            rdn.push((attribute, value));
        }
        all.push(rdn);
    }
    Ok(all)
}

/// The value of the first attribute of this type, when it is text.
pub(crate) fn attribute(der: &[u8], wanted: &ObjectIdentifier) -> Option<String> {
    attributes(der)
        .ok()?
        .iter()
        .find(|(attribute, _)| attribute == wanted)
        .and_then(|(_, value)| value.text())
}

/// The name as RFC 4514 text: the last part first, values escaped, unknown types as dotted numbers.
pub(crate) fn to_text(der: &[u8]) -> Result<String, Asn1Error> {
    let mut out = String::new();
    for (position, rdn) in rdns(der)?.iter().rev().enumerate() {
        if position > 0 {
            out.push(',');
        }
        for (position, (attribute, value)) in rdn.iter().enumerate() {
            if position > 0 {
                out.push('+');
            }
            match (short_name(attribute), value.text()) {
                (Some(name), Some(text)) => {
                    out.push_str(name);
                    out.push('=');
                    push_escaped(&mut out, &text);
                }
                _ => {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "{attribute}=#{}", crate::fingerprint::hex(value.raw));
                }
            }
        }
    }
    Ok(out)
}

fn short_name(attribute: &ObjectIdentifier) -> Option<&'static str> {
    Some(match *attribute {
        oid::COMMON_NAME => "CN",
        oid::SERIAL_NUMBER => "SERIALNUMBER",
        oid::COUNTRY => "C",
        oid::LOCALITY => "L",
        oid::STATE => "ST",
        oid::STREET => "STREET",
        oid::ORGANIZATION => "O",
        oid::ORGANIZATIONAL_UNIT => "OU",
        oid::USER_ID => "UID",
        oid::DOMAIN_COMPONENT => "DC",
        oid::EMAIL_ADDRESS => "EMAILADDRESS",
        _ => return None,
    })
}

fn push_escaped(out: &mut String, text: &str) {
    let last = text.chars().count().saturating_sub(1);
    for (position, character) in text.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', character]),
            ' ' if position == 0 || position == last => out.push_str("\\ "),
            '#' if position == 0 => out.push_str("\\#"),
            '\0'..='\x1f' | '\x7f' => {
                let _ = write!(out, "\\{:02x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn text_is_reversed_and_escaped() {
        let name = Name::new()
            .with(oid::COUNTRY, "DE")
            .with(oid::ORGANIZATION, "Russet, Inc. ")
            .with(oid::COMMON_NAME, "#1 <\"a+b\">\n");
        assert_eq!(
            to_text(&name.to_der()).unwrap(),
            r##"CN=\#1 \<\"a\+b\"\>\0a,O=Russet\, Inc.\ ,C=DE"##
        );
    }

    #[test]
    fn unknown_types_are_dotted_and_hexadecimal() {
        let name = Name::new().with(ObjectIdentifier::new_unwrap("1.2.3"), "x");
        assert_eq!(to_text(&name.to_der()).unwrap(), "1.2.3=#0c0178");
    }

    #[test]
    fn attributes_are_found_by_type() {
        let der = Name::common("device")
            .with(oid::USER_ID, "com.apple.mgmt.External.x")
            .to_der();
        assert_eq!(
            attribute(&der, &oid::USER_ID).as_deref(),
            Some("com.apple.mgmt.External.x")
        );
        assert_eq!(attribute(&der, &oid::ORGANIZATION), None);
    }
}
