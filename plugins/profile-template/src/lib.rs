//! Renders configuration profiles from Jinja templates.
//!
//! A template reads `device.…`, `person.…`, `settings.…` (the plugin's), `vars.…` (the profile's variables) and `tenant`.
//! Values are escaped for XML, except between `{% autoescape false %}` and `{% endautoescape %}`. A value that is not
//! known is an error with its name, unless the template asks for it with `is defined` or `default(…)`. There is no way to
//! read other templates or files, and a template that computes without end runs out of fuel.
//!
//! Filters: `capitalize`, `count`, `default` (`d`), `escape` (`e`), `first`, `int`, `items`, `join`, `last`, `length`,
//! `lower`, `replace`, `sort`, `split`, `string`, `trim`, `unique`, `upper`. Tests: `defined`, `endingwith`, `in`, `mapping`,
//! `none`, `number`, `sequence`, `startingwith`, `string`, `undefined`. Function: `range`.

mod engine;
mod values;

use minijinja::ErrorKind;
use russet_plugin::Error;
use russet_plugin::template::{ProfileTemplate, TemplateRequest};
use serde_json::{Map, Value};

/// The template engine.
#[derive(Debug)]
pub struct Jinja;

impl ProfileTemplate for Jinja {
    type Settings = Map<String, Value>;

    fn render(settings: Map<String, Value>, request: &TemplateRequest) -> Result<Vec<u8>, Error> {
        let values = values::of(settings, request)?;
        let profile = render(&request.template(), values)?;
        check(&profile)?;
        Ok(profile.into_bytes())
    }
}

fn render(template: &str, values: minijinja::Value) -> Result<String, Error> {
    engine::new()
        .render_str(template, values)
        .map_err(|error| explain(template, &error))
}

/// What went wrong and where. The text never shows values, only the template's own words.
fn explain(template: &str, error: &minijinja::Error) -> Error {
    let line = error.line().unwrap_or(0);
    let words = error
        .range()
        .and_then(|range| template.get(range))
        .unwrap_or_default()
        .trim();
    match error.kind() {
        ErrorKind::UndefinedError => Error::new(format_args!(
            "template line {line}: `{words}` is not known here; ask for it with `is defined` or `default(…)`"
        )),
        ErrorKind::OutOfFuel => Error::new(format_args!("template line {line}: computes for too long")),
        ErrorKind::SyntaxError => Error::new(format_args!(
            "template line {line}: {}",
            error.detail().unwrap_or("not well formed")
        )),
        kind => Error::new(format_args!("template line {line}: {kind} in `{words}`")),
    }
}

/// Whether the result can be a configuration profile. The server parses it in full; this names the usual mistakes.
fn check(profile: &str) -> Result<(), Error> {
    let text = profile.trim();
    let begins = ["<?xml", "<plist", "<!DOCTYPE plist"]
        .iter()
        .any(|start| text.starts_with(start));
    if !begins || !text.contains("<plist") || !text.ends_with("</plist>") {
        return Err("the rendered text is no XML property list: it has to be a <plist> element".into());
    }
    let illegal = |c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r') || matches!(c, '\u{fffe}' | '\u{ffff}');
    if let Some(line) = text.lines().position(|line| line.contains(illegal)) {
        return Err(Error::new(format_args!(
            "line {} of the rendered profile holds a character that XML does not allow",
            line + 1
        )));
    }
    Ok(())
}

russet_plugin::profile_template!(Jinja);

#[cfg(test)]
mod tests;
