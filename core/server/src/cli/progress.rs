//! Long work, shown while it goes on: a spinner on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One piece of work that goes on.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    since: Instant,
    last: String,
}

impl Progress {
    /// Begins to show `what`.
    pub(super) fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let since = Instant::now();
        if !io::stderr().is_terminal() {
            line(&what);
            return Self {
                bar: None,
                since,
                last: what,
            };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            bar: Some(bar),
            since,
            last: what,
        }
    }

    /// Shows how far it is; the same text twice is shown once.
    pub(super) fn update(&mut self, what: impl Into<String>) {
        let what = what.into();
        if what == self.last {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(what.clone()),
            None => line(&what),
        }
        self.last = what;
    }

    /// Ends with what was done and, for what took a while, how long.
    pub(super) fn done(self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = self.since.elapsed();
        if took >= Duration::from_secs(1) {
            line(&format!("{what} ({:.1} s)", took.as_secs_f64()));
        } else {
            line(what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line for people. Results do not depend on it, so that a closed standard error output is no failure.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
