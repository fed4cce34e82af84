//! The client against a real directory: what it lets through, and what it refuses before the directory is asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use tokio::time::Instant;

use super::{LdapClient, LdapConnection};
use crate::ports::{CallError, LdapPort, LdapScope, LdapSearch};
use crate::testing::{Slapd, SlapdOptions, Transport};

const BASE: &str = "ou=people,dc=example,dc=org";

/// Twenty people, one with a name that needs escaping, one with a picture.
fn entries() -> String {
    let mut ldif = String::from(
        "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n\
         dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: cn=secret,dc=example,dc=org\nobjectClass: organizationalRole\ncn: secret\n\n",
    );
    for number in 0..20 {
        ldif.push_str(&format!(
            "dn: uid=user{number},{BASE}\nobjectClass: inetOrgPerson\nuid: user{number}\ncn: User {number}\nsn: User\n\
             userPassword: password{number}\n\n"
        ));
    }
    ldif.push_str(&format!(
        "dn: uid=odd,{BASE}\nobjectClass: inetOrgPerson\nuid: odd\ncn: O*dd (the) \\ one\nsn: Odd\n\
         jpegPhoto:: /9j/4AAQSkZJRgD/gIE=\n"
    ));
    ldif
}

async fn directory() -> (Slapd, LdapConnection) {
    let slapd = Slapd::start(SlapdOptions {
        suffix: "dc=example,dc=org".to_owned(),
        ldif: entries(),
        tls: false,
    })
    .await
    .unwrap();
    let connection = LdapConnection {
        base_dn: BASE.to_owned(),
        max_entries: 15,
        ..slapd.connection(Transport::Plaintext)
    };
    (slapd, connection)
}

fn client(connection: &LdapConnection) -> LdapClient {
    LdapClient::new("corp", connection.clone()).unwrap()
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn search(filter: &str, values: &[&str]) -> LdapSearch {
    LdapSearch {
        connection: "corp".to_owned(),
        base: None,
        scope: LdapScope::Subtree,
        filter: filter.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        attributes: vec!["uid".to_owned(), "cn".to_owned(), "jpegPhoto".to_owned()],
        limit: 0,
    }
}

#[tokio::test]
async fn values_find_exactly_what_they_say() {
    let (_slapd, connection) = directory().await;
    let client = client(&connection);
    let found = client
        .search(search("(cn={0})", &["O*dd (the) \\ one"]), deadline())
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].dn, "uid=odd,ou=people,dc=example,dc=org");
    // The picture is left out; the rest is sorted by name.
    let names: Vec<&str> = found[0].attributes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cn", "uid"]);
    assert!(
        client
            .search(search("(uid={0})", &["*"]), deadline())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn the_number_of_entries_is_capped() {
    let (_slapd, connection) = directory().await;
    let client = client(&connection);
    for (asked, given) in [(0, 15), (3, 3), (1_000, 15)] {
        let request = LdapSearch {
            limit: asked,
            ..search("(uid=user*)", &[])
        };
        assert_eq!(
            client.search(request, deadline()).await.unwrap().len(),
            given,
            "{asked}"
        );
    }
    // The connection is still good after a search that was cut.
    assert_eq!(
        client
            .search(search("(uid={0})", &["user7"]), deadline())
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_search_stays_below_the_base() {
    let (_slapd, connection) = directory().await;
    let client = client(&connection);
    for base in [
        "dc=example,dc=org",
        "cn=secret,dc=example,dc=org",
        "",
        "ou=people,dc=example,dc=net",
    ] {
        let request = LdapSearch {
            base: Some(base.to_owned()),
            ..search("(objectClass=*)", &[])
        };
        let error = client.search(request, deadline()).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid(_)), "{base}: {error:?}");
    }
    let request = LdapSearch {
        base: Some("UID=user1, OU=People,dc=example,dc=ORG".to_owned()),
        scope: LdapScope::Base,
        ..search("(objectClass=*)", &[])
    };
    assert_eq!(client.search(request, deadline()).await.unwrap().len(), 1);
    let request = LdapSearch {
        base: Some(format!("uid=gone,{BASE}")),
        ..search("(objectClass=*)", &[])
    };
    assert!(client.search(request, deadline()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_search_names_what_it_wants() {
    let (_slapd, connection) = directory().await;
    let client = client(&connection);
    for attributes in [vec![], vec!["*"], vec!["+"], vec!["u id"], vec!["uid"; 65]] {
        let request = LdapSearch {
            attributes: attributes.iter().map(|name| (*name).to_owned()).collect(),
            ..search("(uid=user1)", &[])
        };
        let error = client.search(request, deadline()).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid(_)), "{attributes:?}: {error:?}");
    }
}

#[tokio::test]
async fn credentials_are_checked_and_never_empty() {
    let (_slapd, connection) = directory().await;
    let client = client(&connection);
    let dn = format!("uid=user3,{BASE}");
    assert!(client.bind(&dn, "password3", deadline()).await.unwrap());
    assert!(!client.bind(&dn, "password4", deadline()).await.unwrap());
    assert!(!client.bind(&format!("uid=gone,{BASE}"), "x", deadline()).await.unwrap());
    for (dn, password) in [
        (dn.as_str(), ""),
        ("", "password3"),
        ("", ""),
        ("cn=admin,dc=example,dc=org", "x"),
    ] {
        let error = client.bind(dn, password, deadline()).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid(_)), "{dn}: {error:?}");
    }
}

#[tokio::test]
async fn a_search_that_is_not_answered_in_time_is_unavailable() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = LdapConnection {
        url: format!("ldap://{}", silent.local_addr().unwrap()),
        allow_plaintext: true,
        base_dn: BASE.to_owned(),
        ..LdapConnection::default()
    };
    let client = client(&connection);
    let soon = Instant::now() + Duration::from_millis(100);
    let error = client.search(search("(uid=user1)", &[]), soon).await.unwrap_err();
    assert!(matches!(error, CallError::Unavailable(_)), "{error:?}");
    let soon = Instant::now() + Duration::from_millis(100);
    let error = client
        .bind(&format!("uid=user1,{BASE}"), "password1", soon)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn searches_share_one_connection() {
    let (_slapd, connection) = directory().await;
    let client = std::sync::Arc::new(client(&connection));
    let mut searches = tokio::task::JoinSet::new();
    for number in 0..20 {
        let client = std::sync::Arc::clone(&client);
        searches.spawn(async move {
            let name = format!("user{number}");
            let found = client.search(search("(uid={0})", &[&name]), deadline()).await.unwrap();
            assert_eq!(found[0].dn, format!("uid={name},{BASE}"));
        });
    }
    while let Some(done) = searches.join_next().await {
        done.unwrap();
    }
}
