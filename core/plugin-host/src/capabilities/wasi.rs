//! WASI 0.2, for plugins whose language brings a run time that expects a system (JavaScript, Python, Go): it is there, and
//! holds nothing. No files, no sockets, no environment, no arguments; what is printed goes to the plugin's log, within its
//! budget.
//!
//! The clock stands still at the time when the call first asked for anything of WASI, and random numbers follow from one
//! seed: both are taken through the journal, so that a call that is run again sees the same. Components that do not import
//! WASI never come here.

use std::fmt;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::log::{LogLines, one_line};
use crate::journal::{self, HostCall, HostValue};
use crate::state::{CallState, cut};

/// The most random bytes of one call of the guest.
const MAX_RANDOM: u64 = 64 << 10;
/// The most resources (streams, pollables) that the guest holds at once.
const MAX_RESOURCES: usize = 1_000;
/// How far the monotonic clock moves at each reading, in nanoseconds: something that waits for it to move has to end.
const CLOCK_STEP: u64 = 1_000;

/// Links all of WASI 0.2.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// The system of one call, made when it is first asked for.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasi").finish_non_exhaustive()
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = match self.wasi.take() {
            Some(wasi) => wasi,
            None => Box::new(Wasi::new(self)),
        };
        let wasi = self.wasi.insert(wasi);
        WasiCtxView {
            ctx: &mut wasi.context,
            table: &mut wasi.table,
        }
    }
}

impl Wasi {
    fn new(state: &mut CallState) -> Self {
        // Where a journal has neither, the same as everywhere else: a fixed seed, and the beginning of time.
        let seed = match journal::call_now(state, &HostCall::RandomBytes { count: 32 }) {
            Ok(Ok(HostValue::Bytes(bytes))) => <[u8; 32]>::try_from(bytes).unwrap_or_default(),
            _ => [0; 32],
        };
        let now = match journal::call_now(state, &HostCall::ClockNow) {
            Ok(Ok(HostValue::Time(milliseconds))) => Duration::from_millis(milliseconds),
            _ => Duration::ZERO,
        };
        let log = Arc::clone(state.log());
        let mut secure = StdRng::from_seed(seed);
        let insecure = StdRng::from_rng(&mut secure);
        let mut context = WasiCtxBuilder::new();
        context
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .socket_addr_check(|_, _| Box::pin(async { false }))
            .secure_random(secure)
            .insecure_random(insecure)
            .insecure_random_seed(u128::from_le_bytes(seed[..16].try_into().unwrap_or_default()))
            .max_random_size(MAX_RANDOM)
            .wall_clock(Stopped(now))
            .monotonic_clock(Stepping(AtomicU64::new(0)))
            .stdout(Printed::new(&log, Level::INFO))
            .stderr(Printed::new(&log, Level::ERROR));
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self {
            context: context.build(),
            table,
        }
    }
}

/// A clock that shows when the call began.
struct Stopped(Duration);

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// A clock that moves when it is read.
struct Stepping(AtomicU64);

impl HostMonotonicClock for Stepping {
    fn resolution(&self) -> u64 {
        CLOCK_STEP
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(CLOCK_STEP, Ordering::Relaxed)
    }
}

/// What a guest prints, as lines of its log. Clones are the same stream.
#[derive(Clone)]
struct Printed {
    level: Level,
    log: Arc<LogLines>,
    /// The line that has not ended yet.
    line: Arc<Mutex<Vec<u8>>>,
}

impl Printed {
    fn new(log: &Arc<LogLines>, level: Level) -> Self {
        Self {
            level,
            log: Arc::clone(log),
            line: Arc::default(),
        }
    }

    fn print(&self, bytes: &[u8]) {
        // Nothing panics while it is held.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // What is longer than a line of log is cut off.
            let room = self.log.line_bytes().saturating_sub(line.len());
            line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end(&mut line);
            }
        }
    }

    fn end(&self, line: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if !text.is_empty() {
            self.log.write(self.level, &one_line(cut(text, self.log.line_bytes())));
        }
        line.clear();
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        // The last of the clones: a line without an end is a line too.
        if Arc::strong_count(&self.line) == 1 {
            let mut line = std::mem::take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
            self.end(&mut line);
        }
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.write_all(&bytes)
            .map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(4 << 10)
    }
}

impl io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.print(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
