//! Simulated devices against a server in the same process, over real TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod enrollment;
mod session;
mod support;

use russet_protocol::plist::{Dictionary, Value};
use russet_simulator::SimulatedDevice;
use russet_simulator::device::{DeviceBuilder, ServerTrust};
use support::TestServer;

fn device(server: &TestServer) -> DeviceBuilder {
    SimulatedDevice::builder()
        .server(server.url())
        .trust(ServerTrust::from_pem(&server.root_pem()).unwrap())
}

fn command(request_type: &str) -> Dictionary {
    Dictionary::from_iter([("RequestType", Value::from(request_type))])
}
