//! The Russet server as a library: its configuration and the folder that it keeps its data in.

pub mod config;
pub mod data_dir;
