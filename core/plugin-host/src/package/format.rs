//! Where signatures are in a file: the sections of the outermost component, walked by their lengths. Knows nothing of
//! keys.

use wasmparser::{BinaryReader, Parser, Payload};

/// The name of the custom section that holds a signature.
pub const SIGNATURE_SECTION: &str = "russet-signature";

/// The most signatures of one file.
pub const MAX_SIGNATURES: usize = 8;

/// The largest signature document in bytes; they have about 300.
const MAX_DOCUMENT: usize = 1024;

/// How a component starts: the magic number, version 13, layer 1.
const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

/// Why the signatures of a file can not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The file is no component.
    #[error("not a WebAssembly component; build it with `russet plugin build`")]
    NoComponent,
    /// A section is longer than the file.
    #[error("the file ends in the middle of a section; copy it again")]
    Truncated,
    /// Something comes after a signature.
    #[error(
        "something follows the signature; only further signatures may, so the file was changed after it was signed"
    )]
    NotLast,
    /// A signature section is inside of something else.
    #[error("there is a signature section inside of the component; signatures stand at the end of the file only")]
    Inside,
    /// There are too many signatures.
    #[error("more than {MAX_SIGNATURES} signatures")]
    TooMany,
    /// A signature section does not hold a signature as `russet plugin sign` writes it.
    #[error("signature {at} is not in the form that `russet plugin sign` writes: {reason}")]
    Malformed {
        /// Which one, counted from 1.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A file, cut at its first signature.
pub(super) struct Cut<'a> {
    /// Everything before the first signature section: what signatures cover.
    pub(super) content: &'a [u8],
    /// The documents in the signature sections.
    pub(super) documents: Vec<&'a [u8]>,
}

/// Cuts a file.
pub(super) fn cut(file: &[u8]) -> Result<Cut<'_>, FormatError> {
    if !file.starts_with(HEADER) {
        return Err(FormatError::NoComponent);
    }
    let mut reader = BinaryReader::new(&file[HEADER.len()..], 0);
    let mut content_end = file.len();
    let mut documents = Vec::new();
    while !reader.eof() {
        let start = at(&reader);
        let truncated = |_| FormatError::Truncated;
        let kind = reader.read_u8().map_err(truncated)?;
        let size = reader.read_var_u32().map_err(truncated)?;
        let body = reader.read_bytes(size as usize).map_err(truncated)?;
        let document = if kind == 0 { signature(body) } else { None };
        let Some(document) = document else {
            if documents.is_empty() {
                continue;
            }
            return Err(FormatError::NotLast);
        };
        if documents.is_empty() {
            content_end = start;
        }
        documents.push(document);
        if documents.len() > MAX_SIGNATURES {
            return Err(FormatError::TooMany);
        }
        // The form is the one that is written here, to the bit: nobody makes another file with the same meaning.
        if document.len() > MAX_DOCUMENT || encode(document) != file[start..at(&reader)] {
            return Err(FormatError::Malformed {
                at: documents.len(),
                reason: "its lengths are wrong",
            });
        }
    }
    let content = &file[..content_end];
    if has_inside(content) {
        return Err(FormatError::Inside);
    }
    Ok(Cut { content, documents })
}

/// A file without its signatures: what is compiled, so that signing it again compiles nothing. The whole of a file whose
/// signatures can not be read.
pub fn without_signatures(file: &[u8]) -> &[u8] {
    cut(file).map_or(file, |cut| cut.content)
}

/// Where a reader of the sections stands in the file.
fn at(reader: &BinaryReader<'_>) -> usize {
    HEADER.len() + reader.current_position()
}

/// The document in a custom section of the right name.
fn signature(section: &[u8]) -> Option<&[u8]> {
    let mut reader = BinaryReader::new(section, 0);
    let name = reader.read_string().ok()?;
    (name == SIGNATURE_SECTION).then(|| &section[reader.current_position()..])
}

/// Whether a module or component within has a section of the name: it would be no signature, and look like one.
fn has_inside(content: &[u8]) -> bool {
    // What can not be parsed is refused for that, later and with a better text.
    Parser::new(0)
        .parse_all(content)
        .map_while(Result::ok)
        .any(|payload| matches!(payload, Payload::CustomSection(section) if section.name() == SIGNATURE_SECTION))
}

/// A custom section that holds a document.
pub(super) fn encode(document: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(document.len() + SIGNATURE_SECTION.len() + 1);
    push_length(&mut body, SIGNATURE_SECTION.len());
    body.extend_from_slice(SIGNATURE_SECTION.as_bytes());
    body.extend_from_slice(document);
    let mut section = Vec::with_capacity(body.len() + 6);
    section.push(0);
    push_length(&mut section, body.len());
    section.extend_from_slice(&body);
    section
}

/// A length in LEB128, as WebAssembly's binary format has it.
fn push_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            return;
        }
    }
}
