//! `russet declaration`: sets of declarations, which devices have them, and what devices say of them.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::items;
use super::file;
use super::output::{self, Output, cell, field};

#[derive(Debug, Subcommand)]
pub(super) enum DeclarationCommand {
    /// List sets of declarations.
    List,
    /// Show a set.
    Show {
        /// Its name.
        set: String,
    },
    /// Store a set in place of the one of this name. Devices that have it get the change.
    Put {
        /// Its name.
        set: String,
        /// A file with a JSON array of {"identifier", "type", "payload"}; - is the standard input.
        file: PathBuf,
    },
    /// Delete a set that no device has.
    Delete {
        /// Its name.
        set: String,
    },
    /// Give a set to a device.
    Assign {
        /// The name of the set.
        set: String,
        /// The device: its serial number, UDID or enrollment identifier.
        device: String,
    },
    /// Take a set away from a device again.
    Unassign {
        /// The name of the set.
        set: String,
        /// The device: its serial number, UDID or enrollment identifier.
        device: String,
    },
    /// Show the declarations of a device, from where they come, and what the device says of them.
    Device {
        /// Its serial number, UDID or enrollment identifier.
        device: String,
        /// Show the status items that the device reported instead.
        #[arg(long)]
        status: bool,
    },
}

pub(super) async fn run(
    command: DeclarationCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    match command {
        DeclarationCommand::List => {
            let answer = client.get(client.of_tenant(&["declaration-sets"])).await?;
            let rows = output::rows(items(&answer), &["name", "declarations", "updated_at"]);
            output.answer(&answer, |output| {
                output.table(
                    &["set", "declarations", "updated"],
                    &rows,
                    "there are no sets of declarations yet",
                )
            })
        }
        DeclarationCommand::Show { set } => {
            let answer = client.get(client.of_tenant(&["declaration-sets", &set])).await?;
            let declarations = field(&answer, "declarations").as_array().map_or(&[][..], Vec::as_slice);
            let rows = output::rows(declarations, &["identifier", "type", "payload"]);
            output.answer(&answer, |output| {
                output.table(&["identifier", "type", "payload"], &rows, "the set is empty")
            })
        }
        DeclarationCommand::Put { set, file } => {
            let body = match file::read_json(&file)? {
                list @ Value::Array(_) => json!({ "declarations": list }),
                // As `show --json` gives it.
                whole => json!({ "declarations": field(&whole, "declarations") }),
            };
            let answer = client.put(client.of_tenant(&["declaration-sets", &set]), &body).await?;
            output.answer(&answer, |output| {
                let replanned = cell(field(&answer, "replanned"));
                output.line(format!("stored; {replanned} devices get the change"))?;
                let warnings = field(&answer, "warnings").as_array();
                for warning in warnings.into_iter().flatten() {
                    output.line(format!("warning: {}", cell(warning)))?;
                }
                Ok(())
            })
        }
        DeclarationCommand::Delete { set } => {
            let answer = client.delete(client.of_tenant(&["declaration-sets", &set])).await?;
            output.answer(&answer, |output| output.line("deleted"))
        }
        DeclarationCommand::Assign { set, device } => {
            let url = client.of_tenant(&["devices", &device, "declaration-sets", &set]);
            let answer = client.put(url, &json!({})).await?;
            output.answer(&answer, |output| output.line("the device has the set"))
        }
        DeclarationCommand::Unassign { set, device } => {
            let url = client.of_tenant(&["devices", &device, "declaration-sets", &set]);
            let answer = client.delete(url).await?;
            output.answer(&answer, |output| output.line("the device has the set no more"))
        }
        DeclarationCommand::Device { device, status: true } => {
            let answer = client.get(client.of_tenant(&["devices", &device, "status"])).await?;
            let rows = output::rows(items(&answer), &["item", "value", "reported_at"]);
            output.answer(&answer, |output| {
                output.table(
                    &["item", "value", "reported"],
                    &rows,
                    "the device has reported nothing yet",
                )
            })
        }
        DeclarationCommand::Device { device, status: false } => {
            let answer = client
                .get(client.of_tenant(&["devices", &device, "declarations"]))
                .await?;
            show_plan(&answer, output)
        }
    }
}

fn show_plan(answer: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    let list = |name: &str| field(answer, name).as_array().map_or(&[][..], Vec::as_slice);
    let columns = [
        "identifier",
        "type",
        "source",
        "state.valid",
        "state.active",
        "state.current",
    ];
    let rows = output::rows(list("declarations"), &columns);
    let conflicts = output::rows(list("conflicts"), &["identifier", "source", "kept"]);
    let problems = output::rows(list("problems"), &["problem", "times", "reported_at"]);
    let faults = field(answer, "faults").as_object();
    output.answer(answer, |output| {
        output.table(
            &["identifier", "type", "source", "valid", "active", "current"],
            &rows,
            "the device has no declarations",
        )?;
        if !conflicts.is_empty() {
            output.line("\nkept out, because another source has the identifier:")?;
            output.table(&["identifier", "of", "the device has that of"], &conflicts, "")?;
        }
        for (planner, fault) in faults.into_iter().flatten() {
            output.line(format!(
                "\nplanner {planner} failed, and its last plan stays: {}",
                cell(fault)
            ))?;
        }
        if !problems.is_empty() {
            output.line("\nwhat could not be read of its reports:")?;
            output.table(&["problem", "times", "last"], &problems, "")?;
        }
        if field(answer, "planning").as_bool() == Some(true) {
            output.line("\na new plan is being made")?;
        }
        Ok(())
    })
}
