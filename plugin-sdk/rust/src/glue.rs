//! What the export macros expand to. Not part of the public interface.

use std::sync::Once;

use serde::de::DeserializeOwned;

use crate::{Error, log, settings};

/// One call from the host: a panic reaches the log, the settings are parsed, and an error becomes its text.
pub(crate) fn call<S: DeserializeOwned + 'static, T>(answer: impl FnOnce(S) -> Result<T, Error>) -> Result<T, String> {
    report_panics();
    settings::get().and_then(answer).map_err(|error| error.to_string())
}

/// A panic ends in a trap, which tells the host nothing: so the message and its place are logged first.
fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| log::error(panic)));
    });
}

/// Exports one hook. The glue that the WIT generator writes is the only unsafe code of a plugin; it exists only in
/// WebAssembly, where its export names are no linker's trouble. Elsewhere only the trait is checked.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($hook:ident, $bound:path, $plugin:ty, { $($methods:tt)* }) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        const _: () = {
            struct Export;

            impl $crate::bindings::$hook::exports::russet::plugin::$hook::Guest for Export {
                $($methods)*
            }

            $crate::bindings::$hook::export!(Export with_types_in $crate::bindings::$hook);
        };

        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            const fn implements<T: $bound>() {}
            implements::<$plugin>()
        };
    };
}
