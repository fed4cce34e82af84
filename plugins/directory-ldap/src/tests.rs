//! The directory against a scripted host. That the host talks to a real server is tested with the host.

use russet_plugin::log::Level;
use russet_plugin::settings;
use russet_plugin::testing::{Host, Installed};

use super::*;

const ADA: &str = "uid=ada,ou=people,dc=example";

fn ada() -> ldap::Entry {
    ldap::Entry::new(ADA)
        .with("UID", ["ada"])
        .with("cn", ["Ada Lovelace", "Countess of Lovelace"])
        .with("mail", ["ada@example.org"])
        .with("departmentNumber", ["7"])
        .with(
            "memberOf",
            ["cn=Staff,ou=groups,dc=example", "not a name", "cn=Admins,dc=example"],
        )
}

/// A directory with one person, who is in two groups, and the password `engine`.
fn corp() -> Installed {
    Host::new()
        .ldap_search(|search| {
            assert_eq!(search.connection, "corp");
            Ok(match search.values.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["ada"] => vec![ada()],
                ["twin"] => vec![ada(), ada()],
                [ADA, "ada"] => vec![
                    ldap::Entry::new("cn=staff").with("cn", ["staff"]),
                    ldap::Entry::new("cn=admins").with("cn", ["admins"]),
                    ldap::Entry::new("cn=nameless"),
                ],
                _ => Vec::new(),
            })
        })
        .ldap_bind(|connection, dn, password| Ok((connection, dn, password) == ("corp", ADA, "engine")))
        .install()
}

fn settings(more: &str) -> Settings {
    settings::parse(&format!(r#"{{"connection": "corp"{more}}}"#)).unwrap()
}

#[test]
fn the_right_password_gives_the_person() {
    let _host = corp();
    assert_eq!(
        Ldap::sign_in(
            settings(r#", "extra_attributes": ["departmentNumber", "title"]"#),
            "ada",
            "engine"
        ),
        Ok(SignIn::Person(Entry {
            id: ADA.to_owned(),
            user_name: "ada".to_owned(),
            full_name: Some("Ada Lovelace".to_owned()),
            email: Some("ada@example.org".to_owned()),
            groups: vec!["admins".to_owned(), "staff".to_owned()],
            attributes: vec![("departmentNumber".to_owned(), vec!["7".to_owned()])],
        }))
    );
}

#[test]
fn wrong_and_empty_passwords_are_wrong() {
    let _host = corp();
    assert_eq!(
        Ldap::sign_in(settings(""), "ada", "Engine"),
        Ok(SignIn::WrongCredentials)
    );
    assert_eq!(Ldap::sign_in(settings(""), "ada", ""), Ok(SignIn::WrongCredentials));
}

#[test]
fn unknown_and_empty_names_are_unknown() {
    let _host = corp();
    assert_eq!(Ldap::sign_in(settings(""), "eve", "engine"), Ok(SignIn::Unknown));
    assert_eq!(Ldap::sign_in(settings(""), "", "engine"), Ok(SignIn::Unknown));
    assert_eq!(Ldap::find(settings(""), "eve"), Ok(None));
}

#[test]
fn several_people_of_one_name_are_an_error() {
    let _host = corp();
    let error = Ldap::sign_in(settings(""), "twin", "engine").unwrap_err();
    assert!(error.to_string().contains("several people"), "{error}");
    assert!(Ldap::find(settings(""), "twin").is_err());
}

#[test]
fn groups_come_from_the_entry_if_it_tells_them() {
    let _host = corp();
    let found = Ldap::find(settings(r#", "member_of": "memberof""#), "ada")
        .unwrap()
        .unwrap();
    assert_eq!(found.groups, ["Admins", "Staff"]);
}

#[test]
fn groups_can_be_left_alone() {
    let _host = corp();
    let found = Ldap::find(settings(r#", "groups": null"#), "ada").unwrap().unwrap();
    assert!(found.groups.is_empty());
}

#[test]
fn filters_bases_and_attributes_are_the_operators() {
    let _host = Host::new()
        .ldap_search(|search| {
            if search.values.len() == 1 {
                assert_eq!(search.filter, "(mail={0})");
                assert_eq!(search.base.as_deref(), Some("ou=people"));
                assert_eq!(search.attributes, ["mail", "cn", "title"]);
                assert_eq!(search.limit, 2);
                return Ok(vec![ldap::Entry::new("uid=1")]);
            }
            assert_eq!(search.filter, "(memberUid={1})");
            assert_eq!(search.base.as_deref(), Some("ou=groups"));
            assert_eq!(search.values, ["uid=1", "ada@example.org"]);
            Ok(Vec::new())
        })
        .install();
    let settings = settings(
        r#", "user_filter": "(mail={0})", "base": "ou=people", "extra_attributes": ["title"],
            "attributes": {"user_name": "mail"}, "groups": {"base": "ou=groups", "filter": "(memberUid={1})"}"#,
    );
    let found = Ldap::find(settings, "ada@example.org").unwrap().unwrap();
    assert_eq!(
        found.user_name, "ada@example.org",
        "as typed, because the entry does not tell"
    );
}

#[test]
fn too_many_groups_are_logged() {
    let host = Host::new()
        .ldap_search(|search| {
            let group = |n: u32| ldap::Entry::new(format!("cn={n}")).with("cn", [n.to_string()]);
            Ok(match search.values.len() {
                1 => vec![ada()],
                _ => (0..search.limit).map(group).collect(),
            })
        })
        .install();
    assert_eq!(Ldap::find(settings(""), "ada").unwrap().unwrap().groups.len(), 500);
    assert!(matches!(host.log()[..], [(Level::Warn, _)]));
}

#[test]
fn a_directory_that_fails_is_an_error() {
    let _host = Host::new()
        .ldap_search(|_| Err(ldap::Error::Unavailable("no answer in 2 s".to_owned())))
        .install();
    let error = Ldap::find(settings(""), "ada").unwrap_err();
    assert_eq!(error.to_string(), "ldap directory not available: no answer in 2 s");
}

#[test]
fn mistakes_in_settings_are_named() {
    let error = settings::parse::<Settings>("{}").unwrap_err();
    assert_eq!(error.to_string(), "settings: missing field `connection`");
}

#[test]
fn groups_within_groups_are_followed_and_circles_end() {
    let _host = Host::new()
        .ldap_search(|search| {
            let group = |name: &str| ldap::Entry::new(format!("cn={name}")).with("cn", [name]);
            Ok(match search.values.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["ada"] => vec![ada()],
                [ADA, "ada"] => vec![group("engineers"), group("analysts")],
                ["cn=engineers", "cn=analysts"] => {
                    assert_eq!(
                        search.filter,
                        "(|(&(objectClass=groupOfNames)(member={0}))(&(objectClass=groupOfNames)(member={1})))"
                    );
                    vec![group("staff"), group("ENGINEERS")]
                }
                ["cn=staff"] => vec![group("engineers"), group("everybody")],
                ["cn=everybody"] => vec![group("staff")],
                ref other => panic!("{other:?}"),
            })
        })
        .install();
    let settings = settings(r#", "groups": {"nested": true}"#);
    let entry = Ldap::find(settings, "ada").unwrap().unwrap();
    assert_eq!(entry.groups, ["analysts", "engineers", "everybody", "staff"]);
}

#[test]
fn active_directory_has_its_own_defaults() {
    let _host = Host::new()
        .ldap_search(|search| {
            Ok(if search.values == ["ada@example.org"] {
                assert!(search.filter.contains("(userPrincipalName={0})"), "{}", search.filter);
                assert_eq!(search.attributes, ["sAMAccountName", "displayName", "mail"]);
                vec![
                    ldap::Entry::new("CN=Ada,DC=example")
                        .with("sAMAccountName", ["ada"])
                        .with("displayName", ["Ada L."]),
                ]
            } else {
                assert_eq!(search.values, ["CN=Ada,DC=example", "ada"]);
                assert!(
                    search.filter.contains("member:1.2.840.113556.1.4.1941:={0}"),
                    "{}",
                    search.filter
                );
                vec![ldap::Entry::new("CN=Staff").with("cn", ["Staff"])]
            })
        })
        .install();
    let settings = settings(r#", "kind": "active-directory""#);
    let entry = Ldap::find(settings, "ada@example.org").unwrap().unwrap();
    assert_eq!(
        (entry.user_name.as_str(), entry.full_name.as_deref()),
        ("ada", Some("Ada L."))
    );
    assert_eq!(entry.groups, ["Staff"]);
}
