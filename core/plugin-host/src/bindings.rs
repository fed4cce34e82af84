//! The contract in `wit/`, as Rust: generated.

#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]

/// Marks a handle on the device of a call. A call has one device, so the handle needs no number.
#[derive(Debug)]
pub struct DeviceHandle;
/// Marks a handle on the person of a call.
#[derive(Debug)]
pub struct PersonHandle;
/// Marks a handle on the question to a gate.
#[derive(Debug)]
pub struct EnrollmentRequestHandle;
/// Marks a handle on the question to an escrow policy.
#[derive(Debug)]
pub struct EscrowRequestHandle;
/// Marks a handle on the question to a template engine.
#[derive(Debug)]
pub struct TemplateRequestHandle;

wasmtime::component::bindgen!({
    path: "../../wit",
    // A world of the host's own: a plugin exports some of the hooks, and each is bound by itself.
    inline: "
        package russet:host;

        world plugin {
            include russet:plugin/capabilities@0.1.0;
            export russet:plugin/enrollment-gate@0.1.0;
            export russet:plugin/directory@0.1.0;
            export russet:plugin/escrow-policy@0.1.0;
            export russet:plugin/profile-template@0.1.0;
        }
    ",
    world: "russet:host/plugin",
    imports: {
        "russet:plugin/ldap": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "russet:plugin/context.device": DeviceHandle,
        "russet:plugin/context.person": PersonHandle,
        "russet:plugin/context.enrollment-request": EnrollmentRequestHandle,
        "russet:plugin/context.escrow-request": EscrowRequestHandle,
        "russet:plugin/context.template-request": TemplateRequestHandle,
    },
});
