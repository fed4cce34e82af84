//! Lets things fail around a server under load, and looks for what it lost.
//!
//! A [scenario](scenarios) starts the real program, sets a [fleet](fleet) of simulated devices and an administrator to work,
//! and makes one kind of fault happen again and again. After each, the [checker](check) compares what the database holds with
//! what the devices and the administrator were told: every answer that was taken is there, every command that was accepted was
//! delivered once or waits, no push token and no escrowed secret is lost, the outbox drains, the chain of decisions is whole.
//!
//! `cargo run -p russet-faults` (or `make soak`) runs all of it in full, the tests in `tests/` a short form. Chance comes from
//! a seed that is printed: `--seed` makes the same choices again, though a machine may run them at other times.
//!
//! What this crate deliberately does not know: anything of the server's inside but its tables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "support of tests: what cannot go on ends the scenario and says why"
)]

pub mod check;
pub mod fleet;
pub mod growth;
pub mod journal;
pub mod proxy;
pub mod random;
pub mod scenarios;
pub mod site;
