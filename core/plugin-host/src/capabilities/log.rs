//! `log`: lines of a plugin in the server's log, under its name, tenant and request.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;

use crate::bindings::russet::plugin::log as wit;
use crate::state::{CallState, PluginContext, cut};

/// The longest piece of a plugin's own words in a fault, in bytes.
const LAST_WORDS: usize = 512;

/// The log of one call: what the plugin writes and what it prints share a budget.
#[derive(Debug)]
pub(crate) struct LogLines {
    plugin: Arc<PluginContext>,
    tenant: Arc<str>,
    request_id: Arc<str>,
    lines: AtomicU32,
    dropped: AtomicU32,
    /// The last line of level error: what a panicking guest said.
    last_words: Mutex<Option<String>>,
}

impl LogLines {
    fn of(state: &CallState) -> Self {
        Self {
            plugin: Arc::clone(&state.plugin),
            tenant: Arc::clone(&state.scope.tenant),
            request_id: Arc::clone(&state.scope.request_id),
            lines: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
            last_words: Mutex::new(None),
        }
    }

    /// The length of a line in bytes.
    pub(super) fn line_bytes(&self) -> usize {
        self.plugin.limits.log_line_bytes
    }

    /// Writes a line, unless the call has written as many as it may.
    pub(super) fn write(&self, level: Level, line: &str) {
        if self.lines.fetch_add(1, Ordering::Relaxed) >= self.plugin.limits.log_lines {
            self.lines.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let plugin = self.plugin.name.as_ref();
        let tenant = self.tenant.as_ref();
        let request = self.request_id.as_ref();
        macro_rules! write {
            ($level:expr) => {
                tracing::event!(
                    target: "russet::plugin",
                    $level,
                    plugin.name = plugin,
                    tenant.name = tenant,
                    request.id = request,
                    "{line}"
                )
            };
        }
        match level {
            Level::ERROR => write!(Level::ERROR),
            Level::WARN => write!(Level::WARN),
            Level::INFO => write!(Level::INFO),
            _ => write!(Level::DEBUG),
        }
        if level == Level::ERROR {
            let words = cut(line, LAST_WORDS).to_owned();
            // Nothing panics while it is held.
            *self.last_words.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
        }
    }

    /// What the plugin said last, for the fault that may follow.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                plugin.name = %self.plugin.name,
                tenant.name = %self.tenant,
                request.id = %self.request_id,
                dropped,
                "the plugin wrote more log lines than one call may; the rest was dropped"
            );
        }
    }
}

impl CallState {
    /// The log of the call, made with its first line: most calls write none.
    pub(super) fn log(&mut self) -> &Arc<LogLines> {
        let log = match self.log.take() {
            Some(log) => log,
            None => Arc::new(LogLines::of(self)),
        };
        self.log.insert(log)
    }
}

impl wit::Host for CallState {
    fn write(&mut self, level: wit::Level, message: String) -> wasmtime::Result<()> {
        self.count_host_call()?;
        let level = match level {
            wit::Level::Debug => Level::DEBUG,
            wit::Level::Info => Level::INFO,
            wit::Level::Warn => Level::WARN,
            wit::Level::Error => Level::ERROR,
        };
        let log = self.log();
        log.write(level, &one_line(cut(&message, log.line_bytes())));
        Ok(())
    }
}

/// The text without control characters: a plugin can not write what looks like a line of somebody else.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_line_can_not_forge_another() {
        assert_eq!(
            one_line("done\n2026-01-01 ERROR \u{1b}[31mforged"),
            "done 2026-01-01 ERROR  [31mforged"
        );
        assert_eq!(one_line("ärger"), "ärger");
    }
}
