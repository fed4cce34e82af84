//! The server as a process: its configuration, its data directory, its log, its end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::config::Config;
use crate::program::{Cli, command, russet};
use crate::wait::{PATIENCE, eventually};

/// An address that no other test has, for servers that are started again at the same address: the loopback network has
/// many, and this one is made of the number of the process.
pub fn private_address() -> SocketAddr {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = 20_000 + COUNT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, 64 | (high & 63), middle, low), port))
}

/// A server that ended instead of serving.
#[derive(Debug)]
pub struct NotStarted {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on the standard error output.
    pub said: String,
}

/// A running `russet serve`. Dropping it kills the process; when the test has failed, its log is printed then.
#[derive(Debug)]
pub struct TestServer {
    folder: Arc<TempDir>,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    config: Config,
    child: Option<Child>,
    address: SocketAddr,
    url: String,
}

impl TestServer {
    /// Starts `russet serve` in a folder of its own and waits until it says where it serves.
    ///
    /// # Errors
    /// [`NotStarted`] when it ends before that.
    pub async fn start(config: Config) -> Result<Self, NotStarted> {
        let folder = tempfile::Builder::new()
            .prefix("russet-")
            .tempdir()
            .expect("a temporary folder");
        Self::start_in(Arc::new(folder), config).await
    }

    /// As [`start`](Self::start), in a folder that is there already: the second server of a data directory, or a copy.
    ///
    /// # Errors
    /// [`NotStarted`] when it ends before it serves.
    pub async fn start_in(folder: Arc<TempDir>, config: Config) -> Result<Self, NotStarted> {
        let file = folder.path().join("russet.toml").display().to_string();
        let arguments = vec!["--config".to_owned(), file, "serve".to_owned()];
        Self::start_program(folder, russet(), arguments, config).await
    }

    /// Starts another program that serves like `russet serve` and says so in the same way. The configuration is
    /// written to `russet.toml` in the folder.
    ///
    /// # Errors
    /// [`NotStarted`] when it ends before it serves.
    pub async fn start_program(
        folder: Arc<TempDir>,
        program: PathBuf,
        arguments: Vec<String>,
        config: Config,
    ) -> Result<Self, NotStarted> {
        let mut server = Self {
            folder,
            program,
            arguments,
            environment: Vec::new(),
            config,
            child: None,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            url: String::new(),
        };
        server.resume().await?;
        Ok(server)
    }

    /// Starts it again, after it ended. It listens where the configuration says: set `server.listen` and
    /// `server.public_url` (see [`private_address`]) for devices to find it again.
    ///
    /// # Errors
    /// [`NotStarted`] when it ends before it serves.
    pub async fn resume(&mut self) -> Result<(), NotStarted> {
        assert!(self.child.is_none(), "the server runs already");
        let mut config = self.config.clone();
        config.set("data_dir", self.data_dir().display().to_string());
        config.write(&self.config_file());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the server's log");
        let begin = self.log().len();
        let mut command = command(&self.program);
        let mut child = command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let lines = lines(child.stdout.take().expect("a pipe"));
        let deadline = Instant::now() + PATIENCE;
        let announced = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::task::block_in_place(|| lines.recv_timeout(left)) {
                Ok(line) if line.starts_with("russet serves at ") => break Some(line),
                Ok(_) => {}
                Err(_) => break None,
            }
        };
        let Some(line) = announced else {
            // Its output ended, so it ended, or is about to.
            let _ = child.kill();
            let status = child.wait().expect("a child can be waited for");
            let said = self.log().split_off(begin);
            return Err(NotStarted { status, said });
        };
        self.child = Some(child);
        (self.url, self.address) = announcement(&line);
        Ok(())
    }

    /// The next start goes through a shell, whose script ends with `exec "$0" "$@"` and what it wants of the server beside it.
    pub fn through_shell(&mut self, script: &str) -> &mut Self {
        let program = std::mem::replace(&mut self.program, PathBuf::from("/bin/sh"));
        let before = ["-c".to_owned(), script.to_owned(), program.display().to_string()];
        self.arguments.splice(..0, before);
        self
    }

    /// Sets an environment variable for the next start.
    pub fn environment(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The configuration, for the next start.
    pub fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    /// The folder of configuration, data and log.
    pub fn folder(&self) -> &Arc<TempDir> {
        &self.folder
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("russet.toml")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where devices are told to find it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that clients trust, in PEM.
    pub fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("ca.pem")).expect("the server writes its authority's certificate")
    }

    /// The first administrator's token.
    pub fn admin_token(&self) -> String {
        let token = std::fs::read_to_string(self.data_dir().join("admin-token"));
        token
            .expect("the server writes the first administrator's token")
            .trim()
            .to_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What it has written to the standard error output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The lines of the log that are JSON, as they are when `log.format` is `json`: message and fields side by side.
    pub fn log_lines(&self) -> Vec<Value> {
        let flat = |line: &str| {
            let mut line: Value = serde_json::from_str(line).ok()?;
            if let Some(Value::Object(fields)) = line.get_mut("fields").map(Value::take) {
                line.as_object_mut()?.extend(fields);
            }
            Some(line)
        };
        self.log().lines().filter_map(flat).collect()
    }

    /// The log lines of requests to a route, such as `/mdm/checkin`.
    pub fn requests(&self, route: &str) -> Vec<Value> {
        let of_route = |line: &Value| line["message"] == "request" && line["http.route"] == route;
        self.log_lines().into_iter().filter(of_route).collect()
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Whether it was started and not ended since by [`kill`](Self::kill) or [`ended`](Self::ended).
    pub fn has_process(&self) -> bool {
        self.child.is_some()
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("a child can be asked").is_none())
    }

    /// Ends it as a loss of power would: `SIGKILL`, without a chance to write anything.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Asks it to end: `SIGTERM`.
    pub fn terminate(&self) {
        let id = self.process_id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .expect("the program kill");
        assert!(sent.success(), "the server cannot be told to end");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let waited = eventually("the server ends", || {
            let ended = child.try_wait().expect("a child can be asked");
            async move { ended }
        });
        waited.await
    }

    /// Runs a command of the command line against this server.
    pub fn cli(&self, arguments: &[&str]) -> Cli {
        let mut command = command(&russet());
        command
            .arg("--config")
            .arg(self.config_file())
            .args(arguments)
            .env("RUSSET_SERVER", format!("https://{}", self.address))
            .current_dir(self.folder.path());
        Cli::run(command)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- the server's log ----\n{}---- end of the log ----", self.log());
        }
    }
}

/// The lines of a pipe. Somebody has to read them to the end, or the process stops at a full pipe.
fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Nobody listens any more after the announcement; the pipe still has to be read.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// `russet serves at <url> (listening on <address>)`.
fn announcement(line: &str) -> (String, SocketAddr) {
    let parsed = || {
        let (url, rest) = line.strip_prefix("russet serves at ")?.split_once(" (listening on ")?;
        let address = rest.strip_suffix(')')?.parse().ok()?;
        Some((url.to_owned(), address))
    };
    parsed().unwrap_or_else(|| panic!("the announcement has another form: {line}"))
}
