//! What a plugin writes to the log: under its name, within its budget, one line each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use common::{check, engine, hostile, mode};
use russet_plugin_host::Limits;
use tracing::instrument::WithSubscriber;
use tracing_subscriber::fmt::MakeWriter;

/// Keeps what is logged.
#[derive(Clone, Debug, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The lines that a call of the hostile plugin leaves.
async fn lines_of(name: &str) -> Vec<String> {
    let (plugin, _directory) = hostile(&engine(), mode(name), Limits::default()).await;
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(captured.clone())
        .finish();
    let _ = check(&plugin).with_subscriber(subscriber).await;
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes)
        .unwrap()
        .lines()
        .filter(|line| line.contains("russet"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_flood_is_cut_and_counted() {
    let lines = lines_of("log-flood").await;
    let (of_plugin, of_host): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains("russet::plugin:"));
    assert_eq!(of_plugin.len(), 100);
    assert!(of_plugin[99].contains("line 99"), "{}", of_plugin[99]);
    for field in [
        r#"plugin.name="hostile""#,
        r#"tenant.name="default""#,
        r#"request.id="test-request""#,
    ] {
        assert!(of_plugin[0].contains(field), "{}", of_plugin[0]);
    }
    // Ten thousand lines are more than the host calls that a call has, so the call ended there: after 1,000 calls, one of
    // which read the settings.
    assert_eq!(of_host.len(), 1, "{of_host:?}");
    assert!(of_host[0].contains("dropped=899"), "{}", of_host[0]);
}

#[tokio::test]
async fn a_long_line_is_cut() {
    let lines = lines_of("huge-log").await;
    assert_eq!(lines.len(), 1);
    let xs = lines[0].matches('x').count();
    assert!((4_000..4_200).contains(&xs), "{xs}");
}

#[tokio::test]
async fn a_panic_says_why_in_the_log() {
    let lines = lines_of("panic").await;
    assert!(
        lines
            .iter()
            .any(|line| line.contains("ERROR") && line.contains("hostile on purpose")),
        "{lines:?}"
    );
}
