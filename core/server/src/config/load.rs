//! Reading: defaults, then the file, then the environment.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::Serialized;
use figment::{Figment, Profile};

use super::Config;
use super::environment::{Environment, variable};
use super::problems::Problem;
use super::settings::Section;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can not be read.
    #[error("the configuration file {} can not be read; check its path and permissions", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What is wrong there; never the text itself, which may hold a password.
        message: String,
    },
    /// Keys that do not exist, or values that can not be used.
    #[error("{}", Listed(problems))]
    Invalid {
        /// All of them.
        problems: Vec<Problem>,
    },
}

struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [problem] => write!(f, "the configuration can not be used: {problem}"),
            problems => {
                write!(
                    f,
                    "the configuration can not be used; {} keys are wrong:",
                    problems.len()
                )?;
                problems.iter().try_for_each(|problem| write!(f, "\n- {problem}"))
            }
        }
    }
}

impl Config {
    /// Reads the defaults, then `file` if one is given, then the environment `variables`, each over the one before.
    /// [`Config::validate`] then checks the whole.
    ///
    /// # Errors
    /// When the file can not be read or is not TOML, and for keys that do not exist or have a value of the wrong type.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
                path: path.to_owned(),
                source,
            })?;
            let table: toml::Table = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
                path: path.to_owned(),
                line: line_of(&text, error.span().map_or(0, |span| span.start)),
                message: error.message().to_owned(),
            })?;
            figment = figment.merge(Serialized::from(table, Profile::Default));
        }
        figment
            .merge(Environment::read(variables, &Config::describe()))
            .extract()
            .map_err(|error| ConfigError::Invalid {
                problems: error.into_iter().map(problem).collect(),
            })
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

fn problem(error: figment::Error) -> Problem {
    let from_environment = error
        .metadata
        .as_ref()
        .is_some_and(|metadata| metadata.name == "the environment");
    let mut path: Vec<&str> = error.path.iter().map(String::as_str).collect();
    let message = match &error.kind {
        Kind::UnknownField(name, known) => {
            // The path ends where the unknown key stands.
            if path.last() != Some(&name.as_str()) {
                path.push(name);
            }
            match nearest(name, known) {
                Some(near) => format!("there is no such key; did you mean {near}?"),
                None => format!("there is no such key; the keys here are {}", known.join(", ")),
            }
        }
        Kind::UnknownVariant(word, known) => {
            format!(
                "`{word}` is none of the words that are possible here: {}",
                known.join(", ")
            )
        }
        Kind::InvalidType(found, expected) => format!("must be {}, not {}", article(expected), kind_of(found)),
        Kind::InvalidValue(_, expected) => format!("must be {}", article(expected)),
        other => other.to_string(),
    };
    let key = if from_environment {
        variable(&path)
    } else {
        path.join(".")
    };
    Problem { key, message }
}

/// What sort of value was found, without the value: it may be a secret.
fn kind_of(found: &figment::error::Actual) -> &'static str {
    use figment::error::Actual;
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) => "text",
        Actual::Seq => "a list",
        Actual::Map | Actual::NewtypeStruct | Actual::Enum => "a section",
        _ => "this",
    }
}

fn article(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "a whole number, not negative".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "text in quotes".to_owned(),
        "a sequence" => "a list such as [\"…\"]".to_owned(),
        expected if expected.starts_with("struct ") || expected == "a map" => "a section".to_owned(),
        other => other.to_owned(),
    }
}

/// The known word that differs least from `name`, if it is close enough to be meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|word| (distance(name, word), *word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

/// How many characters have to be changed, added or removed (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
