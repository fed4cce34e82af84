//! The WebAssembly engine: how components are compiled and where their instances live.
//!
//! One engine serves the whole process. Instances come from a pool that is reserved at start, so that a call neither
//! maps memory nor can exhaust the machine; a semaphore of the pool's size stands in front of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
};

use crate::component::ComponentFile;

/// The length of a tick: the unit in which processor time of plugins is counted.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How long compiling may take: minutes are normal for Python in a debug build.
const COMPILE_TIME: Duration = Duration::from_secs(300);

/// How hard the cache compresses machine code, as zstd counts: what loading takes is mostly unpacking it. The lowest level makes
/// files a tenth larger, which unpack in three quarters of the time; those that the cache makes by itself of what is loaded
/// often, at level 20, take twice as long as this.
const COMPRESSION: i32 = 1;

/// Core instances of one component. Python components have 38.
const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// Memories of one component. Those of JavaScript and Python share few.
const MEMORIES_PER_COMPONENT: u32 = 4;
/// Tables of one component.
const TABLES_PER_COMPONENT: u32 = 64;
/// Elements of one table. JavaScript engines need about 10,000.
const TABLE_ELEMENTS: usize = 20_000;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The folder of the compilation cache; without one every start compiles every plugin. Machine code in it is trusted:
    /// only the server may write there.
    pub cache_dir: Option<PathBuf>,
    /// How many calls may run at once in the whole process; more wait until their deadline.
    pub concurrent_calls: u32,
    /// The largest memory of a plugin, in bytes; [`crate::Limits::memory_bytes`] can not be more.
    pub max_memory_bytes: usize,
}

impl Default for EngineConfig {
    /// No cache, 128 calls at once, 128 MiB.
    fn default() -> Self {
        Self {
            cache_dir: None,
            concurrent_calls: 128,
            max_memory_bytes: 128 << 20,
        }
    }
}

/// Why the engine can not be started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The compilation cache can not be used.
    #[error("the compilation cache in {} can not be used: {reason}", .path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The pool of instances can not be reserved.
    #[error(
        "no address space for {concurrent_calls} concurrent plugin calls ({reason}); \
         allow fewer, or raise the limit of virtual memory (ulimit -v)"
    )]
    Pool {
        /// The number of calls.
        concurrent_calls: u32,
        /// What the system said.
        reason: String,
    },
    /// The thread that counts processor time can not be started.
    #[error("the plugin timer can not be started: {0}")]
    Ticker(#[from] std::io::Error),
}

/// The engine. Clones share it.
#[derive(Clone)]
pub struct PluginEngine {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    permits: Arc<Semaphore>,
    concurrent_calls: u32,
    max_memory_bytes: usize,
    /// How many components are compiled at once: each compilation uses several threads of its own.
    compilers: Arc<Semaphore>,
    /// What is compiled and in use, by the digest of the file: tenants share the machine code of a plugin.
    compiled: Mutex<HashMap<String, Weak<Compiled>>>,
    // Dropping it ends the thread.
    _ticker: Sender<()>,
}

/// A component that is compiled once, for everybody who holds this.
pub(crate) type Compiled = OnceCell<Component>;

impl std::fmt::Debug for PluginEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginEngine")
            .field("free", &self.shared.permits.available_permits())
            .finish_non_exhaustive()
    }
}

impl PluginEngine {
    /// Reserves the pool and starts the timer.
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let engine = Engine::new(&wasmtime_config(config)?).map_err(|error| EngineError::Pool {
            concurrent_calls: config.concurrent_calls,
            reason: format!("{error:#}"),
        })?;
        let ticker = start_ticker(&engine)?;
        Ok(Self {
            shared: Arc::new(Shared {
                engine,
                permits: Arc::new(Semaphore::new(config.concurrent_calls as usize)),
                concurrent_calls: config.concurrent_calls,
                max_memory_bytes: config.max_memory_bytes,
                compilers: Arc::new(Semaphore::new(
                    std::thread::available_parallelism().map_or(1, usize::from),
                )),
                compiled: Mutex::default(),
                _ticker: ticker,
            }),
        })
    }

    pub(crate) fn wasmtime(&self) -> &Engine {
        &self.shared.engine
    }

    pub(crate) fn max_memory_bytes(&self) -> usize {
        self.shared.max_memory_bytes
    }

    /// Compiles, which takes from milliseconds (Rust) to seconds (Python), on a thread that may block. What is in use
    /// already is not compiled again.
    pub(crate) async fn compile(&self, file: &ComponentFile) -> Result<Arc<Compiled>, String> {
        let compiled = self.compiled(file.digest());
        compiled
            .get_or_try_init(async || {
                let compilers = Arc::clone(&self.shared.compilers);
                let permit = compilers.acquire_owned().await.map_err(|error| error.to_string())?;
                let engine = self.shared.engine.clone();
                let component = Arc::clone(file.bytes());
                let work = tokio::task::spawn_blocking(move || {
                    // Nothing ends the work before its time, whoever waited for it: its place is taken until then.
                    let _permit = permit;
                    Component::from_binary(&engine, crate::package::without_signatures(&component))
                });
                match tokio::time::timeout(COMPILE_TIME, work).await {
                    Ok(Ok(Ok(component))) => Ok(component),
                    Ok(Ok(Err(error))) => Err(format!("{error:#}")),
                    Ok(Err(_)) => Err("the compiler panicked".to_owned()),
                    Err(_) => Err(format!("not done after {} seconds", COMPILE_TIME.as_secs())),
                }
            })
            .await?;
        Ok(compiled)
    }

    fn compiled(&self, digest: &str) -> Arc<Compiled> {
        // Nothing panics while it is held, and if it did the map would still be whole.
        let mut known = self.shared.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = known.get(digest).and_then(Weak::upgrade) {
            return compiled;
        }
        known.retain(|_, compiled| compiled.strong_count() > 0);
        let compiled = Arc::new(Compiled::new());
        known.insert(digest.to_owned(), Arc::downgrade(&compiled));
        compiled
    }

    /// How many calls may run at once in the whole process.
    pub(crate) fn concurrent_calls(&self) -> u32 {
        self.shared.concurrent_calls
    }

    /// A place in the pool, if one is free and nobody waits for it.
    pub(crate) fn free_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.permits).try_acquire_owned().ok()
    }

    /// Whether no call runs at the moment.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.permits.available_permits() >= self.shared.concurrent_calls as usize
    }

    /// Waits for a place in the pool. The place is free again when the permit is dropped, so the store of the call has to
    /// be dropped first.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.permits).acquire_owned().await.ok()
    }
}

fn wasmtime_config(config: &EngineConfig) -> Result<Config, EngineError> {
    let calls = config.concurrent_calls;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(calls.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(calls.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(calls)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(16)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(config.max_memory_bytes)
        // Pages that a call touched are cleared in place instead of given back to the system: with the page-map scan
        // this is what makes a fresh instance cheap on several threads.
        .linear_memory_keep_resident(512 << 10)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);

    let mut wasmtime = Config::new();
    wasmtime
        .wasm_component_model(true)
        // The contract has no asynchronous functions; without them a store is cheaper.
        .concurrency_support(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .memory_reservation(config.max_memory_bytes as u64)
        .memory_reservation_for_growth(0)
        .memory_guard_size(0)
        .guard_before_linear_memory(false)
        .epoch_interruption(true)
        // Explicit bounds checks save the system calls that protect pages, and the process keeps its signal handlers.
        .signals_based_traps(false)
        // A tenth less machine code, which is what loading it takes, for an eighth more of compiling.
        .cranelift_opt_level(OptLevel::Speed)
        // All of a memory is reserved at its place, so nobody has to look where it is after each call of the host.
        .memory_may_move(false)
        // Faults say what trapped and what the plugin said last, not where in its machine code. Without the tables for that,
        // machine code is smaller and loads faster; registering them takes longer the more plugins are loaded.
        .native_unwind_info(false)
        .generate_address_map(false)
        .debug_symbols(false)
        .wasm_backtrace_max_frames(None)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    if let Some(path) = &config.cache_dir {
        let failed = |reason: String| EngineError::Cache {
            path: path.clone(),
            reason,
        };
        std::fs::create_dir_all(path).map_err(|error| failed(error.to_string()))?;
        // The cache wants an absolute path without links.
        let absolute = path.canonicalize().map_err(|error| failed(error.to_string()))?;
        let mut cache = CacheConfig::new();
        cache
            .with_directory(absolute)
            .with_baseline_compression_level(COMPRESSION)
            .with_optimized_compression_level(COMPRESSION);
        let cache = Cache::new(cache).map_err(|error| failed(format!("{error:#}")))?;
        wasmtime.cache(Some(cache));
    }
    Ok(wasmtime)
}

/// A thread of its own: a runtime's timer would stop together with the threads that endless loops hold.
fn start_ticker(engine: &Engine) -> Result<Sender<()>, std::io::Error> {
    let (stop, stopped) = channel::<()>();
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("plugin-ticker".to_owned())
        .spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        })?;
    Ok(stop)
}
