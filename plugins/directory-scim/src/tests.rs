use std::cell::RefCell;
use std::rc::Rc;

use russet_plugin::http::{Request, Response};
use russet_plugin::testing::Host;
use serde_json::{Value, json};

use super::*;

type Answer = fn() -> Response;

/// Answers by path, and keeps what was asked.
fn service(
    answers: &'static [(&'static str, Answer)],
) -> (russet_plugin::testing::Installed, Rc<RefCell<Vec<String>>>) {
    let asked: Rc<RefCell<Vec<String>>> = Rc::default();
    let log = Rc::clone(&asked);
    let host = Host::new().http("people", move |request: &Request| {
        assert_eq!(request.method, "GET");
        log.borrow_mut().push(request.path.clone());
        let answer = answers.iter().find(|(start, _)| request.path.starts_with(start));
        Ok(answer.map_or_else(|| Response::new(404), |(_, answer)| answer()))
    });
    (host.install(), asked)
}

fn settings(more: Value) -> Settings {
    let mut settings = json!({"connection": "people"});
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

fn ok(body: Value) -> Response {
    Response::new(200).with_json(&body)
}

fn anna() -> Response {
    ok(json!({"totalResults": 1, "Resources": [{
        "id": "2819c223", "userName": "anna@example.com", "displayName": "Anna Example", "active": true,
        "emails": [{"value": "a@home.example"}, {"value": "anna@example.com", "primary": true}],
        "groups": [{"value": "g1", "display": "Staff"}],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "IT"}
    }]}))
}

#[test]
fn scim_finds_a_person_with_groups_and_attributes() {
    let (_host, asked) = service(&[
        ("/Users?", anna),
        ("/Groups?", || {
            ok(json!({"totalResults": 2, "Resources": [{"displayName": "Staff"}, {"displayName": "Mac Admins"}]}))
        }),
    ]);
    let department = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User/department";
    let settings =
        settings(json!({"domain": "example.com", "attributes": {"department": department, "floor": "floor"}}));
    let entry = Scim::find(settings, "anna").unwrap().unwrap();
    assert_eq!(entry.id, "2819c223");
    assert_eq!(entry.full_name.as_deref(), Some("Anna Example"));
    assert_eq!(entry.email.as_deref(), Some("anna@example.com"));
    assert_eq!(entry.groups, ["Staff", "Mac Admins"]);
    assert_eq!(entry.attributes, [("department".to_owned(), vec!["IT".to_owned()])]);
    let asked = asked.borrow();
    assert_eq!(
        asked[0],
        "/Users?filter=userName%20eq%20%22anna%40example.com%22&count=2"
    );
    assert!(
        asked[1].starts_with("/Groups?filter=members.value%20eq%20%222819c223%22"),
        "{asked:?}"
    );
}

#[test]
fn a_name_cannot_change_the_question() {
    let (_host, asked) = service(&[("/Users?", || ok(json!({"totalResults": 0})))]);
    let hostile = "x\" or userName pr or \"";
    assert_eq!(Scim::find(settings(json!({})), hostile).unwrap(), None);
    // The quotation marks are escaped, as JSON does it.
    assert!(
        asked.borrow()[0].contains("%22x%5C%22%20or%20userName%20pr%20or%20%5C%22%22"),
        "{asked:?}"
    );
}

#[test]
fn a_disabled_account_is_nobody() {
    let (_host, _) = service(&[
        ("/Users?", || {
            ok(json!({"totalResults": 1, "Resources": [{"id": "1", "userName": "a", "active": false}]}))
        }),
        ("/users/", || ok(json!({"id": "1", "accountEnabled": false}))),
    ]);
    assert_eq!(Scim::find(settings(json!({})), "a").unwrap(), None);
    assert_eq!(Scim::find(settings(json!({"service": "graph"})), "a").unwrap(), None);
}

#[test]
fn two_people_of_one_name_are_an_error() {
    let (_host, _) = service(&[("/Users?", || {
        ok(json!({"totalResults": 2, "Resources": [{"id": "1"}, {"id": "2"}]}))
    })]);
    assert!(Scim::find(settings(json!({})), "a").is_err());
}

#[test]
fn graph_follows_pages_without_leaving_the_address() {
    let (_host, asked) = service(&[
        ("/users/7/transitiveMemberOf/microsoft.graph.group?$skiptoken", || {
            ok(json!({"value": [{"displayName": "Berlin"}]}))
        }),
        ("/users/7/transitiveMemberOf", || {
            ok(json!({
                "value": [{"displayName": "Staff"}],
                "@odata.nextLink": "https://elsewhere.example/v1.0/steal?$skiptoken=abc"
            }))
        }),
        ("/users/anna%40example.com?", || {
            ok(json!({"id": "7", "userPrincipalName": "anna@example.com", "displayName": "Anna", "department": "IT"}))
        }),
    ]);
    let settings = settings(json!({"service": "graph", "attributes": {"department": "department"}}));
    let entry = Scim::find(settings, "anna@example.com").unwrap().unwrap();
    assert_eq!(entry.groups, ["Staff", "Berlin"]);
    assert_eq!(entry.attributes, [("department".to_owned(), vec!["IT".to_owned()])]);
    assert_eq!(asked.borrow().len(), 3);
}

#[test]
fn who_is_not_there_is_unknown_and_a_broken_service_is_an_error() {
    let (_host, _) = service(&[("/Users?", || Response::new(503))]);
    assert_eq!(
        Scim::find(settings(json!({"service": "graph"})), "nobody").unwrap(),
        None
    );
    assert!(Scim::find(settings(json!({})), "anna").is_err());
    assert_eq!(
        Scim::sign_in(settings(json!({})), "anna", "secret").unwrap(),
        SignIn::Unknown
    );
}
