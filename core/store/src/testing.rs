//! A private PostgreSQL cluster for tests, from the machine's installed binaries.
//!
//! It lives in a folder of its own, listens on a Unix socket there and nowhere else, and goes with the test: also when
//! that panics or is killed. A small shell script keeps watch over it: it starts the cluster, waits for the end of its
//! standard input (which ends with the test process, however that ends), stops the cluster and deletes the folder.
//!
//! And a count of statements, for tests that say how many something takes, and a look at the tables from outside.

mod inspect;
mod steps;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub use inspect::Inspection;
pub use steps::{migrate_to, steps};

/// See [`statements`].
pub(crate) static STATEMENTS: AtomicU64 = AtomicU64::new(0);

/// How many statements all stores of this process have sent so far; what frames a transaction is not counted.
#[must_use]
pub fn statements() -> u64 {
    STATEMENTS.load(Ordering::Relaxed)
}

/// The statements that are about queue entries by their ids: each has to find an entry in the index of ids, whatever
/// PostgreSQL knows of the table.
#[must_use]
pub fn statements_by_entry() -> &'static [&'static str] {
    &crate::commands::BY_ENTRY
}

/// The statements that ask about the queues of many devices, as PostgreSQL gets them: each has to look up a device by itself.
#[must_use]
pub fn statements_by_device() -> Vec<String> {
    let of_postgres = |sql: &crate::db::Sql| crate::db::IntoSql::text(*sql, sea_orm::DbBackend::Postgres);
    crate::push::BY_DEVICE.iter().map(of_postgres).collect()
}

/// The statement that each message of a device begins with.
#[must_use]
pub fn statement_of_callers() -> &'static str {
    crate::commands::OF_CALLERS
}

/// The question whether any device of a tenant has a dedupe key open, as PostgreSQL gets it: it has to read the open entries
/// with keys alone.
#[must_use]
pub fn statement_of_keys() -> String {
    crate::db::IntoSql::text(crate::commands::OF_KEYS, sea_orm::DbBackend::Postgres)
}

/// Set to `1` to leave the tests on PostgreSQL out.
pub const SKIP_VARIABLE: &str = "RUSSET_TEST_SKIP_POSTGRES";

/// The cluster could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No server binaries were found.
    #[error(
        "PostgreSQL's server programs (initdb, pg_ctl) were not found; install them \
         (Debian: apt-get install postgresql), or leave these tests out with RUSSET_TEST_SKIP_POSTGRES=1"
    )]
    Missing,
    /// The folder or the watching process could not be made.
    #[error("cannot prepare the test cluster")]
    Prepare(#[from] std::io::Error),
    /// A program failed; the text is what it said.
    #[error("the test cluster failed: {0}")]
    Failed(String),
}

/// Whether the tests on PostgreSQL are left out. Says so loudly, as a test that did not run looks like one that passed.
#[must_use]
#[expect(clippy::print_stderr, reason = "a test's output is where a tester looks")]
pub fn postgres_is_skipped() -> bool {
    let skipped = std::env::var(SKIP_VARIABLE).is_ok_and(|value| value == "1");
    if skipped {
        eprintln!("############ NOT TESTED ON POSTGRESQL: {SKIP_VARIABLE}=1 ############");
    }
    skipped
}

/// A running cluster; stopped and deleted when it is dropped.
#[derive(Debug)]
pub struct PostgresCluster {
    folder: PathBuf,
    programs: PathBuf,
    watch: Child,
    /// Closing it ends the cluster.
    alive: Option<ChildStdin>,
}

const WATCH: &str = r#"
as_owner() {
    if [ -n "$OWNER" ]; then
        setpriv --reuid="$OWNER" --regid="$GROUP" --clear-groups -- "$@"
    else
        "$@"
    fi
}
cd "$FOLDER" || exit 1
log="$FOLDER/log"
trap 'as_owner "$PROGRAMS/pg_ctl" -D "$FOLDER/data" -m immediate -w stop >/dev/null 2>&1; cd /; rm -rf "$FOLDER"' EXIT
# A test that is killed before the cluster is up leaves nobody to tell: go on to the end of the input and clean up.
trap '' PIPE
trap 'exit 1' HUP INT TERM
fail() { echo "$1"; cat "$log"; exit 1; }
as_owner "$PROGRAMS/initdb" -D "$FOLDER/data" -U russet --auth=trust -E UTF8 --locale=C --no-sync \
    >"$log" 2>&1 || fail "initdb failed"
as_owner "$PROGRAMS/pg_ctl" -D "$FOLDER/data" -l "$FOLDER/server.log" -w -t 60 -o "-c listen_addresses='' \
    -c unix_socket_directories='$FOLDER' -c fsync=off -c autovacuum=off -c max_connections=200 \
    -c shared_buffers=64MB $SETTINGS" start \
    >"$log" 2>&1 || { cat "$FOLDER/server.log" >>"$log"; fail "pg_ctl start failed"; }
echo ready
read -r _
"#;

impl PostgresCluster {
    /// Makes and starts a cluster. As root its programs run as `nobody`, since they refuse root.
    ///
    /// # Errors
    /// [`ClusterError`]; nothing is left behind.
    pub fn start() -> Result<Self, ClusterError> {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with server settings that win over those that make tests fast, such as
    /// `("fsync", "on")`. Their values may not hold spaces.
    ///
    /// # Errors
    /// [`ClusterError`]; nothing is left behind.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, ClusterError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let programs = programs().ok_or(ClusterError::Missing)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("russet-pg-{}-{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let (owner, group) = owner()?.unwrap_or_default();
        if !owner.is_empty() {
            chown(&folder, owner.parse().ok(), group.parse().ok())?;
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        let settings: String = settings
            .iter()
            .map(|(name, value)| format!("-c {name}={value} "))
            .collect();
        let mut watch = Command::new("sh")
            .args(["-c", WATCH])
            .env("PROGRAMS", &programs)
            .env("FOLDER", &folder)
            .env("OWNER", owner)
            .env("GROUP", group)
            .env("SETTINGS", settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What kills the test's process group must not kill the one who cleans up after it.
            .process_group(0)
            .spawn()?;
        let alive = watch.stdin.take();
        let mut said = BufReader::new(
            watch
                .stdout
                .take()
                .ok_or_else(|| ClusterError::Failed("no output".into()))?,
        );
        let mut line = String::new();
        said.read_line(&mut line)?;
        if line != "ready\n" {
            said.read_to_string(&mut line)?;
            watch.wait()?;
            return Err(ClusterError::Failed(line));
        }
        Ok(Self {
            folder,
            programs,
            watch,
            alive,
        })
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// [`ClusterError::Failed`] when the name is taken or no name for a database.
    pub fn create_database(&self, name: &str) -> Result<String, ClusterError> {
        self.query(
            "postgres",
            &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")),
        )?;
        Ok(self.url(name))
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("postgres://russet@localhost/{name}?host={}", self.folder.display())
    }

    /// The folder of the socket that it listens on, `.s.PGSQL.5432`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets it crash and starts it again: every connection is cut, whatever it is at, and what was committed comes back from
    /// the log. Returns when it takes connections again.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn crash_and_restart(&self) -> Result<(), ClusterError> {
        let data = self.folder.join("data").display().to_string();
        let log = self.folder.join("server.log").display().to_string();
        let program = self.programs.join("pg_ctl").display().to_string();
        let restart = ["-D", &data, "-l", &log, "-m", "immediate", "-w", "-t", "60", "restart"];
        let mut command = match owner()? {
            None => Command::new(&program),
            Some((owner, group)) => {
                let mut command = Command::new("setpriv");
                let (owner, group) = (format!("--reuid={owner}"), format!("--regid={group}"));
                command.args([&owner, &group, "--clear-groups", "--", &program]);
                command
            }
        };
        // Not to a pipe: the cluster would keep it open.
        let status = command
            .args(restart)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .status()?;
        if status.success() {
            Ok(())
        } else {
            let said = fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
            Err(ClusterError::Failed(said))
        }
    }

    /// Runs a statement as the superuser; its rows, one a line, without decoration.
    ///
    /// # Errors
    /// [`ClusterError::Failed`] with what the server said.
    pub fn query(&self, database: &str, sql: &str) -> Result<String, ClusterError> {
        let host = self.folder.to_string_lossy();
        let program = self.programs.join("psql");
        let arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "russet"];
        let output = Command::new(program)
            .args(arguments)
            .args(["-h", &host, "-d", database, "-c", sql])
            .output()?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(ClusterError::Failed(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ))
        }
    }
}

impl Drop for PostgresCluster {
    fn drop(&mut self) {
        drop(self.alive.take());
        // The folder is gone when this returns; if it cannot be waited for, nobody is left to be told.
        let _ = self.watch.wait();
    }
}

/// User and group that the programs run as where this process is root's, which they refuse.
fn owner() -> Result<Option<(String, String)>, std::io::Error> {
    if output("id", &["-u"])? != "0" {
        return Ok(None);
    }
    Ok(Some((
        output("id", &["-u", "nobody"])?,
        output("id", &["-g", "nobody"])?,
    )))
}

/// The folder of the newest installed server's programs.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| complete(folder))
        .collect();
    versions.sort();
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| complete(folder));
    versions.pop().map(|(_, folder)| folder).or_else(on_path)
}

fn complete(folder: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres", "psql"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

fn output(program: &str, arguments: &[&str]) -> Result<String, std::io::Error> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
