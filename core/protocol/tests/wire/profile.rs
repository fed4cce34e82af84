//! The enrollment profile, and looking into profiles.

use russet_protocol::profile::{
    AccessRights, EnrollmentMode, EnrollmentProfile, InspectError, MdmPayload, Profile, ProfileError, ScepPayload,
    ServerCapability,
};
use russet_protocol::{DecodeError, FieldError, Limits};

use crate::{message, root, strings};

fn profile() -> EnrollmentProfile {
    let mut scep = ScepPayload::new("https://mdm.example.com/scep");
    scep.ca_name = Some("russet".to_owned());
    scep.challenge = Some("once".to_owned().into());
    scep.subject = vec![
        ("O".to_owned(), "Example".to_owned()),
        ("CN".to_owned(), "device".to_owned()),
    ];
    scep.ca_fingerprint = Some(vec![0; 20]);
    scep.retries = Some(5);
    scep.retry_delay = Some(10);
    let mut mdm = MdmPayload::new("https://mdm.example.com/mdm", "com.apple.mgmt.External.1");
    mdm.check_in_url = Some("https://mdm.example.com/checkin".to_owned());
    EnrollmentProfile {
        identifier: "com.example.mdm".to_owned(),
        display_name: "Example MDM".to_owned(),
        description: Some("Lets Example manage this device.".to_owned()),
        organization: Some("Example".to_owned()),
        identity_seed: "seed".to_owned(),
        scep,
        mdm,
        trust_anchors: vec![vec![0x30, 0x00]],
    }
}

fn uuids(profile: &EnrollmentProfile) -> Vec<String> {
    let inspected = Profile::inspect(&profile.to_plist().unwrap(), &Limits::default()).unwrap();
    std::iter::once(inspected.uuid)
        .chain(inspected.payloads.into_iter().map(|payload| payload.uuid))
        .collect()
}

#[test]
fn the_whole_profile() {
    insta::assert_snapshot!(root(&profile().to_plist().unwrap()), @r"
    <dict>
      <key>PayloadType</key>
      <string>Configuration</string>
      <key>PayloadVersion</key>
      <integer>1</integer>
      <key>PayloadIdentifier</key>
      <string>com.example.mdm</string>
      <key>PayloadUUID</key>
      <string>AB97AF35-9140-8F81-9078-663385D1286B</string>
      <key>PayloadDisplayName</key>
      <string>Example MDM</string>
      <key>PayloadDescription</key>
      <string>Lets Example manage this device.</string>
      <key>PayloadOrganization</key>
      <string>Example</string>
      <key>PayloadScope</key>
      <string>System</string>
      <key>PayloadContent</key>
      <array>
        <dict>
          <key>PayloadType</key>
          <string>com.apple.security.root</string>
          <key>PayloadVersion</key>
          <integer>1</integer>
          <key>PayloadIdentifier</key>
          <string>com.example.mdm.anchor.0</string>
          <key>PayloadUUID</key>
          <string>D9814C63-C149-86EC-BF5E-14AE1EE2A75E</string>
          <key>PayloadDisplayName</key>
          <string>Trusted authority</string>
          <key>PayloadContent</key>
          <data>MAA=</data>
        </dict>
        <dict>
          <key>PayloadType</key>
          <string>com.apple.security.scep</string>
          <key>PayloadVersion</key>
          <integer>1</integer>
          <key>PayloadIdentifier</key>
          <string>com.example.mdm.scep</string>
          <key>PayloadUUID</key>
          <string>8A63B014-4ADB-8F9D-B333-02116FF425C5</string>
          <key>PayloadDisplayName</key>
          <string>Device identity</string>
          <key>PayloadContent</key>
          <dict>
            <key>URL</key>
            <string>https://mdm.example.com/scep</string>
            <key>Name</key>
            <string>russet</string>
            <key>Challenge</key>
            <string>once</string>
            <key>Subject</key>
            <array>
              <array>
                <array>
                  <string>O</string>
                  <string>Example</string>
                </array>
              </array>
              <array>
                <array>
                  <string>CN</string>
                  <string>device</string>
                </array>
              </array>
            </array>
            <key>Keysize</key>
            <integer>2048</integer>
            <key>Key Type</key>
            <string>RSA</string>
            <key>Key Usage</key>
            <integer>5</integer>
            <key>CAFingerprint</key>
            <data>AAAAAAAAAAAAAAAAAAAAAAAAAAA=</data>
            <key>Retries</key>
            <integer>5</integer>
            <key>RetryDelay</key>
            <integer>10</integer>
            <key>KeyIsExtractable</key>
            <false/>
          </dict>
        </dict>
        <dict>
          <key>PayloadType</key>
          <string>com.apple.mdm</string>
          <key>PayloadVersion</key>
          <integer>1</integer>
          <key>PayloadIdentifier</key>
          <string>com.example.mdm.mdm</string>
          <key>PayloadUUID</key>
          <string>72119C49-E31F-89DC-BE0D-22EACF6E6A8A</string>
          <key>PayloadDisplayName</key>
          <string>Device management</string>
          <key>IdentityCertificateUUID</key>
          <string>8A63B014-4ADB-8F9D-B333-02116FF425C5</string>
          <key>Topic</key>
          <string>com.apple.mgmt.External.1</string>
          <key>ServerURL</key>
          <string>https://mdm.example.com/mdm</string>
          <key>CheckInURL</key>
          <string>https://mdm.example.com/checkin</string>
          <key>SignMessage</key>
          <true/>
          <key>AccessRights</key>
          <integer>8191</integer>
          <key>CheckOutWhenRemoved</key>
          <true/>
          <key>ServerCapabilities</key>
          <array>
            <string>com.apple.mdm.per-user-connections</string>
            <string>com.apple.mdm.bootstraptoken</string>
          </array>
        </dict>
      </array>
    </dict>
    ");
}

#[test]
fn a_second_download_is_the_same_and_a_renewal_changes_the_identity_alone() {
    let first = profile();
    assert_eq!(uuids(&first), uuids(&profile()));
    let mut renewal = profile();
    renewal.identity_seed = "another".to_owned();
    renewal.scep.challenge = Some("second".to_owned().into());
    let (before, after) = (uuids(&first), uuids(&renewal));
    let changed: Vec<usize> = (0..before.len())
        .filter(|&index| before[index] != after[index])
        .collect();
    assert_eq!(changed, [2], "profile, anchor, identity, management: only the identity");
    let mut other = profile();
    other.identifier = "com.example.other".to_owned();
    assert!(uuids(&first).iter().all(|uuid| !uuids(&other).contains(uuid)));
    assert_eq!(
        before.iter().collect::<std::collections::HashSet<_>>().len(),
        before.len()
    );
}

#[test]
fn the_management_payload_points_to_the_identity() {
    let profile = profile();
    let text = String::from_utf8(profile.to_plist().unwrap()).unwrap();
    let identity = &uuids(&profile)[2];
    let reference = format!("<key>IdentityCertificateUUID</key>\n\t\t\t<string>{identity}</string>");
    assert!(text.contains(&reference), "{text}");
}

#[test]
fn a_personal_device_gets_no_access_rights() {
    let mut personal = profile();
    personal.mdm.access_rights = None;
    personal.mdm.enrollment_mode = Some(EnrollmentMode::Byod);
    personal.mdm.assigned_managed_apple_id = Some("jo@example.com".to_owned());
    personal.mdm.server_capabilities = vec![ServerCapability::Token, ServerCapability::Token];
    let text = String::from_utf8(personal.to_plist().unwrap()).unwrap();
    assert!(!text.contains("AccessRights"));
    assert!(text.contains("<string>BYOD</string>") && text.contains("<string>jo@example.com</string>"));
    assert_eq!(text.matches("com.apple.mdm.token").count(), 1);
}

#[test]
fn access_rights_follow_apples_rules() {
    for bits in [1, 3, 64, 192, 8191] {
        assert_eq!(AccessRights::new(bits).map(AccessRights::bits), Ok(bits));
    }
    for bits in [0, 8192, u32::MAX] {
        assert_eq!(AccessRights::new(bits), Err(ProfileError::AccessRightsRange(bits)));
    }
    assert_eq!(
        AccessRights::new(2),
        Err(ProfileError::AccessRightsDependency { right: 2, needs: 1 })
    );
    assert_eq!(
        AccessRights::new(128 | 1),
        Err(ProfileError::AccessRightsDependency { right: 128, needs: 64 })
    );
}

#[test]
fn what_a_device_would_refuse_is_refused_here() {
    let error = |change: fn(&mut EnrollmentProfile)| {
        let mut profile = profile();
        change(&mut profile);
        profile.to_plist().expect_err("must be refused")
    };
    assert_eq!(
        error(|p| p.identifier.clear()),
        ProfileError::Empty {
            field: "the identifier"
        }
    );
    assert_eq!(
        error(|p| p.display_name.clear()),
        ProfileError::Empty {
            field: "the display name"
        }
    );
    assert!(matches!(
        error(|p| p.mdm.server_url = "http://x".to_owned()),
        ProfileError::Scheme { .. }
    ));
    assert!(matches!(
        error(|p| p.mdm.check_in_url = Some(String::new())),
        ProfileError::Scheme { .. }
    ));
    assert!(matches!(
        error(|p| p.scep.url = "ftp://x".to_owned()),
        ProfileError::Scheme { .. }
    ));
    assert_eq!(error(|p| p.mdm.topic = "com.example".to_owned()), ProfileError::Topic);
    assert_eq!(error(|p| p.mdm.access_rights = None), ProfileError::AccessRightsMissing);
    assert_eq!(
        error(|p| p.mdm.enrollment_mode = Some(EnrollmentMode::Adde)),
        ProfileError::AccountDriven
    );
    assert_eq!(error(|p| p.scep.key_size = 3072), ProfileError::KeySize(3072));
    assert_eq!(error(|p| p.scep.key_usage = 2), ProfileError::KeyUsage(2));
    assert_eq!(
        error(|p| p.scep.ca_fingerprint = Some(vec![0; 32])),
        ProfileError::Fingerprint(32)
    );
}

#[test]
fn inspection_tells_what_a_profile_is() {
    let inspected = Profile::inspect(&profile().to_plist().unwrap(), &Limits::default()).unwrap();
    assert_eq!(
        (inspected.identifier.as_str(), inspected.payload_type.as_str()),
        ("com.example.mdm", "Configuration")
    );
    assert_eq!(
        (inspected.display_name.as_deref(), inspected.organization.as_deref()),
        (Some("Example MDM"), Some("Example"))
    );
    assert_eq!(
        (inspected.scope.as_deref(), inspected.is_encrypted),
        (Some("System"), false)
    );
    let types: Vec<_> = inspected
        .payloads
        .iter()
        .map(|payload| payload.payload_type.as_str())
        .collect();
    assert_eq!(
        types,
        ["com.apple.security.root", "com.apple.security.scep", "com.apple.mdm"]
    );
}

#[test]
fn inspection_names_what_is_wrong() {
    let inspect = |entries: &str| Profile::inspect(&message(entries), &Limits::default());
    let top = strings(&[
        ("PayloadType", "Configuration"),
        ("PayloadIdentifier", "i"),
        ("PayloadUUID", "u"),
    ]);
    let version = "<key>PayloadVersion</key><integer>1</integer>";
    let missing = |key| Err(InspectError::Field(FieldError::Missing { key }));
    assert_eq!(inspect(""), missing("PayloadType"));
    assert_eq!(
        inspect(&strings(&[("PayloadType", "com.apple.wifi.managed")])),
        Err(InspectError::PayloadType)
    );
    assert_eq!(inspect(&top), missing("PayloadVersion"));
    assert_eq!(
        inspect(&(top.clone() + &version.replace('1', "2"))),
        Err(InspectError::PayloadVersion(2))
    );
    assert_eq!(inspect(&(top.clone() + version)), missing("PayloadContent"));
    let nameless = format!("{top}{version}<key>PayloadContent</key><array><dict/></array>");
    assert_eq!(inspect(&nameless), missing("PayloadIdentifier"));
    let encrypted = inspect(&format!("{top}{version}<key>IsEncrypted</key><true/>")).unwrap();
    assert!(encrypted.is_encrypted && encrypted.payloads.is_empty());
    let signed = [0x30, 0x82, 0x01, 0x00];
    assert_eq!(Profile::inspect(&signed, &Limits::default()), Err(InspectError::Signed));
    assert_eq!(
        Profile::inspect(b"", &Limits::default()),
        Err(InspectError::Plist(DecodeError::Empty))
    );
}
