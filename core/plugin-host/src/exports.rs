//! The hooks that a component exports, as the host calls them.

use std::collections::BTreeSet;

use russet_hooks::HookKind;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Result, Store};

use crate::bindings::exports::russet::plugin as wit;
use crate::state::CallState;

/// Where the exports are; absent for hooks that the plugin does not implement.
pub(crate) struct Exports {
    pub(crate) gate: Option<wit::enrollment_gate::GuestIndices>,
    pub(crate) directory: Option<wit::directory::GuestIndices>,
    pub(crate) escrow: Option<wit::escrow_policy::GuestIndices>,
    pub(crate) template: Option<wit::profile_template::GuestIndices>,
    pub(crate) command: Option<wit::command_policy::GuestIndices>,
    pub(crate) planner: Option<wit::declaration_planner::GuestIndices>,
    pub(crate) observer: Option<wit::observer::GuestIndices>,
    pub(crate) scheduled: Option<wit::scheduled::GuestIndices>,
}

impl Exports {
    /// Looks the exports up by their names.
    pub(crate) fn find(pre: &InstancePre<CallState>, hooks: &BTreeSet<HookKind>) -> Result<Self> {
        macro_rules! find {
            ($hook:ident, $interface:ident) => {
                hooks
                    .contains(&HookKind::$hook)
                    .then(|| wit::$interface::GuestIndices::new(pre))
                    .transpose()?
            };
        }
        Ok(Self {
            gate: find!(EnrollmentGate, enrollment_gate),
            directory: find!(Directory, directory),
            escrow: find!(EscrowPolicy, escrow_policy),
            template: find!(ProfileTemplate, profile_template),
            command: find!(CommandPolicy, command_policy),
            planner: find!(DeclarationPlanner, declaration_planner),
            observer: find!(Observer, observer),
            scheduled: find!(Scheduled, scheduled),
        })
    }

    /// Checks the types of the exports: a record that changed shows only in an instance.
    pub(crate) fn check(&self, store: &mut Store<CallState>, instance: &Instance) -> Result<()> {
        macro_rules! check {
            ($($field:ident),*) => {
                $(if let Some(indices) = &self.$field {
                    indices.load(&mut *store, instance)?;
                })*
            };
        }
        check!(gate, directory, escrow, template, command, planner, observer, scheduled);
        Ok(())
    }
}
