//! The server that is measured: the binary `russet` beside this one, as a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use russet_simulator::apns::ApnsStandIn;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::Failure;
use crate::wire::{Connection, Target, request};
use crate::{cpu, plugins};

/// How long a server may take to start or to stop before something is wrong with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server's data directory, configuration and port, which outlive its processes.
pub(crate) struct Installation {
    folder: TempDir,
    port: u16,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    process: u32,
    pub(crate) target: Target,
    token: String,
    /// Kept open: the server goes on to write after the line that was waited for.
    _stdout: Option<Lines<BufReader<ChildStdout>>>,
}

impl Installation {
    /// A folder for a server, on the disk that the build is on: the folder for temporary files may be in memory, where
    /// writing costs nothing.
    pub(crate) fn new(database: Option<&str>, apns: Option<&ApnsStandIn>) -> Result<Self, Failure> {
        let parent = binary()?
            .parent()
            .and_then(Path::parent)
            .map(|target| target.join("bench"));
        let parent = parent.ok_or("the binary lies in no build folder")?;
        std::fs::create_dir_all(&parent)?;
        Self::in_folder(tempfile::tempdir_in(parent)?, database, apns)
    }

    /// A folder in memory where the system has one for that, for figures that are not about the disk.
    pub(crate) fn in_memory(apns: &ApnsStandIn) -> Result<Self, Failure> {
        let memory = Path::new("/dev/shm");
        if !memory.is_dir() {
            return Self::new(None, Some(apns));
        }
        Self::in_folder(tempfile::tempdir_in(memory)?, None, Some(apns))
    }

    fn in_folder(folder: TempDir, database: Option<&str>, apns: Option<&ApnsStandIn>) -> Result<Self, Failure> {
        // Free a moment ago: a server that is measured from its start has to be known by its port.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let this = Self { folder, port };
        std::fs::write(this.path("russet.toml"), this.configuration(database, apns)?)?;
        Ok(this)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of compiled plugins.
    pub(crate) fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    /// What the server logged since its last start.
    pub(crate) fn log(&self) -> String {
        match std::fs::read_to_string(self.path("log")) {
            Ok(log) => log.trim().to_owned(),
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }

    fn configuration(&self, database: Option<&str>, apns: Option<&ApnsStandIn>) -> Result<String, Failure> {
        let text = |path: PathBuf| Value::from(path.display().to_string()).to_string();
        let mut toml = format!("data_dir = {}\n", text(self.path("data")));
        toml.push_str(&format!("[server]\nlisten = \"127.0.0.1:{}\"\n", self.port));
        // Devices are to be idle when idle polls are measured.
        toml.push_str("[enrollment]\nask_device_information = false\nrelease_from_setup = false\n");
        // Enrollments without a gate are measured too.
        toml.push_str("without_gate = \"allow\"\n");
        toml.push_str(&format!(
            "[plugins]\nunsigned = \"allow\"\ncache_directory = {}\n",
            text(self.cache())
        ));
        toml.push_str("[log]\nfilter = \"warn\"\n");
        toml.push_str("[ldap.corp]\nurl = \"ldaps://127.0.0.1:9\"\nbase_dn = \"dc=example,dc=org\"\n");
        if let Some(database) = database {
            toml.push_str(&format!("[database]\nurl = {}\n", Value::from(database)));
        }
        if let Some(apns) = apns {
            let roots = self.path("apns-roots.pem");
            std::fs::write(&roots, apns.roots_pem())?;
            toml.push_str(&format!(
                "[apns]\nhost = \"{}\"\naddress = \"{}\"\nroots_file = {}\n",
                apns.host(),
                apns.address(),
                text(roots)
            ));
        }
        Ok(toml)
    }

    /// Starts the server and waits until it says that it serves.
    pub(crate) async fn start(&self) -> Result<Server, Failure> {
        let mut child = self.spawn()?;
        let stdout = child.stdout.take().ok_or("the server has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let announced = timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await? {
                if line.contains("listening on") {
                    return Ok(true);
                }
            }
            Ok::<_, Failure>(false)
        });
        if !announced.await?? {
            return Err(format!("the server did not start: {}", self.log()).into());
        }
        self.attach(child, Some(lines))
    }

    /// Starts the server and asks it from outside until it answers; how long that took. Only where it was started before:
    /// the certificate to trust is of the first start.
    pub(crate) async fn start_and_time(&self) -> Result<(Server, Duration), Failure> {
        let started = Instant::now();
        let server = self.attach(self.spawn()?, None)?;
        let healthz = request("GET", "/healthz", &[], b"");
        loop {
            // Refused until the port is bound; after that the handshake waits for the server.
            if let Ok(mut connection) = server.target.connect().await
                && connection.send(&healthz).await.is_ok_and(|answer| answer.status == 200)
            {
                return Ok((server, started.elapsed()));
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("the server does not answer: {}", self.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn spawn(&self) -> Result<Child, Failure> {
        let mut command = Command::new(binary()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RUSSET_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .arg("--config")
            .arg(self.path("russet.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(self.path("log"))?)
            .kill_on_drop(true);
        Ok(command.spawn()?)
    }

    fn attach(&self, child: Child, stdout: Option<Lines<BufReader<ChildStdout>>>) -> Result<Server, Failure> {
        let read = |name: &str| {
            let path = self.path("data").join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Server {
            process: child.id().ok_or("the server has ended already")?,
            child,
            target: Target::new(([127, 0, 0, 1], self.port).into(), &read("ca.pem")?)?,
            token: read("admin-token")?.trim().to_owned(),
            _stdout: stdout,
        })
    }
}

/// The server's binary: built with this one, or it would be another version that is measured.
fn binary() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe()?.with_file_name("russet");
    if path.is_file() {
        return Ok(path);
    }
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    Err(format!(
        "there is no {}; build it with: cargo build{release} --package russet",
        path.display()
    )
    .into())
}

impl Server {
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        cpu::resident(self.process)
    }

    /// Ends the server as a service manager does, and waits for it.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let told = Command::new("kill").arg(self.process.to_string()).status().await?;
        if !told.success() {
            return Err("the server could not be told to end".into());
        }
        timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }

    /// A connection to the admin API.
    pub(crate) async fn administrator(&self) -> Result<Administrator, Failure> {
        Ok(Administrator {
            connection: self.target.connect().await?,
            authorization: format!("Bearer {}", self.token),
        })
    }
}

/// Somebody who uses the admin API for the default tenant.
pub(crate) struct Administrator {
    connection: Connection,
    authorization: String,
}

impl Administrator {
    /// Sends JSON to an address of the tenant, and returns the answer.
    pub(crate) async fn send(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        let headers = [
            ("Authorization", self.authorization.as_str()),
            ("Content-Type", "application/json"),
        ];
        let path = format!("/v1/tenants/{}/{path}", plugins::TENANT);
        let bytes = request(method, &path, &headers, body.to_string().as_bytes());
        let answer = self.connection.send(&bytes).await?.accepted(&path)?;
        Ok(serde_json::from_slice(answer.body)?)
    }

    /// Installs a bundled plugin with all that it asks for.
    pub(crate) async fn install(&mut self, name: &str, settings: Option<Value>) -> Result<(), Failure> {
        let component = plugins::component(name)?;
        let mut body = json!({
            "component": BASE64.encode(&component),
            "grants": plugins::grants(&component)?,
        });
        if let Some(settings) = settings {
            body["settings"] = settings;
        }
        self.install_json(name, &body).await
    }

    /// Gives an installed plugin other settings.
    pub(crate) async fn configure(&mut self, name: &str, settings: &Value) -> Result<(), Failure> {
        self.install_json(name, &json!({"settings": settings})).await
    }

    async fn install_json(&mut self, name: &str, body: &Value) -> Result<(), Failure> {
        let report = self.send("PUT", &format!("plugins/{name}"), body).await?;
        match report["state"].as_str() {
            Some("active") => Ok(()),
            _ => Err(format!("the plugin {name} does not run: {report}").into()),
        }
    }
}
