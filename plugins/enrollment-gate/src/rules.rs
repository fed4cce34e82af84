//! Rules of the operator's own, asked before the simple settings: the first that fits decides.

use std::collections::BTreeMap;

use russet_plugin::Device;
use russet_plugin::condition::{Condition, Facts};
use russet_plugin::gate::{EnrollmentRequest, SoftwareUpdate, Verdict};
use serde::Deserialize;

use crate::settings::{MinimumOs, Owner};

/// What is decided where a condition holds.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Rule {
    stages: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    ownership: Option<Vec<Owner>>,
    replaces: Option<bool>,
    when: Condition,
    decision: Decision,
}

#[derive(Clone, Debug)]
enum Decision {
    Allow(BTreeMap<String, String>),
    Deny { reason: String, message: String },
    RequireSignIn,
    RequireUpdate(MinimumOs),
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Open lists, as the host names them.
    #[serde(default)]
    stages: Option<Vec<String>>,
    #[serde(default)]
    methods: Option<Vec<String>>,
    #[serde(default)]
    ownership: Option<Vec<Owner>>,
    #[serde(default)]
    replaces: Option<bool>,
    #[serde(default)]
    when: Condition,
    decision: Kind,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    os: Option<MinimumOs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Allow,
    Deny,
    RequireSignIn,
    RequireUpdate,
}

impl TryFrom<Written> for Rule {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let decision = match written.decision {
            Kind::Allow => Decision::Allow(written.attributes),
            Kind::Deny => Decision::Deny {
                reason: written.reason.ok_or("a rule that denies has a `reason`")?,
                message: written.message.ok_or("a rule that denies has a `message`")?,
            },
            Kind::RequireSignIn => Decision::RequireSignIn,
            Kind::RequireUpdate => {
                Decision::RequireUpdate(written.os.ok_or("a rule that requires an update has an `os`")?)
            }
        };
        Ok(Self {
            stages: written.stages,
            methods: written.methods,
            ownership: written.ownership,
            replaces: written.replaces,
            when: written.when,
            decision,
        })
    }
}

/// What the first rule that fits decides. `common` are the attributes of everything that is let in.
pub(crate) fn decide(
    rules: &[Rule],
    common: &BTreeMap<String, String>,
    request: &EnrollmentRequest,
    device: &Device,
) -> Option<Verdict> {
    if rules.is_empty() {
        return None;
    }
    let person = request.person();
    let facts = Facts::of(device, person.as_ref());
    let rule = rules.iter().find(|rule| rule.fits(request, &facts))?;
    Some(match &rule.decision {
        Decision::Allow(attributes) => {
            let mut all = common.clone();
            all.extend(attributes.clone());
            Verdict::allow_with(all)
        }
        Decision::Deny { reason, message } => Verdict::deny(reason, message),
        // Who is signed in already would be asked without end.
        Decision::RequireSignIn if person.is_some() => Verdict::allow_with(common.clone()),
        Decision::RequireSignIn => Verdict::RequireSignIn,
        Decision::RequireUpdate(os) => Verdict::RequireSoftwareUpdate(SoftwareUpdate {
            os_version: os.version().to_string(),
            build_version: os.build().map(str::to_owned),
            beta: None,
        }),
    })
}

impl Rule {
    fn fits(&self, request: &EnrollmentRequest, facts: &Facts<'_>) -> bool {
        let named = |names: &Option<Vec<String>>, name: &str| {
            names
                .as_ref()
                .is_none_or(|names| names.iter().any(|known| known == name))
        };
        named(&self.stages, request.stage().as_str())
            && named(&self.methods, request.method().as_str())
            && self.ownership.as_ref().is_none_or(|owners| {
                let ownership = request.ownership();
                owners.iter().any(|owner| owner.is(ownership))
            })
            && self
                .replaces
                .is_none_or(|wanted| request.replaces().is_some() == wanted)
            && self.when.holds(facts)
    }
}
