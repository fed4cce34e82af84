//! What the operator sets; `settings.schema.json` describes it.

use serde::Deserialize;

/// The settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub(crate) connection: String,
    #[serde(default)]
    pub(crate) kind: Kind,
    pub(crate) base: Option<String>,
    user_filter: Option<String>,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    pub(crate) extra_attributes: Vec<String>,
    #[serde(default = "searched")]
    groups: Option<GroupSearch>,
    pub(crate) member_of: Option<String>,
}

/// What the server is: the defaults of everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    #[default]
    Openldap,
    ActiveDirectory,
}

/// Which attributes hold what, where they are not the usual ones.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Attributes {
    user_name: Option<String>,
    full_name: Option<String>,
    email: Option<String>,
}

/// How groups are searched for, where that is not the usual way.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GroupSearch {
    base: Option<String>,
    filter: Option<String>,
    name: Option<String>,
    nested: bool,
}

/// Which attributes hold what.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) user_name: String,
    pub(crate) full_name: String,
    pub(crate) email: String,
}

/// How groups are searched for.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    pub(crate) base: Option<String>,
    pub(crate) filter: String,
    pub(crate) name: String,
    pub(crate) nested: bool,
}

// A member_of setting makes the search needless; see `Settings::group_search`.
fn searched() -> Option<GroupSearch> {
    Some(GroupSearch::default())
}

impl Kind {
    /// Finds a person. Accounts that are disabled are nobody's in Active Directory.
    fn user_filter(self) -> &'static str {
        match self {
            Self::Openldap => "(&(objectClass=inetOrgPerson)(uid={0}))",
            Self::ActiveDirectory => {
                "(&(objectCategory=person)(objectClass=user)(!(userAccountControl:1.2.840.113556.1.4.803:=2))\
                 (|(sAMAccountName={0})(userPrincipalName={0})))"
            }
        }
    }

    /// Finds the groups of a person. Active Directory follows groups within groups by itself.
    fn group_filter(self) -> &'static str {
        match self {
            Self::Openldap => "(&(objectClass=groupOfNames)(member={0}))",
            Self::ActiveDirectory => "(&(objectCategory=group)(member:1.2.840.113556.1.4.1941:={0}))",
        }
    }

    fn facts(self) -> [&'static str; 3] {
        match self {
            Self::Openldap => ["uid", "cn", "mail"],
            Self::ActiveDirectory => ["sAMAccountName", "displayName", "mail"],
        }
    }
}

impl Settings {
    pub(crate) fn user_filter(&self) -> &str {
        self.user_filter.as_deref().unwrap_or(self.kind.user_filter())
    }

    pub(crate) fn facts(&self) -> Facts {
        let [user_name, full_name, email] = self.kind.facts();
        let or = |own: &Option<String>, usual: &str| own.clone().unwrap_or_else(|| usual.to_owned());
        Facts {
            user_name: or(&self.attributes.user_name, user_name),
            full_name: or(&self.attributes.full_name, full_name),
            email: or(&self.attributes.email, email),
        }
    }

    /// The search for groups, unless the person's own entry tells them.
    pub(crate) fn group_search(&self) -> Option<Groups> {
        let groups = self.groups.as_ref().filter(|_| self.member_of.is_none())?;
        Some(Groups {
            base: groups.base.clone(),
            filter: groups
                .filter
                .clone()
                .unwrap_or_else(|| self.kind.group_filter().to_owned()),
            name: groups.name.clone().unwrap_or_else(|| "cn".to_owned()),
            nested: groups.nested,
        })
    }

    /// The attributes to ask for, each once.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let Facts {
            user_name,
            full_name,
            email,
        } = self.facts();
        let mut wanted: Vec<String> = Vec::new();
        let all = [user_name, full_name, email]
            .into_iter()
            .chain(self.extra_attributes.iter().cloned())
            .chain(self.member_of.clone());
        for name in all {
            if !wanted.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                wanted.push(name);
            }
        }
        wanted
    }
}
