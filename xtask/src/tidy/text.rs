//! Rules about the text of a file, whatever it says.

use super::Complaint;

const MAX_LINES: usize = 500;

/// Where errors have types; text is made at the edge.
const TYPED: [&str; 8] = [
    "shaper-policy/src/",
    "shaper-common/src/",
    "shaper/src/containers/",
    "shaper/src/daemon",
    "shaper/src/datapath/",
    "shaper/src/files/",
    "shaper/src/network/",
    "shaper/src/shaping/",
];

/// Words that no doc comment opens with.
const OPENINGS: [&str; 7] = ["What", "Whether", "How", "Which", "Those", "Its", "As"];

// Split, or this file would break the rules that it states.
const MARKERS: [&str; 8] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("to", "do!"),
    concat!("un", "implemented!"),
    concat!("db", "g!"),
    concat!("#[ig", "nore"),
];
const PRIVATE_DIRECTORIES: [&str; 2] = [concat!("/ho", "me/"), concat!("/ro", "ot/")];

pub(super) fn check(path: &str, text: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if line.trim_end() != line || line.ends_with('\r') {
            complaints.push(Complaint::new(number, "ends in white space"));
        }
        if let Some(marker) = MARKERS.into_iter().find(|marker| contains_word(line, marker)) {
            let message = format!("`{marker}`: what is committed is finished; do it, or open an issue");
            complaints.push(Complaint::new(number, message));
        }
        if let Some(directory) = PRIVATE_DIRECTORIES.into_iter().find(|it| starts_a_path(line, it)) {
            let message =
                format!("`{directory}`: a path of one machine; say where it is relative to something");
            complaints.push(Complaint::new(number, message));
        }
    }
    if path.ends_with(".rs") {
        complaints.extend(check_openings(text));
        if TYPED.iter().any(|place| path.starts_with(place)) && !path.ends_with("tests.rs") {
            complaints.extend(check_errors(text));
        }
    }
    let count = text.lines().count();
    if !text.is_empty() && !text.ends_with('\n') {
        complaints.push(Complaint::new(count, "the file does not end in a newline"));
    }
    if path.ends_with(".rs") && count > MAX_LINES {
        let message = format!("{count} lines, of {MAX_LINES} allowed: split the file by subject");
        complaints.push(Complaint::new(count, message));
    }
    complaints
}

/// Finds doc comments that open with a word that asks or points, where a noun phrase or a verb would say what is there.
fn check_openings(text: &str) -> Vec<Complaint> {
    let docs = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::to_owned)
    };
    let before = std::iter::once("").chain(text.lines());
    let mut complaints = Vec::new();
    for ((before, line), number) in before.zip(text.lines()).zip(1..) {
        let Some(doc) = docs(line).filter(|_| docs(before).is_none()) else { continue };
        let first = doc.split_whitespace().next().unwrap_or_default();
        if OPENINGS.contains(&first) {
            let message =
                format!("a doc comment opens with `{first}`: write a noun phrase, or a verb as `Returns`");
            complaints.push(Complaint::new(number, message));
        }
    }
    complaints
}

/// Finds functions whose errors are texts: who calls them could only branch by matching English.
fn check_errors(text: &str) -> Vec<Complaint> {
    let code = text.lines().zip(1..).take_while(|(line, _)| *line != "mod tests {");
    let is_text = |line: &str| line.match_indices("Result<").any(|(at, _)| has_text_for_error(&line[at..]));
    let message = "an error is a `String`: give it a type, and make the text where it is shown";
    code.filter(|(line, _)| is_text(line)).map(|(_, number)| Complaint::new(number, message)).collect()
}

/// Tells whether the second argument of the type that a text begins with is `String`.
fn has_text_for_error(text: &str) -> bool {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' if depth == 1 => return text[..at].ends_with(", String"),
            '>' | ')' | ']' => depth -= 1,
            _ => {}
        }
    }
    false
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns true if a line has a word that is not part of a longer one.
pub(super) fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open = |neighbour: Option<char>| neighbour.is_none_or(|c| !is_word(c));
        (!word.starts_with(is_word) || open(before)) && (!word.ends_with(is_word) || open(after))
    })
}

/// Returns true if a line has an absolute path that starts with a directory, rather than a longer path that contains
/// it.
fn starts_a_path(line: &str, directory: &str) -> bool {
    let before = |at: usize| line[..at].chars().next_back();
    line.match_indices(directory)
        .any(|(at, _)| before(at).is_none_or(|c| !is_word(c) && !['.', '-', '}', ')', '*', '~'].contains(&c)))
}

#[cfg(test)]
mod tests {
    use super::super::{check, rendered};

    #[test]
    fn inputs_of_fuzzing_may_be_anything() {
        assert_eq!(rendered(&check("shaper/fuzz/netem/01", "delay 1ms \r\n\n")), "");
    }

    #[test]
    fn markers_and_ignored_tests_are_refused() {
        let input =
            "fn a() {} // TO_DO: b\n// mentions HACK_ING, a TODOist\nFIX_ME()\n#[ig_nore = \"slow\"]\n";
        let input = input
            .replace("TO_DO", "TO\u{44}O")
            .replace("FIX_ME", "FI\u{58}ME")
            .replace("ig_nore", "ig\u{6e}ore");
        let found = rendered(&check("tests/a.rs", &input));
        let lines: Vec<_> = found.lines().map(|line| line.split(':').next()).collect();
        assert_eq!(lines, [Some("1"), Some("3"), Some("4")], "{found}");
    }

    #[test]
    fn errors_that_are_texts_are_refused_below_the_edge() {
        let text = "fn a() -> Result<Vec<(u8, String)>, String> {\nfn b() -> Result<(), (Place, String)> {\n\
                    fn c() -> io::Result<Vec<String>> {\nfn d() -> Result<BTreeMap<String, String>, Error> {\n\
                    mod tests {\nfn e() -> Result<(), String> {}\n";
        let found = |path| check(path, text).into_iter().map(|complaint| complaint.line).collect::<Vec<_>>();
        assert_eq!(found("shaper-policy/src/a.rs"), [1]);
        assert_eq!(found("shaper/src/cli/a.rs"), [0; 0]);
    }

    #[test]
    fn doc_comments_that_ask_or_point_are_refused() {
        let text = "//! How it is.\n\n/// What it is.\nfn a() {}\n/// Returns it.\n/// What else?\nfn b() {}\n    /// Its c.\n    c: u8,\n// How\n";
        let found = check("tests/a.rs", text);
        assert_eq!(found.iter().map(|complaint| complaint.line).collect::<Vec<_>>(), [1, 3, 8]);
    }

    #[test]
    fn white_space_at_the_end_is_refused() {
        let expected =
            "1: ends in white space\n3: ends in white space\n3: the file does not end in a newline\n";
        assert_eq!(rendered(&check("README.md", "a \n\nb\t")), expected);
        assert!(check("README.md", "").is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_refused() {
        let of = |name: &str| format!("/{name}/");
        let input = format!("see {}me/x\nexample.org{}page\n${{x}}{}y\n", of("home"), of("home"), of("root"));
        let found = check("README.md", &input);
        assert_eq!(found.iter().map(|complaint| complaint.line).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn long_rust_files_are_refused() {
        assert!(check("a.rs", &"\n".repeat(500)).is_empty());
        let expected = "501: 501 lines, of 500 allowed: split the file by subject\n";
        assert_eq!(rendered(&check("a.rs", &"\n".repeat(501))), expected);
        assert!(check("Cargo.lock", &"\n".repeat(501)).is_empty());
    }
}
