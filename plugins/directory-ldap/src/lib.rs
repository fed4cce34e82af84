//! Finds people in an LDAP directory and checks their passwords.
//!
//! A sign-in searches for the person with the connection's own credentials and then binds as the distinguished name that
//! was found. Several entries of one name are an error: nobody can tell whose password it is.

mod dn;
mod groups;
mod settings;

use russet_plugin::Error;
use russet_plugin::directory::{Directory, Entry, SignIn};
use russet_plugin::ldap::{self, Search};
pub use settings::Settings;

/// The directory.
#[derive(Debug)]
pub struct Ldap;

impl Directory for Ldap {
    type Settings = Settings;

    fn sign_in(settings: Settings, user_name: &str, password: &str) -> Result<SignIn, Error> {
        let Some(found) = search(&settings, user_name)? else {
            return Ok(SignIn::Unknown);
        };
        // An empty password would be an anonymous bind, which succeeds.
        if password.is_empty() || !ldap::bind(&settings.connection, &found.dn, password)? {
            return Ok(SignIn::WrongCredentials);
        }
        Ok(SignIn::Person(person(&settings, found, user_name)?))
    }

    fn find(settings: Settings, user_name: &str) -> Result<Option<Entry>, Error> {
        search(&settings, user_name)?
            .map(|found| person(&settings, found, user_name))
            .transpose()
    }
}

/// The one entry of this name.
fn search(settings: &Settings, user_name: &str) -> Result<Option<ldap::Entry>, Error> {
    if user_name.is_empty() {
        return Ok(None);
    }
    let mut search = Search::under(&settings.connection)
        .filter(settings.user_filter(), [user_name])
        .attributes(settings.wanted())
        .limit(2);
    search.base = settings.base.clone();
    let mut found = search.run()?;
    if found.len() > 1 {
        return Err("the user filter finds several people of this name; make `user_filter` or `base` narrower".into());
    }
    Ok(found.pop())
}

/// The person behind an entry, with the groups.
fn person(settings: &Settings, found: ldap::Entry, typed: &str) -> Result<Entry, Error> {
    let first = |name: &str| found.first(name).map(str::to_owned);
    let facts = settings.facts();
    let user_name = first(&facts.user_name).unwrap_or_else(|| typed.to_owned());
    let attributes = settings
        .extra_attributes
        .iter()
        .map(|name| (name.clone(), found.all(name).to_vec()))
        .filter(|(_, values)| !values.is_empty())
        .collect();
    Ok(Entry {
        full_name: first(&facts.full_name),
        email: first(&facts.email),
        groups: groups::of(settings, &found, &user_name)?,
        attributes,
        user_name,
        id: found.dn,
    })
}

russet_plugin::directory!(Ldap);

#[cfg(test)]
mod tests;
