//! From a configuration to a running server: what is opened in which order, and what stops in which.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use jiff::Timestamp;
use russet_engine::{Engine, PushDispatcher};
use russet_hooks::HookSet;
use russet_http::{Api, Drained, Server as Listener, ServerSettings, Tls, Transport};
use russet_plugin_host::{LdapConnections, PluginEngine, PluginHost, PluginManager};
use russet_store::{MasterKey, Store};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data_dir::{DataDir, DataDirLock};
use crate::revisions::DatabaseRevisions;
use crate::translate;

pub use crate::start_error::StartError;

/// How often another node's plugin changes are looked for.
const SYNC_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// Builds a server out of the core, and lets an embedding product add to it.
pub struct ServerBuilder {
    config: Config,
    native: Arc<HookSet>,
    extra: Router,
    around: Vec<Box<dyn FnOnce(Router) -> Router + Send>>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A running server. Dropping it leaves the server running until the runtime ends; call [`Running::shutdown`].
#[derive(Debug)]
pub struct Running {
    engine: Engine,
    plugins: Arc<PluginManager>,
    data: DataDir,
    address: SocketAddr,
    public_url: String,
    stop: CancellationToken,
    listener: JoinHandle<Drained>,
    dispatcher: JoinHandle<()>,
    sync: JoinHandle<()>,
    _lock: DataDirLock,
}

/// The server: [`Server::builder`] is the way in.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Starts from a configuration, which [`ServerBuilder::start`] checks.
    pub fn builder(config: Config) -> ServerBuilder {
        ServerBuilder {
            config,
            native: HookSet::builder().build(),
            extra: Router::new(),
            around: Vec::new(),
        }
    }
}

impl ServerBuilder {
    /// Hooks in native Rust, asked before the plugins of every tenant.
    #[must_use]
    pub fn native_hooks(mut self, hooks: Arc<HookSet>) -> Self {
        self.native = hooks;
        self
    }

    /// Routes beside those of the core.
    #[must_use]
    pub fn routes(mut self, routes: Router) -> Self {
        self.extra = self.extra.merge(routes);
        self
    }

    /// Wraps all routes, such as with a tower layer: `|router| router.layer(…)`.
    #[must_use]
    pub fn wrap(mut self, layer: impl FnOnce(Router) -> Router + Send + 'static) -> Self {
        self.around.push(Box::new(layer));
        self
    }

    /// Checks the configuration, opens everything, and serves.
    ///
    /// # Errors
    /// A [`StartError`] that says what to mend. No port is bound before the configuration was found to be good.
    pub async fn start(self) -> Result<Running, StartError> {
        let config = self.config;
        config.validate()?;
        let data = DataDir::new(&config.data_dir);
        let lock = data.lock()?;
        let listener = TcpListener::bind(config.server.listen)
            .await
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) =
            listener.map_err(|source| StartError::Listen { address: config.server.listen, source })?;
        let public_url = config.server.public_url_at(address);

        let master = master_key(&config, &data)?;
        let store = Store::open(translate::store(&config, &data), &master).await?;
        let host = Arc::new(PluginHost::with_native(self.native));
        let plugins = Arc::new(PluginManager::new(
            PluginEngine::new(&translate::plugin_engine(&config, &data))?,
            Arc::clone(&host),
            Arc::new(DatabaseRevisions(store.clone())),
            ldap_connections(&config)?,
            translate::plugin_limits(&config),
        ));
        load_plugins(&plugins).await?;
        let settings = translate::engine(&config, &public_url)?;
        let engine = Engine::open(store, host, settings, Timestamp::now()).await?;
        first_token(&engine, &data).await?;
        let tls = tls(&config, &engine, &data, address, &public_url)?;

        let api = Api::new(engine.clone(), Arc::clone(&plugins), translate::http(&config)?);
        let router = self.around.into_iter().fold(russet_http::router(&api).merge(self.extra), |router, wrap| wrap(router));
        let settings = ServerSettings {
            address,
            transport: Transport::Tls(tls),
            limits: translate::connection_limits(&config),
        };
        let stop = CancellationToken::new();
        let listener = Listener::on(listener, settings)?;
        let listener = tokio::spawn(listener.serve(router, stop.clone()));
        let dispatcher: PushDispatcher = engine.push_dispatcher();
        let dispatcher = tokio::spawn(dispatcher.run(stop.clone()));
        let sync = tokio::spawn(follow_other_nodes(engine.clone(), Arc::clone(&plugins), stop.clone()));
        tracing::info!(server.address = %address, server.public_url = %public_url, "russet serves");
        Ok(Running { engine, plugins, data, address, public_url, stop, listener, dispatcher, sync, _lock: lock })
    }
}

impl Running {
    /// The engine, for what an embedding product does beside HTTP.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The plugins.
    pub fn plugins(&self) -> &Arc<PluginManager> {
        &self.plugins
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that devices know the server by.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// The data directory, with the administrator's token and the certificate to trust.
    pub fn data_dir(&self) -> &DataDir {
        &self.data
    }

    /// Serves until the process is told to end (SIGTERM or SIGINT), then stops.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub async fn until_signal(self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        tracing::info!("stopping: no new requests are taken");
        self.shutdown().await;
        Ok(())
    }

    /// Takes no new requests, finishes those that run, and writes what is only in memory.
    pub async fn shutdown(self) {
        self.stop.cancel();
        for (what, task) in [("dispatcher", self.dispatcher), ("plugin sync", self.sync)] {
            if let Err(error) = task.await {
                tracing::error!(task = what, error = %error, "a task ended badly");
            }
        }
        if let Err(error) = self.listener.await {
            tracing::error!(error = %error, "the listener ended badly");
        }
        if let Err(error) = self.engine.store().close().await {
            tracing::error!(error = %error, "the last-seen times could not be written");
        }
    }
}

fn master_key(config: &Config, data: &DataDir) -> Result<MasterKey, StartError> {
    Ok(match &config.secrets.master_key {
        Some(key) => MasterKey::from_base64(key.expose())?,
        None => {
            let path = config.secrets.master_key_file.clone().unwrap_or_else(|| data.master_key());
            MasterKey::load_or_create(&path)?
        }
    })
}

fn ldap_connections(config: &Config) -> Result<LdapConnections, StartError> {
    let mut connections = LdapConnections::new();
    for (name, connection) in &config.ldap {
        let connection = translate::ldap(connection)
            .map_err(|source| StartError::LdapFile { name: name.clone(), source })?;
        connections
            .insert(name.clone(), connection)
            .map_err(|source| StartError::Ldap { name: name.clone(), source })?;
    }
    Ok(connections)
}

async fn load_plugins(plugins: &PluginManager) -> Result<(), StartError> {
    let report = plugins.load_all().await?;
    for failure in &report.failures {
        // Its hooks fail by their failure rule until it is replaced.
        tracing::error!(plugin.name = %failure.plugin, tenant = %failure.tenant, error = %failure.reason, "a plugin cannot be loaded");
    }
    Ok(())
}

/// The token of the first administrator: made once, and kept in a file that only the owner reads.
async fn first_token(engine: &Engine, data: &DataDir) -> Result<(), StartError> {
    if engine.tokens(None).await?.is_empty() {
        let (_, token) = engine.create_token(None, "first", Timestamp::now()).await?;
        data.write_private(&data.admin_token(), format!("{}\n", *token).as_bytes())?;
    }
    Ok(())
}

fn tls(
    config: &Config,
    engine: &Engine,
    data: &DataDir,
    address: SocketAddr,
    public_url: &str,
) -> Result<Tls, StartError> {
    let clients = [engine.device_authority_der()];
    if let (Some(certificate), Some(key)) =
        (&config.server.tls.certificate_file, &config.server.tls.private_key_file)
    {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|source| StartError::File { path: path.to_owned(), source })
        };
        let key = zeroize::Zeroizing::new(read(key)?);
        return Ok(Tls::from_pem(&read(certificate)?, &key, &clients)?);
    }
    // What the command line and other clients on this machine trust.
    data.write_private(&data.ca_certificate(), engine.server_authority_pem().as_bytes())?;
    let (mut dns, mut addresses) = (vec!["localhost".to_owned()], vec![
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    ]);
    if !address.ip().is_unspecified() {
        addresses.push(address.ip());
    }
    let host = reqwest::Url::parse(public_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    for name in config.server.tls.names.iter().cloned().chain(host) {
        match name.trim_matches(['[', ']']).parse() {
            Ok(address) => addresses.push(address),
            Err(_) => dns.push(name),
        }
    }
    dns.sort();
    dns.dedup();
    addresses.sort();
    addresses.dedup();
    let identity = engine.tls_identity(&dns, &addresses, Timestamp::now())?;
    Ok(Tls::from_der(identity.chain, &identity.key_pkcs8, &clients)?)
}

/// Loads what other nodes on the same database installed.
async fn follow_other_nodes(engine: Engine, plugins: Arc<PluginManager>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SYNC_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        let tenants = match engine.store().tenants().await {
            Ok(tenants) => tenants,
            Err(error) => {
                tracing::warn!(error = %error, "the tenants cannot be read");
                continue;
            }
        };
        for tenant in tenants {
            if let Err(error) = plugins.sync(&tenant.name).await {
                tracing::warn!(tenant = %tenant.name, error = %error, "the plugins cannot be brought up to date");
            }
        }
    }
}
