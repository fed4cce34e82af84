//! `russet command`: commands to devices and their answers.

mod compose;
mod queue;
mod wait;

use clap::Subcommand;
use serde_json::Value;

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::output::{self, Output, cell, field};
use super::progress;
use compose::SendArgs;

#[derive(Debug, Subcommand)]
pub(super) enum CommandCommand {
    /// Send a command to devices.
    ///
    /// The command is Apple's request type with its keys: KEY=VALUE gives text, KEY:=JSON gives anything else. Or it comes
    /// from a file with --json-file or --plist.
    #[command(after_help = "Examples:\n  \
        russet command send --device C02XK1 DeviceInformation 'Queries:=[\"OSVersion\",\"DeviceName\"]' --wait\n  \
        russet command send --device C02XK1 DeviceLock Message='Please return me' PIN=123456\n  \
        russet command send --device C02XK1 --profile wifi\n  \
        russet command send --all --pace 500 --profile wifi")]
    Send(Box<SendArgs>),
    /// Show a command: its state and answer for each device.
    Show {
        /// Its UUID, as `send` prints it.
        command: String,
    },
    /// Show how far a command is: how many devices are in which state.
    Progress {
        /// Its UUID.
        command: String,
    },
    /// List the commands that wait for an approval.
    Held {
        /// The most commands to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Let a held command go. It takes another token than the one that sent it.
    Approve {
        /// Its UUID.
        command: String,
    },
    /// Take a held command back for good.
    Reject {
        /// Its UUID.
        command: String,
        /// Why; shown with the command.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Take a command back from every device that has not answered it, or from one.
    Cancel {
        /// Its UUID.
        command: String,
        /// Only from this device's queue.
        #[arg(long)]
        device: Option<String>,
    },
    /// List the commands that devices never answer.
    Stuck {
        /// The most to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

pub(super) async fn run(
    command: CommandCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    match command {
        CommandCommand::Send(send) => {
            // What can not be sent is told before a server is asked for.
            let body = send.compose()?;
            let client = Client::new(args, context)?;
            let queued = body.send(&client).await?;
            for warning in texts(&queued, "warnings") {
                progress::line(&format!("warning: {warning}"));
            }
            // For an approval nobody waits here.
            let Some(seconds) = send.wait.filter(|_| field(&queued, "held").is_null()) else {
                return output.answer(&queued, |output| print_queued(&queued, output));
            };
            let answered = wait::wait(&client, &queued, seconds).await?;
            output.answer(&answered, |output| print_command(&answered, output))?;
            wait::verdict(&answered, seconds)
        }
        CommandCommand::Show { command } => {
            let client = Client::new(args, context)?;
            let answer = client.get(client.of_tenant(&["commands", &command])).await?;
            output.answer(&answer, |output| print_command(&answer, output))
        }
        CommandCommand::Progress { command } => {
            let client = Client::new(args, context)?;
            queue::progress(&client, &command, output).await
        }
        CommandCommand::Held { limit } => {
            let client = Client::new(args, context)?;
            queue::held(&client, limit, output).await
        }
        CommandCommand::Approve { command } => {
            let client = Client::new(args, context)?;
            queue::approve(&client, &command, output).await
        }
        CommandCommand::Reject { command, reason } => {
            let client = Client::new(args, context)?;
            queue::reject(&client, &command, reason, output).await
        }
        CommandCommand::Cancel { command, device } => {
            let client = Client::new(args, context)?;
            queue::cancel(&client, &command, device, output).await
        }
        CommandCommand::Stuck { limit } => {
            let client = Client::new(args, context)?;
            queue::stuck(&client, limit, output).await
        }
    }
}

fn texts<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v str> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn print_queued(queued: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    let uuid = cell(field(queued, "command_uuid"));
    output.line(format!("{} {uuid}", cell(field(queued, "request_type"))))?;
    output.line(format!("queued for {} devices", cell(field(queued, "queued"))))?;
    let waiting: Vec<&str> = texts(queued, "deduplicated").collect();
    let duplicates = field(queued, "duplicates").as_u64().unwrap_or(0);
    if !waiting.is_empty() && waiting.len() as u64 == duplicates {
        output.line(format!("already waiting for {}", waiting.join(", ")))?;
    } else if duplicates > 0 {
        output.line(format!("already waiting for {duplicates} devices"))?;
    }
    if let held @ Value::Object(_) = field(queued, "held") {
        output.line(format!("held for approval: {}", cell(field(held, "message"))))?;
        output.line(format!("`russet command approve {uuid}` with another token lets it go"))?;
    }
    output.line(format!("`russet command show {uuid}` shows the answers"))
}

/// The command, and for each device its state and its answer.
fn print_command(command: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    output.line(format!(
        "{} {}",
        cell(field(command, "request_type")),
        cell(field(command, "command_uuid"))
    ))?;
    let devices = devices(command);
    let rows = output::rows(devices, &["serial_number", "state", "attempts", "waiting_for", "id"]);
    output.table(
        &["serial", "state", "attempts", "waiting for", "id"],
        &rows,
        "no devices",
    )?;
    for device in devices {
        let name = device_name(device);
        for error in field(device, "error_chain").as_array().into_iter().flatten() {
            output.line(format!("{name} reports: {}", error_text(error)))?;
        }
        if let Some(Value::Object(result)) = device.get("result")
            && !result.is_empty()
        {
            output.line(format!("{name} answers:"))?;
            let text = serde_json::to_string_pretty(result).unwrap_or_default();
            output.line(text)?;
        }
    }
    Ok(())
}

fn devices(command: &Value) -> &[Value] {
    command
        .get("devices")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn device_name(device: &Value) -> String {
    match field(device, "serial_number") {
        Value::String(serial) => serial.clone(),
        _ => cell(field(device, "id")),
    }
}

/// An item of Apple's error chain: `ErrorDomain`, `ErrorCode`, and a text.
fn error_text(error: &Value) -> String {
    let text = ["USEnglishDescription", "LocalizedDescription"]
        .iter()
        .find_map(|key| error.get(key).and_then(Value::as_str))
        .unwrap_or("no description");
    format!(
        "{text} ({} {})",
        cell(field(error, "ErrorDomain")),
        cell(field(error, "ErrorCode"))
    )
}
