//! Pages that are true: the command lines of a Markdown page, and what it shows of their answers.
//!
//! A block that is marked `console` holds command lines behind a prompt (`$ `, or `name$ ` for another machine), each
//! followed by lines of its output: all that matter, in their order. A block whose mark names a file (a second word that
//! begins with `/`) is that file.

/// A part of a page, in the order in which a reader comes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A heading, without its marks.
    Heading(String),
    /// A file that the reader writes.
    File {
        /// Where.
        path: String,
        /// What.
        content: String,
    },
    /// A command line that the reader runs.
    Step(Step),
}

/// A command line, with the lines that the page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What stands before the prompt's `$`: the machine; nothing for the only one.
    pub machine: String,
    /// The command line.
    pub command: String,
    /// What it answers, as far as the page shows it.
    pub shown: Vec<String>,
}

impl Step {
    /// What differs between the page and an answer, if anything does.
    pub fn differs(&self, succeeded: bool, said: &str) -> Option<String> {
        let failure = self.shown.iter().any(|line| line.trim_start().starts_with('×'));
        if succeeded == failure {
            return Some("the page shows another outcome".to_owned());
        }
        let mut lines = said.lines();
        let mut shown = self.shown.iter().filter(|line| !line.trim().is_empty());
        let missing = shown.find(|shown| !lines.any(|line| fits(shown, line)));
        missing.map(|shown| format!("the page shows {shown:?} after the lines before it"))
    }
}

/// The parts of a page.
///
/// # Panics
/// When a `console` block begins with something else than a prompt.
pub fn parts(page: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(mark) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            if mark == "console" {
                parts.extend(steps(&block).into_iter().map(Part::Step));
            } else if let Some((_, path)) = mark.split_once(' ')
                && path.starts_with('/')
            {
                let (path, content) = (path.to_owned(), block.join("\n") + "\n");
                parts.push(Part::File { path, content });
            }
        } else if line.starts_with('#') {
            parts.push(Part::Heading(line.trim_start_matches('#').trim().to_owned()));
        }
    }
    parts
}

fn steps(block: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block {
        let prompt = line.split_once("$ ").filter(|(machine, _)| {
            machine
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        });
        match (prompt, steps.last_mut()) {
            // A command that goes on in the next line.
            (_, Some(step)) if step.shown.is_empty() && step.command.ends_with('\\') => {
                step.command.truncate(step.command.len() - 1);
                step.command.push_str(line.trim_start());
            }
            (Some((machine, command)), _) => steps.push(Step {
                machine: machine.to_owned(),
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (None, Some(step)) => step.shown.push((*line).to_owned()),
            (None, None) => panic!("what does {line:?} belong to?"),
        }
    }
    steps
}

/// Whether a line is the one that is shown. What differs from run to run and from machine to machine is left open: sizes and
/// times (with their unit), digests, keys, identifiers, moments, and what `…` stands for. Spaces that align do not matter.
pub fn fits(shown: &str, line: &str) -> bool {
    let (shown, line) = (comparable(shown), comparable(line));
    let parts: Vec<&str> = shown.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return shown == line;
    };
    let Some(mut rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    middle.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

fn comparable(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| word.trim_start_matches('(').parse::<f64>().is_ok();
    let unit = |word: &str| {
        let word = word.trim_end_matches([',', ')', ';']);
        matches!(word, "µs" | "ms" | "s" | "KiB" | "MiB" | "GiB")
    };
    let bare = |word: &str| word.trim_matches(['(', ')', ',', ';', '.', '"']).to_owned();
    let digest = |word: &str| {
        let word = bare(word);
        word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let identifier = |word: &str| {
        let word = bare(word);
        let groups: Vec<usize> = word.split('-').map(str::len).collect();
        groups == [8, 4, 4, 4, 12] && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    let comparable: Vec<&str> = words
        .iter()
        .enumerate()
        .map(|(index, word)| match word {
            word if number(word) && words.get(index + 1).is_some_and(|next| unit(next)) => "N",
            word if digest(word) => "DIGEST",
            word if identifier(word) => "ID",
            word if word.starts_with("ed25519:") => "KEY",
            word if bare(word).parse::<jiff::Timestamp>().is_ok() => "TIME",
            word => word,
        })
        .collect();
    comparable.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(machine: &str, command: &str, shown: &[&str]) -> Part {
        Part::Step(Step {
            machine: machine.to_owned(),
            command: command.to_owned(),
            shown: shown.iter().map(|line| (*line).to_owned()).collect(),
        })
    }

    #[test]
    fn what_differs_from_run_to_run_is_left_open() {
        assert!(fits("  106 KiB; hooks: x", "  61 KiB;  hooks: x"));
        assert!(fits(
            "used 874 µs, 192 KiB of memory, 4 calls",
            "used 1 µs, 2 KiB of memory, 4 calls"
        ));
        assert!(!fits("used 874 µs, 4 calls", "used 874 µs, 5 calls"));
        assert!(fits("a … c", "a b c") && !fits("a … c", "a b d"));
        assert!(fits("… b … d …", "a b c d e") && !fits("… b … d …", "a d c b e"));
        assert!(!fits("1 of 3 would be refused", "2 of 3 would be refused"));
        assert!(!fits("a", "a b"));
        assert!(fits(
            "sent 01a20130-9dbc-702a-9664-97044d386c7e",
            "sent 11a20130-9dbc-702a-9664-97044d386c7f"
        ));
    }

    #[test]
    fn a_page_has_headings_files_and_steps() {
        let page = "# A\ntext\n```console\n$ a \\\n    b\nc\n\nnode2$ d\n```\n$ e\n```toml /etc/a.toml\nx = 1\n```\n```toml\ny\n```\n";
        assert_eq!(
            parts(page),
            [
                Part::Heading("A".to_owned()),
                step("", "a b", &["c", ""]),
                step("node2", "d", &[]),
                Part::File {
                    path: "/etc/a.toml".to_owned(),
                    content: "x = 1\n".to_owned()
                },
            ]
        );
    }

    #[test]
    fn a_step_that_is_shown_to_fail_has_to_fail() {
        let Part::Step(refused) = step("", "x", &["  × no"]) else {
            panic!("a step")
        };
        assert_eq!(refused.differs(false, "  × no\n"), None);
        assert!(refused.differs(true, "  × no\n").is_some());
        assert!(refused.differs(false, "  × yes\n").is_some());
    }
}
