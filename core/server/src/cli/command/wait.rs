//! Waiting until every device has answered.

use std::time::Duration;

use miette::Diagnostic;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::{device_name, devices};
use crate::cli::client::Client;
use crate::cli::error::ClientError;
use crate::cli::output::{cell, field};
use crate::cli::progress::Progress;

/// How long to wait between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Why waiting ended without every device having done what it was told.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum NotDone {
    #[error("not answered within {seconds} s by {devices}")]
    #[diagnostic(
        code("not-answered"),
        help("the command stays in the queue; `russet command show {uuid}` shows it later")
    )]
    Waiting {
        devices: String,
        seconds: u64,
        uuid: String,
    },
    #[error("not done by {devices}")]
    #[diagnostic(code("not-done"))]
    Failed { devices: String },
}

/// Whether nothing more will happen in this state.
fn is_final(state: &str) -> bool {
    matches!(state, "acknowledged" | "failed" | "expired" | "cancelled")
}

fn state(device: &Value) -> &str {
    field(device, "state").as_str().unwrap_or_default()
}

/// Looks at the command until every device is done with it or the time is over.
pub(super) async fn wait(client: &Client, queued: &Value, seconds: u64) -> Result<Value, ClientError> {
    let uuid = cell(field(queued, "command_uuid"));
    let url = client.of_tenant(&["commands", &uuid]);
    // Numbers only: small for however many devices.
    let numbers = client.of_tenant(&["commands", &uuid, "progress"]);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut progress = Progress::start("waiting for the devices");
    loop {
        let count = client.get(numbers.clone()).await?;
        let of = |name| field(&count, name).as_u64().unwrap_or(0);
        let (total, open) = (of("total"), of("open"));
        if open == 0 {
            progress.done(&format!("{total} of {total} devices answered"));
            return client.get(url).await;
        }
        progress.update(format!("{} of {total} devices answered", total.saturating_sub(open)));
        let now = Instant::now();
        if now >= deadline {
            return client.get(url).await;
        }
        sleep_until(deadline.min(now + INTERVAL)).await;
    }
}

/// Fails unless every device acknowledged.
pub(super) fn verdict(command: &Value, seconds: u64) -> miette::Result<()> {
    let named = |wanted: &dyn Fn(&str) -> bool| {
        let names: Vec<String> = devices(command)
            .iter()
            .filter(|device| wanted(state(device)))
            .map(device_name)
            .collect();
        names.join(", ")
    };
    let waiting = named(&|state| !is_final(state));
    if !waiting.is_empty() {
        let uuid = cell(field(command, "command_uuid"));
        return Err(NotDone::Waiting {
            devices: waiting,
            seconds,
            uuid,
        }
        .into());
    }
    let failed = named(&|state| state != "acknowledged");
    if failed.is_empty() {
        Ok(())
    } else {
        Err(NotDone::Failed { devices: failed }.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn only_acknowledged_is_done() {
        let of = |states: &[&str]| {
            let devices: Vec<Value> = states
                .iter()
                .enumerate()
                .map(|(n, state)| json!({"serial_number": format!("S{n}"), "state": state}))
                .collect();
            verdict(&json!({"command_uuid": "u", "devices": devices}), 5).map_err(|report| report.to_string())
        };
        assert_eq!(of(&["acknowledged", "acknowledged"]), Ok(()));
        assert_eq!(
            of(&["acknowledged", "failed", "expired"]),
            Err("not done by S1, S2".to_owned())
        );
        assert_eq!(
            of(&["failed", "not-now", "sent"]),
            Err("not answered within 5 s by S1, S2".to_owned())
        );
    }
}
