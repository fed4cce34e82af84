//! X.509 extensions (RFC 5280 section 4.2): the ones this crate understands, read and written.

use std::net::IpAddr;

use crate::ObjectIdentifier;
use crate::asn1::{self, Asn1Error, BOOLEAN, Cursor, Element, INTEGER, OCTET_STRING};
use crate::certificate::{ExtendedKeyUsage, KeyUsage};
use crate::oid;

/// What a certificate's extensions say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extensions {
    pub(crate) is_ca: bool,
    pub(crate) path_len: Option<u32>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<Vec<ObjectIdentifier>>,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    pub(crate) authority_key_id: Option<Vec<u8>>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) ip_addresses: Vec<IpAddr>,
    pub(crate) unknown_critical: Option<ObjectIdentifier>,
}

impl Extensions {
    /// Parses the content of an Extensions sequence.
    pub(crate) fn parse(mut list: Cursor<'_>) -> Result<Self, Asn1Error> {
        let mut out = Self::default();
        let mut seen = Vec::new();
        while !list.is_empty() {
            let mut fields = list.sequence()?;
            let id = fields.next()?.oid()?;
            let critical = fields.optional(BOOLEAN)?.is_some_and(|flag| flag.content != [0]);
            let value = fields.expect(OCTET_STRING)?.content;
            fields.finish()?;
            if seen.contains(&id) {
                return Err(Asn1Error("an extension occurs twice"));
            }
            seen.push(id);
            out.read(id, critical, value)?;
        }
        Ok(out)
    }

    fn read(&mut self, id: ObjectIdentifier, critical: bool, value: &[u8]) -> Result<(), Asn1Error> {
        match id {
            oid::BASIC_CONSTRAINTS => {
                let mut fields = Cursor::new(value).sequence()?;
                self.is_ca = fields.optional(BOOLEAN)?.is_some_and(|flag| flag.content != [0]);
                self.path_len = if fields.is_empty() {
                    None
                } else {
                    Some(fields.small_integer()?)
                };
            }
            oid::KEY_USAGE => self.key_usage = Some(KeyUsage::parse(Element::only(value)?)?),
            oid::EXTENDED_KEY_USAGE => {
                let mut purposes = Cursor::new(value).sequence()?;
                let mut found = Vec::new();
                while !purposes.is_empty() {
                    found.push(purposes.next()?.oid()?);
                }
                self.extended_key_usage = Some(found);
            }
            oid::SUBJECT_KEY_IDENTIFIER => {
                self.subject_key_id = Some(Cursor::new(value).expect(OCTET_STRING)?.content.to_vec());
            }
            oid::AUTHORITY_KEY_IDENTIFIER => {
                let mut fields = Cursor::new(value).sequence()?;
                let identifier = fields.optional(asn1::context_primitive(0))?;
                self.authority_key_id = identifier.map(|element| element.content.to_vec());
            }
            oid::SUBJECT_ALT_NAME => self.read_names(value)?,
            // Policies restrict nothing unless the verifier asks for one, and this one does not.
            oid::CERTIFICATE_POLICIES => {}
            _ if critical => self.unknown_critical = self.unknown_critical.or(Some(id)),
            _ => {}
        }
        Ok(())
    }

    fn read_names(&mut self, value: &[u8]) -> Result<(), Asn1Error> {
        let mut names = Cursor::new(value).sequence()?;
        while !names.is_empty() {
            let name = names.next()?;
            if name.tag == asn1::context_primitive(2) {
                if let Ok(text) = std::str::from_utf8(name.content) {
                    self.dns_names.push(text.to_owned());
                }
            } else if name.tag == asn1::context_primitive(7) {
                if let Ok(four) = <[u8; 4]>::try_from(name.content) {
                    self.ip_addresses.push(four.into());
                } else if let Ok(sixteen) = <[u8; 16]>::try_from(name.content) {
                    self.ip_addresses.push(sixteen.into());
                }
            }
        }
        Ok(())
    }
}

fn extension(id: ObjectIdentifier, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag = if critical {
        asn1::tlv(BOOLEAN, &[0xff])
    } else {
        Vec::new()
    };
    asn1::sequence(&[&asn1::oid(id), &flag, &asn1::tlv(OCTET_STRING, value)])
}

/// basicConstraints, critical. `path_len` applies only to a CA.
pub(crate) fn basic_constraints(is_ca: bool, path_len: Option<u8>) -> Vec<u8> {
    let flag = if is_ca { asn1::tlv(BOOLEAN, &[0xff]) } else { Vec::new() };
    let length = path_len
        .filter(|_| is_ca)
        .map(|length| asn1::tlv(INTEGER, &[length & 0x7f]))
        .unwrap_or_default();
    extension(oid::BASIC_CONSTRAINTS, true, &asn1::sequence(&[&flag, &length]))
}

/// keyUsage, critical.
pub(crate) fn key_usage(usage: KeyUsage) -> Vec<u8> {
    extension(oid::KEY_USAGE, true, &usage.to_der())
}

/// extKeyUsage, not critical.
pub(crate) fn extended_key_usage(purposes: &[ExtendedKeyUsage]) -> Vec<u8> {
    let encoded: Vec<u8> = purposes.iter().flat_map(|purpose| asn1::oid(purpose.oid())).collect();
    extension(oid::EXTENDED_KEY_USAGE, false, &asn1::tlv(asn1::SEQUENCE, &encoded))
}

/// subjectKeyIdentifier.
pub(crate) fn subject_key_identifier(identifier: &[u8]) -> Vec<u8> {
    extension(oid::SUBJECT_KEY_IDENTIFIER, false, &asn1::tlv(OCTET_STRING, identifier))
}

/// authorityKeyIdentifier with only the key identifier.
pub(crate) fn authority_key_identifier(identifier: &[u8]) -> Vec<u8> {
    let value = asn1::sequence(&[&asn1::tlv(asn1::context_primitive(0), identifier)]);
    extension(oid::AUTHORITY_KEY_IDENTIFIER, false, &value)
}

/// subjectAltName with DNS names and addresses.
pub(crate) fn subject_alt_name(dns: &[String], addresses: &[IpAddr]) -> Vec<u8> {
    let mut names = Vec::new();
    for name in dns {
        names.extend(asn1::tlv(asn1::context_primitive(2), name.as_bytes()));
    }
    for address in addresses {
        let octets = match address {
            IpAddr::V4(four) => four.octets().to_vec(),
            IpAddr::V6(six) => six.octets().to_vec(),
        };
        names.extend(asn1::tlv(asn1::context_primitive(7), &octets));
    }
    extension(oid::SUBJECT_ALT_NAME, false, &asn1::tlv(asn1::SEQUENCE, &names))
}
