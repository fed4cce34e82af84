//! What the verbs share that run a component here, in the real host with scripted capabilities: no server is asked.

use std::path::{Path, PathBuf};

use clap::Args;
use miette::Diagnostic;
use russet_hooks::HookKind;
use russet_plugin_test::{Error, Plugin, Question, Script, ScriptFile};
use serde_json::Value;

use super::inspect;
use super::templates::Hook;
use crate::cli::file::{self, FileError};

/// How the component is run.
#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// A file with the settings, JSON or (by the ending `.toml`) TOML [default: the plugin's own].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A file with what the host answers (clock, kv, secrets, devices, http, ldap), JSON or (by the ending `.toml`) TOML.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

/// What a hook is asked.
#[derive(Debug, Args)]
pub(super) struct InputArgs {
    /// The hook to call [default: the plugin's only one].
    #[arg(long)]
    pub(super) hook: Option<Hook>,
    /// A file with the input, JSON or (by the ending `.toml`) TOML; `-` is the standard input. What it leaves out is that
    /// of a plain input, see `russet plugin run --sample`.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// A plugin that does not run here. The host's own text says what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error(transparent)]
#[diagnostic(code("not-run"))]
pub(super) struct NotRun(pub(super) Error);

#[derive(Debug, thiserror::Error, Diagnostic)]
enum InputProblem {
    #[error("the plugin implements several hooks: {0}")]
    #[diagnostic(help("name the one to call with --hook"))]
    WhichHook(String),
}

impl HostArgs {
    /// The component with its settings and its script.
    pub(super) fn plugin(&self, path: &Path) -> miette::Result<Plugin> {
        let (bytes, _) = inspect::read(path)?;
        let mut plugin = Plugin::from_bytes(bytes).map_err(NotRun)?.script(self.script()?);
        if let Some(path) = &self.settings {
            plugin = plugin.settings(file::read_json_or_toml(path)?);
        }
        Ok(plugin)
    }

    /// Whether settings were given.
    pub(super) fn has_settings(&self) -> bool {
        self.settings.is_some()
    }

    pub(super) fn script(&self) -> miette::Result<Script> {
        let Some(path) = &self.script else {
            return Ok(Script::new());
        };
        let value = file::read_json_or_toml(path)?;
        let script: ScriptFile = serde_json::from_value(value).map_err(|error| FileError::Format {
            path: path.clone(),
            expected: "what a host answers",
            reason: error.to_string(),
        })?;
        Ok(script.script())
    }
}

impl InputArgs {
    /// The question to a plugin.
    pub(super) fn question(&self, plugin: &Plugin) -> miette::Result<Question> {
        let hook = self.hook_of(plugin)?;
        let input = match &self.input {
            Some(path) => file::read_json_or_toml(path)?,
            None => Question::sample(hook),
        };
        Ok(Question::from_json(hook, &input).map_err(|error| NotRun(error.into()))?)
    }

    fn hook_of(&self, plugin: &Plugin) -> Result<HookKind, InputProblem> {
        let hooks = &plugin.inspection().hooks;
        match (self.hook, hooks.first()) {
            (Some(hook), _) => Ok(hook.kind()),
            (None, Some(only)) if hooks.len() == 1 => Ok(*only),
            _ => {
                let names: Vec<&str> = hooks.iter().map(|hook| hook.as_str()).collect();
                Err(InputProblem::WhichHook(names.join(", ")))
            }
        }
    }
}

/// JSON on one line if it is short, on several if not.
pub(super) fn readable(value: &Value) -> String {
    let short = value.to_string();
    if short.len() <= 100 {
        return short;
    }
    serde_json::to_string_pretty(value).unwrap_or(short)
}
