//! What is handed to Apple for a push certificate: a certification request with the signature of a vendor of management
//! software (Apple: "Setting up push notifications for your MDM customers").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plist::{Dictionary, Value};

use crate::codec;

/// A vendor's signed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushCertificateRequest<'a> {
    /// The certification request (PKCS#10) in DER.
    pub request_der: &'a [u8],
    /// The vendor's certificate, then its issuers up to Apple's root, in PEM.
    pub certificate_chain_pem: &'a str,
    /// The vendor's signature of the request: RSA with SHA-256 (PKCS#1 v1.5).
    pub signature: &'a [u8],
}

impl PushCertificateRequest<'_> {
    /// The file to upload at Apple: a property list, in base64.
    pub fn encode(&self) -> String {
        let mut dictionary = Dictionary::new();
        let mut put = |key: &str, value: String| dictionary.insert(key.to_owned(), Value::String(value));
        put("PushCertRequestCSR", STANDARD.encode(self.request_der));
        put("PushCertCertificateChain", self.certificate_chain_pem.to_owned());
        put("PushCertSignature", STANDARD.encode(self.signature));
        STANDARD.encode(codec::encode(&dictionary))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Limits;

    #[test]
    fn the_file_is_a_property_list_in_base64_with_the_three_parts() {
        let request = PushCertificateRequest {
            request_der: &[0x30, 0],
            certificate_chain_pem: "-----BEGIN CERTIFICATE-----\n",
            signature: &[1, 2, 3],
        };
        let plist = STANDARD.decode(request.encode()).unwrap();
        let dictionary = codec::decode(&plist, &Limits::default()).unwrap();
        let text = |key: &str| dictionary.get(key).and_then(Value::as_string).unwrap();
        assert_eq!(text("PushCertRequestCSR"), "MAA=");
        assert_eq!(text("PushCertCertificateChain"), request.certificate_chain_pem);
        assert_eq!(text("PushCertSignature"), "AQID");
        assert_eq!(dictionary.len(), 3);
    }
}
