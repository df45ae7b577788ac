//! Reads selectors: `!` binds more than `+`, and `+` more than `,`.

use regex::RegexBuilder;

use super::{
    MAX_LENGTH, MAX_PARTS, Part, Selector,
    error::{SelectorError, SelectorProblem},
    pattern::{Pattern, set_length},
    term::{KINDS, Kind, Term, Value},
};

/// The most memory that a regular expression may take, in bytes.
const REGEX_SIZE: usize = 256 << 10;

pub(super) fn selector(texts: Vec<String>) -> Result<Selector, SelectorError> {
    let mut any = Vec::new();
    let mut count = 0;
    for text in &texts {
        if text.len() > MAX_LENGTH {
            return Err(SelectorError::of(text, SelectorProblem::TooLong(MAX_LENGTH)));
        }
        let mut left = Some(0);
        let mut all = Vec::new();
        while let Some(at) = left {
            count += 1;
            if count > MAX_PARTS {
                return Err(SelectorError::of(text, SelectorProblem::TooMany(MAX_PARTS)));
            }
            let (part, end) = part(text, at)?;
            all.push(part);
            let next = text[end..].chars().next();
            if next != Some('+') {
                any.push(std::mem::take(&mut all));
            }
            left = next.map(|_| end + 1);
        }
    }
    match any.is_empty() {
        true => Err(SelectorError::of("", SelectorProblem::Nothing)),
        false => Ok(Selector { texts, any }),
    }
}

/// Reads the part of `text` that begins at the byte `at`, and says where it ends.
fn part(text: &str, at: usize) -> Result<(Part, usize), SelectorError> {
    let begin = text.len() - text[at..].trim_start_matches('!').len();
    let except = (begin - at) % 2 == 1;
    let rest = &text[begin..];
    let error = |problem| SelectorError::at(text, begin, problem);
    let kind = find(rest, &[',', '+', ':']).filter(|end| rest[*end..].starts_with(':'));
    let Some(colon) = kind else {
        let length = word_length(rest);
        let term = match &rest[..length] {
            "" => return Err(error(SelectorProblem::Nothing)),
            "all" => Term::All,
            word => {
                let pattern = Pattern::parse(word);
                pattern.literal().map_or(Term::Like(pattern), Term::Name)
            }
        };
        return Ok((Part { except, term }, begin + length));
    };
    let kind = find_kind(&rest[..colon]).map_err(error)?;
    let value = &rest[colon + 1..];
    // A regular expression takes the rest of its argument, as it may have any character.
    let length = if matches!(kind.value, Value::Regex) { value.len() } else { word_length(value) };
    let term = read_value(kind, &value[..length]).map_err(error)?;
    Ok((Part { except, term }, begin + colon + 1 + length))
}

/// The length of the word that a text begins with: up to a `,` or a `+` that is neither in brackets nor after `\`.
fn word_length(text: &str) -> usize {
    find(text, &[',', '+']).unwrap_or(text.len())
}

/// The first one of some characters that is neither in brackets nor after `\`.
fn find(text: &str, wanted: &[char]) -> Option<usize> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if wanted.contains(&c) {
            return Some(at);
        }
        at += match c {
            '\\' => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            '[' => set_length(&text[at..]).unwrap_or(1),
            c => c.len_utf8(),
        };
    }
    None
}

fn find_kind(word: &str) -> Result<&'static Kind, SelectorProblem> {
    KINDS
        .iter()
        .find(|kind| kind.name == word)
        .ok_or_else(|| SelectorProblem::UnknownKind { kind: word.to_owned(), near: near(word) })
}

fn read_value(kind: &Kind, value: &str) -> Result<Term, SelectorProblem> {
    let (key, pattern) = match find(value, &['=']) {
        Some(equals) => (unescaped(&value[..equals]), Some(Pattern::parse(&value[equals + 1..]))),
        None => (unescaped(value), None),
    };
    match kind.value {
        _ if value.is_empty() => Err(SelectorProblem::NoValue(kind.example)),
        Value::Label if key.is_empty() => Err(SelectorProblem::NoValue(kind.example)),
        Value::Label => Ok(Term::Label(key, pattern)),
        Value::Pattern(fits) => Ok(Term::Of(fits, Pattern::parse(value))),
        Value::Regex => regex(value),
    }
}

/// The text of a key, in which nothing but `\` has a meaning.
fn unescaped(key: &str) -> String {
    let mut chars = key.chars();
    let mut text = String::new();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    text
}

fn regex(text: &str) -> Result<Term, SelectorProblem> {
    let built = RegexBuilder::new(text).size_limit(REGEX_SIZE).nest_limit(50).build();
    built.map(Term::Regex).map_err(|error| {
        // The reader draws a picture above what it says.
        let said = error.to_string();
        let reason = said.lines().last().unwrap_or_default();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason).to_owned();
        SelectorProblem::Regex { text: text.to_owned(), reason }
    })
}

/// The kind that a word resembles most, if it resembles any.
fn near(word: &str) -> Option<&'static str> {
    let distance = |kind: &'static str| (strsim::damerau_levenshtein(word, kind), kind);
    // Nothing that is longer resembles a kind, and comparing takes time.
    let kinds = KINDS.iter().filter(|_| word.len() < 16).map(|kind| distance(kind.name));
    let (distance, nearest) = kinds.min()?;
    (distance <= nearest.len().div_ceil(3)).then_some(nearest)
}
