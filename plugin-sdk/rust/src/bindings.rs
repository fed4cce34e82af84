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

pub mod enrollment_gate {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "enrollment-gate-plugin",
        pub_export_macro: true,
        generate_all,
        with: {
            "russet:plugin/context@0.1.0": crate::bindings::russet::plugin::context,
            "russet:plugin/log@0.1.0": crate::bindings::russet::plugin::log,
            "russet:plugin/settings@0.1.0": crate::bindings::russet::plugin::settings,
            "russet:plugin/clock@0.1.0": crate::bindings::russet::plugin::clock,
            "russet:plugin/ldap@0.1.0": crate::bindings::russet::plugin::ldap,
        },
    });
}

pub mod directory {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "directory-plugin",
        pub_export_macro: true,
        generate_all,
        with: {
            "russet:plugin/context@0.1.0": crate::bindings::russet::plugin::context,
            "russet:plugin/log@0.1.0": crate::bindings::russet::plugin::log,
            "russet:plugin/settings@0.1.0": crate::bindings::russet::plugin::settings,
            "russet:plugin/clock@0.1.0": crate::bindings::russet::plugin::clock,
            "russet:plugin/ldap@0.1.0": crate::bindings::russet::plugin::ldap,
        },
    });
}

pub mod escrow_policy {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "escrow-policy-plugin",
        pub_export_macro: true,
        generate_all,
        with: {
            "russet:plugin/context@0.1.0": crate::bindings::russet::plugin::context,
            "russet:plugin/log@0.1.0": crate::bindings::russet::plugin::log,
            "russet:plugin/settings@0.1.0": crate::bindings::russet::plugin::settings,
            "russet:plugin/clock@0.1.0": crate::bindings::russet::plugin::clock,
            "russet:plugin/ldap@0.1.0": crate::bindings::russet::plugin::ldap,
        },
    });
}

pub mod profile_template {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "profile-template-plugin",
        pub_export_macro: true,
        generate_all,
        with: {
            "russet:plugin/context@0.1.0": crate::bindings::russet::plugin::context,
            "russet:plugin/log@0.1.0": crate::bindings::russet::plugin::log,
            "russet:plugin/settings@0.1.0": crate::bindings::russet::plugin::settings,
            "russet:plugin/clock@0.1.0": crate::bindings::russet::plugin::clock,
            "russet:plugin/ldap@0.1.0": crate::bindings::russet::plugin::ldap,
        },
    });
}
