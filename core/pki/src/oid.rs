//! The object identifiers that this crate reads and writes. Names follow the standards that define them.

use crate::ObjectIdentifier;

macro_rules! oids {
    ($($(#[$meta:meta])* $vis:vis $name:ident = $value:literal;)*) => {
        $($(#[$meta])* $vis const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($value);)*
    };
}

oids! {
    /// `commonName` (RFC 4519).
    pub COMMON_NAME = "2.5.4.3";
    /// `serialNumber` of a subject: a device's serial number, not the certificate's (RFC 4519).
    pub SERIAL_NUMBER = "2.5.4.5";
    /// `countryName` (RFC 4519).
    pub COUNTRY = "2.5.4.6";
    /// `localityName` (RFC 4519).
    pub LOCALITY = "2.5.4.7";
    /// `stateOrProvinceName` (RFC 4519).
    pub STATE = "2.5.4.8";
    /// `streetAddress` (RFC 4519).
    pub STREET = "2.5.4.9";
    /// `organizationName` (RFC 4519).
    pub ORGANIZATION = "2.5.4.10";
    /// `organizationalUnitName` (RFC 4519).
    pub ORGANIZATIONAL_UNIT = "2.5.4.11";
    /// `userId` (RFC 4519): the topic of an MDM push certificate.
    pub USER_ID = "0.9.2342.19200300.100.1.1";
    /// `domainComponent` (RFC 4519).
    pub DOMAIN_COMPONENT = "0.9.2342.19200300.100.1.25";
    /// `emailAddress` (RFC 2985).
    pub EMAIL_ADDRESS = "1.2.840.113549.1.9.1";

    pub(crate) RSA_ENCRYPTION = "1.2.840.113549.1.1.1";
    pub(crate) SHA1_WITH_RSA = "1.2.840.113549.1.1.5";
    pub(crate) RSA_PSS = "1.2.840.113549.1.1.10";
    pub(crate) SHA256_WITH_RSA = "1.2.840.113549.1.1.11";
    pub(crate) SHA384_WITH_RSA = "1.2.840.113549.1.1.12";
    pub(crate) SHA512_WITH_RSA = "1.2.840.113549.1.1.13";
    pub(crate) EC_PUBLIC_KEY = "1.2.840.10045.2.1";
    pub(crate) P256 = "1.2.840.10045.3.1.7";
    pub(crate) P384 = "1.3.132.0.34";
    pub(crate) P521 = "1.3.132.0.35";
    pub(crate) ECDSA_WITH_SHA1 = "1.2.840.10045.4.1";
    pub(crate) ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
    pub(crate) ECDSA_WITH_SHA384 = "1.2.840.10045.4.3.3";
    pub(crate) ECDSA_WITH_SHA512 = "1.2.840.10045.4.3.4";

    pub(crate) SHA1 = "1.3.14.3.2.26";
    pub(crate) SHA256 = "2.16.840.1.101.3.4.2.1";
    pub(crate) SHA384 = "2.16.840.1.101.3.4.2.2";
    pub(crate) SHA512 = "2.16.840.1.101.3.4.2.3";

    pub(crate) AES128_CBC = "2.16.840.1.101.3.4.1.2";
    pub(crate) AES128_WRAP = "2.16.840.1.101.3.4.1.5";
    pub(crate) AES192_CBC = "2.16.840.1.101.3.4.1.22";
    pub(crate) AES256_CBC = "2.16.840.1.101.3.4.1.42";
    pub(crate) AES256_WRAP = "2.16.840.1.101.3.4.1.45";
    pub(crate) DES_CBC = "1.3.14.3.2.7";
    pub(crate) DES_EDE3_CBC = "1.2.840.113549.3.7";
    pub(crate) ECDH_STD_SHA1_KDF = "1.3.133.16.840.63.0.2";
    pub(crate) ECDH_STD_SHA256_KDF = "1.3.132.1.11.1";
    pub(crate) ECDH_STD_SHA384_KDF = "1.3.132.1.11.2";
    pub(crate) ECDH_STD_SHA512_KDF = "1.3.132.1.11.3";

    pub(crate) SUBJECT_KEY_IDENTIFIER = "2.5.29.14";
    pub(crate) KEY_USAGE = "2.5.29.15";
    pub(crate) SUBJECT_ALT_NAME = "2.5.29.17";
    pub(crate) BASIC_CONSTRAINTS = "2.5.29.19";
    pub(crate) CERTIFICATE_POLICIES = "2.5.29.32";
    pub(crate) AUTHORITY_KEY_IDENTIFIER = "2.5.29.35";
    pub(crate) EXTENDED_KEY_USAGE = "2.5.29.37";
    pub(crate) ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0";
    pub(crate) SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
    pub(crate) CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
    pub(crate) CODE_SIGNING = "1.3.6.1.5.5.7.3.3";
    pub(crate) EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4";

    pub(crate) DATA = "1.2.840.113549.1.7.1";
    pub(crate) SIGNED_DATA = "1.2.840.113549.1.7.2";
    pub(crate) ENVELOPED_DATA = "1.2.840.113549.1.7.3";
    pub(crate) CONTENT_TYPE = "1.2.840.113549.1.9.3";
    pub(crate) MESSAGE_DIGEST = "1.2.840.113549.1.9.4";
    pub(crate) SIGNING_TIME = "1.2.840.113549.1.9.5";
    pub(crate) CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7";
    pub(crate) EXTENSION_REQUEST = "1.2.840.113549.1.9.14";

    pub(crate) SCEP_MESSAGE_TYPE = "2.16.840.1.113733.1.9.2";
    pub(crate) SCEP_PKI_STATUS = "2.16.840.1.113733.1.9.3";
    pub(crate) SCEP_FAIL_INFO = "2.16.840.1.113733.1.9.4";
    pub(crate) SCEP_SENDER_NONCE = "2.16.840.1.113733.1.9.5";
    pub(crate) SCEP_RECIPIENT_NONCE = "2.16.840.1.113733.1.9.6";
    pub(crate) SCEP_TRANSACTION_ID = "2.16.840.1.113733.1.9.7";
    pub(crate) SCEP_FAIL_INFO_TEXT = "1.3.6.1.5.5.7.24.1";
}
