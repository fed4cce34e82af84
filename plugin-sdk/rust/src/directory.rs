//! `directory`: who a person is.

use serde::de::DeserializeOwned;

use crate::Error;
use crate::bindings::directory::exports::russet::plugin::directory as wire;

/// Knows people. Several directories: the first that knows the person answers.
pub trait Directory {
    /// The plugin's settings; `()` if it has none.
    type Settings: DeserializeOwned + 'static;

    /// Checks credentials.
    ///
    /// # Errors
    ///
    /// An error means that the directory could not tell. The sign-in is refused.
    fn sign_in(settings: Self::Settings, user_name: &str, password: &str) -> Result<SignIn, Error>;

    /// Looks a person up without credentials. `None` is a person that this directory does not know.
    ///
    /// # Errors
    ///
    /// An error means that the directory could not tell. The person counts as unknown.
    fn find(settings: Self::Settings, user_name: &str) -> Result<Option<Entry>, Error>;
}

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The directory's stable identifier, such as an LDAP distinguished name.
    pub id: String,
    /// The name that the person signs in with.
    pub user_name: String,
    /// The full name.
    pub full_name: Option<String>,
    /// The mail address.
    pub email: Option<String>,
    /// The names of the groups that the person belongs to.
    pub groups: Vec<String>,
    /// Further attributes.
    pub attributes: Vec<(String, Vec<String>)>,
}

/// The answer to a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// The credentials are right.
    Person(Entry),
    /// This directory does not know the name; the next one is asked.
    Unknown,
    /// The name is known and the password is wrong.
    WrongCredentials,
}

impl From<Entry> for wire::PersonEntry {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            user_name: entry.user_name,
            full_name: entry.full_name,
            email: entry.email,
            groups: entry.groups,
            attributes: entry.attributes,
        }
    }
}

impl From<SignIn> for wire::SignInAnswer {
    fn from(answer: SignIn) -> Self {
        match answer {
            SignIn::Person(entry) => Self::Person(entry.into()),
            SignIn::Unknown => Self::Unknown,
            SignIn::WrongCredentials => Self::WrongCredentials,
        }
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __sign_in<D: Directory>(user_name: &str, password: &str) -> Result<wire::SignInAnswer, String> {
    crate::glue::call(|settings| D::sign_in(settings, user_name, password).map(wire::SignInAnswer::from))
}

/// What the macro calls.
#[doc(hidden)]
pub fn __find<D: Directory>(user_name: &str) -> Result<Option<wire::PersonEntry>, String> {
    crate::glue::call(|settings| D::find(settings, user_name).map(|found| found.map(wire::PersonEntry::from)))
}

/// Exports a type as the plugin's directory.
///
/// The type implements [`directory::Directory`](crate::directory::Directory).
#[macro_export]
macro_rules! directory {
    ($directory:ty) => {
        $crate::__export!(directory, $crate::directory::Directory, $directory, {
            fn sign_in(
                user_name: String,
                password: String,
            ) -> Result<$crate::bindings::directory::exports::russet::plugin::directory::SignInAnswer, String> {
                $crate::directory::__sign_in::<$directory>(&user_name, &password)
            }

            fn find(
                user_name: String,
            ) -> Result<Option<$crate::bindings::directory::exports::russet::plugin::directory::PersonEntry>, String>
            {
                $crate::directory::__find::<$directory>(&user_name)
            }
        });
    };
}
