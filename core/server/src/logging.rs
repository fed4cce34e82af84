//! Where log lines go and how they look.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// The log can not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter is none.
    #[error("log.filter is no filter; write it like info or info,russet_engine=debug")]
    Filter,
    /// The process has a log already.
    #[error("the log of this process is set up already")]
    Twice,
}

/// Sends the log lines of this process to its standard error output. A line that cannot be written is lost and counted
/// (`russet_log_lines_lost_total`).
///
/// # Errors
/// See [`LogError`].
pub fn init(log: &Log) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|_| LogError::Filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(|| Lines(io::stderr().lock()));
    match log.format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().finish().try_init(),
    }
    .map_err(|_| LogError::Twice)
}

/// The last line was written in part.
static TORN: AtomicBool = AtomicBool::new(false);

/// The log on a full disk, or in a pipe that nobody reads any more, is in nobody's way: to whoever writes a line, all went
/// well. (The subscriber would print an error to the same output, and that panics where it fails.)
struct Lines<W>(W);

impl<W: Write> Lines<W> {
    /// Writes a line, after the end of one that was torn.
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if TORN.load(Ordering::Relaxed) {
            self.0.write_all(b"\n")?;
            TORN.store(false, Ordering::Relaxed);
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.0.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    TORN.store(!rest.is_empty(), Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.line(line).is_err() {
            metrics::counter!("russet_log_lines_lost_total").increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A disk with this much room.
    struct Disk {
        room: usize,
        content: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.content.extend_from_slice(bytes.get(..taken).unwrap());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let mut lines = Lines(Disk {
            room: 12,
            content: Vec::new(),
        });
        for line in ["first\n", "second, which is long\n", "third\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        lines.0.room = 100;
        lines.write_all(b"fourth\n").unwrap();
        assert_eq!(String::from_utf8(lines.0.content).unwrap(), "first\nsecond\nfourth\n");
    }
}
