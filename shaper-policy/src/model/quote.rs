//! Text of others in errors and tables: cut, and without control characters.

/// The most characters of a text that an error quotes.
const QUOTED: usize = 32;

/// The text for an error: in quotes, without control characters, cut to [`QUOTED`] characters.
pub fn quoted(text: &str) -> String {
    let (cut, more) = cut(text);
    format!("{cut:?}{more}")
}

/// A number with its unit for an error, cut to [`QUOTED`] characters.
pub fn short(text: &str) -> String {
    let (cut, more) = cut(text);
    format!("{cut}{more}")
}

fn cut(text: &str) -> (&str, &str) {
    text.char_indices().nth(QUOTED).map_or((text, ""), |(end, _)| (&text[..end], "..."))
}
