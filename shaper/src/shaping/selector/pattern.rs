//! Patterns of text: `shop-*`, `web-?`, `db[0-9]`.

/// A text, or a pattern that a whole text fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `*`: any characters, also none, and also slashes.
    Any,
    /// `?`: one character.
    One,
    /// `[a-c]`, or all others: `[!a-c]`.
    Set {
        except: bool,
        ranges: Vec<(char, char)>,
    },
    Literal(char),
}

impl Pattern {
    /// Reads a pattern. A character after `\` stands for itself, and so does a `[` that nothing closes.
    pub(super) fn parse(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            let set = if c == '[' { set(after) } else { None };
            let (token, left) = match (c, set) {
                (_, Some(set)) => set,
                ('*', _) => (Token::Any, after),
                ('?', _) => (Token::One, after),
                ('\\', _) => match after.chars().next() {
                    Some(c) => (Token::Literal(c), &after[c.len_utf8()..]),
                    None => (Token::Literal('\\'), after),
                },
                (c, _) => (Token::Literal(c), after),
            };
            rest = left;
            tokens.push(token);
        }
        Self(tokens)
    }

    /// The only text that fits; none if others may.
    pub(super) fn literal(&self) -> Option<String> {
        let literal = |token: &Token| match token {
            Token::Literal(c) => Some(*c),
            _ => None,
        };
        self.0.iter().map(literal).collect()
    }

    /// Tells whether a whole text fits. Takes time by the product of both lengths at most.
    pub(super) fn fits(&self, text: &str) -> bool {
        let tokens = &self.0;
        let chars: Vec<char> = text.chars().collect();
        let (mut token, mut char) = (0, 0);
        // The token after the last `*`, and where the text that fits it may begin.
        let mut again = None;
        while char < chars.len() {
            match tokens.get(token) {
                Some(Token::Any) => {
                    token += 1;
                    again = Some((token, char));
                }
                Some(one) if one.takes(chars[char]) => {
                    token += 1;
                    char += 1;
                }
                _ => {
                    let Some((after, from)) = again else { return false };
                    again = Some((after, from + 1));
                    (token, char) = (after, from + 1);
                }
            }
        }
        tokens[token..].iter().all(|token| *token == Token::Any)
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Set { except, ranges } => {
                ranges.iter().any(|(first, last)| (first..=last).contains(&&c)) != *except
            }
            Self::Literal(own) => *own == c,
        }
    }
}

/// The length of a set in brackets that a text begins with, up to its `]`; none if nothing closes it. The first character
/// may be a `]`.
pub(super) fn set_length(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let begin = inner.strip_prefix('!').unwrap_or(inner);
    let first = begin.chars().next()?.len_utf8();
    let close = begin[first..].find(']')?;
    Some(text.len() - begin.len() + first + close + 1)
}

/// Reads a set after its `[`; the rest of the text is what follows its `]`.
fn set(text: &str) -> Option<(Token, &str)> {
    let (except, begin) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let first = begin.chars().next()?.len_utf8();
    let close = first + begin[first..].find(']')?;
    let mut chars = begin[..close].chars().peekable();
    let mut ranges = Vec::new();
    while let Some(first) = chars.next() {
        let mut ahead = chars.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                chars = ahead;
                ranges.push((first, last));
            }
            _ => ranges.push((first, first)),
        }
    }
    Some((Token::Set { except, ranges }, &begin[close + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_fit_whole_texts() {
        for (pattern, fits, others) in [
            ("web", &["web"][..], &["web1", "aweb", ""][..]),
            ("shop-*", &["shop-", "shop-a/b"], &["shop", "a-shop-b"]),
            ("*", &["", "a\nb"], &[]),
            ("a*b*c", &["abc", "aXbXc", "abbcc"], &["abcd", "ac"]),
            ("web-?", &["web-1", "web-ß"], &["web-", "web-10"]),
            ("db[0-9]", &["db7"], &["dbx", "db77"]),
            ("db[!0-9x]", &["dby"], &["db7", "dbx", "db"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("a[b", &["a[b"], &["ab"]),
            (r"a\*\\", &[r"a*\"], &["abc"]),
            ("a\\", &["a\\"], &["a"]),
        ] {
            let pattern = Pattern::parse(pattern);
            assert!(fits.iter().all(|text| pattern.fits(text)), "{pattern:?}");
            assert!(!others.iter().any(|text| pattern.fits(text)), "{pattern:?}");
        }
    }

    #[test]
    fn a_set_is_as_long_as_it_is_read() {
        for text in ["[a]b", "[!a,b]", "[]]x", "[!]]", "[a", "[]", "[!]", "a"] {
            let read = text.strip_prefix('[').and_then(set).map(|(_, rest)| text.len() - rest.len());
            assert_eq!(set_length(text), read, "{text}");
        }
    }

    /// The meaning of a pattern of `*`, `?` and letters, by its definition.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..])),
            Some((c, rest)) => match text.split_first() {
                Some((first, left)) => (*c == '?' || c == first) && by_definition(rest, left),
                None => false,
            },
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_what_its_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let fits = by_definition(&chars(&pattern), &chars(&text));
            prop_assert_eq!(Pattern::parse(&pattern).fits(&text), fits);
        }

        #[test]
        fn an_escaped_text_fits_itself_alone(text in "\\PC{0,8}", other in "\\PC{0,8}") {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            let pattern = Pattern::parse(&escaped);
            prop_assert_eq!(pattern.literal(), Some(text.clone()));
            prop_assert!(pattern.fits(&text));
            prop_assert_eq!(pattern.fits(&other), text == other);
        }
    }
}
