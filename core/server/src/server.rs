//! The server: put together from its parts, started, and stopped.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::Route;
use jiff::Timestamp;
use russet_engine::Engine;
use russet_hooks::HookSet;
use russet_http::{
    Api, BindError, Drained, ServerSettings, Tls, Transport, admin_router, boundary, counted, device_router,
};
use russet_plugin_host::{PluginEngine, PluginHost, PluginManager};
use russet_store::Store;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use crate::admin_token::admin_token;
use crate::background::{Background, TlsRenewal};
use crate::config::{Config, Secret};
use crate::data_dir::{DataDir, DataDirLock};
use crate::ports::ports;
use crate::revisions::StoreRevisions;
use crate::start_error::StartError;
use crate::trust::trust;
use crate::{metrics, parts};

type Change = Box<dyn FnOnce(Router) -> Router + Send>;

/// A server that is not started yet: the configuration, and what an embedding vendor adds to it.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use russet::{Server, config::Config};
///
/// let server = Server::builder(Config::default()).start().await?;
/// println!("listening on {}", server.address());
/// server.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct ServerBuilder {
    config: Config,
    native: Option<Arc<HookSet>>,
    changes: Vec<Change>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The entry point: see [`Server::builder`].
#[derive(Debug, Clone, Copy)]
pub struct Server;

impl Server {
    /// A server with this configuration.
    pub fn builder(config: Config) -> ServerBuilder {
        ServerBuilder {
            config,
            native: None,
            changes: Vec::new(),
        }
    }
}

impl ServerBuilder {
    /// Adds hooks in native Rust. They are asked before any plugin, in every tenant.
    pub fn native_hooks(mut self, hooks: Arc<HookSet>) -> Self {
        self.native = Some(hooks);
        self
    }

    /// Adds a vendor's own routes below `path`, such as `/vendor`. They get the server's request identifiers and log, and
    /// no authentication: the vendor brings its own.
    ///
    /// # Panics
    ///
    /// If `path` does not begin with `/`, or the server has routes there itself, as [`Router::nest`] does.
    pub fn route(mut self, path: &str, routes: Router) -> Self {
        let path = path.to_owned();
        self.changes.push(Box::new(move |router| router.nest(&path, routes)));
        self
    }

    /// Puts a layer around all routes so far: the server's and the vendor's. Layers added later are further outside; the
    /// server's own boundary (request log, panics, the guard that keeps 401 from devices) is outside of them all.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.changes.push(Box::new(move |router| router.layer(layer)));
        self
    }

    /// Starts the server in the background of the current tokio runtime. The port is bound once everything that can be
    /// wrong with the configuration has been checked, and requests are answered when this returns.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(self) -> Result<Running, StartError> {
        let Self {
            config,
            native,
            changes,
        } = self;
        config.validate()?;
        let data_dir = DataDir::new(&config.data_dir);
        let lock = data_dir.lock()?;
        let connections = parts::connections(&config)?;
        let address = config.server.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| BindError::Address { address, source })?;
        let bound = listener
            .local_addr()
            .map_err(|source| BindError::Address { address, source })?;
        let settings = parts::engine(&config, bound)?;
        let public_url = settings.enrollment.public_url.clone();

        let store = Store::open(
            parts::store(&config, &data_dir),
            &parts::master_key(&config, &data_dir)?,
        )
        .await?;
        let trust = trust(&config.plugins, &store);
        let now = Timestamp::now();
        let host = Arc::new(native.map_or_else(PluginHost::new, PluginHost::with_native));
        let plugins = PluginManager::new(
            PluginEngine::new(&parts::plugin_engine(&config, &data_dir))?,
            Arc::clone(&host),
            Arc::new(StoreRevisions::new(store.clone())),
            connections,
            ports(&store),
            parts::plugin_limits(&config),
        );
        let plugins = Arc::new(plugins.with_trust(trust));
        let loaded = plugins.load_all().await?;
        for failure in &loaded.failures {
            tracing::error!(
                plugin.name = %failure.plugin,
                tenant.name = %failure.tenant,
                reason = %failure.reason,
                "a plugin can not be loaded; its hooks fail until it is replaced"
            );
        }
        end_leases(&store).await;
        let engine = Engine::open(store, host, settings, now).await?;
        let authority = engine.server_authority_pem();
        data_dir.write_private(&data_dir.ca_certificate(), authority.as_bytes())?;
        let token = admin_token(&engine, &data_dir, now).await?;

        let (tls, served) = tls(&config, &engine, bound, now)?;
        let settings = ServerSettings {
            address,
            transport: Transport::Tls(tls.clone()),
            limits: parts::connection_limits(&config),
        };
        let listener = russet_http::Server::on(listener, settings)?;
        let api = Api::new(engine.clone(), Arc::clone(&plugins), parts::http(&config));
        let routes = changes
            .into_iter()
            .fold(device_router(&api).merge(admin_router(&api)), |router, change| {
                change(router)
            });
        let retention = parts::retention(&config);
        let config = Arc::new(config);
        let renewal = TlsRenewal {
            tls,
            engine: engine.clone(),
            config,
            bound,
            served,
            issued: now,
        };
        let stop = CancellationToken::new();
        metrics::serve(&renewal.config.metrics, &engine, &stop).await?;
        let mut routes = boundary(routes);
        if renewal.config.metrics.listen.is_some() {
            routes = counted(routes);
        }
        let background = Background::start(&engine, &plugins, renewal, retention);
        let serving = tokio::spawn(listener.serve(routes, stop.clone()));
        tracing::info!(
            address = %bound,
            url = %public_url,
            database = engine.store().backend_name(),
            plugins = loaded.loaded,
            data_dir = %data_dir.path().display(),
            "listening"
        );
        Ok(Running {
            address: bound,
            public_url,
            authority,
            token,
            engine,
            plugins,
            stop,
            serving,
            background,
            data_dir,
            lock,
        })
    }
}

/// Nothing waits for what the process before had in its hands. With a full disk it waits: the server starts all the same.
async fn end_leases(store: &Store) {
    match store.end_leases().await {
        Ok(0) => {}
        Ok(ended) => tracing::info!(ended, "what the server before had in its hands is done again"),
        Err(error) => tracing::warn!(error = %error, "what the server before had in its hands waits for its time"),
    }
}

/// The TLS identity, and the operator's certificate if it is one.
fn tls(
    config: &Config,
    engine: &Engine,
    bound: SocketAddr,
    now: Timestamp,
) -> Result<(Tls, Option<String>), StartError> {
    let clients = [engine.device_authority_der()];
    if let Some(files) = parts::tls_files(config)? {
        let tls = Tls::from_pem(files.chain.as_bytes(), files.key.as_bytes(), &clients)?;
        return Ok((tls, Some(files.chain)));
    }
    let (names, addresses) = parts::tls_names(config, bound);
    let identity = engine.tls_identity(&names, &addresses, now)?;
    Ok((Tls::from_der(identity.chain, &identity.key_pkcs8, &clients)?, None))
}

/// A server that runs. Dropping it leaves it running until the runtime ends; [`Running::shutdown`] stops it in order.
pub struct Running {
    address: SocketAddr,
    public_url: String,
    authority: String,
    token: Option<Secret>,
    engine: Engine,
    plugins: Arc<PluginManager>,
    stop: CancellationToken,
    serving: JoinHandle<Drained>,
    background: Background,
    data_dir: DataDir,
    lock: DataDirLock,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("address", &self.address)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// The address that is listened on, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that devices reach the server at.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// The certificate of the server's own authority, in PEM: what clients trust if the server issued its TLS certificate
    /// itself.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority
    }

    /// The token in the data directory's `admin-token`, if it is there and good.
    #[must_use]
    pub fn admin_token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// The engine, for a vendor that acts on devices itself.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The plugins.
    #[must_use]
    pub fn plugins(&self) -> &Arc<PluginManager> {
        &self.plugins
    }

    /// Accepts no more connections, lets running requests and pushes end, and writes what is only in memory.
    pub async fn shutdown(self) -> Drained {
        tracing::info!("stopping");
        self.stop.cancel();
        let drained = self.serving.await.unwrap_or_else(|error| {
            tracing::error!(error = %error, "the listener failed");
            Drained::Clean
        });
        self.background.stop().await;
        if let Err(error) = self.engine.store().close().await {
            tracing::warn!(error = %error, "the last-seen times of some devices could not be written");
        }
        // Not before everything is written.
        drop(self.lock);
        tracing::info!("stopped");
        drained
    }
}
