//! Devices of a NanoMDM server: sent as its tool `nano2nano` sends them, or read from a folder, and at work here with the
//! profile and the certificate that they have from there.

use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::{CaOptions, CertificateAuthority, DeviceCertificate};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value as Plist};
use russet_simulator::SimulatedDevice;
use russet_simulator::device::Identity;
use russet_tests::{Answer, TOPIC, World, soon};
use serde_json::{Value, json};

/// The other server, as far as its devices have something of it.
struct NanoMdm(CertificateAuthority);

/// The path of NanoMDM's profiles, for both kinds of messages.
const PATH: &str = "/mdm";

impl NanoMdm {
    fn new() -> Self {
        let options = CaOptions {
            common_name: "MicroMDM SCEP CA".to_owned(),
            organization: "Old".to_owned(),
            key: KeyKind::Rsa2048,
            lifetime: SignedDuration::from_hours(1000),
        };
        Self(CertificateAuthority::generate(&options, Timestamp::now()).unwrap())
    }

    /// A Mac that enrolled there. Its profile leads to the address that this server has now.
    fn mac(&self, world: &World, serial: &str) -> SimulatedDevice {
        let mac = world.mac(serial).build().unwrap();
        let scep = Dictionary::from_iter([("URL", Plist::from("https://old.example.com/scep"))]);
        let scep = Dictionary::from_iter([
            ("PayloadType", Plist::from("com.apple.security.scep")),
            ("PayloadIdentifier", "old.scep".into()),
            ("PayloadUUID", "CB90E976-AD44-4B69-8108-8095E6260978".into()),
            ("PayloadVersion", 1.into()),
            ("PayloadContent", scep.into()),
        ]);
        let mdm = Dictionary::from_iter([
            ("PayloadType", Plist::from("com.apple.mdm")),
            ("PayloadIdentifier", "old.mdm".into()),
            ("PayloadUUID", "96B11019-B54C-49DC-9480-43525834DE7B".into()),
            ("PayloadVersion", 1.into()),
            ("IdentityCertificateUUID", "CB90E976-AD44-4B69-8108-8095E6260978".into()),
            ("ServerURL", format!("{}{PATH}", world.server.url()).into()),
            ("SignMessage", true.into()),
            ("Topic", TOPIC.into()),
            ("AccessRights", 8191.into()),
        ]);
        let profile = Dictionary::from_iter([
            ("PayloadType", Plist::from("Configuration")),
            ("PayloadIdentifier", "old".into()),
            ("PayloadUUID", "F9760DD4-F2D1-4F29-8D2C-48D52DD0A9B3".into()),
            ("PayloadVersion", 1.into()),
            ("PayloadContent", vec![Plist::from(scep), mdm.into()].into()),
        ]);
        mac.install_enrollment_profile(&codec::encode(&profile)).unwrap();
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let csr = CertificateRequest::build(&Name::common(serial), None, &key).unwrap();
        let wanted = DeviceCertificate {
            common_name: serial.to_owned(),
            extra: Vec::new(),
            lifetime: SignedDuration::from_hours(500),
        };
        let issued = self.0.issue_device(&csr, &wanted, Timestamp::now()).unwrap();
        mac.set_identity(Identity::new(issued.certificate, key)).unwrap();
        mac.register_for_push(&world.apns).unwrap();
        mac
    }
}

fn message(mac: &SimulatedDevice, kind: &str, fields: &[(&str, Plist)]) -> Vec<u8> {
    let facts = mac.facts();
    let own = [
        ("MessageType", Plist::from(kind)),
        ("UDID", facts.udid.as_str().into()),
        ("Topic", TOPIC.into()),
    ];
    let all = own.into_iter().chain(fields.iter().cloned());
    codec::encode(&all.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// What NanoMDM keeps of a device, in the order of its tool.
fn kept(mac: &SimulatedDevice) -> [Vec<u8>; 2] {
    let push = mac.push_credentials().unwrap();
    [
        message(
            mac,
            "Authenticate",
            &[("SerialNumber", mac.facts().serial_number.as_str().into())],
        ),
        message(
            mac,
            "TokenUpdate",
            &[
                ("Token", Plist::Data(push.token.expose().to_vec())),
                ("PushMagic", push.magic.expose().into()),
                ("UnlockToken", Plist::Data(b"unlock".to_vec())),
            ],
        ),
    ]
}

/// `PUT` without a `Content-Type`, with Basic: as `nano2nano -url … -key …` does it.
async fn nano2nano(world: &World, key: &str, body: Vec<u8>) -> Answer {
    let url = format!("{}/v1/tenants/default/import/checkin", world.admin.base());
    let request = world.admin.client().put(url).basic_auth("nanomdm", Some(key));
    world.admin.send(request.body(body)).await
}

fn import_token(world: &World) -> String {
    let made = world
        .server
        .cli(&["token", "create", "migration", "--import-only", "--json"])
        .ok()
        .json();
    made["token"].as_str().unwrap().to_owned()
}

fn trust(world: &World, old: &NanoMdm) -> String {
    let file = world.server.folder().path().join("old-ca.pem");
    std::fs::write(&file, old.0.certificate().to_pem()).unwrap();
    file.display().to_string()
}

/// Queues a command, waits for the push that wakes the device, and lets it poll; the state of the command then.
async fn answers(world: &World, mac: &SimulatedDevice) -> Value {
    let mut pushes = world.apns.subscribe();
    let serial = mac.facts().serial_number.clone();
    let uuid = world
        .admin
        .command(&[&serial], json!({"RequestType": "SecurityInfo"}))
        .await;
    let token = mac.push_credentials().unwrap().token;
    let push = soon("a push", pushes.recv()).await.unwrap();
    assert_eq!(push.token, token.expose());
    mac.run_until_idle().await.unwrap();
    world.admin.finished(&uuid).await["devices"][0]["state"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_nano2nano_sends_work_on() {
    let world = World::start().await;
    let old = NanoMdm::new();
    let key = import_token(&world);
    let mac = old.mac(&world, "C02NANO00001");
    let ca = trust(&world, &old);
    world.server.cli(&["import", "trust", &ca]).ok();
    for body in kept(&mac) {
        let answer = nano2nano(&world, &key, body).await;
        assert_eq!(
            (answer.status, &answer.json["outcome"]),
            (200, &json!("created")),
            "{}",
            answer.text
        );
        assert_eq!(answer.json["warnings"], json!([]));
    }
    // Again: its tool is run until the last moment.
    for body in kept(&mac) {
        assert_eq!(nano2nano(&world, &key, body).await.ok()["outcome"], "unchanged");
    }
    let status = world.server.cli(&["import", "status"]).ok();
    assert!(status.out.contains("C02NANO00001"), "{}", status.out);

    // A push wakes it, and it answers at the old path with its old certificate.
    assert_eq!(answers(&world, &mac).await, "acknowledged");
    let status = world.server.cli(&["import", "status", "--json"]).ok().json();
    assert_eq!(
        (&status["devices"], &status["arrived"]),
        (&json!(1), &json!(1)),
        "{status}"
    );
    assert!(world.admin.decisions().await.is_empty(), "no gate was asked");
    let kept = world.admin.list("/devices/C02NANO00001/escrow").await;
    assert_eq!(kept[0]["kind"], "unlock-token", "its unlock token came along");

    // The key of the tool opens nothing else.
    let stranger = world.admin.with_token(&key);
    let refused = stranger.get("/devices").await.refused(403);
    assert!(
        refused["message"].as_str().unwrap().contains("imports only"),
        "{refused}"
    );
    assert_eq!(nano2nano(&world, "russet_wrong", Vec::new()).await.status, 401);
    assert_eq!(nano2nano(&world, &key, b"no plist".to_vec()).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_imported_with_the_certificates_that_are_named() {
    let world = World::start().await;
    let old = NanoMdm::new();
    let (named, unnamed) = (old.mac(&world, "C02NANO00002"), old.mac(&world, "C02NANO00003"));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for (mac, name) in [(&named, "named"), (&unnamed, "unnamed")] {
        for (body, number) in kept(mac).iter().rev().zip(0..) {
            std::fs::write(file(&format!("{number}-{name}.plist")), body).unwrap();
        }
    }
    let sha256 = hex::encode(named.identity().unwrap().certificate().sha256());
    let hashes = file("hashes.csv").display().to_string();
    std::fs::write(&hashes, format!("id,sha256\n{},{sha256}\n", named.facts().udid)).unwrap();
    let (ca, path) = (trust(&world, &old), folder.path().display().to_string());
    let import = ["import", "nanomdm", "--old-ca", &ca, "--cert-hashes", &hashes, &path];
    let failed = world.server.cli(&import).failed();
    assert!(failed.out.contains("2 imported"), "{}", failed.out);
    assert!(
        failed.out.contains("0-unnamed.plist: no certificate is named"),
        "{}",
        failed.out
    );
    assert!(
        failed.complaint().contains("2 of 4 messages were not imported"),
        "{}",
        failed.complaint()
    );

    assert_eq!(answers(&world, &named).await, "acknowledged");
    unnamed.run_until_idle().await.unwrap_err();
    let listed = world.server.cli(&["import", "authorities", "--json"]).ok().json();
    let authority = listed["items"][0]["sha256"].as_str().unwrap().to_owned();
    world.server.cli(&["import", "distrust", &authority]).ok();
    named.run_until_idle().await.unwrap_err();
    assert_eq!(named.unenrolled(), None, "a device that is refused keeps its profile");
}
