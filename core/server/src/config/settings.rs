//! How a section of the configuration is declared: once, with its documentation and its defaults.
//!
//! The `settings!` macro makes a struct that serde reads, its `Default`, and a description of every key. The
//! description is what the example file is written from and what tells the environment reader which keys are text, so
//! none of the three can drift from the others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What a value in the configuration file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Text in quotes.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list of texts.
    List,
}

/// A type that a single key can have.
pub(crate) trait Setting {
    /// What it looks like in the file.
    const SHAPE: Shape;
    /// How this value is written in the file; `None` for a key that is left out.
    fn literal(&self) -> Option<String>;
}

/// A struct made by `settings!`.
pub(crate) trait Section {
    /// What is known of its keys.
    fn describe() -> SectionDescription;
}

/// What is known of a section.
#[derive(Debug)]
pub(crate) struct SectionDescription {
    /// The lines of its documentation.
    pub(crate) doc: &'static [&'static str],
    pub(crate) keys: Vec<KeyDescription>,
    pub(crate) sections: Vec<(&'static str, SectionDescription)>,
    /// Sections with a name that the operator chooses.
    pub(crate) maps: Vec<MapDescription>,
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) struct KeyDescription {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static [&'static str],
    pub(crate) shape: Shape,
    /// The default as it is written in the file; `None` for a key that is left out by default.
    pub(crate) default: Option<String>,
    /// A value to show where there is no default.
    pub(crate) example: Option<&'static str>,
}

/// What is known of a family of sections with chosen names.
#[derive(Debug)]
pub(crate) struct MapDescription {
    pub(crate) name: &'static str,
    /// A name to show.
    pub(crate) example: &'static str,
    pub(crate) section: SectionDescription,
}

impl SectionDescription {
    /// The key at `path`, if there is one; a chosen name matches any text.
    pub(crate) fn key(&self, path: &[&str]) -> Option<&KeyDescription> {
        match path {
            [] => None,
            [name] => self.keys.iter().find(|key| key.name == *name),
            [name, rest @ ..] => {
                if let Some((_, section)) = self.sections.iter().find(|(section, _)| section == name) {
                    return section.key(rest);
                }
                let map = self.maps.iter().find(|map| map.name == *name)?;
                map.section.key(rest.get(1..)?)
            }
        }
    }
}

/// Text as a TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Setting for String {
    const SHAPE: Shape = Shape::Text;
    fn literal(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    const SHAPE: Shape = Shape::Text;
    fn literal(&self) -> Option<String> {
        Some(quoted(&Path::display(self).to_string()))
    }
}

impl Setting for SocketAddr {
    const SHAPE: Shape = Shape::Text;
    fn literal(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Setting for bool {
    const SHAPE: Shape = Shape::Boolean;
    fn literal(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    const SHAPE: Shape = T::SHAPE;
    fn literal(&self) -> Option<String> {
        self.as_ref().and_then(Setting::literal)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const SHAPE: Shape = Shape::List;
    fn literal(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(Setting::literal).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

macro_rules! integers {
    ($($type:ty),*) => { $(
        impl Setting for $type {
            const SHAPE: Shape = Shape::Integer;
            fn literal(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )* };
}

integers!(u16, u32, u64, usize);

/// Declares a section: keys with documentation, type and default (and, after `=>`, a value to show in the example file
/// where the default is to leave the key out), then the sections below it, then families of sections with chosen names.
macro_rules! settings {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $( $(#[doc = $key_doc:literal])* $key:ident : $type:ty = $default:expr $(=> $example:literal)? , )*
        }
        $( sections { $( $section:ident : $section_type:ty ),* $(,)? } )?
        $( maps { $( $(#[doc = $map_doc:literal])* $map:ident : $map_type:ty => $map_example:literal ),* $(,)? } )?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[doc = $key_doc])*
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                pub $key: $type,
            )*
            $( $(
                #[doc = concat!("The section `", stringify!($section), "`: see [`", stringify!($section_type), "`].")]
                pub $section: $section_type,
            )* )?
            $( $(
                $(#[doc = $map_doc])*
                pub $map: std::collections::BTreeMap<String, $map_type>,
            )* )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $key: $default, )*
                    $( $( $section: <$section_type>::default(), )* )?
                    $( $( $map: std::collections::BTreeMap::new(), )* )?
                }
            }
        }

        impl $crate::config::settings::Section for $name {
            fn describe() -> $crate::config::settings::SectionDescription {
                use $crate::config::settings::{KeyDescription, SectionDescription, Setting};
                let defaults = Self::default();
                SectionDescription {
                    doc: &[$($doc),*],
                    keys: vec![ $(
                        KeyDescription {
                            name: stringify!($key),
                            doc: &[$($key_doc),*],
                            shape: <$type as Setting>::SHAPE,
                            default: defaults.$key.literal(),
                            example: [$($example)?].first().copied(),
                        },
                    )* ],
                    sections: vec![ $( $(
                        (
                            stringify!($section),
                            <$section_type as $crate::config::settings::Section>::describe(),
                        ),
                    )* )? ],
                    maps: vec![ $( $(
                        $crate::config::settings::MapDescription {
                            name: stringify!($map),
                            example: $map_example,
                            section: <$map_type as $crate::config::settings::Section>::describe(),
                        },
                    )* )? ],
                }
            }
        }
    };
}

/// Declares a choice between words.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident { $( $(#[doc = $word_doc:literal])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
        pub enum $name {
            $( $(#[doc = $word_doc])* #[serde(rename = $word)] $variant, )*
        }

        impl $crate::config::settings::Setting for $name {
            const SHAPE: $crate::config::settings::Shape = $crate::config::settings::Shape::Text;
            fn literal(&self) -> Option<String> {
                let word = match self { $( Self::$variant => $word, )* };
                Some($crate::config::settings::quoted(word))
            }
        }
    };
}

pub(crate) use {choice, settings};
