//! Named LDAP connections against a real directory, from within a component: pages, and values that would like to be filters.

use russet_plugin_host::LdapConnection;
use russet_plugin_host::testing::{Slapd, SlapdOptions, Transport};
use serde_json::{Value, json};

use crate::probe::{Load, Probe, nowhere};

const PEOPLE: usize = 1_300;

/// More people than slapd gives at once, and one whose name needs escaping.
fn entries() -> String {
    let mut ldif = String::from(
        "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n\
         dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: people\n\n",
    );
    for number in 0..PEOPLE {
        ldif.push_str(&format!(
            "dn: uid=user{number},ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: user{number}\n\
             cn: User {number}\nsn: User\nuserPassword: password{number}\n\n"
        ));
    }
    ldif.push_str(
        "dn: uid=odd,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: odd\ncn: O*dd (the) \\ one\nsn: Odd\n",
    );
    ldif
}

async fn directory(max_entries: u32) -> (Slapd, Probe) {
    let slapd = Slapd::start(SlapdOptions {
        suffix: "dc=example,dc=org".to_owned(),
        ldif: entries(),
        tls: false,
    })
    .await
    .unwrap();
    let mut connections = nowhere();
    let connection = LdapConnection {
        base_dn: "ou=people,dc=example,dc=org".to_owned(),
        max_entries,
        // The administrator would get everything in one answer.
        bind_dn: Some("uid=user0,ou=people,dc=example,dc=org".to_owned()),
        bind_password: Some("password0".to_owned().into()),
        ..slapd.connection(Transport::Plaintext)
    };
    connections.ldap.insert("corp", connection).unwrap();
    let load = Load {
        connections,
        ..Load::default()
    };
    (slapd, load.granted().await)
}

fn search(filter: &str, values: &[&str], limit: u32) -> Value {
    json!({
        "do": "ldap-search", "connection": "corp", "filter": filter, "values": values, "attribute": "uid", "limit": limit,
    })
}

fn names(given: &Value) -> Vec<&str> {
    let entries = given.as_array().unwrap_or_else(|| panic!("{given}"));
    entries.iter().map(|name| name.as_str().unwrap()).collect()
}

#[tokio::test]
async fn more_than_a_page_is_fetched_page_by_page() {
    let (_slapd, probe) = directory(5_000).await;
    let given = probe.one(search("(uid=user*)", &[], 0)).await;
    let mut found = names(&given);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), PEOPLE, "each once, and all of them");
    // As many as asked for: on a page's edge, in the middle of a page, in the first one.
    for limit in [1_000, 777, 500, 3] {
        let given = probe.one(search("(uid=user*)", &[], limit)).await;
        assert_eq!(names(&given).len(), limit as usize);
    }
    // Several at once do not take each other's place.
    let many = search("(uid=user*)", &[], 2_000);
    let steps = [json!([many]), json!([many]), json!([many])];
    let given = futures::future::join_all(steps.map(|steps| probe.run(steps))).await;
    for given in given {
        assert_eq!(names(&given[0]).len(), PEOPLE);
    }
}

#[tokio::test]
async fn the_connection_caps_what_is_asked_for() {
    let (_slapd, probe) = directory(600).await;
    for limit in [0, 5_000] {
        let given = probe.one(search("(uid=user*)", &[], limit)).await;
        assert_eq!(names(&given).len(), 600);
    }
}

#[tokio::test]
async fn no_value_becomes_a_filter() {
    let (_slapd, probe) = directory(5_000).await;
    assert_eq!(names(&probe.one(search("(uid={0})", &["user7"], 10)).await), ["user7"]);
    assert_eq!(
        names(&probe.one(search("(cn={0})", &["O*dd (the) \\ one"], 10)).await),
        ["odd"]
    );
    for value in [
        "*",
        "user7)(uid=*",
        "user7)(|(uid=*",
        "\\2a",
        "user7\0",
        "*)(objectClass=*",
    ] {
        let given = probe.one(search("(uid={0})", &[value], 10)).await;
        assert_eq!(names(&given), [""; 0], "{value}");
    }
    for filter in ["({0}=user7)", "({0})", "(uid={1})", "(uid={0}", "uid={0})("] {
        let error = probe.error(search(filter, &["uid=*"], 10)).await;
        assert!(error.starts_with("Invalid"), "{filter}: {error}");
    }
}

#[tokio::test]
async fn credentials_are_checked_and_not_written_down() {
    let (slapd, probe) = directory(10).await;
    let bind =
        |dn: &str, password: &str| json!({"do": "ldap-bind", "connection": "corp", "dn": dn, "password": password});
    let dn = "uid=user3,ou=people,dc=example,dc=org";
    let steps = json!([
        bind(dn, "password3"),
        bind(dn, "password4-wrong"),
        bind(dn, ""),
        bind("cn=admin,dc=example,dc=org", "password3"),
    ]);
    let (given, record) = probe.recorded(&steps).await;
    assert_eq!(given[0], json!(true));
    assert_eq!(given[1], json!(false));
    assert!(given[2]["error"].as_str().unwrap().starts_with("Invalid"), "{given}");
    assert!(given[3]["error"].as_str().unwrap().starts_with("Invalid"), "{given}");
    assert_eq!(record.journal.len(), 4);
    let written = format!("{:?}", record.journal);
    assert!(written.contains("user3") && !written.contains("password3"), "{written}");
    assert!(!written.contains("password4"), "{written}");
    // And still the same answers, without a directory.
    drop(slapd);
    let (again, _) = probe.replayed(&steps, &record.journal, true).await;
    assert_eq!(again.unwrap(), given);
}
