//! OpenLDAP's `slapd`, started without privileges in a directory of its own, on free ports of the loopback address.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout_at};

use crate::LdapConnection;

/// How long a start may take.
const START: Duration = Duration::from_secs(20);
/// The password of the administrator of the test directory.
const ADMIN_PASSWORD: &str = "directory-admin-password";
/// How many entries others than the administrator get at once, and altogether.
const LIMITS: &str = "size.soft=500 size.hard=500 size.prtotal=unlimited";

/// What to start.
#[derive(Clone, Debug)]
pub struct SlapdOptions {
    /// The suffix of the database.
    pub suffix: String,
    /// The entries, as LDIF; the first is the suffix itself.
    pub ldif: String,
    /// Whether it has a certificate, for StartTLS and `ldaps://`.
    pub tls: bool,
}

/// How a connection to a test directory is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Not at all.
    Plaintext,
    /// StartTLS on the plain port.
    StartTls,
    /// TLS from the start.
    Ldaps,
}

/// Why the directory did not start.
#[derive(Debug, thiserror::Error)]
pub enum SlapdError {
    /// A program is missing.
    #[error("{0} is not installed; apt-get install slapd")]
    Missing(&'static str),
    /// A file or a process can not be made.
    #[error("the test directory can not be set up: {0}")]
    Io(#[from] std::io::Error),
    /// The certificates can not be made.
    #[error("the certificates of the test directory can not be made: {0}")]
    Certificates(#[from] rcgen::Error),
    /// The entries were refused.
    #[error("slapadd refused the entries: {0}")]
    Entries(String),
    /// It ended, or did not answer in time.
    #[error("slapd did not start: {0}")]
    NotStarted(String),
}

/// A running directory. It is stopped and its files are removed when this is dropped.
#[derive(Debug)]
pub struct Slapd {
    directory: TempDir,
    suffix: String,
    port: u16,
    tls_port: Option<u16>,
    ca_pem: Option<String>,
    program: PathBuf,
    child: Option<Child>,
}

impl Slapd {
    /// Starts a directory and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// See [`SlapdError`].
    pub async fn start(options: SlapdOptions) -> Result<Self, SlapdError> {
        Self::start_with_limits(options, LIMITS).await
    }

    /// The same with other limits on how many entries others than the administrator get, as slapd.conf(5) spells them.
    ///
    /// # Errors
    ///
    /// See [`SlapdError`].
    pub async fn start_with_limits(options: SlapdOptions, limits: &str) -> Result<Self, SlapdError> {
        let program = find("slapd").ok_or(SlapdError::Missing("slapd"))?;
        let slapadd = find("slapadd").ok_or(SlapdError::Missing("slapadd"))?;
        let directory = tempfile::Builder::new().prefix("slapd-").tempdir()?;
        std::fs::create_dir(directory.path().join("db"))?;
        let ca_pem = options.tls.then(|| write_certificates(directory.path())).transpose()?;
        std::fs::write(
            directory.path().join("slapd.conf"),
            configuration(directory.path(), &options, limits)?,
        )?;
        add_entries(&slapadd, directory.path(), &options.ldif)?;
        let mut slapd = Self {
            directory,
            suffix: options.suffix,
            port: 0,
            tls_port: None,
            ca_pem,
            program,
            child: None,
        };
        // Another process may take a port between its choice and its use.
        let mut last = SlapdError::NotStarted("no try was made".to_owned());
        for _ in 0..3 {
            slapd.port = free_port()?;
            slapd.tls_port = if options.tls { Some(free_port()?) } else { None };
            match slapd.resume().await {
                Ok(()) => return Ok(slapd),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Stops the server; its data stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again, on the same ports.
    ///
    /// # Errors
    ///
    /// It ended, or did not answer in time.
    pub async fn resume(&mut self) -> Result<(), SlapdError> {
        let mut addresses = format!("ldap://127.0.0.1:{}/", self.port);
        if let Some(port) = self.tls_port {
            addresses.push_str(&format!(" ldaps://127.0.0.1:{port}/"));
        }
        let log = std::fs::File::create(self.directory.path().join("slapd.log"))?;
        let child = Command::new(&self.program)
            .arg("-f")
            .arg(self.directory.path().join("slapd.conf"))
            .args(["-h", &addresses, "-d", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        self.wait().await
    }

    async fn wait(&mut self) -> Result<(), SlapdError> {
        let deadline = Instant::now() + START;
        let mut ports = vec![self.port];
        ports.extend(self.tls_port);
        let mut tick = interval(Duration::from_millis(10));
        for port in ports {
            loop {
                if timeout_at(deadline, TcpStream::connect((Ipv4Addr::LOCALHOST, port)))
                    .await
                    .is_ok_and(|connected| connected.is_ok())
                {
                    break;
                }
                let ended = match self.child.as_mut() {
                    Some(child) => child.try_wait()?.is_some(),
                    None => true,
                };
                if ended || Instant::now() >= deadline {
                    self.stop();
                    let log = std::fs::read_to_string(self.directory.path().join("slapd.log"));
                    return Err(SlapdError::NotStarted(log.unwrap_or_default()));
                }
                tick.tick().await;
            }
        }
        Ok(())
    }

    /// The suffix of the database.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// The address, for `ldap://` and StartTLS.
    pub fn url(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    /// The address for TLS from the start.
    pub fn tls_url(&self) -> Option<String> {
        self.tls_port.map(|port| format!("ldaps://localhost:{port}"))
    }

    /// The certificate to trust, if it has TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The name of the directory's administrator.
    pub fn admin_dn(&self) -> String {
        format!("cn=admin,{}", self.suffix)
    }

    /// The password of the directory's administrator.
    pub fn admin_password(&self) -> &'static str {
        ADMIN_PASSWORD
    }

    /// The settings of a connection to it, as its administrator and with its suffix as the base. Others than the administrator
    /// get at most 500 entries in one answer, as real directories have it.
    pub fn connection(&self, transport: Transport) -> LdapConnection {
        LdapConnection {
            url: match transport {
                Transport::Plaintext | Transport::StartTls => self.url(),
                Transport::Ldaps => self.tls_url().unwrap_or_default(),
            },
            start_tls: transport == Transport::StartTls,
            allow_plaintext: transport == Transport::Plaintext,
            bind_dn: Some(self.admin_dn()),
            bind_password: Some(ADMIN_PASSWORD.to_owned().into()),
            base_dn: self.suffix.clone(),
            ca_pem: self.ca_pem.clone(),
            ..LdapConnection::default()
        }
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `sbin` is not on everybody's path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/libexec"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

fn free_port() -> Result<u16, std::io::Error> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn configuration(directory: &Path, options: &SlapdOptions, limits: &str) -> Result<String, SlapdError> {
    let directory = directory.display();
    let schemas = [
        "/etc/ldap/schema",
        "/etc/openldap/schema",
        "/usr/local/etc/openldap/schema",
    ]
    .into_iter()
    .find(|folder| Path::new(folder).join("core.schema").is_file())
    .ok_or(SlapdError::Missing("the schema of slapd"))?;
    let mut text = String::new();
    for schema in ["core", "cosine", "inetorgperson", "nis"] {
        text.push_str(&format!("include {schemas}/{schema}.schema\n"));
    }
    // Where the back end is a module; elsewhere it is built in.
    if let Some(modules) = ["/usr/lib/ldap", "/usr/lib/openldap"]
        .into_iter()
        .find(|folder| Path::new(folder).join("back_mdb.so").is_file())
    {
        text.push_str(&format!("modulepath {modules}\nmoduleload back_mdb\n"));
    }
    if options.tls {
        text.push_str(&format!(
            "TLSCACertificateFile {directory}/ca.pem\nTLSCertificateFile {directory}/server.pem\n\
             TLSCertificateKeyFile {directory}/server.key\n"
        ));
    }
    let suffix = &options.suffix;
    text.push_str(&format!(
        "pidfile {directory}/slapd.pid\n\
         database mdb\n\
         suffix \"{suffix}\"\n\
         rootdn \"cn=admin,{suffix}\"\n\
         rootpw {ADMIN_PASSWORD}\n\
         directory {directory}/db\n\
         maxsize 16777216\n\
         sizelimit {limits}\n\
         access to attrs=userPassword by anonymous auth by * none\n\
         access to * by users read by anonymous auth\n"
    ));
    Ok(text)
}

fn add_entries(slapadd: &Path, directory: &Path, ldif: &str) -> Result<(), SlapdError> {
    let mut child = Command::new(slapadd)
        .arg("-f")
        .arg(directory.join("slapd.conf"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(ldif.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(SlapdError::Entries(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }
}

/// Writes a certificate authority and a certificate for `localhost`; returns the authority's certificate.
fn write_certificates(directory: &Path) -> Result<String, SlapdError> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "Test Directory CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &ca)?;
    let pem = ca.pem();
    std::fs::write(directory.join("ca.pem"), &pem)?;
    std::fs::write(directory.join("server.pem"), server.pem())?;
    std::fs::write(directory.join("server.key"), key.serialize_pem())?;
    Ok(pem)
}
