//! What an operator reads in `core/docs/operations.md`: every command in it is run, in its order, against real servers on
//! SQLite and then on PostgreSQL, and what it shows is compared.
//!
//! The page is about machines with systemd, names and folders of their own. Here they are folders of the test: paths and
//! names are put in place before a command runs and back before its answer is compared; `systemctl` starts what the unit's
//! `ExecStart` says; `scp` copies between the machines. Everything else is the real program: of Russet, PostgreSQL and
//! systemd.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::{self, CaOptions, CertificateAuthority};
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_simulator::SimulatedDevice;
use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use russet_simulator::device::{Answer, ServerTrust};
use russet_store::testing::{PostgresCluster, postgres_is_skipped};
use russet_tests::page::{Part, Step, parts};
use russet_tests::{PATIENCE, TOPIC, plugin_cache, private_address, russet, workspace};
use tempfile::TempDir;

const PAGE: &str = "core/docs/operations.md";

/// Stand-ins for what a test does not do to the machine that it runs on.
const PROGRAMS: [(&str, &str); 3] = [
    ("systemctl", include_str!("operations/systemctl")),
    ("systemd-sysusers", include_str!("operations/systemd-sysusers")),
    ("scp", include_str!("operations/scp")),
];

/// A machine of the page.
struct Machine {
    root: PathBuf,
    listen: SocketAddr,
    metrics: SocketAddr,
}

impl Machine {
    fn new(folder: &Path, name: &str) -> Self {
        let root = folder.join(name);
        std::fs::create_dir_all(root.join("work")).unwrap();
        Self {
            root,
            listen: private_address(),
            metrics: private_address(),
        }
    }
}

/// Ends what runs on it, however the test ends.
#[allow(clippy::print_stdout, reason = "a test's output is where a tester looks")]
impl Drop for Machine {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.root.join("pid")) {
            // It may have ended already.
            let _ = Command::new("kill").args(["-KILL", pid.trim()]).output();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.root.join("log")).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(15).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            println!("---- {} ----\n{}", self.root.display(), end.join("\n"));
        }
    }
}

/// Both machines, and what is around them.
struct Site {
    here: Machine,
    there: Machine,
    apns: ApnsStandIn,
    cluster: Option<PostgresCluster>,
    /// The devices that the page talks of: one that answers, and one that never does.
    devices: Option<(SimulatedDevice, SimulatedDevice)>,
    folder: TempDir,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("russet-ops-").tempdir().unwrap();
        let (here, there) = (
            Machine::new(folder.path(), "node1"),
            Machine::new(folder.path(), "node2"),
        );
        let apns = ApnsStandIn::start(ApnsOptions::default()).await.unwrap();
        let site = Self {
            here,
            there,
            apns,
            cluster: (!postgres_is_skipped()).then(|| PostgresCluster::start().unwrap()),
            devices: None,
            folder,
        };
        for (name, script) in PROGRAMS {
            let path = site.folder.path().join("bin").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for folder in ["etc/russet", "var/lib", "var/backups/russet", "mnt/safe"] {
            std::fs::create_dir_all(site.here.root.join(folder)).unwrap();
        }
        site.around();
        site
    }

    /// What the page takes for granted: Apple's service, a vendor, an old server, and settings for a hasty operator.
    fn around(&self) {
        let roots = self.folder.path().join("apns-roots.pem");
        std::fs::write(&roots, self.apns.roots_pem()).unwrap();
        let environment = format!(
            "export RUSSET_APNS__HOST={} RUSSET_APNS__ADDRESS={} RUSSET_APNS__ROOTS_FILE={} \
             RUSSET_PLUGINS__CACHE_DIRECTORY={} RUSSET_ENROLLMENT__WITHOUT_GATE=allow \
             RUSSET_ENROLLMENT__ASK_DEVICE_INFORMATION=false RUSSET_QUEUE__STUCK_AFTER_OFFERS=1\n",
            self.apns.host(),
            self.apns.address(),
            roots.display(),
            plugin_cache().display(),
        );
        std::fs::write(self.here.root.join("environment"), environment).unwrap();
        let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
        let valid = SignedDuration::from_hours(24);
        let vendor = ca::self_signed(&Name::common("MDM Vendor"), &key, valid, Timestamp::now()).unwrap();
        let old = CaOptions {
            common_name: "Old MDM CA".to_owned(),
            organization: "Example".to_owned(),
            key: KeyKind::P256,
            lifetime: valid,
        };
        let old = CertificateAuthority::generate(&old, Timestamp::now()).unwrap();
        self.write("vendor.pem", &vendor.to_pem());
        self.write("vendor.key", key.to_pem().as_str());
        self.write("old-ca.pem", &old.certificate().to_pem());
        let message = |kind: &str, rest: &str| {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict><key>MessageType</key>\
                 <string>{kind}</string><key>Topic</key><string>{TOPIC}</string><key>UDID</key>\
                 <string>5F1C7D0E-0000-4000-8000-00000000A11C</string>{rest}</dict></plist>"
            )
        };
        let authenticate = message("Authenticate", "<key>SerialNumber</key><string>C02OLD000001</string>");
        let token = "<key>Token</key><data>AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=</data>\
                     <key>PushMagic</key><string>D3F1A0B2-0000-4000-8000-00000000A11C</string>";
        self.write("nanomdm-export/1-authenticate.plist", &authenticate);
        self.write("nanomdm-export/1-tokenupdate.plist", &message("TokenUpdate", token));
    }

    /// Writes a file of the folder that the operator works in.
    fn write(&self, name: &str, content: &str) {
        let path = self.here.root.join("work").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn machine(&self, name: &str) -> &Machine {
        if name == "node2" { &self.there } else { &self.here }
    }

    /// The page's names, and what they are here.
    fn names(&self, machine: &Machine) -> Vec<(String, String)> {
        let root = machine.root.display();
        let mut names = vec![
            ("/usr/local/bin/russet".to_owned(), russet().display().to_string()),
            ("127.0.0.1:9464".to_owned(), machine.metrics.to_string()),
            ("node2.example.com".to_owned(), self.there.listen.to_string()),
            ("mdm.example.com".to_owned(), self.here.listen.to_string()),
            ("0.0.0.0:443".to_owned(), machine.listen.to_string()),
        ];
        for path in [
            "/etc/russet",
            "/etc/systemd/system",
            "/etc/sysusers.d",
            "/etc/prometheus",
            "/mnt/safe",
        ] {
            names.push((path.to_owned(), format!("{root}{path}")));
        }
        for path in ["/var/lib/russet", "/var/backups/russet"] {
            names.push((path.to_owned(), format!("{root}{path}")));
        }
        if let Some(cluster) = &self.cluster {
            for database in ["russet", "restored"] {
                let url = format!("postgres://russet@db.example.com/{database}");
                names.push((url, cluster.url(database)));
            }
            let url = cluster.url("");
            let host = url.split_once("host=").unwrap().1.to_owned();
            names.push(("db.example.com".to_owned(), host));
        }
        names
    }

    fn here_for(&self, text: &str, machine: &Machine) -> String {
        let names = self.names(machine);
        names
            .iter()
            .fold(text.to_owned(), |text, (page, here)| text.replace(page, here))
    }

    fn as_on_the_page(&self, text: &str, machine: &Machine) -> String {
        let names = self.names(machine);
        names
            .iter()
            .fold(text.to_owned(), |text, (page, here)| text.replace(here, page))
    }

    /// Runs a command line. What a line sets is kept for those after it.
    fn run(&self, step: &Step) -> (bool, String) {
        let machine = self.machine(&step.machine);
        let kept = self.folder.path().join("kept");
        let line = self.here_for(&step.command, machine);
        let keeps = match line.split_once('=') {
            _ if line.starts_with("export ") => Some(line.clone()),
            Some((name, _)) if name.bytes().all(|byte| byte.is_ascii_uppercase()) => Some(format!(
                "{line}\necho {name}=$(printf %s \"${name}\" | sed 's/.*/\"&\"/') >&3"
            )),
            _ => None,
        };
        let script = match keeps {
            Some(export) if line.starts_with("export ") => format!("{export}\necho '{line}' >&3"),
            Some(keeps) => keeps,
            None => line,
        };
        let script = format!(
            "set -e\n[ -f '{0}' ] && . '{0}'\nexec 3>>'{0}'\nset +e\n{script}",
            kept.display()
        );
        let path = format!(
            "{}:{}:{}:{}",
            self.folder.path().join("bin").display(),
            russet().parent().unwrap().display(),
            std::env::var("PATH").unwrap_or_default(),
            postgres_programs(),
        );
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RUSSET_") {
                command.env_remove(name);
            }
        }
        let output = command
            .args(["-c", &script])
            .current_dir(self.here.root.join("work"))
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .env("ROOT", &machine.root)
            .env("MACHINES", self.folder.path())
            .env("LISTEN", self.here.listen.to_string())
            .env("LISTEN_NODE2", self.there.listen.to_string())
            .env("METRICS", self.here.metrics.to_string())
            .env("METRICS_NODE2", self.there.metrics.to_string())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.success(), self.as_on_the_page(&said.concat(), machine))
    }

    /// Runs a command line until the page is right about it, if it only looks.
    async fn try_step(&self, step: &Step, patience: Duration) -> Option<(String, String)> {
        let looks = ["list", "show", "stuck", "progress", "curl", "stats", "verify", "status"];
        let looks = looks.iter().any(|word| step.command.contains(word));
        let deadline = tokio::time::Instant::now() + patience;
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            tick.tick().await;
            let (succeeded, said) = tokio::task::block_in_place(|| self.run(step));
            let differs = step.differs(succeeded, &said)?;
            if !looks || tokio::time::Instant::now() > deadline {
                return Some((differs, said));
            }
        }
    }

    /// What happens elsewhere, after a step.
    async fn meanwhile(&mut self, step: &Step) {
        if step.command.starts_with("russet push-cert sign") {
            let signed = std::fs::read_to_string(self.here.root.join("work/push-request.txt")).unwrap();
            let certificate = self.apns.pki().answer_push_request(&signed, TOPIC).unwrap();
            self.write("push.pem", &certificate);
        } else if step.command == "russet push-cert show" && self.devices.is_none() {
            self.devices = Some((self.enrolled("C02XK0000001").await, self.enrolled("C02XK0000002").await));
            let (answers, _) = self.devices.as_ref().unwrap();
            let (answers, pushes) = (answers.clone(), self.apns.subscribe());
            tokio::spawn(async move { answers.listen(pushes).await });
        } else if step.command.contains("send --device C02XK0000002 SecurityInfo") {
            // It takes what it is given, again and again, and says nothing.
            let (_, silent) = self.devices.as_ref().unwrap();
            for _ in 0..3 {
                silent.poll(&Answer::idle()).await.unwrap();
            }
        }
    }

    async fn enrolled(&self, serial_number: &str) -> SimulatedDevice {
        let ca = std::fs::read_to_string(self.here.root.join("var/lib/russet/ca.pem")).unwrap();
        let device = SimulatedDevice::builder()
            .mac()
            .serial_number(serial_number)
            .server(format!("https://{}", self.here.listen))
            .trust(ServerTrust::from_pem(&ca).unwrap())
            .push_service(&self.apns)
            .build()
            .unwrap();
        device.enroll().await.unwrap();
        device
    }
}

/// The folder of PostgreSQL's programs, where they are in no path.
fn postgres_programs() -> String {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort();
    versions.pop().unwrap_or_default().display().to_string()
}

/// The names of figures in a text.
fn figures(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    let figures = words.filter(|word| word.starts_with("russet_"));
    let sample = |word: &str| {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| word.strip_suffix(end));
        base.unwrap_or(word).to_owned()
    };
    figures.map(sample).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_for_operators_is_true() {
    let page = std::fs::read_to_string(workspace().join(PAGE)).unwrap();
    let mut site = Site::new().await;
    let (mut steps, mut wrong) = (0, Vec::new());
    let mut heading = String::new();
    for part in parts(&page) {
        match part {
            Part::Heading(next) => heading = next,
            Part::File { path, content } => {
                let path = site.here_for(&path, &site.here);
                std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
                std::fs::write(&path, site.here_for(&content, &site.here)).unwrap();
            }
            Part::Step(step) => {
                if site.cluster.is_none() && heading == "Moving to PostgreSQL" {
                    break;
                }
                steps += 1;
                println!("{}$ {}", step.machine, step.command);
                // What follows from a mistake is not waited for.
                let patience = if wrong.is_empty() {
                    PATIENCE
                } else {
                    Duration::from_secs(2)
                };
                if let Some((differs, said)) = site.try_step(&step, patience).await {
                    wrong.push(format!(
                        "{heading}: {}$ {}\n{said}--- {differs}\n",
                        step.machine, step.command
                    ));
                }
                site.meanwhile(&step).await;
            }
        }
    }
    assert!(wrong.is_empty(), "{PAGE} is not true any more:\n\n{}", wrong.join("\n"));
    assert!(
        steps >= if site.cluster.is_some() { 80 } else { 45 },
        "the page lost its steps: {steps}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_is_on_the_page_and_every_alert_is_about_one() {
    let page = std::fs::read_to_string(workspace().join(PAGE)).unwrap();
    let (_, monitoring) = page.split_once("\n## Monitoring\n").unwrap();
    let (monitoring, _) = monitoring.split_once("\n## ").unwrap();
    let table: BTreeSet<String> = monitoring
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|line| figures(line.split('`').next().unwrap()))
        .collect();

    let listen = private_address();
    let world = russet_tests::World::builder()
        .set("metrics.listen", listen.to_string())
        .start()
        .await;
    world.admin.list("/devices").await;
    let shown = crate::metrics::figures(listen).await;
    let kinds = shown.lines().filter(|line| line.starts_with("# TYPE "));
    assert_eq!(kinds.flat_map(figures).collect::<BTreeSet<String>>(), table, "{shown}");

    let rules = monitoring.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let about: BTreeSet<String> = rules.flat_map(figures).collect();
    assert!(about.len() >= 8 && about.is_subset(&table), "{about:?}");
}
