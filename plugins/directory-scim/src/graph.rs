//! Microsoft Graph v1.0.

use russet_plugin::directory::Entry;
use russet_plugin::http::{self, Request};
use russet_plugin::{Error, log};
use serde_json::Value;

use crate::MAX_GROUPS;
use crate::record::{attributes, text};
use crate::settings::{Groups, Settings};

/// What is always read of a person.
const FACTS: &str = "id,userPrincipalName,displayName,mail,accountEnabled";

pub(crate) fn find(settings: &Settings, user_name: &str) -> Result<Option<Entry>, Error> {
    let extra = settings.attributes.values().filter_map(|path| path.split('/').next());
    let facts = extra.fold(FACTS.to_owned(), |facts, name| format!("{facts},{name}"));
    let answer = http::get(&settings.connection, "/users")
        .segment(user_name)
        .query("$select", &facts)
        .send()?;
    if answer.status == 404 {
        return Ok(None);
    }
    let user: Value = answer.ok()?.json()?;
    if user.get("accountEnabled") == Some(&Value::Bool(false)) {
        return Ok(None);
    }
    let id = text(&user, "id").ok_or_else(|| Error::new("the service gave a person without an id"))?;
    let groups = match settings.groups {
        Groups::None => Vec::new(),
        Groups::Member => groups(settings, &id, "memberOf")?,
        Groups::Search => groups(settings, &id, "transitiveMemberOf")?,
    };
    Ok(Some(Entry {
        full_name: text(&user, "displayName"),
        email: text(&user, "mail"),
        attributes: attributes(&user, &settings.attributes),
        user_name: text(&user, "userPrincipalName").unwrap_or_else(|| user_name.to_owned()),
        groups,
        id,
    }))
}

fn groups(settings: &Settings, id: &str, relation: &str) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut next = Some(
        http::get(&settings.connection, "/users")
            .segment(id)
            .segment(relation)
            .segment("microsoft.graph.group")
            .query("$select", "displayName")
            .query("$top", "999"),
    );
    while let Some(request) = next.take() {
        let page: Value = request.send()?.ok()?.json()?;
        let groups = page.get("value").and_then(Value::as_array);
        names.extend(
            groups
                .into_iter()
                .flatten()
                .filter_map(|group| text(group, "displayName")),
        );
        next = page
            .get("@odata.nextLink")
            .and_then(Value::as_str)
            .map(|link| following(settings, id, relation, link))
            .transpose()?;
        if names.len() >= MAX_GROUPS && next.is_some() {
            log::warn(format_args!(
                "a person has more than {MAX_GROUPS} groups; the rest is left out"
            ));
            next = None;
        }
    }
    Ok(names)
}

/// The request for the next page. Only the query of the link is used: the address stays the operator's.
fn following(settings: &Settings, id: &str, relation: &str, link: &str) -> Result<Request, Error> {
    let (_, query) = link
        .split_once('?')
        .ok_or_else(|| Error::new("the service gave a next page without a query"))?;
    let mut request = http::get(&settings.connection, "/users")
        .segment(id)
        .segment(relation)
        .segment("microsoft.graph.group");
    request.path.push('?');
    request.path.push_str(query);
    Ok(request)
}
