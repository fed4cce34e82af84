//! SCEP: our client against our server, over every kind of key, and everything that must be refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{YEAR, ca, device, issue, now, openssl, transport};
use russet_pki::ca::{CertificateAuthority, SignerUse};
use russet_pki::cms::{ContentCipher, Signer};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::scep::client::{ClientError, Exchange, Outcome, encryption_certificate, parse_ca_certificates};
use russet_pki::scep::{
    CA_CERT_TYPE, CA_RA_CERT_TYPE, FailInfo, MessageType, RaContext, Request, ScepError, ScepPolicy, ca_certificates,
    capabilities,
};
use russet_pki::{Certificate, TrustAnchors};

const CIPHERS: [ContentCipher; 3] = [
    ContentCipher::Aes128Cbc,
    ContentCipher::Aes256Cbc,
    ContentCipher::TripleDesCbc,
];

struct Server {
    ca: CertificateAuthority,
    context: RaContext,
    policy: ScepPolicy,
}

impl Server {
    fn new() -> Self {
        let ca = ca(KeyKind::Rsa2048);
        Self {
            context: RaContext::from_ca(&ca).unwrap(),
            ca,
            policy: ScepPolicy::default(),
        }
    }

    fn authorities(&self) -> Vec<Certificate> {
        let (content_type, body) = ca_certificates(&self.context);
        parse_ca_certificates(content_type, &body).unwrap()
    }

    fn parse(&self, message: &[u8]) -> Result<Request, ScepError> {
        Request::parse(message, &self.context, &self.policy)
    }

    /// Issues whatever is asked for.
    fn answer(&self, message: &[u8]) -> Vec<u8> {
        let request = self.parse(message).unwrap();
        let issued = issue(&self.ca, request.csr());
        request.success(&issued, self.ca.chain(), &self.context).unwrap()
    }

    /// The refusal of a message, through the client's eyes.
    fn refusal(&self, exchange: &Exchange, message: &[u8]) -> (Option<FailInfo>, String) {
        let Err(ScepError::Refused(refusal)) = self.parse(message) else {
            panic!("not refused")
        };
        assert_eq!(refusal.transaction_id(), exchange.transaction_id());
        let reply = refusal.reply(&self.context).unwrap();
        match exchange.read(&reply, &self.authorities()).unwrap() {
            Outcome::Refused { fail_info, text } => {
                assert_eq!(fail_info, Some(refusal.fail_info()));
                (fail_info, text.unwrap())
            }
            other => panic!("{other:?}"),
        }
    }
}

fn csr(key: &PrivateKey) -> CertificateRequest {
    CertificateRequest::build(&Name::common("my iPad"), Some("one-time-secret"), key).unwrap()
}

fn enroll(server: &Server, signer: Signer, csr: &CertificateRequest, cipher: ContentCipher) -> Exchange {
    let authorities = server.authorities();
    Exchange::enroll(csr, signer, encryption_certificate(&authorities).unwrap(), cipher).unwrap()
}

#[test]
fn a_device_enrolls_with_its_own_rsa_key() {
    let server = Server::new();
    for cipher in CIPHERS {
        let signer = transport(KeyKind::Rsa2048);
        let exchange = enroll(&server, signer.clone(), &csr(&signer.key), cipher);
        let request = server.parse(exchange.message()).unwrap();
        assert_eq!(request.message_type(), MessageType::PkcsReq);
        assert_eq!(request.challenge(), Some("one-time-secret"));
        assert_eq!(request.signer(), &signer.certificate);
        assert_eq!(request.csr().common_name().as_deref(), Some("my iPad"));
        assert_eq!(request.transaction_id(), exchange.transaction_id());
        assert_eq!(request.sender_nonce().len(), 16);
        assert!(!format!("{request:?}").contains("one-time-secret"));
        let reply = server.answer(exchange.message());
        let Outcome::Issued { certificate, chain } = exchange.read(&reply, &server.authorities()).unwrap() else {
            panic!("not issued")
        };
        assert_eq!(certificate.public_key_der(), signer.key.public_key_der());
        assert_eq!(chain, server.ca.chain());
        let anchors = TrustAnchors::new(server.authorities());
        assert_eq!(anchors.verify_chain(&certificate, &chain, now()), Ok(()));
    }
}

#[test]
fn an_ec_key_enrolls_through_an_rsa_transport_key_and_by_itself() {
    let server = Server::new();
    for kind in [KeyKind::P256, KeyKind::P384] {
        for cipher in CIPHERS {
            let own = transport(kind);
            for signer in [transport(KeyKind::Rsa2048), own.clone()] {
                let exchange = enroll(&server, signer, &csr(&own.key), cipher);
                let reply = server.answer(exchange.message());
                let outcome = exchange.read(&reply, &server.authorities()).unwrap();
                let Outcome::Issued { certificate, .. } = outcome else {
                    panic!("{outcome:?}")
                };
                assert_eq!(certificate.public_key_der(), own.key.public_key_der());
            }
        }
    }
}

#[test]
fn a_registration_authority_answers_for_an_ec_ca() {
    let ca = ca(KeyKind::P256);
    assert_eq!(RaContext::from_ca(&ca).unwrap_err(), ScepError::RaKey);
    let (certificate, key) = ca.issue_signer("RA", SignerUse::ScepRa, YEAR, now()).unwrap();
    let stranger = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
    assert!(RaContext::new(ca.chain().to_vec(), certificate.clone(), stranger).is_err());
    let context = RaContext::new(ca.chain().to_vec(), certificate.clone(), key).unwrap();
    let server = Server {
        ca,
        context,
        policy: ScepPolicy::default(),
    };
    let (content_type, _) = ca_certificates(&server.context);
    assert_eq!(content_type, CA_RA_CERT_TYPE);
    let authorities = server.authorities();
    assert_eq!(authorities, [certificate.clone(), server.ca.certificate().clone()]);
    assert_eq!(encryption_certificate(&authorities), Some(&certificate));
    let signer = transport(KeyKind::Rsa2048);
    let exchange = enroll(&server, signer.clone(), &csr(&signer.key), ContentCipher::Aes256Cbc);
    let reply = server.answer(exchange.message());
    assert!(matches!(
        exchange.read(&reply, &authorities),
        Ok(Outcome::Issued { .. })
    ));
}

#[test]
fn a_ca_alone_is_sent_as_one_certificate() {
    let server = Server::new();
    let (content_type, body) = ca_certificates(&server.context);
    assert_eq!(
        (content_type, body.as_slice()),
        (CA_CERT_TYPE, server.ca.certificate().der())
    );
    assert!(!capabilities(&server.policy).contains("SHA-1"));
    assert!(capabilities(&server.policy).lines().any(|line| line == "SCEPStandard"));
    assert!(
        capabilities(&ScepPolicy {
            legacy: true,
            ..ScepPolicy::default()
        })
        .lines()
        .any(|line| line == "SHA-1")
    );
}

#[test]
fn a_renewal_is_signed_by_the_current_certificate() {
    let server = Server::new();
    for kind in [KeyKind::Rsa2048, KeyKind::P256] {
        let current = device(&server.ca, kind);
        let fresh = PrivateKey::generate(kind).unwrap();
        let request = CertificateRequest::build(&Name::common("renewed"), None, &fresh).unwrap();
        let recipient = server.ca.certificate();
        let exchange = Exchange::renew(&request, current.clone(), recipient, ContentCipher::Aes128Cbc).unwrap();
        let parsed = server.parse(exchange.message()).unwrap();
        assert_eq!(parsed.message_type(), MessageType::RenewalReq);
        assert_eq!(parsed.signer(), &current.certificate);
        assert_eq!(parsed.challenge(), None);
        let outcome = exchange
            .read(&server.answer(exchange.message()), &server.authorities())
            .unwrap();
        let Outcome::Issued { certificate, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(certificate.public_key_der(), fresh.public_key_der());
    }
}

#[test]
fn the_server_s_no_reaches_the_client() {
    let server = Server::new();
    let signer = transport(KeyKind::Rsa2048);
    let exchange = enroll(&server, signer.clone(), &csr(&signer.key), ContentCipher::Aes128Cbc);
    let request = server.parse(exchange.message()).unwrap();
    for fail_info in [FailInfo::BadRequest, FailInfo::BadTime, FailInfo::BadCertId] {
        let reply = request
            .failure(fail_info, "the challenge was used before", &server.context)
            .unwrap();
        assert_eq!(
            exchange.read(&reply, &server.authorities()).unwrap(),
            Outcome::Refused {
                fail_info: Some(fail_info),
                text: Some("the challenge was used before".into())
            }
        );
    }
}

#[test]
fn queries_and_polls_are_refused_as_unsupported() {
    let server = Server::new();
    let signer = transport(KeyKind::Rsa2048);
    for kind in [
        MessageType::CertPoll,
        MessageType::GetCert,
        MessageType::GetCrl,
        MessageType::Other(99),
    ] {
        let request = csr(&signer.key);
        let ca = server.ca.certificate();
        let exchange = Exchange::new(kind, &request, signer.clone(), ca, ContentCipher::Aes128Cbc).unwrap();
        let (fail_info, text) = server.refusal(&exchange, exchange.message());
        assert_eq!(fail_info, Some(FailInfo::BadRequest));
        assert!(text.contains("not supported"), "{text}");
    }
}

#[test]
fn an_envelope_for_another_ca_is_a_bad_message() {
    let server = Server::new();
    let other = ca(KeyKind::Rsa2048);
    let signer = transport(KeyKind::Rsa2048);
    let exchange = Exchange::enroll(&csr(&signer.key), signer, other.certificate(), ContentCipher::Aes128Cbc).unwrap();
    assert_eq!(
        server.refusal(&exchange, exchange.message()).0,
        Some(FailInfo::BadMessageCheck)
    );
}

#[test]
fn single_des_is_refused_unless_legacy() {
    let mut server = Server::new();
    let signer = transport(KeyKind::Rsa2048);
    let exchange = enroll(&server, signer.clone(), &csr(&signer.key), ContentCipher::DesCbc);
    assert_eq!(server.refusal(&exchange, exchange.message()).0, Some(FailInfo::BadAlg));
    server.policy.legacy = true;
    assert!(server.parse(exchange.message()).is_ok());
}

#[test]
fn no_octet_of_a_request_can_be_changed() {
    let server = Server::new();
    let signer = transport(KeyKind::P256);
    let exchange = enroll(&server, signer.clone(), &csr(&signer.key), ContentCipher::Aes128Cbc);
    let message = exchange.message();
    for position in 0..message.len() {
        let mut changed = message.to_vec();
        changed[position] ^= 1;
        // Octets that nobody signs, such as the signer's own certificate's signature, may pass; the request may not
        // change by them.
        if let Ok(request) = server.parse(&changed) {
            assert_eq!(request.csr().der(), csr_der(&server, message), "octet {position}");
            assert_eq!(request.transaction_id(), exchange.transaction_id());
            assert_eq!(request.signer().public_key_der(), signer.key.public_key_der());
        }
    }
}

fn csr_der(server: &Server, message: &[u8]) -> Vec<u8> {
    server.parse(message).unwrap().csr().der().to_vec()
}

#[test]
fn failures_past_the_padding_are_one_failure() {
    let server = Server::new();
    let signer = transport(KeyKind::Rsa2048);
    let ca = server.ca.certificate();
    // Content that is no certification request, through the whole protocol.
    let reasons: Vec<_> = [
        ContentCipher::Aes128Cbc,
        ContentCipher::Aes256Cbc,
        ContentCipher::TripleDesCbc,
    ]
    .into_iter()
    .map(|cipher| {
        let request = csr(&signer.key);
        let exchange = Exchange::enroll(&request, signer.clone(), ca, cipher).unwrap();
        let good = russet_pki::cms::verify_attached(exchange.message(), &Default::default()).unwrap();
        // The same envelope with its last block changed: the padding of the content breaks, or its text does.
        let mut envelope = good.0.clone();
        let last = envelope.len() - 1;
        envelope[last] ^= 0x80;
        let message = resign(&exchange, &good.0, &envelope, &signer);
        server.refusal(&exchange, &message)
    })
    .collect();
    for reason in &reasons {
        assert_eq!(reason, &reasons[0]);
        assert_eq!(reason.0, Some(FailInfo::BadMessageCheck));
    }
}

/// Signs another content with the attributes of a message: what an attacker who tries ciphertexts does.
fn resign(exchange: &Exchange, old: &[u8], new: &[u8], signer: &Signer) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA256, digest};
    let replace = |haystack: &[u8], from: &[u8], to: &[u8]| {
        let at = haystack.windows(from.len()).rposition(|window| window == from).unwrap();
        [&haystack[..at], to, &haystack[at + from.len()..]].concat()
    };
    let message = replace(exchange.message(), old, new);
    let message = replace(&message, digest(&SHA256, old).as_ref(), digest(&SHA256, new).as_ref());
    // The signature is the last 256 octets; the attributes stand before it, from their [0] tag on.
    let body = message.len() - 256;
    let start = message[..body]
        .windows(2)
        .rposition(|window| window == [0xa0, 0x81])
        .unwrap();
    let length = usize::from(message[start + 2]) + 3;
    let mut attributes = message[start..start + length].to_vec();
    attributes[0] = 0x31;
    let signature = signer.key.sign(&attributes).unwrap();
    [&message[..body], &signature].concat()
}

#[test]
fn what_is_no_scep_message_has_no_scep_answer() {
    let server = Server::new();
    let signer = transport(KeyKind::P256);
    let plain = russet_pki::cms::sign_attached(b"x", &signer).unwrap();
    assert_eq!(server.parse(&plain).unwrap_err(), ScepError::Attributes);
    for bytes in [&b""[..], b"<html>", &[0x30, 0x80], server.ca.certificate().der()] {
        assert!(matches!(server.parse(bytes), Err(ScepError::Message(_))));
    }
    let small = ScepPolicy {
        max_len: 100,
        ..ScepPolicy::default()
    };
    let exchange = enroll(&server, signer.clone(), &csr(&signer.key), ContentCipher::Aes128Cbc);
    assert!(matches!(
        Request::parse(exchange.message(), &server.context, &small),
        Err(ScepError::Message(_))
    ));
}

#[test]
fn the_client_believes_only_its_ca_and_its_own_transaction() {
    let server = Server::new();
    let impostor = Server::new();
    let signer = transport(KeyKind::Rsa2048);
    let exchange = enroll(&server, signer.clone(), &csr(&signer.key), ContentCipher::Aes128Cbc);
    let reply = server.answer(exchange.message());
    assert_eq!(
        exchange.read(&reply, &impostor.authorities()).unwrap_err(),
        ClientError::Untrusted
    );
    // The same key again is the same transaction, but another nonce: an old answer does not fit.
    let again = enroll(&server, signer.clone(), &csr(&signer.key), ContentCipher::Aes128Cbc);
    assert_eq!(again.transaction_id(), exchange.transaction_id());
    assert_eq!(
        again.read(&reply, &server.authorities()).unwrap_err(),
        ClientError::OtherTransaction
    );
    // A certificate for another key.
    let request = server.parse(exchange.message()).unwrap();
    let foreign = device(&server.ca, KeyKind::P256).certificate;
    let wrong = request.success(&foreign, &[], &server.context).unwrap();
    assert_eq!(
        exchange.read(&wrong, &server.authorities()).unwrap_err(),
        ClientError::NoCertificate
    );
}

#[test]
fn openssl_reads_our_messages() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new();
    let signer = transport(KeyKind::Rsa2048);
    let exchange = enroll(&server, signer.clone(), &csr(&signer.key), ContentCipher::Aes256Cbc);
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("ca.pem", server.ca.certificate().to_pem().as_bytes());
    write(
        "ca.key",
        PrivateKey::from_pkcs8(&server.ca.key_pkcs8())
            .unwrap()
            .to_pem()
            .as_bytes(),
    );
    write("device.pem", signer.certificate.to_pem().as_bytes());
    write("device.key", signer.key.to_pem().as_bytes());
    write("request.der", exchange.message());
    write("reply.der", &server.answer(exchange.message()));
    let open = |message: &str, certificate: &str, key: &str| {
        let verify = [
            "cms",
            "-verify",
            "-binary",
            "-noverify",
            "-inform",
            "DER",
            "-in",
            message,
            "-out",
            "envelope",
        ];
        openssl(dir.path(), &verify);
        let decrypt = [
            "cms",
            "-decrypt",
            "-binary",
            "-inform",
            "DER",
            "-in",
            "envelope",
            "-recip",
            certificate,
            "-inkey",
            key,
        ];
        openssl(dir.path(), &decrypt)
    };
    write("csr.der", &open("request.der", "ca.pem", "ca.key"));
    let text = openssl(
        dir.path(),
        &[
            "req", "-inform", "DER", "-in", "csr.der", "-noout", "-subject", "-verify",
        ],
    );
    assert!(String::from_utf8(text).unwrap().contains("my iPad"));
    write("certs.p7", &open("reply.der", "device.pem", "device.key"));
    let list = openssl(
        dir.path(),
        &["pkcs7", "-inform", "DER", "-in", "certs.p7", "-print_certs", "-noout"],
    );
    let list = String::from_utf8(list).unwrap();
    let (device, ca) = (
        list.find("CN = device").unwrap(),
        list.rfind("subject=O = Russet").unwrap(),
    );
    assert!(device < ca, "the issued certificate comes first: {list}");
}
