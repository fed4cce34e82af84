//! What a revision changes, as lines.

use serde_json::Value;

use super::super::output::{Output, cell, field};

/// Shows the differences; nothing where there are none.
pub(super) fn show(changes: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    let from = field(changes, "from");
    if from.is_null() {
        return Ok(());
    }
    let (from, to) = (cell(from), cell(field(changes, "to")));
    if from != to {
        output.line(format!("version: {from} -> {to}"))?;
    }
    for (name, title) in [
        ("hooks", "hooks"),
        ("capabilities", "capabilities"),
        ("effects", "effects"),
        ("connections", "connections"),
        ("limits", "limits"),
        ("events", "events"),
        ("schedules", "schedules"),
        ("settings_schema", "settings that it knows"),
        ("settings", "settings"),
    ] {
        let list = field(changes, name);
        let marked = |key: &str, mark: &str| -> Vec<String> {
            let items = field(list, key).as_array().map_or(&[][..], Vec::as_slice);
            items.iter().map(|item| format!("{mark} {}", cell(item))).collect()
        };
        let all = [marked("added", "+"), marked("removed", "-"), marked("changed", "~")].concat();
        if !all.is_empty() {
            output.line(format!("{title}: {}", all.join(", ")))?;
        }
    }
    Ok(())
}
