//! Where tests find the workspace's own plugins.

use std::env;
use std::path::{Path, PathBuf};

/// The path of a built plugin of this workspace: `<target>/plugins/<name>.wasm`. For tests.
///
/// # Panics
///
/// If it has not been built; the message says how to.
#[expect(
    clippy::panic,
    reason = "a test without its plugin has nothing to do but to say what is missing"
)]
#[track_caller]
pub fn artifact(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |dir| workspace.join(dir));
    let path = target.join("plugins").join(name).with_extension("wasm");
    match path.canonicalize() {
        Ok(path) => path,
        Err(error) => panic!(
            "the plugin `{name}` is not built ({}: {error}); run `make plugins`",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "run `make plugins`")]
    fn a_missing_plugin_is_named() {
        super::artifact("no-such-plugin");
    }
}
