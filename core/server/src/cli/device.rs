//! `russet device`: the devices of a tenant.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::output::{self, Output, cell, field};

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// List devices.
    List {
        /// Only the device with this serial number.
        #[arg(long)]
        serial_number: Option<String>,
        /// Only devices in this state, such as `active` or `removed`.
        #[arg(long)]
        state: Option<String>,
        /// The most devices to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one device.
    Show {
        /// Its serial number, UDID or enrollment identifier.
        device: String,
        /// Show its commands instead: what waits, what was answered.
        #[arg(long)]
        commands: bool,
    },
    /// Wake a device. Whatever it did not answer, or put off, is offered again when it comes.
    Push {
        /// Its serial number, UDID or enrollment identifier.
        device: String,
    },
    /// Have a device renew its identity: it gets its enrollment profile again and stays enrolled.
    Renew {
        /// Its serial number, UDID or enrollment identifier.
        device: String,
    },
    /// Take back everything that a device has not answered.
    Flush {
        /// Its serial number, UDID or enrollment identifier.
        device: String,
        /// Only commands of this request type, such as InstallProfile.
        #[arg(long, value_name = "TYPE")]
        request_type: Option<String>,
    },
}

pub(super) async fn run(
    command: DeviceCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    match command {
        DeviceCommand::List {
            serial_number,
            state,
            limit,
        } => {
            let mut url = client.of_tenant(&["devices"]);
            for (name, value) in [("serial_number", serial_number), ("state", state)] {
                if let Some(value) = value {
                    url.query_pairs_mut().append_pair(name, &value);
                }
            }
            let answer = client.list(url, limit).await?;
            let rows = output::rows(
                items(&answer),
                &[
                    "serial_number",
                    "state",
                    "model_name",
                    "os_version",
                    "person.user_name",
                    "last_seen_at",
                    "id",
                ],
            );
            output.answer(&answer, |output| {
                output.table(
                    &["serial", "state", "model", "os", "person", "last seen", "id"],
                    &rows,
                    "no device has enrolled yet",
                )?;
                more(&answer, output)
            })
        }
        DeviceCommand::Show {
            device,
            commands: false,
        } => {
            let answer = client.get(client.of_tenant(&["devices", &device])).await?;
            output.answer(&answer, |output| output.facts(&output::facts(&answer)))
        }
        DeviceCommand::Show { device, commands: true } => {
            let answer = client
                .list(client.of_tenant(&["devices", &device, "commands"]), 100)
                .await?;
            let rows = output::rows(
                items(&answer),
                &[
                    "command_uuid",
                    "request_type",
                    "state",
                    "attempts",
                    "waiting_for",
                    "created_at",
                ],
            );
            output.answer(&answer, |output| {
                output.table(
                    &["command", "request type", "state", "attempts", "waiting for", "created"],
                    &rows,
                    "no commands",
                )?;
                more(&answer, output)
            })
        }
        DeviceCommand::Push { device } => {
            let answer = client
                .post(client.of_tenant(&["devices", &device, "push"]), &json!({}))
                .await?;
            output.answer(&answer, |output| output.line("the push is on its way"))
        }
        DeviceCommand::Renew { device } => {
            let url = client.of_tenant(&["devices", &device, "renew"]);
            let answer = client.post(url, &json!({})).await?;
            output.answer(&answer, |output| {
                let uuid = cell(field(&answer, "command_uuid"));
                output.line(format!("the renewal is queued as command {uuid}"))
            })
        }
        DeviceCommand::Flush { device, request_type } => {
            let body = json!({ "request_type": request_type });
            let url = client.of_tenant(&["devices", &device, "flush"]);
            let answer = client.post(url, &body).await?;
            output.answer(&answer, |output| {
                output.line(format!("{} commands taken back", cell(field(&answer, "cancelled"))))
            })
        }
    }
}

/// The items of a list.
pub(super) fn items(answer: &Value) -> &[Value] {
    answer.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Says that a list goes on.
pub(super) fn more(answer: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    if answer.get("next").is_some_and(Value::is_string) {
        output.line("… and more; raise --limit to see them")?;
    }
    Ok(())
}
