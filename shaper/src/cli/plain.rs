//! Text for terminals, without characters that a terminal takes for commands.

use std::io::{self, Write};

/// A writer that shows control characters, and those that change the direction of text, as `\u001b`.
///
/// Names of containers and devices, and what other programs answer, may contain them. Line ends and tabs stay. JSON stays
/// the same JSON, as it has the same escapes.
#[derive(Debug)]
pub(super) struct Plain<W>(pub(super) W);

impl<W: Write> Write for Plain<W> {
    /// Takes whole characters, as `write!` writes them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        if text.contains(is_command) {
            self.0.write_all(escaped(&text).as_bytes())?;
        } else {
            self.0.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Escapes what [`Plain`] does.
pub(super) fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_command(c) {
            plain.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Returns true for control characters (C0, DEL, C1), for marks and overrides of the bidirectional algorithm (Unicode
/// Standard Annex 9, section 2), and for what ends a line or is not seen.
fn is_command(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Plain(Vec::new());
        write!(out, "{text}").expect("there is room");
        String::from_utf8(out.0).expect("text")
    }

    #[test]
    fn no_command_of_a_terminal_is_written() {
        for (text, shown) in [
            ("web\tdb\n", "web\tdb\n"),
            ("\u{1b}[31mred", "\\u001b[31mred"),
            ("a\rb\u{7f}\u{9b}c", "a\\u000db\\u007f\\u009bc"),
            ("\u{202e}live\u{2069}\u{200f}\u{61c}", "\\u202elive\\u2069\\u200f\\u061c"),
            ("größe 東京", "größe 東京"),
        ] {
            assert_eq!(written(text), shown);
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let name = "\u{1b}[31m\u{202e}evil\u{9b}\n";
        let json = serde_json::to_string(name).expect("JSON");
        let plain = written(&json);
        assert!(!plain.contains(is_command));
        assert_eq!(serde_json::from_str::<String>(&plain).expect("JSON"), name);
    }
}
