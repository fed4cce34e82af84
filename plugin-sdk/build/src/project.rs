//! What cargo says about the plugin crates.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::toolchain::active_cargo;

/// A package, as `cargo metadata` tells it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) targets: Vec<Target>,
}

/// A target of a package.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) crate_types: Vec<String>,
}

impl Package {
    /// The folder that `Cargo.toml` lies in.
    pub(crate) fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }
}

/// Plugin crates of one workspace.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) target_directory: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// Why a folder holds no plugin crate.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is no `Cargo.toml`.
    #[error("no Cargo.toml in {}; name the folder of a plugin crate", .0.display())]
    NoCrate(PathBuf),
    /// Cargo can not be run.
    #[error("cannot run cargo: {0}")]
    Run(#[source] io::Error),
    /// Cargo refuses.
    #[error("cargo metadata failed for {}: {reason}", path.display())]
    Cargo {
        /// The `Cargo.toml`.
        path: PathBuf,
        /// Its words.
        reason: String,
    },
    /// The crate can not become a component.
    #[error("{} is no plugin crate: its [lib] needs `crate-type = [\"cdylib\"]`", .0.display())]
    NotCdylib(PathBuf),
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

/// Groups the crates in these folders by workspace, so that each workspace takes one call of cargo.
pub(crate) fn projects(directories: &[PathBuf]) -> Result<Vec<Project>, ProjectError> {
    let mut projects: BTreeMap<PathBuf, Project> = BTreeMap::new();
    let mut known: Vec<(Vec<Package>, PathBuf)> = Vec::new();
    for directory in directories {
        let manifest = directory
            .join("Cargo.toml")
            .canonicalize()
            .map_err(|_| ProjectError::NoCrate(directory.clone()))?;
        // One workspace usually holds all of them: then cargo is asked once.
        if !known.iter().any(|(packages, _)| find(packages, &manifest).is_some()) {
            let metadata = metadata(&manifest)?;
            projects.entry(metadata.workspace_root.clone()).or_insert(Project {
                root: metadata.workspace_root.clone(),
                target_directory: metadata.target_directory,
                packages: Vec::new(),
            });
            known.push((metadata.packages, metadata.workspace_root));
        }
        let found = known
            .iter()
            .find_map(|(packages, root)| Some((find(packages, &manifest)?, root)));
        let Some((package, root)) = found else {
            return Err(ProjectError::NoCrate(directory.clone()));
        };
        let cdylib = |target: &Target| target.crate_types.iter().any(|kind| kind == "cdylib");
        if !package.targets.iter().any(cdylib) {
            return Err(ProjectError::NotCdylib(package.directory().to_owned()));
        }
        if let Some(project) = projects.get_mut(root)
            && find(&project.packages, &manifest).is_none()
        {
            project.packages.push(package.clone());
        }
    }
    Ok(projects.into_values().collect())
}

fn find<'a>(packages: &'a [Package], manifest: &Path) -> Option<&'a Package> {
    packages.iter().find(|package| {
        package.manifest_path == manifest || package.manifest_path.canonicalize().is_ok_and(|path| path == manifest)
    })
}

fn metadata(manifest: &Path) -> Result<Metadata, ProjectError> {
    let refused = |reason: String| ProjectError::Cargo {
        path: manifest.to_owned(),
        reason,
    };
    let output = active_cargo()
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()
        .map_err(ProjectError::Run)?;
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A crate in a workspace of its own.
    fn crate_in(parent: &Path, name: &str, lib: &str) -> PathBuf {
        let directory = parent.join(name);
        fs::create_dir_all(directory.join("src")).unwrap();
        fs::write(directory.join("src/lib.rs"), "").unwrap();
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"1.2.3\"\nedition = \"2024\"\n{lib}\n[workspace]\n");
        fs::write(directory.join("Cargo.toml"), manifest).unwrap();
        directory
    }

    const CDYLIB: &str = "[lib]\ncrate-type = [\"cdylib\"]";

    #[test]
    fn crates_are_grouped_by_workspace_and_named_once() {
        let parent = tempfile::tempdir().unwrap();
        let one = crate_in(parent.path(), "one", CDYLIB);
        let two = crate_in(parent.path(), "two", CDYLIB);
        let projects = projects(&[one.clone(), two, one]).unwrap();
        let names: Vec<Vec<&str>> = projects
            .iter()
            .map(|project| project.packages.iter().map(|package| package.name.as_str()).collect())
            .collect();
        assert_eq!(names, [["one"], ["two"]]);
        assert_eq!(projects[0].packages[0].version, "1.2.3");
    }

    #[test]
    fn what_is_no_plugin_crate_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let error = projects(&[parent.path().to_owned()]).unwrap_err();
        assert!(matches!(error, ProjectError::NoCrate(_)), "{error}");

        let plain = crate_in(parent.path(), "plain", "");
        let error = projects(&[plain]).unwrap_err();
        assert!(error.to_string().contains("crate-type = [\"cdylib\"]"), "{error}");

        let broken = crate_in(parent.path(), "broken", "[nonsense");
        let error = projects(&[broken]).unwrap_err();
        assert!(matches!(error, ProjectError::Cargo { .. }), "{error}");
    }
}
