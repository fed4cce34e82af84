//! A server with everything around it that devices need: the stand-in of Apple's push service, the maker of the
//! devices, and an administrator.

use std::path::PathBuf;
use std::sync::Arc;

use russet_simulator::SimulatedDevice;
use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use russet_simulator::device::{DeviceBuilder, DeviceIdentityCa, ServerTrust};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::ApiUser;
use crate::config::Config;
use crate::program::workspace;
use crate::server::{NotStarted, TestServer, private_address};

/// The push topic of the default tenant.
pub const TOPIC: &str = "com.apple.mgmt.External.russet-tests";

/// A server, its push service, its administrator, and the maker of its devices.
#[derive(Debug)]
pub struct World {
    /// The server.
    pub server: TestServer,
    /// The stand-in of Apple's push service that it sends to.
    pub apns: ApnsStandIn,
    /// Gives devices the certificates that they have from the factory.
    pub maker: DeviceIdentityCa,
    /// The first administrator.
    pub admin: ApiUser,
}

/// Sets a [`World`] up.
#[derive(Debug)]
#[must_use]
pub struct WorldBuilder {
    config: Config,
    without_push_certificate: bool,
    roots_pem: Option<String>,
    token: Option<String>,
    around: Option<(ApnsStandIn, DeviceIdentityCa)>,
}

impl World {
    /// A server with its defaults, except where tests need something else: it listens on any free port, logs JSON,
    /// keeps compiled plugins for all tests in one place, asks new devices nothing by itself, and trusts the
    /// stand-ins.
    pub fn builder() -> WorldBuilder {
        let mut config = Config::default();
        config
            .set("server.listen", "127.0.0.1:0")
            .set("log.format", "json")
            .set("plugins.cache_directory", plugin_cache().display().to_string())
            // Whose plugins are installed is tested by itself.
            .set("plugins.unsigned", "allow")
            // Test builds are slow and machines busy; that plugins cannot run for long is tested where it belongs.
            .set("plugins.limits.cpu_milliseconds", 1_000)
            .set("plugins.limits.deadline_milliseconds", 10_000)
            .set("plugins.request_budget_milliseconds", 20_000)
            .set("enrollment.organization", "Example Orchard")
            .set("enrollment.ask_device_information", false)
            .set("push.retry_first_seconds", 1)
            .set("push.retry_longest_seconds", 2)
            // Plugins can be granted a connection only if there is one. Nobody listens at this one.
            .set("ldap.corp.url", "ldap://127.0.0.1:9")
            .set("ldap.corp.allow_plaintext", true)
            .set("ldap.corp.base_dn", "dc=example,dc=org");
        WorldBuilder {
            config,
            without_push_certificate: false,
            roots_pem: None,
            token: None,
            around: None,
        }
    }

    /// The world as [`builder`](Self::builder) has it.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A Mac from the maker, which enrolls automatically.
    pub fn mac(&self, serial_number: &str) -> DeviceBuilder {
        self.by_hand(serial_number).made_by(&self.maker)
    }

    /// A Mac that knows nothing of a maker: somebody enrolls it by hand.
    pub fn by_hand(&self, serial_number: &str) -> DeviceBuilder {
        self.at_server(SimulatedDevice::builder().mac())
            .serial_number(serial_number)
    }

    /// An iPhone from the maker, which enrolls automatically.
    pub fn iphone(&self, serial_number: &str) -> DeviceBuilder {
        self.at_server(SimulatedDevice::builder().iphone())
            .serial_number(serial_number)
            .made_by(&self.maker)
    }

    fn at_server(&self, builder: DeviceBuilder) -> DeviceBuilder {
        let trust = ServerTrust::from_pem(&self.server.ca_pem()).expect("the server's certificate to trust");
        builder.server(self.server.url()).trust(trust).push_service(&self.apns)
    }

    /// A Mac that has enrolled.
    pub async fn enrolled(&self, serial_number: &str) -> SimulatedDevice {
        let mac = self.mac(serial_number).build().expect("a device");
        mac.enroll().await.expect("the device may enroll");
        mac
    }

    /// Lets a device answer pushes for as long as the test runs.
    pub fn listen(&self, device: &SimulatedDevice) {
        let (device, pushes) = (device.clone(), self.apns.subscribe());
        tokio::spawn(async move { device.listen(pushes).await });
    }

    /// Gives a tenant a push certificate for a topic.
    pub async fn give_push_certificate(&self, to: &ApiUser, topic: &str) -> Value {
        let certificate = self.apns.issue_push_certificate(topic).expect("a push certificate");
        to.put(
            "/push-certificates",
            &json!({
                "certificate_pem": certificate.certificate,
                "private_key_pem": certificate.key,
            }),
        )
        .await
        .ok()
    }
}

impl WorldBuilder {
    /// Sets a key of the configuration.
    pub fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.config.set(key, value);
        self
    }

    /// Listens at an address of its own, so that devices find the server again when it is started again.
    pub fn at_a_lasting_address(self) -> Self {
        let address = private_address();
        self.set("server.listen", address.to_string())
            .set("server.public_url", format!("https://{address}"))
    }

    /// Lets everybody enroll: for tests that are not about who may.
    pub fn without_gate(self) -> Self {
        self.set("enrollment.without_gate", "allow")
    }

    /// Leaves the tenant without a push certificate.
    pub fn without_push_certificate(mut self) -> Self {
        self.without_push_certificate = true;
        self
    }

    /// Trusts other certificates for the server than its own authority's.
    pub fn trusted_by(mut self, roots_pem: &str) -> Self {
        self.roots_pem = Some(roots_pem.to_owned());
        self
    }

    /// Uses this token, on a server that makes none of its own.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Is one more node beside another: with its push service and its maker of devices, its certificates and its token.
    pub fn beside(mut self, first: &World) -> Self {
        self.around = Some((first.apns.clone(), first.maker.clone()));
        self.without_push_certificate()
            .trusted_by(&first.server.ca_pem())
            .with_token(&first.server.admin_token())
    }

    /// Starts everything.
    pub async fn start(self) -> World {
        self.try_start()
            .await
            .unwrap_or_else(|ended| panic!("the server did not start: {}", ended.said))
    }

    /// Starts everything, if the server starts.
    ///
    /// # Errors
    /// [`NotStarted`] when the server ends before it serves.
    pub async fn try_start(self) -> Result<World, NotStarted> {
        let folder = tempfile::Builder::new()
            .prefix("russet-")
            .tempdir()
            .expect("a temporary folder");
        self.start_in(Arc::new(folder)).await
    }

    /// Starts everything, with the server's files in a folder that a test has put something into.
    ///
    /// # Errors
    /// [`NotStarted`] when the server ends before it serves.
    pub async fn start_in(mut self, folder: Arc<TempDir>) -> Result<World, NotStarted> {
        let (apns, maker) = match self.around.take() {
            Some(around) => around,
            None => (
                ApnsStandIn::start(ApnsOptions::default())
                    .await
                    .expect("the stand-in of APNs"),
                DeviceIdentityCa::generate().expect("the stand-in of the devices' maker"),
            ),
        };
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("a file of the test");
            path.display().to_string()
        };
        self.config
            .set("apns.host", apns.host())
            .set("apns.address", apns.address().to_string())
            .set("apns.roots_file", file("apns-roots.pem", apns.roots_pem()))
            .set("enrollment.device_ca_file", file("device-ca.pem", &maker.anchors_pem()));
        let server = TestServer::start_in(folder, self.config).await?;
        let roots = self.roots_pem.unwrap_or_else(|| server.ca_pem());
        let token = self.token.unwrap_or_else(|| server.admin_token());
        let admin = ApiUser::trusting(&server, &roots, &token);
        let world = World {
            server,
            apns,
            maker,
            admin,
        };
        if !self.without_push_certificate {
            world.give_push_certificate(&world.admin, TOPIC).await;
        }
        Ok(world)
    }
}

/// Where the tests' servers keep compiled plugins: in one place, so that each is compiled once.
pub fn plugin_cache() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    target.join("e2e-plugin-cache")
}

/// A configuration profile with nothing in it but its names.
pub fn profile(identifier: &str, display_name: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
  <key>PayloadType</key><string>Configuration</string>
  <key>PayloadVersion</key><integer>1</integer>
  <key>PayloadIdentifier</key><string>{identifier}</string>
  <key>PayloadUUID</key><string>5A3A0B6C-9D0E-4B7C-8F4E-7C1B7A0D2E11</string>
  <key>PayloadDisplayName</key><string>{display_name}</string>
  <key>PayloadContent</key><array/>
</dict></plist>"#
    )
}
