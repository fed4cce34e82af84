//! The settings of a plugin against the schema in its manifest.

use jsonschema::PatternOptions;
use serde::Serialize;
use serde_json::Value;

use crate::Manifest;

/// The largest settings in bytes.
const MAX_SETTINGS: usize = 256 << 10;
/// The most problems that are listed.
const MAX_PROBLEMS: usize = 50;

/// One thing that is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsProblem {
    /// Where, as a JSON pointer; empty for the whole.
    pub path: String,
    /// What.
    pub problem: String,
}

impl std::fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.problem),
            path => write!(f, "{path}: {}", self.problem),
        }
    }
}

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The schema in the manifest can not be used: for the plugin's author.
    #[error("the settings schema in the manifest can not be used: {0}")]
    Schema(String),
    /// The settings do not match it.
    #[error("the settings are not valid: {}", list(.0))]
    Invalid(Vec<SettingsProblem>),
}

fn list(problems: &[SettingsProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// Checks settings. The values themselves are not repeated in the errors: they may be secret.
///
/// # Errors
///
/// See [`SettingsError`].
pub fn check_settings(manifest: &Manifest, settings: &Value) -> Result<(), SettingsError> {
    let whole = |problem: String| {
        SettingsError::Invalid(vec![SettingsProblem {
            path: String::new(),
            problem,
        }])
    };
    let Some(object) = settings.as_object() else {
        return Err(whole("not a JSON object".to_owned()));
    };
    if settings.to_string().len() > MAX_SETTINGS {
        return Err(whole(format!("larger than {MAX_SETTINGS} bytes")));
    }
    let Some(schema) = &manifest.settings_schema else {
        if let Some(name) = object.keys().next() {
            return Err(whole(format!("the plugin has no settings, and {name:?} is given")));
        }
        return Ok(());
    };
    let validator = jsonschema::options()
        // Without backtracking: a pattern comes from whoever wrote the plugin.
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| SettingsError::Schema(error.masked().to_string()))?;
    let problems: Vec<SettingsProblem> = validator
        .iter_errors(settings)
        .take(MAX_PROBLEMS)
        .map(|error| SettingsProblem {
            path: error.instance_path().to_string(),
            problem: error.masked().to_string(),
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(SettingsError::Invalid(problems))
    }
}
