//! Figures with their units, and the table and the JSON that they become.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::machine::Machine;
use crate::stats::{Samples, per_second};

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    sections: Vec<Section>,
}

/// Figures that were measured side by side, so that their ratios mean something.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    title: String,
    /// How all of them were measured.
    method: String,
    figures: Vec<Figure>,
}

/// One row: what was measured, with one or more values.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    what: String,
    values: Vec<Value>,
    /// How many measurements the values are made of.
    samples: usize,
    /// How it was measured, as far as the section's method does not say.
    method: String,
    goals: Vec<Goal>,
}

/// What a figure should be.
#[derive(Debug, Serialize)]
struct Goal {
    what: String,
    wanted: String,
    value: f64,
    unit: &'static str,
    met: bool,
}

/// A number with its unit.
#[derive(Debug, Serialize)]
struct Value {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, samples: usize, method: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            values: Vec::new(),
            samples,
            method: method.into(),
            goals: Vec::new(),
        }
    }

    /// Sets what the figure should be at least.
    #[must_use]
    pub(crate) fn at_least(self, what: &str, value: f64, wanted: f64, unit: &'static str) -> Self {
        self.goal(what, value, "≥", wanted, unit, value >= wanted)
    }

    /// Sets what the figure should be at most.
    #[must_use]
    pub(crate) fn at_most(self, what: &str, value: f64, wanted: f64, unit: &'static str) -> Self {
        self.goal(what, value, "≤", wanted, unit, value <= wanted)
    }

    fn goal(mut self, what: &str, value: f64, sign: &str, wanted: f64, unit: &'static str, met: bool) -> Self {
        self.goals.push(Goal {
            what: what.to_owned(),
            wanted: format!("{sign} {} {unit}", readable(wanted)),
            value,
            unit,
            met,
        });
        self
    }

    #[must_use]
    pub(crate) fn with(mut self, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        self.values.push(Value {
            name: name.into(),
            value,
            unit,
        });
        self
    }

    /// A duration, in the unit that makes it easy to read.
    #[must_use]
    pub(crate) fn duration(self, name: &str, duration: Duration) -> Self {
        let seconds = duration.as_secs_f64();
        match seconds {
            s if s >= 1.0 => self.with(name, s, "s"),
            s if s >= 1e-3 => self.with(name, s * 1e3, "ms"),
            s if s >= 1e-6 => self.with(name, s * 1e6, "µs"),
            s => self.with(name, s * 1e9, "ns"),
        }
    }

    #[must_use]
    pub(crate) fn percentiles(self, samples: &Samples) -> Self {
        self.duration("p50", samples.median())
            .duration("p99", samples.percentile(99.0))
    }

    #[must_use]
    pub(crate) fn rate(self, count: usize, elapsed: Duration, unit: &'static str) -> Self {
        self.with("", per_second(count, elapsed), unit)
    }
}

impl Section {
    pub(crate) fn new(title: impl Into<String>, method: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            method: method.into(),
            figures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine,
            sections: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    /// The table, in Markdown.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("Measured on {}.\n", self.machine);
        self.goals_to_markdown(&mut text);
        for section in &self.sections {
            // Writing to a string does not fail.
            let _ = write!(text, "\n### {}\n\n{}\n\n", section.title, section.method);
            text.push_str("| what | figures | samples | how |\n| --- | --- | ---: | --- |\n");
            for figure in &section.figures {
                let values: Vec<String> = figure.values.iter().map(Value::to_text).collect();
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} |",
                    figure.what,
                    values.join("; "),
                    grouped(figure.samples as u64),
                    figure.method
                );
            }
        }
        text
    }

    /// Every goal beside its figure, in one table.
    fn goals_to_markdown(&self, text: &mut String) {
        let figures = self.sections.iter().flat_map(|section| &section.figures);
        let goals: Vec<&Goal> = figures.flat_map(|figure| &figure.goals).collect();
        if goals.is_empty() {
            return;
        }
        text.push_str("\n### Goals\n\nThe rows below say how each was measured.\n\n");
        text.push_str("| what | goal | figure | met |\n| --- | --- | --- | --- |\n");
        for goal in goals {
            let met = if goal.met { "yes" } else { "**no**" };
            let figure = format!("{} {}", readable(goal.value), goal.unit);
            let _ = writeln!(text, "| {} | {} | {figure} | {met} |", goal.what, goal.wanted);
        }
    }
}

impl Value {
    fn to_text(&self) -> String {
        let space = if self.name.is_empty() { "" } else { " " };
        format!("{}{space}{} {}", self.name, readable(self.value), self.unit)
            .trim_end()
            .to_owned()
    }
}

/// Three digits that count, and thousands apart: more would only look exact.
fn readable(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => grouped(value.round() as u64),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        for (value, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (1.2345, "1.23"),
            (12.345, "12.3"),
            (123.45, "123"),
            (1_234.5, "1,235"),
            (1_000_000.0, "1,000,000"),
        ] {
            assert_eq!(readable(value), text);
        }
    }

    #[test]
    fn durations_choose_their_unit() {
        let figure = |duration| Figure::new("x", 1, "").duration("p50", duration).values[0].to_text();
        assert_eq!(figure(Duration::from_nanos(250)), "p50 250 ns");
        assert_eq!(figure(Duration::from_micros(25)), "p50 25.0 µs");
        assert_eq!(figure(Duration::from_micros(2_500)), "p50 2.50 ms");
        assert_eq!(figure(Duration::from_secs(90)), "p50 90.0 s");
    }

    #[test]
    fn goals_stand_together_with_what_became_of_them() {
        let mut report = Report::new(Machine::of_tests());
        let mut section = Section::new("Polls", "Over TLS.");
        section.add(Figure::new("idle", 1, "").at_least("idle polls", 9_500.0, 9_000.0, "polls/s"));
        section.add(Figure::new("memory", 1, "").at_most("memory", 61.0, 60.0, "MiB"));
        report.add(section);
        let table = report.to_markdown();
        assert!(
            table.contains("| idle polls | ≥ 9,000 polls/s | 9,500 polls/s | yes |"),
            "{table}"
        );
        assert!(table.contains("| memory | ≤ 60.0 MiB | 61.0 MiB | **no** |"), "{table}");
    }

    #[test]
    fn a_row_holds_all_values_of_a_figure() {
        let mut report = Report::new(Machine::of_tests());
        let mut section = Section::new("Polls", "Over TLS.");
        section.add(Figure::new("idle", 1500, "as fast as answered").rate(3_000, Duration::from_secs(2), "polls/s"));
        report.add(section);
        let table = report.to_markdown();
        assert!(table.contains("### Polls\n\nOver TLS.\n\n| what |"), "{table}");
        assert!(
            table.contains("| idle | 1,500 polls/s | 1,500 | as fast as answered |"),
            "{table}"
        );
    }
}
