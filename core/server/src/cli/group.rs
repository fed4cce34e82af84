//! `russet group`: named sets of devices, for commands to many.

use clap::Subcommand;
use serde_json::json;

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::{items, more};
use super::output::{self, Output, cell, field};

#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// List groups.
    List {
        /// The most groups to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// List the devices of a group.
    Show {
        /// Its name.
        group: String,
        /// The most devices to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Say who is in a group, and nobody else; without devices it is empty. Makes the group if there is none.
    Set {
        /// Its name.
        group: String,
        /// Devices, by serial number, UDID or enrollment identifier.
        devices: Vec<String>,
    },
    /// Put devices into a group. Makes the group if there is none.
    Add {
        /// Its name.
        group: String,
        /// Devices, by serial number, UDID or enrollment identifier.
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// Take devices out of a group.
    Remove {
        /// Its name.
        group: String,
        /// Devices, by serial number, UDID or enrollment identifier.
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// Delete a group; its devices stay.
    Delete {
        /// Its name.
        group: String,
    },
}

pub(super) async fn run(
    command: GroupCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    let answer = match command {
        GroupCommand::List { limit } => {
            let answer = client.list(client.of_tenant(&["groups"]), limit).await?;
            let rows = output::rows(items(&answer), &["name", "members", "created_at"]);
            return output.answer(&answer, |output| {
                output.table(&["group", "devices", "created"], &rows, "there are no groups yet")?;
                more(&answer, output)
            });
        }
        GroupCommand::Show { group, limit } => {
            let url = client.of_tenant(&["groups", &group, "members"]);
            let answer = client.list(url, limit).await?;
            let rows = output::rows(items(&answer), &["serial_number", "id"]);
            return output.answer(&answer, |output| {
                output.table(&["serial", "id"], &rows, "nobody is in this group")?;
                more(&answer, output)
            });
        }
        GroupCommand::Delete { group } => {
            let answer = client.delete(client.of_tenant(&["groups", &group])).await?;
            return output.answer(&answer, |output| output.line("deleted"));
        }
        GroupCommand::Set { group, devices } => {
            let url = client.of_tenant(&["groups", &group]);
            client.put(url, &json!({ "devices": devices })).await?
        }
        GroupCommand::Add { group, devices } => {
            let url = client.of_tenant(&["groups", &group, "members"]);
            client.post(url, &json!({ "add": devices })).await?
        }
        GroupCommand::Remove { group, devices } => {
            let url = client.of_tenant(&["groups", &group, "members"]);
            client.post(url, &json!({ "remove": devices })).await?
        }
    };
    output.answer(&answer, |output| {
        output.line(format!(
            "{}: {} devices",
            cell(field(&answer, "name")),
            cell(field(&answer, "members"))
        ))
    })
}
