//! People: sign-in against a real directory over TLS, and what of a person reaches gates, templates and administrators.

use std::sync::Arc;

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use russet_plugin_host::testing::{Slapd, SlapdOptions};
use russet_simulator::device::{Credentials, ProfileRequest};
use russet_tests::{World, profile};
use serde_json::json;

const PEOPLE: &str = "dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: uid=anna,dc=example,dc=org
objectClass: inetOrgPerson
uid: anna
cn: Anna Example
sn: Example
mail: anna@example.org
userPassword: correct horse

dn: uid=bert,dc=example,dc=org
objectClass: inetOrgPerson
uid: bert
cn: Bert Example
sn: Example
userPassword: battery staple

dn: cn=gardeners,dc=example,dc=org
objectClass: groupOfNames
cn: gardeners
member: uid=anna,dc=example,dc=org
";

async fn slapd() -> Slapd {
    let options = SlapdOptions {
        suffix: "dc=example,dc=org".to_owned(),
        ldif: PEOPLE.to_owned(),
        tls: true,
    };
    Slapd::start(options).await.unwrap()
}

/// A world with the directory as its connection `corp`, over StartTLS or TLS from the start.
async fn world_with(slapd: &Slapd, start_tls: bool) -> World {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let ca = folder.path().join("ldap-ca.pem");
    std::fs::write(&ca, slapd.ca_pem().unwrap()).unwrap();
    let url = if start_tls {
        slapd.url()
    } else {
        slapd.tls_url().unwrap()
    };
    let builder = World::builder()
        .set("ldap.corp.url", url)
        .set("ldap.corp.start_tls", start_tls)
        .set("ldap.corp.allow_plaintext", false)
        .set("ldap.corp.ca_file", ca.display().to_string())
        .set("ldap.corp.bind_dn", slapd.admin_dn())
        .set("ldap.corp.bind_password", slapd.admin_password());
    builder.start_in(folder).await.unwrap()
}

async fn sign_in_and_template(start_tls: bool) {
    let slapd = slapd().await;
    let world = world_with(&slapd, start_tls).await;
    world
        .admin
        .install("directory-ldap", json!({"connection": "corp"}))
        .await;
    world
        .admin
        .install("enrollment-gate", json!({"required_groups": ["gardeners"]}))
        .await;
    world.admin.install("profile-template", json!({})).await;

    // Nobody enrolls without signing in, and the device is told how to ask.
    let mac = world.by_hand("C02PEOPLE01").build().unwrap();
    for request in [
        ProfileRequest::Manual(None),
        manual("anna", "wrong"),
        manual("nobody", "wrong"),
    ] {
        let answer = mac.request_profile(&request).await.unwrap();
        assert_eq!(answer.status.as_u16(), 401, "{request:?}: {}", answer.text());
        let challenge = answer.headers.get(WWW_AUTHENTICATE).unwrap().to_str().unwrap();
        assert!(challenge.starts_with("Basic realm=\"Example Orchard"), "{challenge}");
    }
    // A person without the group is denied, whatever the password.
    let answer = mac.request_profile(&manual("bert", "battery staple")).await.unwrap();
    assert_eq!(answer.status.as_u16(), 403, "{}", answer.text());
    assert!(
        answer.text().contains("Your account may not enroll devices"),
        "{}",
        answer.text()
    );

    let anna = Credentials::new("anna", "correct horse");
    let mac = world.by_hand("C02PEOPLE01").credentials(anna.clone()).build().unwrap();
    mac.enroll().await.unwrap();
    let shown = world.admin.device("C02PEOPLE01").await;
    assert_eq!(shown["person"]["user_name"], "anna", "{shown}");
    assert_eq!(shown["person"]["groups"], json!(["gardeners"]), "{shown}");
    // A device in set-up asks in the same way.
    world
        .mac("C02PEOPLE02")
        .credentials(anna)
        .build()
        .unwrap()
        .enroll()
        .await
        .unwrap();

    // The person reaches the template.
    let template = profile(
        "org.example.mail",
        "{{ person.full_name }}, {{ person.email }}, {{ person.groups|join }}",
    );
    let stored = json!({"content": template, "template": "profile-template"});
    world.admin.put("/profiles/mail", &stored).await.ok();
    let install = json!({"devices": ["C02PEOPLE01"], "profile": "mail"});
    world.admin.post("/commands", &install).await.ok();
    mac.run_until_idle().await.unwrap();
    let installed = mac.profiles();
    let mail = installed
        .iter()
        .find(|own| own.identifier == "org.example.mail")
        .unwrap();
    assert_eq!(
        mail.display_name.as_deref(),
        Some("Anna Example, anna@example.org, gardeners")
    );

    // An administrator looks people up, and gives a device to another.
    assert_eq!(world.admin.get("/people/bert").await.ok()["full_name"], "Bert Example");
    world.admin.get("/people/nobody").await.refused(404);
    let given = world
        .admin
        .put("/devices/C02PEOPLE01/person", &json!({"user_name": "bert"}))
        .await
        .ok();
    assert_eq!(given["user_name"], "bert");
    assert_eq!(world.admin.device("C02PEOPLE01").await["person"]["user_name"], "bert");

    // No password is in the log or in a decision record.
    let said = format!("{}{:?}", world.server.log(), world.admin.decisions().await);
    for secret in ["correct horse", "battery staple", slapd.admin_password()] {
        assert!(!said.contains(secret), "{secret} is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_against_a_directory_over_starttls() {
    sign_in_and_template(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_against_a_directory_over_tls() {
    sign_in_and_template(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_directory_is_away_people_are_asked_to_come_back() {
    let mut slapd = slapd().await;
    let world = world_with(&slapd, true).await;
    world
        .admin
        .install("directory-ldap", json!({"connection": "corp"}))
        .await;
    world
        .admin
        .install("enrollment-gate", json!({"require_sign_in": true}))
        .await;
    let mac = world.by_hand("C02PEOPLE01").build().unwrap();
    slapd.stop();
    let answer = mac.request_profile(&manual("anna", "correct horse")).await.unwrap();
    assert_eq!(
        answer.status.as_u16(),
        503,
        "not 401: the password is not wrong; {}",
        answer.text()
    );
    assert!(answer.headers.contains_key(RETRY_AFTER));
    slapd.resume().await.unwrap();
    let answer = mac.request_profile(&manual("anna", "correct horse")).await.unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
}

fn manual(user_name: &str, password: &str) -> ProfileRequest {
    ProfileRequest::Manual(Some(Credentials::new(user_name, password)))
}
