//! The example file, written from the documentation of the keys.

use super::Config;
use super::settings::{KeyDescription, Section, SectionDescription};

/// How wide a comment may be.
const WIDTH: usize = 100;

/// An example of the configuration file: every key with its documentation and its default, all of them as comments, so
/// that the file as it stands means the defaults.
#[must_use]
pub fn example() -> String {
    let description = Config::describe();
    let mut text = String::new();
    comment(&mut text, description.doc);
    section(&mut text, "", &description, false);
    text
}

/// `optional` sections are comments as a whole, because they mean something by being there.
fn section(text: &mut String, path: &str, description: &SectionDescription, optional: bool) {
    for key in &description.keys {
        text.push('\n');
        write_key(text, key);
    }
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    for (name, inner) in &description.sections {
        head(text, &below(name), inner, optional);
    }
    for map in &description.maps {
        head(
            text,
            &format!("{}.{}", below(map.name), map.example),
            &map.section,
            true,
        );
    }
}

fn head(text: &mut String, path: &str, description: &SectionDescription, optional: bool) {
    text.push('\n');
    comment(text, description.doc);
    let mark = if optional { "#" } else { "" };
    text.push_str(&format!("{mark}[{path}]\n"));
    section(text, path, description, optional);
}

fn write_key(text: &mut String, key: &KeyDescription) {
    comment(text, key.doc);
    // An empty default of a key that has an example means that the key has to be given.
    let value = match (&key.default, key.example) {
        (Some(default), None) => default.as_str(),
        (_, Some(example)) => example,
        (None, None) => "",
    };
    text.push_str(&format!("#{} = {value}\n", key.name));
}

/// The lines of a documentation comment, joined to paragraphs and broken again at [`WIDTH`].
fn comment(text: &mut String, doc: &[&str]) {
    for paragraph in doc.split(|line| line.trim().is_empty()) {
        if text.ends_with("\n") && paragraph.as_ptr() != doc.as_ptr() {
            text.push_str("#\n");
        }
        let mut line = String::from("#");
        for word in paragraph.iter().flat_map(|line| line.split_whitespace()) {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                text.push_str(&line);
                text.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
}
