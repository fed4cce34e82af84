//! SCIM 2.0 (RFC 7643, RFC 7644).

use russet_plugin::directory::Entry;
use russet_plugin::http::{self, Request};
use russet_plugin::{Error, log};
use serde_json::Value;

use crate::MAX_GROUPS;
use crate::record::{attributes, text};
use crate::settings::{Groups, Settings};

/// How many groups are asked for at once.
const PAGE: usize = 200;

pub(crate) fn find(settings: &Settings, user_name: &str) -> Result<Option<Entry>, Error> {
    let search = http::get(&settings.connection, "/Users")
        .query("filter", &equals("userName", user_name))
        .query("count", "2");
    let mut found = resources(ask(search)?)?;
    if found.len() > 1 {
        return Err(Error::new("the service knows several people of this name"));
    }
    let Some(user) = found
        .pop()
        .filter(|user| user.get("active") != Some(&Value::Bool(false)))
    else {
        return Ok(None);
    };
    let id = text(&user, "id").ok_or_else(|| Error::new("the service gave a person without an id"))?;
    let groups = match settings.groups {
        Groups::None => Vec::new(),
        Groups::Member => own_groups(&user),
        Groups::Search => groups_with(settings, &id)?,
    };
    Ok(Some(Entry {
        full_name: full_name(&user),
        email: email(&user),
        attributes: attributes(&user, &settings.attributes),
        user_name: text(&user, "userName").unwrap_or_else(|| user_name.to_owned()),
        groups,
        id,
    }))
}

/// A filter (RFC 7644 section 3.4.2.2). Values are JSON strings, so no name can end one early.
fn equals(attribute: &str, value: &str) -> String {
    format!("{attribute} eq {}", Value::from(value))
}

fn ask(request: Request) -> Result<Value, Error> {
    request.header("accept", "application/scim+json").send()?.ok()?.json()
}

fn resources(mut answer: Value) -> Result<Vec<Value>, Error> {
    match answer.get_mut("Resources").map(Value::take) {
        Some(Value::Array(resources)) => Ok(resources),
        // Absent if nothing was found.
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(_) => Err(Error::new("the service's answer has no list of resources")),
    }
}

fn full_name(user: &Value) -> Option<String> {
    text(user, "displayName").or_else(|| text(user.get("name")?, "formatted"))
}

fn email(user: &Value) -> Option<String> {
    let emails = user.get("emails")?.as_array()?;
    let primary = emails
        .iter()
        .find(|email| email.get("primary") == Some(&Value::Bool(true)));
    text(primary.or(emails.first())?, "value")
}

fn own_groups(user: &Value) -> Vec<String> {
    let groups = user.get("groups").and_then(Value::as_array);
    let names = groups.into_iter().flatten().filter_map(|group| text(group, "display"));
    names.take(MAX_GROUPS).collect()
}

fn groups_with(settings: &Settings, id: &str) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    // Pages begin with 1 (RFC 7644 section 3.4.2.4).
    let mut start = 1;
    loop {
        let search = http::get(&settings.connection, "/Groups")
            .query("filter", &equals("members.value", id))
            .query("attributes", "displayName")
            .query("startIndex", &start.to_string())
            .query("count", &PAGE.to_string());
        let answer = ask(search)?;
        let total = answer.get("totalResults").and_then(Value::as_u64).unwrap_or(0);
        let page = resources(answer)?;
        start += page.len();
        names.extend(page.iter().filter_map(|group| text(group, "displayName")));
        if page.is_empty() || start as u64 > total {
            return Ok(names);
        }
        if names.len() >= MAX_GROUPS {
            log::warn(format_args!(
                "a person has more than {MAX_GROUPS} groups; the rest is left out"
            ));
            return Ok(names);
        }
    }
}
