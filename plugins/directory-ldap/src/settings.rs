//! What the operator sets; `settings.schema.json` describes it.

use serde::Deserialize;

/// The settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub(crate) connection: String,
    pub(crate) base: Option<String>,
    #[serde(default = "user_filter")]
    pub(crate) user_filter: String,
    #[serde(default)]
    pub(crate) attributes: Attributes,
    #[serde(default)]
    pub(crate) extra_attributes: Vec<String>,
    #[serde(default = "groups")]
    pub(crate) groups: Option<Groups>,
    pub(crate) member_of: Option<String>,
}

/// Which attributes hold what.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Attributes {
    pub(crate) user_name: String,
    pub(crate) full_name: String,
    pub(crate) email: String,
}

/// How groups are searched for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Groups {
    pub(crate) base: Option<String>,
    pub(crate) filter: String,
    pub(crate) name: String,
}

fn user_filter() -> String {
    "(&(objectClass=inetOrgPerson)(uid={0}))".to_owned()
}

// A member_of setting makes the search needless; see `Settings::group_search`.
fn groups() -> Option<Groups> {
    Some(Groups::default())
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            user_name: "uid".to_owned(),
            full_name: "cn".to_owned(),
            email: "mail".to_owned(),
        }
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            base: None,
            filter: "(&(objectClass=groupOfNames)(member={0}))".to_owned(),
            name: "cn".to_owned(),
        }
    }
}

impl Settings {
    /// The search for groups, unless the person's own entry tells them.
    pub(crate) fn group_search(&self) -> Option<&Groups> {
        self.groups.as_ref().filter(|_| self.member_of.is_none())
    }

    /// The attributes to ask for, each once.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let Attributes {
            user_name,
            full_name,
            email,
        } = &self.attributes;
        let mut wanted: Vec<String> = Vec::new();
        let all = [user_name, full_name, email]
            .into_iter()
            .chain(&self.extra_attributes)
            .chain(&self.member_of);
        for name in all {
            if !wanted.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                wanted.push(name.clone());
            }
        }
        wanted
    }
}
