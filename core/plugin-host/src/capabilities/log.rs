//! `log`: lines of a plugin in the server's log, under its name, tenant and request.

use std::borrow::Cow;

use tracing::Level;

use crate::bindings::russet::plugin::log as wit;
use crate::state::{CallState, cut};

impl wit::Host for CallState {
    fn write(&mut self, level: wit::Level, message: String) -> wasmtime::Result<()> {
        self.count_host_call()?;
        let limits = &self.plugin.limits;
        if self.meter.log_lines >= limits.log_lines {
            self.meter.log_lines_dropped += 1;
            return Ok(());
        }
        self.meter.log_lines += 1;
        let line = one_line(cut(&message, limits.log_line_bytes));
        let plugin = self.plugin.name.as_ref();
        let tenant = self.scope.tenant.as_ref();
        let request = self.scope.request_id.as_ref();
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
            wit::Level::Debug => write!(Level::DEBUG),
            wit::Level::Info => write!(Level::INFO),
            wit::Level::Warn => write!(Level::WARN),
            wit::Level::Error => write!(Level::ERROR),
        }
        if matches!(level, wit::Level::Error) {
            let line = line.into_owned();
            self.remember(&line);
        }
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
