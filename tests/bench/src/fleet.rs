//! Devices, enrolled, with the requests that they will send made and signed beforehand.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use russet_pki::cms::{ContentCipher, Signer};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::scep::client::{Exchange, Outcome, encryption_certificate, parse_ca_certificates};
use russet_pki::{Certificate, TrustAnchors, ca, mdm_signature};
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{SecretString, codec, content_type};
use russet_simulator::device::EnrollmentProfile;
use tokio::task::JoinSet;

use crate::Failure;
use crate::push;
use crate::wire::{Connection, Target, request};

/// How many devices share a key. A device makes its own; making one takes a tenth of a second, and whose it is makes no
/// difference to what a signature costs.
const KEYS: usize = 8;

/// How many devices get their identity at once.
const AT_ONCE: usize = 4;

/// What every device deposits.
pub(crate) const BOOTSTRAP_TOKEN: &[u8] = b"a bootstrap token of the bench";

/// A device with its identity.
pub(crate) struct Device {
    pub(crate) serial_number: String,
    udid: String,
    topic: String,
    pub(crate) push_token: Vec<u8>,
    certificate: Certificate,
    key: PrivateKey,
}

/// Gets identities for so many devices: enrollment profile and SCEP, as a device does it.
pub(crate) async fn identified(target: &Target, count: usize) -> Result<Vec<Device>, Failure> {
    let keys = keys().await?;
    let authorities = authorities(&mut target.connect().await?).await?;
    let mut tasks = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (target, keys, authorities) = (target.clone(), Arc::clone(&keys), Arc::clone(&authorities));
        tasks.spawn(async move {
            let mut connection = target.connect().await?;
            let mut devices = Vec::new();
            for number in (worker..count).step_by(AT_ONCE) {
                devices.push(identify(&mut connection, &authorities, &keys[number % KEYS], number).await?);
            }
            Ok::<_, Failure>(devices)
        });
    }
    let mut devices = Vec::with_capacity(count);
    while let Some(some) = tasks.join_next().await {
        devices.extend(some??);
    }
    Ok(devices)
}

async fn keys() -> Result<Arc<Vec<PrivateKey>>, Failure> {
    let keys = tokio::task::spawn_blocking(|| {
        (0..KEYS)
            .map(|_| PrivateKey::generate(KeyKind::Rsa2048))
            .collect::<Result<Vec<_>, _>>()
    });
    Ok(Arc::new(keys.await??))
}

async fn authorities(connection: &mut Connection) -> Result<Arc<Vec<Certificate>>, Failure> {
    let ask = request("GET", "/scep?operation=GetCACert", &[], b"");
    let answer = connection.send(&ask).await?.accepted("GetCACert")?;
    // The parser takes what is not one certificate for several, whatever the type says.
    let authorities = parse_ca_certificates("application/x-x509-ca-cert", answer.body)?;
    Ok(Arc::new(authorities))
}

async fn identify(
    connection: &mut Connection,
    authorities: &[Certificate],
    key: &PrivateKey,
    number: usize,
) -> Result<Device, Failure> {
    let answer = connection.send(&request("GET", "/enroll", &[], b"")).await?;
    let answer = answer.accepted("the enrollment profile")?;
    // Who signed the profile makes no difference here.
    let profile = EnrollmentProfile::parse(answer.body, &TrustAnchors::new(Vec::new()))?;
    let challenge = profile.scep.challenge.as_ref().map(SecretString::expose);

    let serial_number = format!("BENCH{number:06}");
    let subject = Name::common(&serial_number);
    let csr = CertificateRequest::build(&subject, challenge, key)?;
    let own = ca::self_signed(&subject, key, SignedDuration::from_hours(1), Timestamp::now())?;
    let authority = encryption_certificate(authorities).ok_or("the SCEP server has no certificate to encrypt for")?;
    let exchange = Exchange::enroll(&csr, Signer::new(own, key.clone()), authority, ContentCipher::Aes128Cbc)?;
    let headers = [("Content-Type", "application/x-pki-message")];
    let ask = request("POST", "/scep?operation=PKIOperation", &headers, exchange.message());
    let answer = connection.send(&ask).await?.accepted("SCEP")?;
    match exchange.read(answer.body, authorities)? {
        Outcome::Issued { certificate, .. } => Ok(Device {
            udid: format!("00008112-BENCH{number:010}"),
            serial_number,
            topic: profile.mdm.topic,
            push_token: push::token(number),
            certificate,
            key: key.clone(),
        }),
        refused => Err(format!("SCEP refused {serial_number}: {refused:?}").into()),
    }
}

impl Device {
    /// Where the device connects when it shows its certificate in TLS.
    pub(crate) fn target(&self, target: &Target) -> Result<Target, Failure> {
        target.with_identity(self.certificate.der(), &self.key.to_pkcs8())
    }

    pub(crate) fn authenticate(&self) -> Result<Vec<u8>, Failure> {
        self.check_in(Dictionary::from_iter([
            ("MessageType", Value::from("Authenticate")),
            ("Topic", self.topic.as_str().into()),
            ("SerialNumber", self.serial_number.as_str().into()),
            ("DeviceName", "Ada's Mac".into()),
            ("Model", "MR7K3".into()),
            ("ModelName", "MacBook Pro".into()),
            ("ProductName", "Mac15,3".into()),
            ("OSVersion", "27.1".into()),
            ("BuildVersion", "26B5032a".into()),
        ]))
    }

    pub(crate) fn token_update(&self) -> Result<Vec<u8>, Failure> {
        self.check_in(Dictionary::from_iter([
            ("MessageType", Value::from("TokenUpdate")),
            ("Topic", self.topic.as_str().into()),
            ("Token", Value::Data(self.push_token.clone())),
            ("PushMagic", "bench-magic".into()),
        ]))
    }

    /// Deposits a bootstrap token.
    pub(crate) fn deposit(&self) -> Result<Vec<u8>, Failure> {
        self.check_in(Dictionary::from_iter([
            ("MessageType", Value::from("SetBootstrapToken")),
            ("BootstrapToken", Value::Data(BOOTSTRAP_TOKEN.to_vec())),
        ]))
    }

    /// Asks for it.
    pub(crate) fn fetch(&self) -> Result<Vec<u8>, Failure> {
        self.check_in(Dictionary::from_iter([(
            "MessageType",
            Value::from("GetBootstrapToken"),
        )]))
    }

    /// A poll of a device that has nothing to report.
    pub(crate) fn idle(&self) -> Result<Vec<u8>, Failure> {
        self.report(self.idle_report(), true)
    }

    /// The same without a signature, for a device that shows its certificate in TLS.
    pub(crate) fn unsigned_idle(&self) -> Result<Vec<u8>, Failure> {
        self.report(self.idle_report(), false)
    }

    fn idle_report(&self) -> Dictionary {
        Dictionary::from_iter([("Status", Value::from("Idle"))])
    }

    /// The answer to a DeviceInformation.
    pub(crate) fn acknowledged(&self, command: &str) -> Result<Vec<u8>, Failure> {
        let facts = Dictionary::from_iter([
            ("UDID", Value::from(self.udid.as_str())),
            ("SerialNumber", self.serial_number.as_str().into()),
            ("DeviceName", "Ada's Mac".into()),
            ("ProductName", "Mac15,3".into()),
            ("OSVersion", "27.1".into()),
            ("BuildVersion", "26B5032a".into()),
            ("DeviceCapacity", Value::Real(494.38)),
            ("AvailableDeviceCapacity", Value::Real(211.5)),
            ("IsSupervised", Value::Boolean(true)),
        ]);
        let report = Dictionary::from_iter([
            ("Status", Value::from("Acknowledged")),
            ("CommandUUID", command.into()),
            ("QueryResponses", Value::Dictionary(facts)),
        ]);
        self.report(report, true)
    }

    fn check_in(&self, message: Dictionary) -> Result<Vec<u8>, Failure> {
        self.message("/mdm/checkin", content_type::CHECK_IN, message, true)
    }

    fn report(&self, message: Dictionary, signed: bool) -> Result<Vec<u8>, Failure> {
        self.message("/mdm/connect", content_type::CONNECT, message, signed)
    }

    fn message(&self, path: &str, media_type: &str, mut message: Dictionary, signed: bool) -> Result<Vec<u8>, Failure> {
        message.insert("UDID".to_owned(), Value::from(self.udid.as_str()));
        let body = codec::encode(&message);
        let mut headers = vec![("Content-Type", media_type)];
        let signature;
        if signed {
            signature = mdm_signature::sign(&body, &Signer::new(self.certificate.clone(), self.key.clone()))?;
            headers.push(("Mdm-Signature", signature.as_str()));
        }
        Ok(request("PUT", path, &headers, &body))
    }
}

/// Makes something of every device, on all cores: a signature takes most of a millisecond.
pub(crate) async fn prepare<T: Send + 'static>(
    devices: &Arc<Vec<Device>>,
    make: impl Fn(&Device) -> Result<T, Failure> + Clone + Send + 'static,
) -> Result<Vec<T>, Failure> {
    let threads = std::thread::available_parallelism()?.get();
    let each = devices.len().div_ceil(threads);
    let mut parts = Vec::new();
    for thread in 0..threads {
        let (devices, make) = (Arc::clone(devices), make.clone());
        parts.push(tokio::task::spawn_blocking(move || {
            let range = devices.iter().skip(thread * each).take(each);
            range.map(make).collect::<Result<Vec<_>, _>>()
        }));
    }
    // In the order of the devices.
    let mut made = Vec::with_capacity(devices.len());
    for part in parts {
        made.extend(part.await??);
    }
    Ok(made)
}
