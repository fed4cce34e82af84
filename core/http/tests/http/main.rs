//! The HTTP surface over a real engine: in process for what is answered, over loopback for the listener. One binary,
//! because each would link the whole server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod declarations;
mod device;
mod enroll;
mod listener;
mod log;
mod plugin_secrets;
mod plugins;
mod proxy;
mod queue;
mod rates;
mod support;
