//! The account at a registry: from the environment, or from where `docker login` and `podman login` keep theirs.

use std::env;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde_json::Value;

use super::error::OciError;
use crate::cli::file;

/// The password that belongs to the user name that was given.
const PASSWORD: &str = "RUSSET_REGISTRY_PASSWORD";

/// The account for a registry, by its host and port; nobody's if none is found.
pub(super) fn find(registry: &str, user: Option<&str>) -> miette::Result<RegistryAuth> {
    if let Some(user) = user {
        let password = env::var(PASSWORD).map_err(|_| OciError::NoPassword)?;
        return Ok(RegistryAuth::Basic(user.to_owned(), password));
    }
    for path in files() {
        if path.exists() {
            let config = file::read_json(&path)?;
            if let Some(auth) = of_config(&path, &config, registry)? {
                return Ok(auth);
            }
        }
    }
    Ok(RegistryAuth::Anonymous)
}

/// Where accounts are kept, the likeliest first.
fn files() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(env::home_dir()?.join(".docker")));
    [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The account in a file of the form that Docker and Podman share: `{"auths": {"registry": {"auth": "…"}}}`.
fn of_config(path: &Path, config: &Value, registry: &str) -> Result<Option<RegistryAuth>, OciError> {
    let Some(entry) = config.get("auths").and_then(|auths| auths.get(registry)) else {
        return Ok(None);
    };
    let Some(auth) = entry
        .get("auth")
        .and_then(Value::as_str)
        .filter(|auth| !auth.is_empty())
    else {
        // A credential helper has it.
        return Ok(None);
    };
    let wrong = || OciError::Credentials {
        path: path.to_owned(),
        reason: format!("the entry of {registry} is not a name and a password in base64"),
    };
    let decoded = STANDARD.decode(auth).map_err(|_| wrong())?;
    let text = String::from_utf8(decoded).map_err(|_| wrong())?;
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    // Docker pads with zeros.
    Ok(Some(RegistryAuth::Basic(
        user.to_owned(),
        password.trim_end_matches('\0').to_owned(),
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn of(config: &Value, registry: &str) -> Result<Option<RegistryAuth>, OciError> {
        of_config(Path::new("config.json"), config, registry)
    }

    #[test]
    fn the_entry_of_the_registry_is_taken() {
        let config = json!({"auths": {
            "registry.example.com:5000": {"auth": STANDARD.encode("ada:a:b")},
            "helper.example.com": {},
            "broken.example.com": {"auth": "?"},
        }});
        assert_eq!(
            of(&config, "registry.example.com:5000").unwrap(),
            Some(RegistryAuth::Basic("ada".to_owned(), "a:b".to_owned()))
        );
        assert_eq!(of(&config, "helper.example.com").unwrap(), None);
        assert_eq!(of(&config, "registry.example.com").unwrap(), None);
        assert_eq!(of(&json!({}), "registry.example.com").unwrap(), None);
        let error = of(&config, "broken.example.com").unwrap_err();
        assert!(error.to_string().contains("broken.example.com"), "{error}");
    }
}
