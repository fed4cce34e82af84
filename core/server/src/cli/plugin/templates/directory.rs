//! Knows people: looks them up in LDAP over a connection of the server's.

use russet_plugin::directory::{Directory, Entry, SignIn};
use russet_plugin::{Error, ldap, log};

/// The directory.
#[derive(Debug)]
pub struct People;

/// What the operator sets; `settings.schema.json` says the same to the server.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    /// The name of the server's LDAP connection.
    pub connection: String,
}

impl Directory for People {
    type Settings = Settings;

    fn sign_in(settings: Settings, user_name: &str, password: &str) -> Result<SignIn, Error> {
        let Some(entry) = look_up(&settings, user_name)? else {
            return Ok(SignIn::Unknown);
        };
        if ldap::bind(&settings.connection, &entry.id, password)? {
            return Ok(SignIn::Person(entry));
        }
        log::info(format_args!("wrong password for {user_name}"));
        Ok(SignIn::WrongCredentials)
    }

    fn find(settings: Settings, user_name: &str) -> Result<Option<Entry>, Error> {
        look_up(&settings, user_name)
    }
}

fn look_up(settings: &Settings, user_name: &str) -> Result<Option<Entry>, Error> {
    let found = ldap::Search::under(&settings.connection)
        .filter("(&(objectClass=person)(uid={0}))", [user_name])
        .attributes(["uid", "cn", "mail"])
        .limit(2)
        .run()?;
    match found.as_slice() {
        [] => Ok(None),
        [person] => Ok(Some(Entry {
            id: person.dn.clone(),
            user_name: person.first("uid").unwrap_or(user_name).to_owned(),
            full_name: person.first("cn").map(str::to_owned),
            email: person.first("mail").map(str::to_owned),
            ..Entry::default()
        })),
        _ => Err("several people have this name".into()),
    }
}

russet_plugin::directory!(People);

#[cfg(test)]
mod tests {
    use russet_plugin::testing::{Host, Installed};

    use super::*;

    const DN: &str = "uid=ada,dc=example,dc=com";

    /// A directory that knows Ada, whose password is `engine`.
    fn with_ada() -> Installed {
        Host::new()
            .ldap_search(|search| {
                let ada = ldap::Entry::new(DN)
                    .with("uid", ["ada"])
                    .with("cn", ["Ada Lovelace"]);
                Ok(if search.values == ["ada"] {
                    vec![ada]
                } else {
                    Vec::new()
                })
            })
            .ldap_bind(|connection, dn, password| {
                Ok((connection, dn, password) == ("corp", DN, "engine"))
            })
            .install()
    }

    fn settings() -> Settings {
        Settings {
            connection: "corp".to_owned(),
        }
    }

    #[test]
    fn the_password_decides() {
        let _host = with_ada();
        let answer = People::sign_in(settings(), "ada", "engine").unwrap();
        assert!(matches!(answer, SignIn::Person(entry) if entry.id == DN));
        let answer = |name, password| People::sign_in(settings(), name, password);
        assert_eq!(answer("ada", "wrong"), Ok(SignIn::WrongCredentials));
        assert_eq!(answer("bob", "engine"), Ok(SignIn::Unknown));
    }

    #[test]
    fn people_are_found_without_a_password() {
        let _host = with_ada();
        assert_eq!(People::find(settings(), "ada").unwrap().unwrap().id, DN);
        assert_eq!(People::find(settings(), "bob"), Ok(None));
    }
}
