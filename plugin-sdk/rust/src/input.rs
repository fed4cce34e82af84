//! What the inputs of hooks have in common: values that come either from the host or, in tests, from memory; names from
//! open lists; and the errors of capabilities.

use crate::bindings::russet::plugin::context as host;
use crate::{Device, Person};

/// A value as a plugin sees it, of the value that the host gave.
pub(crate) trait FromHost<H> {
    fn from_host(value: H) -> Self;
}

macro_rules! as_it_is {
    ($($type:ty),*) => {
        $(impl FromHost<$type> for $type {
            fn from_host(value: $type) -> Self {
                value
            }
        })*
    };
}

as_it_is!(bool, u32, u64, String);

impl<T: FromHost<H>, H> FromHost<Option<H>> for Option<T> {
    fn from_host(value: Option<H>) -> Self {
        value.map(T::from_host)
    }
}

impl FromHost<host::Device> for Device {
    fn from_host(value: host::Device) -> Self {
        value.into()
    }
}

impl FromHost<host::Person> for Person {
    fn from_host(value: host::Person) -> Self {
        value.into()
    }
}

/// The input of a hook: getters that ask the host or read from memory, and a builder for the memory.
///
/// A field is `text` (a `String`), `value<T>` or `maybe<T>` (an `Option<T>`; `maybe_text` for text). After `+` come fields
/// of the memory that need a getter of their own.
macro_rules! input {
    (
        $(#[$doc:meta])*
        $name:ident, $builder:ident, $host:ident;
        $($(#[$field_doc:meta])* $field:ident: $kind:ident $(<$type:ty>)?;)*
        $(+ { $($extra:ident: $extra_type:ty,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name<'a>(Source<'a>);

        #[derive(Clone, Debug)]
        enum Source<'a> {
            Host(&'a crate::bindings::russet::plugin::context::$host),
            Memory(Box<Memory>),
        }

        #[derive(Clone, Debug)]
        struct Memory {
            $($field: crate::input::field_type!($kind $(<$type>)?),)*
            $($($extra: $extra_type,)*)?
        }

        impl $name<'_> {
            $($(#[$field_doc])*
            pub fn $field(&self) -> crate::input::field_type!($kind $(<$type>)?) {
                match &self.0 {
                    Source::Host(host) => crate::input::FromHost::from_host(host.$field()),
                    Source::Memory(memory) => memory.$field.clone(),
                }
            })*
        }

        #[doc = concat!("Builds a [`", stringify!($name), "`] in memory, for tests.")]
        #[derive(Clone, Debug)]
        pub struct $builder(Memory);

        impl $builder {
            $(crate::input::setter!($(#[$field_doc])* $field: $kind $(<$type>)?);)*

            /// The input.
            pub fn build(self) -> $name<'static> {
                $name(Source::Memory(Box::new(self.0)))
            }
        }
    };
}

macro_rules! field_type {
    (text) => { String };
    (maybe_text) => { Option<String> };
    (value<$type:ty>) => { $type };
    (maybe<$type:ty>) => { Option<$type> };
}

macro_rules! setter {
    ($(#[$doc:meta])* $field:ident: text) => {
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, value: impl Into<String>) -> Self {
            self.0.$field = value.into();
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: maybe_text) => {
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, value: impl Into<String>) -> Self {
            self.0.$field = Some(value.into());
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: value<$type:ty>) => {
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, value: $type) -> Self {
            self.0.$field = value;
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: maybe<$type:ty>) => {
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, value: $type) -> Self {
            self.0.$field = Some(value);
            self
        }
    };
}

/// Names from a list that may grow. A plugin treats a name that it does not know as it treats the strictest one.
macro_rules! open_list {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A name that this version of the kit does not know. Treat it as the strictest one.
            Other(String),
        }

        impl $name {
            /// The name in the contract.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                match name.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Other(name),
                }
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                name.to_owned().into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl crate::input::FromHost<String> for $name {
            fn from_host(name: String) -> Self {
                name.into()
            }
        }
    };
}

/// The error of a capability: each variant carries the host's text, which is safe to show to an operator.
macro_rules! capability_error {
    (
        $interface:ident;
        $($(#[$doc:meta])* $variant:ident => $text:literal,)*
    ) => {
        /// Why a call failed. The texts are the host's and safe to show to an operator.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$doc])* $variant(String),)*
        }

        impl std::fmt::Display for Error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant(text) => write!(f, concat!($text, ": {}"), text),)*
                }
            }
        }

        impl std::error::Error for Error {}

        impl From<crate::bindings::russet::plugin::$interface::Error> for Error {
            fn from(error: crate::bindings::russet::plugin::$interface::Error) -> Self {
                match error {
                    $(crate::bindings::russet::plugin::$interface::Error::$variant(text) => Self::$variant(text),)*
                }
            }
        }

        impl From<Error> for crate::Error {
            fn from(error: Error) -> Self {
                Self::new(error)
            }
        }
    };
}

pub(crate) use {capability_error, field_type, input, open_list, setter};
