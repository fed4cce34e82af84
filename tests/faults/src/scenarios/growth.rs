//! Days pass while the load goes on, and nothing may grow with them: no table, no file, no memory.
//!
//! The server's clock and its timers go forward by a day at once, by libfaketime: what it does each hour it does then, with a
//! day to catch up on. The fleet does the same each day, and so does the administrator: commands, renewals, an enrollment
//! anew, another revision of a plugin, another content of a declaration. One device does not come any more.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use russet_pki::Certificate;
use russet_pki::ca::{CaOptions, CertificateAuthority};
use russet_pki::key::KeyKind;
use russet_simulator::SimulatedDevice;
use russet_tests::{TOPIC, WorldBuilder, eventually, private_address};
use serde_json::json;

use super::clock::{Clock, MISSING};
use crate::fleet::{Day, Habits};
use crate::growth::{DATABASE, FILES, Growing, LOG, MEMORY, ROWS, Sample, THREADS, complaints, table};
use crate::site::{Backend, Extent, Outcome, Site, faketime, folder};

/// How many devices there are; every second one listens.
const DEVICES: u64 = 6;

/// What everybody does in a day.
const THINGS: u64 = 20;
const COMMANDS: u64 = 12;

/// How often the push certificate is renewed, in days; each is valid for longer.
const PUSH_CERTIFICATE: u64 = 30;

/// How long an identity is valid, in days: longer than it takes until its device is renewed again.
const IDENTITY: u64 = DEVICES + 4;

/// Implements every hook, and observes everything.
const PLUGIN: &str = "hostile-hooks";

const GROWING: &[Growing] = &[Growing {
    what: "rows of plugin_revision_events",
    most: 2 * 1_000,
    why: "what happened to the revisions of a plugin is kept, to a thousand events for each",
}];

pub(super) async fn on_sqlite(extent: Extent) -> Outcome {
    grow(Backend::Sqlite, extent).await
}

pub(super) async fn on_postgres(extent: Extent) -> Outcome {
    grow(Backend::Postgres, extent).await
}

async fn grow(backend: Backend, extent: Extent) -> Outcome {
    let Some(library) = faketime() else {
        return Outcome::left_out(MISSING);
    };
    let folder = folder();
    let address = private_address();
    let tls = Operator::certificate(address, folder.path());
    let habits = Habits {
        // Each device in its turn, below.
        renew: 0,
        ..Habits::default()
    };
    let started = Site::start_in(backend, extent, habits, folder, |builder| {
        settings(builder, &tls)
            .set("server.listen", address.to_string())
            .set("server.public_url", format!("https://{address}"))
    });
    let mut site = started.await;
    site.trust(&tls.root_pem);
    site.checker.forgets();
    let clock = Clock::with_timers(&mut site, &library).await;
    let mut world = Growth::begin(site).await;
    for day in 1..=extent.runs {
        world.pass(day, &clock).await;
    }
    let Growth { mut site, samples, .. } = world;
    let found = complaints(&samples, GROWING);
    let shown = table(&samples);
    assert!(found.is_empty(), "{found:#?}\n{}", shown.join("\n"));
    site.note(format!("{} days", extent.runs));
    site.show(shown);
    let running = site.fleet.run(&site.random);
    site.finish(running).await
}

/// What is kept for months in real life is kept for days.
fn settings(builder: WorldBuilder, tls: &Operator) -> WorldBuilder {
    builder
        .trusted_by(&tls.root_pem)
        .set("server.tls.certificate_file", tls.chain.display().to_string())
        .set("server.tls.private_key_file", tls.key.display().to_string())
        .set("retention.commands_days", 2)
        .set("retention.results_days", 1)
        .set("plugins.decisions_days", 2)
        .set("plugins.recorded_input_hours", 24)
        .set("plugins.events_days", 1)
        .set("plugins.removed_data_days", 1)
        .set("queue.question_days", 1)
        .set(
            "enrollment.identity_lifetime_days",
            i64::try_from(IDENTITY).expect("days"),
        )
        .set("http.nowhere.base_url", "https://nowhere.example.com/")
        // How often something was thrown away is in the log, and little else.
        .set("log.filter", "warn,russet::background=debug")
}

/// A certificate for the server that is of the right time: one of its own authority would be of the server's.
struct Operator {
    chain: PathBuf,
    key: PathBuf,
    root_pem: String,
}

impl Operator {
    fn certificate(address: SocketAddr, folder: &Path) -> Self {
        let now = Timestamp::now();
        let options = CaOptions {
            common_name: "Example Orchard Root".to_owned(),
            organization: "Example Orchard".to_owned(),
            key: KeyKind::P256,
            lifetime: SignedDuration::from_hours(2 * 365 * 24),
        };
        let root = CertificateAuthority::generate(&options, now).expect("an authority");
        let issued = root.issue_tls_server(&[], &[address.ip()], options.lifetime / 2, now);
        let (chain, key) = issued.expect("a certificate");
        let file = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("a file of the test");
            path
        };
        Self {
            chain: file("tls.pem", &chain.iter().map(Certificate::to_pem).collect::<String>()),
            key: file("tls.key", &key.to_pem()),
            root_pem: root.certificate().to_pem(),
        }
    }
}

/// A site whose days are counted.
struct Growth {
    site: Site,
    /// Enrolled once, and never seen again.
    lost: SimulatedDevice,
    samples: Vec<Sample>,
    seed: u64,
}

impl Growth {
    async fn begin(site: Site) -> Self {
        let admin = site.world.admin.clone();
        admin.install(PLUGIN, json!({"mode": "answer"})).await;
        let lost = site.mac("C02LOST00001").build().expect("a device");
        lost.enroll().await.expect("the device enrolls");
        declare(&site, 0).await;
        for number in 0..DEVICES {
            let serial = format!("C02GROWTH{number:03}");
            let member = site.fleet.add(site.mac(&serial), number % 2 == 1);
            assert!(site.fleet.enroll(&member).await, "{serial} enrolls");
            site.fleet.listen(&member);
            let path = format!("/devices/{serial}/declaration-sets/base");
            admin.put(&path, &json!({})).await.ok();
        }
        let seed = site.random.any();
        Self {
            site,
            lost,
            samples: Vec::new(),
            seed,
        }
    }

    /// A day's work, and the night.
    async fn pass(&mut self, day: u64, clock: &Clock) {
        let fleet = Arc::clone(&self.site.fleet);
        let work = Day {
            seed: self.seed,
            things: THINGS,
            commands: COMMANDS,
        };
        fleet.day(work).await;
        self.administrate(day).await;
        self.settle().await;
        let before = self.purges();
        clock.set(i64::try_from(day).expect("few days") * super::clock::DAY);
        eventually("the server throws away what is old", || async {
            (self.purges() > before).then_some(())
        })
        .await;
        self.site.after_a_fault(&format!("day {day}")).await;
        let sample = self.sample(day).await;
        self.samples.push(sample);
    }

    async fn administrate(&mut self, day: u64) {
        let site = &self.site;
        let admin = &site.world.admin;
        declare(site, day).await;
        admin
            .install("hostile", json!({"mode": "label", "label": format!("day-{day}")}))
            .await;
        let members = site.fleet.members();
        let turn = |day: u64, of: usize| usize::try_from(day).expect("few days") % of;
        site.fleet.renew(&members[turn(day, members.len())]).await;
        // Those that listen never stop, and would begin twice.
        let alone: Vec<_> = members.iter().filter(|member| !member.listens).collect();
        self.settle().await;
        assert!(
            site.fleet.enroll(alone[turn(day, alone.len())]).await,
            "a device enrolls anew"
        );
        if day % PUSH_CERTIFICATE == 1 {
            self.renew_push_certificate(day).await;
        }
        for number in 0..3 {
            let command = json!({
                "RequestType": "InstalledApplicationList",
                "Identifiers": [format!("org.example.day{day}.app{number}")],
            });
            admin.command(&[&self.lost.facts().serial_number], command).await;
        }
    }

    async fn renew_push_certificate(&self, day: u64) {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let now = SystemTime::now();
        let days = u32::try_from(day + PUSH_CERTIFICATE + 10).expect("few days");
        let issued = self
            .site
            .world
            .apns
            .pki()
            .issue_push_certificate_valid(TOPIC, now - DAY, now + DAY * days);
        let issued = issued.expect("a push certificate");
        let upload = json!({"certificate_pem": issued.certificate, "private_key_pem": issued.key});
        self.site.world.admin.put("/push-certificates", &upload).await.ok();
    }

    /// Waits until everybody has fetched what there is, and every observer was told.
    async fn settle(&self) {
        let lost = &self.lost.facts().serial_number;
        let open = format!(
            "SELECT CAST(q.id AS TEXT) FROM queue_entries q JOIN enrollments e ON e.id = q.enrollment_id \
             WHERE q.finished_at IS NULL AND e.serial_number <> '{lost}' \
             UNION ALL SELECT CAST(event_id AS TEXT) FROM event_deliveries \
             UNION ALL SELECT CAST(v.id AS TEXT) FROM events v JOIN event_cursors c ON c.tenant_id = v.tenant_id \
             WHERE (v.tx, v.id) > (c.tx, c.event_id)"
        );
        eventually("everything is fetched and told", || async {
            let fetched = self.site.fleet.fetch().await;
            let open = self.site.checker.rows(&open).await;
            (fetched && open.is_empty()).then_some(())
        })
        .await;
    }

    /// How often the server has thrown away what is old.
    fn purges(&self) -> usize {
        self.site.world.server.log().matches("threw away what is old").count()
    }

    async fn sample(&self, day: u64) -> Sample {
        let mut amounts = BTreeMap::new();
        let checker = &self.site.checker;
        if self.site.cluster.is_some() {
            // As the database does by itself in a day.
            checker
                .tables()
                .change("VACUUM")
                .await
                .expect("the database can be cleaned up");
        }
        for (table, rows) in checker.sizes().await {
            amounts.insert(format!("{ROWS}{table}"), rows);
        }
        match &self.site.cluster {
            Some(_) => {
                let size = checker
                    .rows("SELECT CAST(pg_database_size(current_database()) AS TEXT)")
                    .await;
                amounts.insert(DATABASE.to_owned(), number(size[0][0].as_deref()));
            }
            None => {
                let file = self.site.sqlite_file();
                let size = |file: &Path| std::fs::metadata(file).map_or(0, |file| file.len());
                amounts.insert(DATABASE.to_owned(), size(&file));
                amounts.insert(LOG.to_owned(), size(&file.with_extension("sqlite-wal")));
            }
        }
        let process = PathBuf::from(format!("/proc/{}", self.site.world.server.process_id()));
        let status = std::fs::read_to_string(process.join("status")).expect("the server runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            number(line.and_then(|line| line.split_whitespace().nth(0)))
        };
        amounts.insert(MEMORY.to_owned(), field("VmRSS:") << 10);
        amounts.insert(THREADS.to_owned(), field("Threads:"));
        let files = std::fs::read_dir(process.join("fd")).expect("the server runs").count();
        amounts.insert(FILES.to_owned(), u64::try_from(files).expect("a count"));
        Sample { day, amounts }
    }
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).expect("a number")
}

/// What everybody is to have from this day on.
async fn declare(site: &Site, day: u64) {
    let set = json!({"declarations": [
        {"identifier": "com.example.passcode", "type": "com.apple.configuration.passcode.settings",
         "payload": {"MinimumLength": 4 + day % 13, "MaximumFailedAttempts": 2 + day % 10}},
        {"identifier": "com.example.on", "type": "com.apple.activation.simple",
         "payload": {"StandardConfigurations": ["com.example.passcode"]}},
    ]});
    site.world.admin.put("/declaration-sets/base", &set).await.ok();
}
