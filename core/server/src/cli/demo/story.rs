//! How the demo tells what happens: chapters, and lines that name who does something.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use russet_simulator::device::{DeviceEvent, DeviceFacts};

use crate::cli::output;

/// Where the story goes. Lines of devices are collected while they act and written in order.
pub(super) struct Story<'a> {
    out: &'a mut dyn Write,
    heard: Heard,
}

/// What devices said and nobody has written yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// Is called with everything that happens to a device.
    pub(super) fn note(&self, facts: &DeviceFacts, event: &DeviceEvent) {
        let line = format!("  {:<14} {event}", facts.device_name);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<'a> Story<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            heard: Heard::default(),
        }
    }

    /// What devices tell; give it to each.
    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Begins a chapter.
    pub(super) fn chapter(&mut self, title: &str) -> miette::Result<()> {
        self.write(&format!("\n{title}"))
    }

    /// Somebody does something.
    pub(super) fn says(&mut self, who: &str, what: impl AsRef<str>) -> miette::Result<()> {
        self.write(&format!("  {who:<14} {}", what.as_ref()))
    }

    /// A line as it is.
    pub(super) fn line(&mut self, text: &str) -> miette::Result<()> {
        self.write(text)
    }

    fn write(&mut self, text: &str) -> miette::Result<()> {
        for line in self.heard.take() {
            writeln!(self.out, "{line}").map_err(output::failed)?;
        }
        writeln!(self.out, "{text}")
            .and_then(|()| self.out.flush())
            .map_err(output::failed)
    }

    /// Writes what devices said in the meantime.
    pub(super) fn catch_up(&mut self) -> miette::Result<()> {
        for line in self.heard.take() {
            writeln!(self.out, "{line}").map_err(output::failed)?;
        }
        self.out.flush().map_err(output::failed)
    }
}
