//! The groups of a person: by what the entry says, by a search, and through groups that are members of groups.

use std::collections::BTreeSet;

use russet_plugin::ldap::{self, Search};
use russet_plugin::{Error, log};

use crate::dn;
use crate::settings::{Groups, Settings};

/// The most groups of one person that are read.
const MAX_GROUPS: usize = 500;

/// The most levels of groups within groups.
const MAX_LEVELS: usize = 10;

/// How many groups one search asks about.
const AT_ONCE: usize = 20;

/// The names of a person's groups, sorted.
pub(crate) fn of(settings: &Settings, person: &ldap::Entry, user_name: &str) -> Result<Vec<String>, Error> {
    let mut names = BTreeSet::new();
    if let Some(attribute) = &settings.member_of {
        names.extend(person.all(attribute).iter().filter_map(|dn| dn::first_value(dn)));
    }
    if let Some(groups) = settings.group_search() {
        let direct = search(
            settings,
            &groups,
            &groups.filter,
            vec![person.dn.clone(), user_name.to_owned()],
        )?;
        let mut known: BTreeSet<String> = direct.iter().map(|group| group.dn.to_lowercase()).collect();
        let mut level = direct;
        for _ in 0..MAX_LEVELS {
            names.extend(
                level
                    .iter()
                    .filter_map(|group| group.first(&groups.name).map(str::to_owned)),
            );
            if !groups.nested || level.is_empty() || known.len() >= MAX_GROUPS {
                break;
            }
            let mut next = Vec::new();
            for members in level.chunks(AT_ONCE) {
                let (filter, values) = any_member(&groups.filter, members);
                next.extend(search(settings, &groups, &filter, values)?);
            }
            // A group may be a member of itself, in a roundabout way.
            next.retain(|group| known.insert(group.dn.to_lowercase()));
            level = next;
        }
        if known.len() >= MAX_GROUPS {
            log::warn(format_args!(
                "a person has {MAX_GROUPS} groups or more; only the first are used"
            ));
        }
    }
    Ok(names.into_iter().collect())
}

fn search(settings: &Settings, groups: &Groups, filter: &str, values: Vec<String>) -> Result<Vec<ldap::Entry>, Error> {
    let mut search = Search::under(&settings.connection)
        .filter(filter, values)
        .attributes([groups.name.as_str()])
        .limit(MAX_GROUPS as u32);
    search.base = groups.base.clone();
    Ok(search.run()?)
}

/// The filter for groups that have any of these as a member: the operator's own filter once for each.
fn any_member(filter: &str, members: &[ldap::Entry]) -> (String, Vec<String>) {
    let all = (0..members.len()).map(|place| filter.replace("{0}", &format!("{{{place}}}")));
    let values = members.iter().map(|group| group.dn.clone()).collect();
    (format!("(|{})", all.collect::<String>()), values)
}
