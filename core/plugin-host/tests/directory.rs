//! The LDAP capability against a real directory. The plugin here is the bundled one where it is about answers, and the
//! hostile one where it is about what the host refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{artifact, engine, grants, scope};
use russet_hooks::{DirectoryRequest, DirectoryVerdict, HookSet, PluginFault, SignIn};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::testing::{Slapd, SlapdOptions, Transport};
use russet_plugin_host::{
    Connections, LdapConfigError, LdapConnection, LdapConnections, Limits, LoadError, LoadedPlugin, PluginSource,
};
use serde_json::json;

const ENTRIES: &str = "dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: uid=anna,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: anna
cn: Anna Example
sn: Example
mail: anna@example.org
departmentNumber: 42
userPassword: correct horse

dn: uid=bert,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bert
cn: Bert Example
sn: Example
userPassword: battery staple

dn: cn=staff,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: staff
member: uid=anna,ou=people,dc=example,dc=org
member: uid=bert,ou=people,dc=example,dc=org

dn: cn=admins,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: admins
member: uid=anna,ou=people,dc=example,dc=org
";

async fn slapd(tls: bool) -> Slapd {
    Slapd::start(SlapdOptions {
        suffix: "dc=example,dc=org".to_owned(),
        ldif: ENTRIES.to_owned(),
        tls,
    })
    .await
    .unwrap()
}

async fn directory(connection: LdapConnection) -> LoadedPlugin {
    let mut connections = Connections::default();
    connections.ldap.insert("corp", connection).unwrap();
    LoadedPlugin::load(
        &engine(),
        &connections,
        &Ports::memory(),
        PluginSource {
            tenant: "default".into(),
            component: artifact("directory-ldap").into(),
            settings: Some(json!({"connection": "corp"})),
            grants: grants(&["log.write", "settings.get", "ldap.search", "ldap.bind"], &["corp"]),
            limits: Limits {
                wall_ms: 10_000,
                ..Limits::default()
            },
        },
    )
    .await
    .unwrap()
}

async fn ask(plugin: &LoadedPlugin, request: DirectoryRequest) -> Result<DirectoryVerdict, PluginFault> {
    let service = plugin.directory().unwrap().clone();
    let set = HookSet::builder().add_directory(service).build();
    let outcome = set.ask_directory(&scope(), request).await;
    match &outcome.decisions[0].fault {
        Some(fault) => Err(fault.clone()),
        None => Ok(outcome.verdict.unwrap()),
    }
}

async fn find(plugin: &LoadedPlugin, name: &str) -> Result<DirectoryVerdict, PluginFault> {
    ask(plugin, DirectoryRequest::Find(name.to_owned())).await
}

async fn sign_in(plugin: &LoadedPlugin, name: &str, password: &str) -> Result<DirectoryVerdict, PluginFault> {
    let request = DirectoryRequest::SignIn(SignIn {
        user_name: name.to_owned(),
        password: password.to_owned().into(),
    });
    ask(plugin, request).await
}

#[tokio::test]
async fn people_are_found_and_signed_in_over_every_transport() {
    let slapd = slapd(true).await;
    for transport in [Transport::Plaintext, Transport::StartTls, Transport::Ldaps] {
        let plugin = directory(slapd.connection(transport)).await;
        let DirectoryVerdict::Person(anna) = find(&plugin, "anna").await.unwrap() else {
            panic!("{transport:?}: anna is not known");
        };
        assert_eq!(anna.id, "uid=anna,ou=people,dc=example,dc=org");
        assert_eq!(anna.user_name, "anna");
        assert_eq!(anna.full_name.as_deref(), Some("Anna Example"));
        assert_eq!(anna.email.as_deref(), Some("anna@example.org"));
        assert_eq!(anna.groups, ["admins", "staff"]);

        assert_eq!(find(&plugin, "nobody").await.unwrap(), DirectoryVerdict::Unknown);
        // A value can not become a filter.
        assert_eq!(find(&plugin, "*").await.unwrap(), DirectoryVerdict::Unknown);
        assert_eq!(find(&plugin, "anna)(uid=*").await.unwrap(), DirectoryVerdict::Unknown);

        assert!(matches!(
            sign_in(&plugin, "anna", "correct horse").await.unwrap(),
            DirectoryVerdict::Person(_)
        ));
        assert_eq!(
            sign_in(&plugin, "anna", "wrong").await.unwrap(),
            DirectoryVerdict::WrongCredentials
        );
        assert_eq!(
            sign_in(&plugin, "nobody", "wrong").await.unwrap(),
            DirectoryVerdict::Unknown
        );
        // RFC 4513 section 5.1.2: a directory takes an empty password for an anonymous bind.
        let empty = sign_in(&plugin, "anna", "").await;
        assert!(
            !matches!(empty, Ok(DirectoryVerdict::Person(_))),
            "an empty password signed in: {empty:?}"
        );
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_not_trusted() {
    let slapd = slapd(true).await;
    let other = self::slapd(true).await;
    for transport in [Transport::StartTls, Transport::Ldaps] {
        let connection = LdapConnection {
            ca_pem: other.ca_pem().map(str::to_owned),
            ..slapd.connection(transport)
        };
        let fault = find(&directory(connection).await, "anna").await.unwrap_err();
        assert_eq!(fault.kind, russet_hooks::FaultKind::CouldNotDecide, "{fault}");
    }
}

#[tokio::test]
async fn wrong_credentials_of_the_server_are_a_fault() {
    let slapd = slapd(false).await;
    let connection = LdapConnection {
        bind_password: Some("not the password".to_owned().into()),
        ..slapd.connection(Transport::Plaintext)
    };
    let fault = find(&directory(connection).await, "anna").await.unwrap_err();
    assert!(fault.detail.contains("49"), "{fault}");
    assert!(!fault.detail.contains("not the password"), "{fault}");
}

#[tokio::test]
async fn nothing_outside_the_base_is_found() {
    let slapd = slapd(false).await;
    let connection = LdapConnection {
        base_dn: "ou=groups,dc=example,dc=org".to_owned(),
        ..slapd.connection(Transport::Plaintext)
    };
    assert_eq!(
        find(&directory(connection).await, "anna").await.unwrap(),
        DirectoryVerdict::Unknown
    );
}

/// A directory where anna is in 150 groups, and that gives anna 100 entries at once; with the plugin, which asks as anna.
async fn many_groups(limits: &str) -> (Slapd, LoadedPlugin) {
    let mut ldif = ENTRIES.to_owned();
    for number in 0..148 {
        ldif.push_str(&format!(
            "\ndn: cn=team{number},ou=groups,dc=example,dc=org\nobjectClass: groupOfNames\ncn: team{number}\n\
             member: uid=anna,ou=people,dc=example,dc=org\n"
        ));
    }
    let options = SlapdOptions {
        suffix: "dc=example,dc=org".to_owned(),
        ldif,
        tls: false,
    };
    let slapd = Slapd::start_with_limits(options, limits).await.unwrap();
    // No limit holds for the administrator.
    let connection = LdapConnection {
        bind_dn: Some("uid=anna,ou=people,dc=example,dc=org".to_owned()),
        bind_password: Some("correct horse".to_owned().into()),
        ..slapd.connection(Transport::Plaintext)
    };
    let plugin = directory(connection).await;
    (slapd, plugin)
}

#[tokio::test]
async fn more_groups_than_the_directory_gives_at_once_are_all_found() {
    let (_slapd, plugin) = many_groups("size.soft=100 size.prtotal=unlimited").await;
    let DirectoryVerdict::Person(anna) = find(&plugin, "anna").await.unwrap() else {
        panic!("anna is not known");
    };
    assert_eq!(anna.groups.len(), 150);
}

#[tokio::test]
async fn a_part_of_the_groups_does_not_pass_for_all() {
    let (_slapd, plugin) = many_groups("size.soft=100 size.prtotal=120").await;
    let fault = find(&plugin, "anna").await.unwrap_err();
    assert_eq!(fault.kind, russet_hooks::FaultKind::CouldNotDecide, "{fault}");
    assert!(fault.detail.contains("result 4"), "{fault}");
}

#[tokio::test]
async fn a_connection_that_broke_is_made_again() {
    let mut slapd = slapd(false).await;
    let plugin = directory(LdapConnection {
        timeout: Duration::from_secs(2),
        ..slapd.connection(Transport::Plaintext)
    })
    .await;
    assert!(matches!(find(&plugin, "anna").await, Ok(DirectoryVerdict::Person(_))));
    slapd.stop();
    assert!(find(&plugin, "anna").await.is_err());
    slapd.resume().await.unwrap();
    assert!(matches!(find(&plugin, "anna").await, Ok(DirectoryVerdict::Person(_))));
}

#[tokio::test]
async fn a_granted_connection_has_to_exist() {
    let loaded = LoadedPlugin::load(
        &engine(),
        &Connections::default(),
        &Ports::memory(),
        PluginSource {
            tenant: "default".into(),
            component: artifact("hostile").into(),
            settings: Some(common::mode("allow")),
            grants: common::hostile_grants(),
            limits: Limits::default(),
        },
    )
    .await;
    match loaded {
        Err(LoadError::UnknownConnection { name, .. }) => assert_eq!(name, "corp"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_is_checked_before_it_is_used() {
    let good = LdapConnection {
        url: "ldap://localhost".to_owned(),
        allow_plaintext: true,
        base_dn: "dc=example,dc=org".to_owned(),
        ..LdapConnection::default()
    };
    let with = |change: fn(&mut LdapConnection)| {
        let mut connection = good.clone();
        change(&mut connection);
        LdapConnections::new().insert("corp", connection)
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|c| c.allow_plaintext = false), Err(LdapConfigError::Plaintext));
    assert_eq!(
        with(|c| {
            c.url = "ldaps://localhost".to_owned();
            c.start_tls = true;
        }),
        Err(LdapConfigError::StartTlsOverTls)
    );
    for url in [
        "",
        "localhost",
        "http://localhost",
        "ldap://",
        "ldap://:389",
        "ldap://user@host",
        "ldap://host/dc=org",
    ] {
        let mut connection = good.clone();
        connection.url = url.to_owned();
        assert_eq!(
            LdapConnections::new().insert("corp", connection),
            Err(LdapConfigError::Url(url.to_owned())),
            "{url}"
        );
    }
    assert!(matches!(with(|c| c.base_dn.clear()), Err(LdapConfigError::Base(_))));
    assert!(matches!(
        with(|c| c.base_dn = "example".to_owned()),
        Err(LdapConfigError::Base(_))
    ));
    assert_eq!(
        with(|c| c.bind_dn = Some("cn=reader".to_owned())),
        Err(LdapConfigError::Credentials)
    );
    assert_eq!(
        with(|c| {
            c.bind_dn = Some("cn=reader".to_owned());
            c.bind_password = Some(String::new().into());
        }),
        Err(LdapConfigError::Credentials)
    );
    assert_eq!(with(|c| c.max_entries = 0), Err(LdapConfigError::Zero));
    assert!(matches!(
        with(|c| {
            c.start_tls = true;
            c.ca_pem = Some("no certificate".to_owned());
        }),
        Err(LdapConfigError::Trust(_))
    ));
}
