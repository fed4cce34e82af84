//! Generated from `wit/`: the imports once, and the exports of each hook on their own, so that a plugin exports only the
//! hooks it implements. Not part of the public interface; plugins use the modules of each hook.

#![allow(
    unsafe_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused,
    clippy::all,
    clippy::unwrap_used,
    clippy::uninlined_format_args
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "capabilities",
    generate_all,
});

/// The exports of one hook, on the imports above.
macro_rules! hook {
    ($name:ident, $world:literal) => {
        pub mod $name {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                pub_export_macro: true,
                generate_all,
                with: {
                    "russet:plugin/context@0.1.0": crate::bindings::russet::plugin::context,
                    "russet:plugin/log@0.1.0": crate::bindings::russet::plugin::log,
                    "russet:plugin/settings@0.1.0": crate::bindings::russet::plugin::settings,
                    "russet:plugin/clock@0.1.0": crate::bindings::russet::plugin::clock,
                    "russet:plugin/random@0.1.0": crate::bindings::russet::plugin::random,
                    "russet:plugin/kv@0.1.0": crate::bindings::russet::plugin::kv,
                    "russet:plugin/inventory@0.1.0": crate::bindings::russet::plugin::inventory,
                    "russet:plugin/http@0.1.0": crate::bindings::russet::plugin::http,
                    "russet:plugin/ldap@0.1.0": crate::bindings::russet::plugin::ldap,
                    "russet:plugin/secrets@0.1.0": crate::bindings::russet::plugin::secrets,
                    "russet:plugin/signer@0.1.0": crate::bindings::russet::plugin::signer,
                    "russet:plugin/escrow-secret@0.1.0": crate::bindings::russet::plugin::escrow_secret,
                    "russet:plugin/effects@0.1.0": crate::bindings::russet::plugin::effects,
                },
            });
        }
    };
}

hook!(enrollment_gate, "enrollment-gate-plugin");
hook!(directory, "directory-plugin");
hook!(escrow_policy, "escrow-policy-plugin");
hook!(profile_template, "profile-template-plugin");
hook!(command_policy, "command-policy-plugin");
hook!(declaration_planner, "declaration-planner-plugin");
hook!(observer, "observer-plugin");
hook!(scheduled, "scheduled-plugin");
