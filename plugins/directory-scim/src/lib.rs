//! Finds people, with their groups and attributes, through SCIM 2.0 or Microsoft Graph.
//!
//! Neither service checks passwords, so a sign-in is left to the next directory. A person whose account is disabled is not
//! known.

mod graph;
mod record;
mod scim;
mod settings;

use russet_plugin::Error;
use russet_plugin::directory::{Directory, Entry, SignIn};
use settings::Service;
pub use settings::Settings;

/// The most groups of one person that are read.
const MAX_GROUPS: usize = 1_000;

/// The directory.
#[derive(Debug)]
pub struct Scim;

impl Directory for Scim {
    type Settings = Settings;

    fn sign_in(_: Settings, _user_name: &str, _password: &str) -> Result<SignIn, Error> {
        Ok(SignIn::Unknown)
    }

    fn find(settings: Settings, user_name: &str) -> Result<Option<Entry>, Error> {
        if user_name.trim().is_empty() {
            return Ok(None);
        }
        let name = settings.whole(user_name.trim());
        match settings.service {
            Service::Scim => scim::find(&settings, &name),
            Service::Graph => graph::find(&settings, &name),
        }
    }
}

russet_plugin::directory!(Scim);

#[cfg(test)]
mod tests;
