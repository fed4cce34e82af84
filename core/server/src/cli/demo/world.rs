//! The demo's server, stand-ins and devices, and what happens between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{Context as _, IntoDiagnostic, miette};
use russet::config::Config;
use russet::{Running, Server};
use russet_plugin_host::package::{self, SigningKey};
use russet_plugin_host::{Grants, Manifest};
use russet_simulator::SimulatedDevice;
use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use russet_simulator::device::{DeviceError, DeviceIdentityCa, ServerTrust};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::story::Story;
use crate::cli::client::Client;
use crate::cli::output::field;
use crate::cli::serve::{NotStarted, told_to_stop};

/// The topic of the demo's push certificate.
const TOPIC: &str = "com.apple.mgmt.External.russet-demo";

/// The longest that an answer of a device is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whose plugins the tenant installs: the demo's own.
const PUBLISHER: &str = "example-orchard";

/// Says that a folder may be removed by the next demo.
const MARKER: &str = ".russet-demo";

const MAC: &str = "C02DEMO0MAC1";
const PHONE: &str = "DNPDEMOPHON1";
const STRANGER: &str = "ZZZSTRANGER1";

/// A profile that differs from device to device.
const TEMPLATE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
  <key>PayloadType</key><string>Configuration</string>
  <key>PayloadVersion</key><integer>1</integer>
  <key>PayloadIdentifier</key><string>org.russet.demo.welcome</string>
  <key>PayloadUUID</key><string>5A3A0B6C-9D0E-4B7C-8F4E-7C1B7A0D2E11</string>
  <key>PayloadDisplayName</key><string>{{ vars.greeting }}, {{ device.serial_number }}</string>
  <key>PayloadContent</key><array/>
</dict></plist>"#;

/// Everything that runs.
pub(super) struct World {
    server: Running,
    client: Client,
    devices: Vec<SimulatedDevice>,
    plugins: PathBuf,
    publisher: SigningKey,
    apns: ApnsStandIn,
}

impl World {
    pub(super) async fn start(args: &DemoArgs, story: &mut Story<'_>) -> miette::Result<Self> {
        let started = std::time::Instant::now();
        fresh_folder(&args.data)?;
        let apns = ApnsStandIn::start(ApnsOptions::default()).await.into_diagnostic()?;
        let factory = DeviceIdentityCa::generate().into_diagnostic()?;
        let apns_roots = args.data.join("apns-roots.pem");
        let device_ca = args.data.join("device-ca.pem");
        write(&apns_roots, apns.roots_pem())?;
        write(&device_ca, &factory.anchors_pem())?;

        let mut config = Config::default();
        config.data_dir = args.data.join("server");
        config.server.listen = std::net::SocketAddr::from(([127, 0, 0, 1], args.port));
        config.enrollment.organization = "Example Orchard".to_owned();
        config.enrollment.device_ca_file = Some(device_ca);
        // The story asks for it itself.
        config.enrollment.ask_device_information = false;
        config.apns.host = apns.host().to_owned();
        config.apns.address = Some(apns.address());
        config.apns.roots_file = Some(apns_roots);
        // Beside the demo's data, so that the next demo starts with compiled plugins.
        config.plugins.cache_directory = Some(args.data.with_extension("cache"));
        config.log.filter = "error".to_owned();
        russet::logging::init(&config.log).into_diagnostic()?;
        let server = Server::builder(config).start().await.map_err(NotStarted::from)?;
        let client = Client::local(&format!("https://{}", server.address()), server.data_dir())?;

        let trust = ServerTrust::from_pem(server.authority_pem()).into_diagnostic()?;
        let heard = story.heard();
        let device = |serial: &str, name: &str, mac: bool| {
            let builder = SimulatedDevice::builder();
            let heard = heard.clone();
            let builder = if mac { builder.mac() } else { builder.iphone() };
            builder
                .serial_number(serial)
                .udid(format!("00008140-{serial}"))
                .device_name(name)
                .server(server.public_url())
                .trust(trust.clone())
                .made_by(&factory)
                .push_service(&apns)
                .observe(move |facts, event| heard.note(facts, event))
                .build()
                .into_diagnostic()
        };
        let devices = vec![
            device(MAC, "Ada's Mac", true)?,
            device(PHONE, "Lin's iPhone", false)?,
            device(STRANGER, "a stranger", true)?,
        ];
        story.chapter("The orchard opens")?;
        story.says(
            "russet",
            format!(
                "serves at {} after {:.1} s",
                server.public_url(),
                started.elapsed().as_secs_f64()
            ),
        )?;
        story.says("APNs stand-in", format!("listens at {}", apns.address()))?;
        Ok(Self {
            server,
            client,
            devices,
            plugins: args.plugins.clone(),
            publisher: SigningKey::generate().into_diagnostic()?,
            apns,
        })
    }

    /// What happens.
    pub(super) async fn tell(&self, story: &mut Story<'_>) -> miette::Result<()> {
        self.prepare(story).await?;
        self.enroll(story).await?;
        self.command(story).await?;
        self.template(story).await?;
        self.escrow(story).await?;
        self.swap(story).await
    }

    async fn prepare(&self, story: &mut Story<'_>) -> miette::Result<()> {
        story.chapter("An administrator sets the server up, through its API")?;
        let certificate = self.apns.issue_push_certificate(TOPIC).into_diagnostic()?;
        let body = json!({"certificate_pem": certificate.certificate, "private_key_pem": certificate.key});
        let put = self
            .client
            .put(self.client.of_tenant(&["push-certificates"]), &body)
            .await?;
        story.says("russet", format!("has a push certificate for {}", text(&put, "topic")))?;
        let key = self.publisher.public();
        let body = json!({"name": PUBLISHER, "public_key": key});
        self.client.post(self.client.of_tenant(&["publishers"]), &body).await?;
        story.says(
            "russet",
            format!("installs plugins that {PUBLISHER} has signed, with key {}", key.id()),
        )?;
        let gate = json!({"serial_numbers": {"allow": [MAC, PHONE]}, "ownership": ["organization"]});
        self.install(story, "enrollment-gate", &gate).await?;
        self.install(
            story,
            "escrow-policy",
            &json!({"bootstrap_token": {"release_to_administrators": ["first administrator"]}}),
        )
        .await?;
        self.install(story, "profile-template", &json!({})).await?;
        let profile =
            json!({"content": TEMPLATE, "template": "profile-template", "variables": {"greeting": "Welcome"}});
        self.client
            .put(self.client.of_tenant(&["profiles", "welcome"]), &profile)
            .await?;
        story.says("russet", "has a profile template called welcome")
    }

    async fn install(&self, story: &mut Story<'_>, name: &str, settings: &Value) -> miette::Result<()> {
        use base64::Engine as _;
        let path = self.plugins.join(format!("{name}.wasm"));
        let component = std::fs::read(&path).into_diagnostic().wrap_err_with(|| {
            format!(
                "{} cannot be read; build the bundled plugins with: make plugins",
                path.display()
            )
        })?;
        let manifest = Manifest::read(&component).into_diagnostic()?;
        let signed = package::sign(&component, &self.publisher, jiff::Timestamp::now()).into_diagnostic()?;
        let body = json!({
            "component": base64::engine::general_purpose::STANDARD.encode(signed),
            "settings": settings,
            "grants": Grants::all_asked(&manifest),
        });
        let started = std::time::Instant::now();
        let report = self
            .client
            .put(self.client.of_tenant(&["plugins", name]), &body)
            .await?;
        if field(&report, "state") != "active" {
            return Err(miette!("the plugin {name} does not run: {report}"));
        }
        let what = format!(
            "runs the plugin {name} {} (revision {}, in {} ms)",
            text(&report, "version"),
            text(&report, "revision").get(..12).unwrap_or_default(),
            started.elapsed().as_millis()
        );
        story.says("russet", what)
    }

    async fn enroll(&self, story: &mut Story<'_>) -> miette::Result<()> {
        story.chapter("Three devices ask for their enrollment profile, with a MachineInfo that their maker signed")?;
        for device in &self.devices {
            let enrolled = device.enroll().await;
            story.catch_up()?;
            let stranger = device.facts().serial_number == STRANGER;
            match enrolled {
                Ok(()) if stranger => return Err(miette!("the gate let the stranger in")),
                Err(error) if !stranger => return Err(error).into_diagnostic(),
                _ => {}
            }
        }
        for device in self.managed() {
            let pushes = self.apns.subscribe();
            let device = device.clone();
            tokio::spawn(async move {
                device.listen(pushes).await;
            });
        }
        Ok(())
    }

    fn managed(&self) -> impl Iterator<Item = &SimulatedDevice> {
        self.devices.iter().filter(|device| device.is_enrolled())
    }

    async fn command(&self, story: &mut Story<'_>) -> miette::Result<()> {
        story.chapter("A command goes out by push, and the answer comes back")?;
        let body = json!({
            "devices": [MAC, PHONE],
            "command": {"RequestType": "DeviceInformation", "Queries": ["DeviceName", "OSVersion", "ProductName", "BatteryLevel"]},
        });
        let sent = self.client.post(self.client.of_tenant(&["commands"]), &body).await?;
        story.says(
            "russet",
            format!(
                "queued {} for {} devices",
                text(&sent, "request_type"),
                text(&sent, "queued")
            ),
        )?;
        let answer = self.answers(&sent, story).await?;
        for device in field(&answer, "devices").as_array().into_iter().flatten() {
            let result = field(field(device, "result"), "QueryResponses");
            let what = format!("knows from {}: {result}", text(device, "serial_number"));
            story.says("russet", what)?;
        }
        Ok(())
    }

    async fn template(&self, story: &mut Story<'_>) -> miette::Result<()> {
        story
            .chapter("A profile is rendered for each device by the template plugin, and signed, as it is delivered")?;
        let sent = self
            .client
            .post(
                self.client.of_tenant(&["commands"]),
                &json!({"devices": [MAC, PHONE], "profile": "welcome"}),
            )
            .await?;
        self.answers(&sent, story).await?;
        for device in self.managed() {
            let installed = device.profiles();
            let welcome = installed
                .iter()
                .find(|profile| profile.identifier == "org.russet.demo.welcome");
            let name = welcome
                .and_then(|profile| profile.display_name.clone())
                .unwrap_or_default();
            story.says(&device.facts().device_name, format!("shows the profile \"{name}\""))?;
        }
        Ok(())
    }

    async fn escrow(&self, story: &mut Story<'_>) -> miette::Result<()> {
        story.chapter("The Mac deposits its bootstrap token; the escrow policy decides who gets it")?;
        let mac = &self.devices[0];
        mac.set_bootstrap_token().await.into_diagnostic()?;
        let back = mac.get_bootstrap_token().await.into_diagnostic()?;
        story.says(
            &mac.facts().device_name,
            match back {
                Some(_) => "got its own token back",
                None => "did not get its token back",
            },
        )?;
        let url = self.client.of_tenant(&["devices", MAC, "escrow", "bootstrap-token"]);
        self.client.get(url).await?;
        story.says(
            "russet",
            "released it to the \"first administrator\", whom the policy names, and recorded that",
        )
    }

    async fn swap(&self, story: &mut Story<'_>) -> miette::Result<()> {
        story.chapter("The gate's policy is swapped while the devices are connected")?;
        let stop = CancellationToken::new();
        let polls = tokio::spawn(poll_until(stop.clone(), self.managed().cloned().collect()));
        let settings = json!({"settings": {"serial_numbers": {"allow": [MAC, PHONE, STRANGER]}}});
        let report = self
            .client
            .put(self.client.of_tenant(&["plugins", "enrollment-gate"]), &settings)
            .await?;
        story.says(
            "russet",
            format!("runs generation {} of the plugins", text(&report, "generation")),
        )?;
        let stranger = &self.devices[2];
        stranger.enroll().await.into_diagnostic()?;
        stop.cancel();
        let polled = polls.await.into_diagnostic()?.into_diagnostic()?;
        story.says(
            "russet",
            format!("answered {polled} polls of the others meanwhile, none of them with an error"),
        )
    }

    /// Waits until every device has answered a command.
    async fn answers(&self, sent: &Value, story: &mut Story<'_>) -> miette::Result<Value> {
        let url = self.client.of_tenant(&["commands", &text(sent, "command_uuid")]);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.client.get(url.clone()).await?;
            let devices = field(&answer, "devices").as_array().cloned().unwrap_or_default();
            if devices.iter().all(|device| text(device, "state") == "acknowledged") {
                story.catch_up()?;
                return Ok(answer);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(miette!(
                    "a device did not answer within {} s: {answer}",
                    PATIENCE.as_secs()
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where everything is, for somebody who wants to go on by hand.
    pub(super) fn addresses(&self, story: &mut Story<'_>) -> miette::Result<()> {
        let data = self.server.data_dir();
        let token = std::fs::read_to_string(data.admin_token()).into_diagnostic()?;
        story.chapter("The server stays up. Stop it with Ctrl-C.")?;
        story.line(&format!("  address        {}", self.server.public_url()))?;
        story.line(&format!("  admin token    {}", token.trim()))?;
        story.line(&format!("  trusted by     {}", data.ca_certificate().display()))?;
        story.line("  try            in another terminal:")?;
        story.line(&format!(
            "    export RUSSET_SERVER=https://{} RUSSET_TOKEN={}",
            self.server.address(),
            token.trim()
        ))?;
        story.line(&format!("    export RUSSET_CA={}", data.ca_certificate().display()))?;
        story.line("    ./target/debug/russet device list")?;
        story.line(&format!(
            "    ./target/debug/russet command send --device {MAC} --wait SecurityInfo"
        ))?;
        story.line("    ./target/debug/russet plugin list")
    }

    pub(super) async fn stay(self) -> std::io::Result<()> {
        told_to_stop().await?;
        self.stop().await;
        Ok(())
    }

    pub(super) async fn stop(self) {
        self.server.shutdown().await;
    }
}

/// Polls as fast as the server answers, until told to stop; how often. Any error ends it.
async fn poll_until(stop: CancellationToken, devices: Vec<SimulatedDevice>) -> Result<u64, DeviceError> {
    let mut polls = 0;
    while !stop.is_cancelled() {
        for device in &devices {
            device.run_until_idle().await?;
            polls += 1;
        }
    }
    Ok(polls)
}

/// An empty folder, also if a demo was there before. Nothing else is ever removed.
fn fresh_folder(folder: &Path) -> miette::Result<()> {
    let marker = folder.join(MARKER);
    if folder.exists() {
        if !marker.exists() {
            return Err(miette!(
                "{} is not the folder of an earlier demo; name another one with --data",
                folder.display()
            ));
        }
        std::fs::remove_dir_all(folder).into_diagnostic()?;
    }
    std::fs::create_dir_all(folder).into_diagnostic()?;
    write(&marker, "the data of russet demo; removed by the next one\n")
}

fn write(path: &Path, text: &str) -> miette::Result<()> {
    std::fs::write(path, text)
        .into_diagnostic()
        .wrap_err_with(|| format!("{} cannot be written", path.display()))
}

/// A member of an answer, as text.
fn text(answer: &Value, name: &str) -> String {
    match field(answer, name) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
