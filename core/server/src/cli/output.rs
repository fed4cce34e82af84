//! What a command found: the API's JSON, or text for people.

use std::io::{self, Write};

use miette::{Diagnostic, Report};
use serde_json::Value;

/// Where results go, and in which form.
pub(super) struct Output<'a> {
    out: &'a mut dyn Write,
    json: bool,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("the output can not be written: {0}")]
#[diagnostic(code("output"))]
struct OutputError(#[source] io::Error);

/// The output can not be written.
pub(super) fn failed(error: io::Error) -> Report {
    OutputError(error).into()
}

/// Whether the reader of the output went away, which is no failure.
pub(super) fn reader_left(report: &Report) -> bool {
    report
        .downcast_ref::<OutputError>()
        .is_some_and(|OutputError(error)| error.kind() == io::ErrorKind::BrokenPipe)
}

impl<'a> Output<'a> {
    pub(super) fn new(out: &'a mut dyn Write, json: bool) -> Self {
        Self { out, json }
    }

    /// Prints the API's answer as it is if JSON is wanted; otherwise what `text` makes of it.
    pub(super) fn answer(
        &mut self,
        answer: &Value,
        text: impl FnOnce(&mut Self) -> miette::Result<()>,
    ) -> miette::Result<()> {
        if self.json {
            writeln!(self.out, "{answer:#}").map_err(failed)
        } else {
            text(self)
        }
    }

    /// One line.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> miette::Result<()> {
        writeln!(self.out, "{}", printable(text.as_ref())).map_err(failed)
    }

    /// One line as it is: for what another program reads, and JSON has nothing in it that a terminal would obey.
    pub(super) fn raw_line(&mut self, text: &str) -> miette::Result<()> {
        writeln!(self.out, "{text}").map_err(failed)
    }

    /// Names and values, one a line.
    pub(super) fn facts(&mut self, facts: &[(String, String)]) -> miette::Result<()> {
        let width = facts.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
        for (name, value) in facts {
            self.row(&[(name.as_str(), width), (value.as_str(), 0)])?;
        }
        Ok(())
    }

    /// A table with a heading, or `empty` if there are no rows.
    pub(super) fn table(&mut self, heading: &[&str], rows: &[Vec<String>], empty: &str) -> miette::Result<()> {
        if rows.is_empty() {
            return self.line(empty);
        }
        let heading: Vec<String> = heading.iter().map(|name| name.to_uppercase()).collect();
        let widths: Vec<usize> = (0..heading.len())
            .map(|column| {
                rows.iter()
                    .chain([&heading])
                    .filter_map(|row| row.get(column))
                    .map(|cell| width(cell))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in [&heading].into_iter().chain(rows) {
            let cells: Vec<(&str, usize)> = row.iter().map(String::as_str).zip(widths.iter().copied()).collect();
            self.row(&cells)?;
        }
        Ok(())
    }

    fn row(&mut self, cells: &[(&str, usize)]) -> miette::Result<()> {
        let mut line = String::new();
        for (cell, wide) in cells {
            let cell = printable(cell);
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', wide.saturating_sub(width(&cell)) + 2));
        }
        writeln!(self.out, "{}", line.trim_end()).map_err(failed)
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text that devices and people chose can hold control characters, which would drive the reader's terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c })
        .collect()
}

/// A value of the API in one cell.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.replace('\n', " "),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Rows of the API's items: for each column the path of a field, such as `push.topic`.
pub(super) fn rows(items: &[Value], columns: &[&str]) -> Vec<Vec<String>> {
    items
        .iter()
        .map(|item| columns.iter().map(|column| cell(field(item, column))).collect())
        .collect()
}

/// The value at a path such as `push.topic`.
pub(super) fn field<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.')
        .fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// All values of an object with readable names; what lies deeper goes by its path.
pub(super) fn facts(value: &Value) -> Vec<(String, String)> {
    fn collect(prefix: &str, value: &Value, facts: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let name = name.replace('_', " ");
                    let path = if prefix.is_empty() {
                        name
                    } else {
                        format!("{prefix}, {name}")
                    };
                    collect(&path, value, facts);
                }
            }
            Value::Null => {}
            other => facts.push((prefix.to_owned(), cell(other))),
        }
    }
    let mut found = Vec::new();
    collect("", value, &mut found);
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn printed(json: bool, print: impl FnOnce(&mut Output<'_>) -> miette::Result<()>) -> String {
        let mut bytes = Vec::new();
        print(&mut Output::new(&mut bytes, json)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_table_is_aligned_and_shows_what_is_missing() {
        let items = [
            json!({"serial_number": "C02XK1", "push": {"topic": "t"}, "n": 3}),
            json!({"serial_number": "ü", "push": null, "n": []}),
        ];
        let rows = rows(&items, &["serial_number", "push.topic", "n"]);
        assert_eq!(
            printed(false, |output| output.table(
                &["serial", "topic", "n"],
                &rows,
                "nothing"
            )),
            "SERIAL  TOPIC  N\nC02XK1  t      3\nü       -      -\n"
        );
        assert_eq!(
            printed(false, |output| output.table(&["serial"], &[], "nothing")),
            "nothing\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let rows = rows(&[json!({"name": "\u{1b}[2Jmine\nyours"})], &["name"]);
        assert_eq!(
            printed(false, |output| output.table(&["name"], &rows, "")),
            "NAME\n\u{fffd}[2Jmine yours\n"
        );
    }

    #[test]
    fn facts_go_by_their_path() {
        let device = json!({"serial_number": "C02XK1", "push": {"topic": "t", "parked_at": null}, "tags": ["a", "b"]});
        let mut facts = facts(&device);
        facts.sort();
        assert_eq!(
            printed(false, |output| output.facts(&facts)),
            "push, topic    t\nserial number  C02XK1\ntags           a, b\n"
        );
    }

    #[test]
    fn json_is_the_answer_as_it_is() {
        let answer = json!({"name": "\u{1b}"});
        let text = printed(true, |output| output.answer(&answer, |output| output.line("text")));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), answer);
        assert_eq!(
            printed(false, |output| output.answer(&answer, |output| output.line("text"))),
            "text\n"
        );
    }
}
