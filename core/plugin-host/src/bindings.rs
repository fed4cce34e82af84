//! The contract in `wit/`, as Rust: generated.

#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]

/// Marks a handle on a device: its number is 0 for the device of the call, else that of a device that was found.
#[derive(Debug)]
pub struct DeviceHandle;
/// Marks a handle on a person, who has the number of the device.
#[derive(Debug)]
pub struct PersonHandle;
/// Marks a handle on the question to a gate. A call has one question, so the handle needs no number; so below.
#[derive(Debug)]
pub struct EnrollmentRequestHandle;
/// Marks a handle on the question to an escrow policy.
#[derive(Debug)]
pub struct EscrowRequestHandle;
/// Marks a handle on the question to a template engine.
#[derive(Debug)]
pub struct TemplateRequestHandle;
/// Marks a handle on the question to a command policy.
#[derive(Debug)]
pub struct CommandRequestHandle;
/// Marks a handle on the question to a planner.
#[derive(Debug)]
pub struct PlanRequestHandle;
/// Marks a handle on an event.
#[derive(Debug)]
pub struct EventHandle;
/// Marks a handle on work that is due.
#[derive(Debug)]
pub struct ScheduledRunHandle;

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
            export russet:plugin/command-policy@0.1.0;
            export russet:plugin/declaration-planner@0.1.0;
            export russet:plugin/observer@0.1.0;
            export russet:plugin/scheduled@0.1.0;
        }
    ",
    world: "russet:host/plugin",
    imports: {
        "russet:plugin/kv": async | trappable,
        "russet:plugin/inventory": async | trappable,
        "russet:plugin/http": async | trappable,
        "russet:plugin/ldap": async | trappable,
        "russet:plugin/secrets": async | trappable,
        "russet:plugin/signer": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "russet:plugin/context.device": DeviceHandle,
        "russet:plugin/context.person": PersonHandle,
        "russet:plugin/context.enrollment-request": EnrollmentRequestHandle,
        "russet:plugin/context.escrow-request": EscrowRequestHandle,
        "russet:plugin/context.template-request": TemplateRequestHandle,
        "russet:plugin/context.command-request": CommandRequestHandle,
        "russet:plugin/context.plan-request": PlanRequestHandle,
        "russet:plugin/context.event": EventHandle,
        "russet:plugin/context.scheduled-run": ScheduledRunHandle,
    },
});
