//! Reads the documents of this repository, so that what they say can be tried.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The repository's directory.
///
/// # Panics
///
/// Never: this crate lies in it.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a directory of it").to_owned()
}

/// A file of the repository.
///
/// # Panics
///
/// When it cannot be read.
#[must_use]
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// The paths of all documents for users and maintainers, from the repository's directory.
///
/// # Panics
///
/// When the directory of documents cannot be read.
#[must_use]
pub fn all() -> Vec<String> {
    let topics = fs::read_dir(root().join("docs")).expect("a directory of documents").flatten();
    let topics = topics.filter_map(|entry| entry.file_name().into_string().ok());
    let topics = topics.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let first = ["README.md", "ARCHITECTURE.md", "BENCHMARKS.md", "CHANGELOG.md", "SECURITY.md"];
    first.map(str::to_owned).into_iter().chain(topics).collect()
}

/// The commands that a Markdown text tells its reader to type: the lines of its `sh` blocks, and those that begin with
/// `$ ` in its `console` blocks. Comments are left out, and lines that end in `\` joined with the next.
#[must_use]
pub fn commands(markdown: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut language = None;
    let mut goes_on = false;
    for line in markdown.lines() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            language = if language.is_none() { Some(fence) } else { None };
            continue;
        }
        let typed = match language {
            Some("sh") => line,
            Some("console") => match line.strip_prefix("$ ") {
                Some(typed) => typed,
                None if goes_on => line,
                None => continue,
            },
            _ => continue,
        };
        let typed = typed.split_once(" # ").map_or(typed, |(typed, _)| typed).trim();
        let part = typed.strip_suffix('\\').unwrap_or(typed).trim_end();
        match commands.last_mut().filter(|_| goes_on) {
            Some(command) => *command = format!("{command} {part}"),
            None if typed.is_empty() || typed.starts_with('#') => {}
            None => commands.push(part.to_owned()),
        }
        goes_on = typed.ends_with('\\');
    }
    commands
}

/// The words of a command as a shell makes them, up to a pipe, a redirection or a `&`. Knows single and double quotes,
/// and no expansions.
#[must_use]
pub fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '&' | ';') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The values of an option in a command's words, given as `--option value` or `--option=value`.
#[must_use]
pub fn option(words: &[String], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    for (index, word) in words.iter().enumerate() {
        match word.strip_prefix(name) {
            Some("") => values.extend(words.get(index + 1).cloned()),
            Some(rest) => values.extend(rest.strip_prefix('=').map(str::to_owned)),
            None => {}
        }
    }
    values
}

/// The words of the `docker run` with which the README starts the daemon.
///
/// # Panics
///
/// When there is not exactly one.
#[must_use]
pub fn docker_run() -> Vec<String> {
    let all = commands(&read("README.md"));
    let mut runs = all.iter().map(|command| words(command)).filter(|words| {
        words.starts_with(&["docker".to_owned(), "run".to_owned()]) && option(words, "--name") == ["shaper"]
    });
    let run = runs.next().expect("README.md starts the daemon with docker run");
    assert!(runs.next().is_none(), "README.md starts the daemon in two ways");
    run
}

/// The image that all documents and files mean.
#[must_use]
pub fn image() -> String {
    format!("shaper:{}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_what_a_reader_types() {
        let markdown = "a\n```sh\n# why\none --two \\\n    three # so\n\nfour\n```\n```text\nnot this\n```\n\
            ```console\n$ five \\\n  six\noutput\n```\n";
        assert_eq!(commands(markdown), ["one --two three", "four", "five six"]);
    }

    #[test]
    fn words_are_those_of_a_shell() {
        let line = r#"curl -d '{"a": "b"}' "x y" '' | jq . "#;
        assert_eq!(words(line), ["curl", "-d", r#"{"a": "b"}"#, "x y", ""]);
        let words = words("run --cap-add BPF --net=host --cap-add=X");
        assert_eq!(option(&words, "--cap-add"), ["BPF", "X"]);
        assert_eq!(option(&words, "--net"), ["host"]);
    }
}
