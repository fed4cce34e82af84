//! Commands that wait, and taking them back.

use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::device::{items, more};
use crate::cli::output::{self, Output, cell, field};

pub(super) async fn progress(client: &Client, command: &str, output: &mut Output<'_>) -> miette::Result<()> {
    let answer = client.get(client.of_tenant(&["commands", command, "progress"])).await?;
    output.answer(&answer, |output| {
        output.line(format!(
            "{} {}: {} of {} devices open",
            cell(field(&answer, "request_type")),
            cell(field(&answer, "command_uuid")),
            cell(field(&answer, "open")),
            cell(field(&answer, "total")),
        ))?;
        let counts: Vec<(String, String)> = field(&answer, "counts")
            .as_object()
            .into_iter()
            .flatten()
            .map(|(state, count)| (state.clone(), cell(count)))
            .collect();
        output.facts(&counts)
    })
}

pub(super) async fn held(client: &Client, limit: usize, output: &mut Output<'_>) -> miette::Result<()> {
    let mut url = client.of_tenant(&["commands"]);
    url.query_pairs_mut().append_pair("approval", "held");
    let answer = client.list(url, limit).await?;
    let rows = output::rows(
        items(&answer),
        &[
            "command_uuid",
            "request_type",
            "created_by",
            "approval.message",
            "created_at",
        ],
    );
    output.answer(&answer, |output| {
        output.table(
            &["command", "request type", "by", "held because", "created"],
            &rows,
            "no command waits for an approval",
        )?;
        more(&answer, output)
    })
}

pub(super) async fn approve(client: &Client, command: &str, output: &mut Output<'_>) -> miette::Result<()> {
    let url = client.of_tenant(&["commands", command, "approve"]);
    let answer = client.post(url, &json!({})).await?;
    output.answer(&answer, |output| {
        output.line(format!("released for {} devices", cell(field(&answer, "released"))))
    })
}

pub(super) async fn reject(
    client: &Client,
    command: &str,
    reason: Option<String>,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let url = client.of_tenant(&["commands", command, "reject"]);
    let answer = client.post(url, &json!({ "reason": reason })).await?;
    output.answer(&answer, |output| taken_back(&answer, output))
}

pub(super) async fn cancel(
    client: &Client,
    command: &str,
    device: Option<String>,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let url = client.of_tenant(&["commands", command, "cancel"]);
    let answer = client.post(url, &json!({ "device": device })).await?;
    output.answer(&answer, |output| taken_back(&answer, output))
}

fn taken_back(answer: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    output.line(format!("taken back from {} devices", cell(field(answer, "cancelled"))))
}

pub(super) async fn stuck(client: &Client, limit: usize, output: &mut Output<'_>) -> miette::Result<()> {
    let answer = client.list(client.of_tenant(&["queue", "stuck"]), limit).await?;
    let rows = output::rows(
        items(&answer),
        &[
            "serial_number",
            "request_type",
            "command_uuid",
            "unanswered",
            "retry_at",
            "id",
        ],
    );
    output.answer(&answer, |output| {
        output.table(
            &["serial", "request type", "command", "unanswered", "offered again", "id"],
            &rows,
            "no device leaves a command unanswered",
        )?;
        more(&answer, output)
    })
}
