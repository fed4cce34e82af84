//! The pass over a document before the property list parser sees it. It knows the grammar of a property list, keeps its
//! own stack of open containers, and builds no values.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};

use super::{DecodeError, Limits, write};

/// An open array or dictionary.
enum Container {
    Array,
    Dictionary {
        keys: HashSet<String>,
        /// A key was read and its value was not.
        awaits_value: bool,
    },
}

/// The open element that holds text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaf {
    Key,
    String,
    Date,
    /// Integer, real or data: text that the parser checks.
    Plain,
    /// True or false: no text at all.
    Flag,
}

impl Leaf {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "key" => Self::Key,
            "string" => Self::String,
            "date" => Self::Date,
            "integer" | "real" | "data" => Self::Plain,
            "true" | "false" => Self::Flag,
            _ => return None,
        })
    }
}

struct Scan<'a> {
    limits: &'a Limits,
    stack: Vec<Container>,
    leaf: Option<Leaf>,
    /// The text of the open leaf, kept for keys and dates only.
    text: String,
    in_plist: bool,
    plist_seen: bool,
    root_seen: bool,
    elements: usize,
    cdata: Vec<Range<usize>>,
}

/// Checks the document and returns the text to parse: the document itself, or a copy in which CDATA sections, which the
/// parser would drop silently, are plain text.
pub(super) fn scan<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Cow<'a, str>, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() > limits.max_bytes {
        return Err(DecodeError::TooLarge {
            limit: limits.max_bytes,
        });
    }
    if bytes.starts_with(b"bplist") {
        return Err(DecodeError::Binary);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotXml)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_ascii_start();
    if !text.starts_with('<') {
        return Err(DecodeError::NotXml);
    }

    let mut scan = Scan {
        limits,
        stack: Vec::new(),
        leaf: None,
        text: String::new(),
        in_plist: false,
        plist_seen: false,
        root_seen: false,
        elements: 0,
        cdata: Vec::new(),
    };
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    // The same reading of the document that the parser will make.
    config.trim_text(false);
    config.check_end_names = true;
    config.expand_empty_elements = true;
    loop {
        let start = reader.buffer_position();
        let event = reader.read_event().map_err(|_| DecodeError::Malformed {
            reason: "not well-formed XML",
            offset: reader.error_position(),
        })?;
        match event {
            Event::Start(tag) => scan.open(tag.name().as_ref(), start)?,
            Event::End(tag) => scan.close(tag.name().as_ref(), start)?,
            // Elements are expanded; the parser would skip this one.
            Event::Empty(_) => return Err(malformed("an element that cannot be read", start)),
            Event::Text(content) => scan.content(&content, start)?,
            Event::CData(content) => {
                scan.cdata_section(&content, start)?;
                scan.cdata.push(to_index(start)..to_index(reader.buffer_position()));
            }
            Event::GeneralRef(reference) => scan.reference(&reference, start)?,
            Event::DocType(declaration) => {
                if scan.plist_seen || scan.root_seen {
                    return Err(malformed("a document type after the first element", start));
                }
                if declaration.contains(['[', ']']) {
                    return Err(DecodeError::InternalDtd { offset: start });
                }
            }
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    if !scan.root_seen || scan.in_plist || scan.leaf.is_some() || !scan.stack.is_empty() {
        return Err(malformed(
            "it ends before the last element is closed",
            reader.buffer_position(),
        ));
    }
    Ok(without_cdata(text, &scan.cdata))
}

impl Scan<'_> {
    fn open(&mut self, name: &str, offset: u64) -> Result<(), DecodeError> {
        if self.leaf.is_some() {
            return Err(malformed("an element inside a simple value", offset));
        }
        if name == "plist" {
            if self.plist_seen || self.root_seen {
                return Err(malformed("a second plist element", offset));
            }
            self.plist_seen = true;
            self.in_plist = true;
            return Ok(());
        }
        self.elements += 1;
        if self.elements > self.limits.max_elements {
            return Err(DecodeError::TooManyElements {
                limit: self.limits.max_elements,
            });
        }
        let leaf = Leaf::of(name);
        self.place(leaf == Some(Leaf::Key), offset)?;
        match (name, leaf) {
            ("array", _) => self.push(Container::Array),
            ("dict", _) => self.push(Container::Dictionary {
                keys: HashSet::new(),
                awaits_value: false,
            }),
            (_, Some(leaf)) => {
                self.leaf = Some(leaf);
                self.text.clear();
                Ok(())
            }
            (_, None) => Err(malformed("an element that property lists do not have", offset)),
        }
    }

    /// Checks that a key or value may stand here.
    fn place(&mut self, is_key: bool, offset: u64) -> Result<(), DecodeError> {
        match self.stack.last_mut() {
            None if is_key => Err(malformed("a key outside a dictionary", offset)),
            None if self.root_seen || (self.plist_seen && !self.in_plist) => {
                Err(malformed("a second root value", offset))
            }
            None => {
                self.root_seen = true;
                Ok(())
            }
            Some(Container::Array) if is_key => Err(malformed("a key outside a dictionary", offset)),
            Some(Container::Array) => Ok(()),
            Some(Container::Dictionary { awaits_value, .. }) => {
                if *awaits_value == is_key {
                    let reason = if is_key {
                        "a key without a value"
                    } else {
                        "a value without a key"
                    };
                    return Err(malformed(reason, offset));
                }
                *awaits_value = is_key;
                Ok(())
            }
        }
    }

    fn push(&mut self, container: Container) -> Result<(), DecodeError> {
        if self.stack.len() >= self.limits.max_depth {
            return Err(DecodeError::TooDeep {
                limit: self.limits.max_depth,
            });
        }
        self.stack.push(container);
        Ok(())
    }

    /// End names match their start names: the reader checks that.
    fn close(&mut self, name: &str, offset: u64) -> Result<(), DecodeError> {
        if let Some(leaf) = self.leaf.take() {
            return self.close_leaf(leaf, offset);
        }
        if name == "plist" {
            self.in_plist = false;
            return Ok(());
        }
        match self.stack.pop() {
            Some(Container::Dictionary { awaits_value: true, .. }) => Err(malformed("a key without a value", offset)),
            _ => Ok(()),
        }
    }

    fn close_leaf(&mut self, leaf: Leaf, offset: u64) -> Result<(), DecodeError> {
        match leaf {
            Leaf::Key => {
                let key = std::mem::take(&mut self.text);
                // XML has none, and an unknown name is passed over: a damaged one must not look like one left out.
                if key.contains(|c| matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f')) {
                    return Err(malformed("a key with a control character", offset));
                }
                let is_new = match self.stack.last_mut() {
                    Some(Container::Dictionary { keys, .. }) => keys.insert(key),
                    Some(Container::Array) | None => true,
                };
                if is_new {
                    Ok(())
                } else {
                    Err(DecodeError::DuplicateKey { offset })
                }
            }
            // Dates are in UTC. The date library panics when an offset moves one out of its range of years.
            Leaf::Date if !self.text.ends_with(['Z', 'z']) => Err(malformed(
                "a date that is not in UTC, such as 2026-01-31T12:00:00Z",
                offset,
            )),
            Leaf::Date | Leaf::String | Leaf::Plain | Leaf::Flag => Ok(()),
        }
    }

    fn content(&mut self, text: &str, offset: u64) -> Result<(), DecodeError> {
        match self.leaf {
            Some(Leaf::Key | Leaf::Date) => self.text.push_str(text),
            Some(Leaf::String | Leaf::Plain) => {}
            Some(Leaf::Flag) | None if text.chars().all(char::is_whitespace) => {}
            Some(Leaf::Flag) | None => return Err(malformed("text between elements", offset)),
        }
        Ok(())
    }

    fn cdata_section(&mut self, text: &str, offset: u64) -> Result<(), DecodeError> {
        match self.leaf {
            Some(Leaf::Key) => self.text.push_str(text),
            Some(Leaf::String) => {}
            Some(Leaf::Date | Leaf::Plain | Leaf::Flag) | None => {
                return Err(malformed("a CDATA section outside a string", offset));
            }
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>, offset: u64) -> Result<(), DecodeError> {
        let character = reference
            .resolve_char_ref()
            .map_err(|_| DecodeError::Entity { offset })?;
        let mut buffer = [0; 4];
        let text = match character {
            Some(character) => &*character.encode_utf8(&mut buffer),
            None => resolve_xml_entity(reference.as_ref()).ok_or(DecodeError::Entity { offset })?,
        };
        match self.leaf {
            Some(Leaf::Key) => self.text.push_str(text),
            Some(Leaf::String) => {}
            Some(Leaf::Date | Leaf::Plain | Leaf::Flag) | None => {
                return Err(malformed("a character reference outside a string", offset));
            }
        }
        Ok(())
    }
}

fn without_cdata<'a>(text: &'a str, sections: &[Range<usize>]) -> Cow<'a, str> {
    const OPEN: &str = "<![CDATA[";
    const CLOSE: &str = "]]>";
    if sections.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut rewritten = String::with_capacity(text.len());
    let mut rest = 0;
    for section in sections {
        let content = &text[section.clone()];
        let content = content.strip_prefix(OPEN).unwrap_or(content);
        rewritten.push_str(&text[rest..section.start]);
        write::escape_into(&mut rewritten, content.strip_suffix(CLOSE).unwrap_or(content));
        rest = section.end;
    }
    rewritten.push_str(&text[rest..]);
    Cow::Owned(rewritten)
}

fn malformed(reason: &'static str, offset: u64) -> DecodeError {
    DecodeError::Malformed { reason, offset }
}

/// Positions come from an in-memory document, so they are indexes.
fn to_index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
