//! The rules of this repository that a machine can check. Each complaint gives the rule's reason.

mod circles;
mod layers;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A broken rule.
#[derive(Debug, PartialEq)]
struct Complaint {
    line: usize,
    message: String,
}

impl Complaint {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// `cargo xtask tidy`.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut count = 0;
    let mut sources = Vec::new();
    for file in files(&workspace.root)? {
        let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        // What is not text has no lines to complain about.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let path = file.strip_prefix(&workspace.root).unwrap_or(&file);
        let path = path.to_str().with_context(|| format!("read the name of {} as UTF-8", path.display()))?;
        for Complaint { line, message } in check(path, &text) {
            eprintln!("{path}:{line}: {message}");
            count += 1;
        }
        sources.push((path.to_owned(), text));
    }
    for (directory, modules) in circles::find(&sources) {
        eprintln!("{directory}: {} know one another in a circle", modules.join(" -> "));
        count += 1;
    }
    if count > 0 {
        bail!("the rules of this repository are broken in {count} places");
    }
    Ok(())
}

/// Everything wrong with a file, by line. The path is relative to the root of the repository.
fn check(path: &str, text: &str) -> Vec<Complaint> {
    // What programs are fuzzed with is as it is for a reason.
    if path.starts_with("shaper/fuzz/") {
        return Vec::new();
    }
    let mut complaints = text::check(path, text);
    if path.ends_with(".rs") {
        complaints.extend(layers::check(path, text));
    }
    complaints.sort_by_key(|complaint| complaint.line);
    complaints
}

/// All files below a directory but those of git and of builds, sorted.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", directory.display()))?;
            let kind = entry.file_type().with_context(|| format!("look at {}", entry.path().display()))?;
            let path = entry.path();
            // In a worktree `.git` is a file. Cargo marks what it builds as a cache.
            let is_foreign = entry.file_name() == ".git"
                || entry.file_name() == "target"
                || path.join("CACHEDIR.TAG").exists();
            if is_foreign {
                continue;
            }
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The message about a broken rule of `check`, as `line: message` lines, for tests.
#[cfg(test)]
fn rendered(complaints: &[Complaint]) -> String {
    complaints.iter().map(|Complaint { line, message }| format!("{line}: {message}\n")).collect()
}
