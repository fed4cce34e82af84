//! The Russet server as a library: what `russet serve` runs, for vendors who build their own server on it.
//!
//! [`Server::builder`] takes a [`config::Config`], native hooks, routes and layers, and starts everything: store, engine,
//! plugins, listener and background work. This crate decides nothing about devices; it puts the parts together and
//! stops them in order. The parts are re-exported, so that a vendor depends on this crate alone.

mod admin_token;
mod background;
mod chain;
pub mod config;
pub mod data_dir;
pub mod database;
pub mod logging;
mod metrics;
mod parts;
mod ports;
mod revisions;
mod server;
mod start_error;
mod trust;

pub use server::{Running, Server, ServerBuilder};
pub use start_error::StartError;

pub use axum;
pub use russet_engine as engine;
pub use russet_hooks as hooks;
pub use russet_http as http;
pub use russet_pki as pki;
pub use russet_plugin_host as plugin_host;
pub use russet_protocol as protocol;
pub use russet_store as store;
