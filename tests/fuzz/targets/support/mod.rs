//! Valid messages for the targets to start from: random bytes alone hardly get past the first length of a CMS message.
//!
//! The keys are made at start, so a finding may need another run to show again; its input is saved all the same.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use russet_pki::Certificate;
use russet_pki::ca::{CaOptions, CertificateAuthority, self_signed};
use russet_pki::cms::{ContentCipher, Signer, certs_only, encrypt, sign_attached, sign_detached};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::scep::client::Exchange;
use russet_pki::scep::{MessageType, RaContext};

/// A server, a device, and what they send each other.
#[allow(dead_code, reason = "each target uses its part")]
pub struct Messages {
    pub context: RaContext,
    /// Who the envelopes are for.
    pub recipients: Vec<(Certificate, PrivateKey)>,
    /// Messages of each shape that the decoders take.
    pub valid: Vec<Vec<u8>>,
}

pub static MESSAGES: LazyLock<Messages> = LazyLock::new(messages);

fn messages() -> Messages {
    let now = Timestamp::now();
    let lifetime = SignedDuration::from_hours(24 * 30);
    let options = CaOptions {
        common_name: "Fuzz".to_owned(),
        organization: String::new(),
        key: KeyKind::Rsa2048,
        lifetime,
    };
    let ca = CertificateAuthority::generate(&options, now).expect("an authority");
    let context = RaContext::from_ca(&ca).expect("an RSA authority answers itself");
    let authority = context.certificate();
    let name = Name::common("device");
    let mut recipients = Vec::new();
    let mut valid = Vec::new();
    for kind in [KeyKind::Rsa2048, KeyKind::P256] {
        let key = PrivateKey::generate(kind).expect("a key");
        let csr = CertificateRequest::build(&name, Some("once"), &key).expect("a request");
        let certificate = self_signed(&name, &key, lifetime, now).expect("a certificate");
        let signer = Signer::new(certificate.clone(), key.clone());
        for (message_type, cipher) in [
            (MessageType::PkcsReq, ContentCipher::Aes256Cbc),
            (MessageType::RenewalReq, ContentCipher::TripleDesCbc),
        ] {
            let exchange = Exchange::new(message_type, &csr, signer.clone(), authority, cipher).expect("a message");
            valid.push(exchange.message().to_vec());
        }
        valid.push(sign_attached(b"content", &signer).expect("a signature"));
        valid.push(sign_detached(b"content", &signer).expect("a signature"));
        valid.push(encrypt(b"content", &certificate, ContentCipher::Aes128Cbc).expect("an envelope"));
        valid.push(csr.der().to_vec());
        valid.push(certificate.der().to_vec());
        valid.push(certs_only(&[certificate.clone(), authority.clone()]));
        recipients.push((certificate, key));
    }
    Messages {
        context,
        recipients,
        valid,
    }
}

/// The input as a message: as it is, or as edits of a valid one. The first byte chooses; an edit is an offset (two
/// bytes), what to do, and a byte.
pub fn message(input: &[u8]) -> Vec<u8> {
    let Some((&choice, rest)) = input.split_first() else {
        return Vec::new();
    };
    let Some(valid) = MESSAGES.valid.get(usize::from(choice)) else {
        return rest.to_vec();
    };
    let mut message = valid.clone();
    for edit in rest.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % message.len();
        match edit[2] % 4 {
            0 => message[at] = edit[3],
            1 => message[at] ^= edit[3],
            2 => message.insert(at, edit[3]),
            _ => message.truncate(at.max(1)),
        }
    }
    message
}
