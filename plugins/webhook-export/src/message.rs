//! A property list of texts.

/// The property list, in XML.
pub(crate) fn plist(entries: &[(&str, String)]) -> String {
    let mut out = String::from(concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n",
        "<plist version=\"1.0\">\n<dict>\n",
    ));
    for (key, value) in entries {
        for (tag, text) in [("key", *key), ("string", value)] {
            out.push_str(&format!("\t<{tag}>"));
            escape(&mut out, text);
            out.push_str(&format!("</{tag}>\n"));
        }
    }
    out.push_str("</dict>\n</plist>\n");
    out
}

/// Characters that XML does not allow are left out: devices are named by people.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
}
