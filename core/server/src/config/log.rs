//! What the server writes to its log.

use super::problems::Problems;
use super::settings::{choice, settings};

settings! {
    /// The log. It goes to the standard error output.
    pub struct Log {
        /// `text` for people, `json` for machines: one object a line.
        format: LogFormat = LogFormat::Text,
        /// Which lines are written: `error`, `warn`, `info`, `debug` or `trace`, alone or for a part of the server, such
        /// as `info,russet_engine=debug`.
        filter: String = "info".to_owned(),
    }
}

choice! {
    /// How a line of the log looks.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// For machines: one JSON object a line.
        Json = "json",
    }
}

impl Log {
    pub(super) fn check(&self, problems: &mut Problems) {
        if tracing_subscriber::EnvFilter::try_new(&self.filter).is_err() {
            problems.add(
                "log.filter",
                "is no filter; write it like info or info,russet_engine=debug",
            );
        }
    }
}
