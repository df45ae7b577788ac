//! Runs other programs.

use std::borrow::Cow;
use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The cargo that runs this program, or the one in PATH.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `rustup run TOOLCHAIN PROGRAM`, without what the outer cargo and rustup set for their own toolchain.
pub(crate) fn rustup_run(toolchain: &str, program: &str) -> Command {
    let mut command = rustup();
    command.args(["run", toolchain, program]);
    command
}

/// `rustup`, without what the outer cargo and rustup set for their own toolchain.
pub(crate) fn rustup() -> Command {
    let mut command = Command::new("rustup");
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
    {
        command.env_remove(name);
    }
    command
}

/// The path of a program: from PATH, or from where root's programs and cargo's are.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let others = [Some("/usr/sbin".into()), Some("/sbin".into()), cargo_bin()];
    let all = env::join_paths(env::split_paths(&path).chain(others.into_iter().flatten())).ok()?;
    which::which_in_global(name, Some(all)).ok()?.next()
}

/// Where `cargo install` puts programs.
fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")))?;
    Some(home.join("bin"))
}

/// Runs a command whose output the user sees; a failure is an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start `{}`", shell_line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shell_line(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; a failure is an error with its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("start `{}`", shell_line(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shell_line(command), output.status, complaint.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns true if a command could be started and succeeded. Shows nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// Runs a command with its output in the file `log`; a failure is an error with the end of that file.
pub(crate) fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let line = shell_line(command);
    let opened = File::options().create(true).append(true).open(log).and_then(|mut file| {
        let start = file.metadata()?.len();
        writeln!(file, "$ {line}").map(|()| (file, start))
    });
    let (file, start) = opened.with_context(|| format!("write to {}", log.display()))?;
    let same = file.try_clone().context("duplicate a file descriptor")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(same)
        .status()
        .with_context(|| format!("start `{line}`"))?;
    if !status.success() {
        let tail = last_lines(log, start, 20);
        bail!("`{line}` failed ({status}); the end of {}:\n{tail}", log.display());
    }
    Ok(())
}

/// The last `count` lines of a file, of those after so many bytes, indented; what is wrong with the file if it cannot be read.
pub(crate) fn last_lines(file: &Path, after: u64, count: usize) -> String {
    let text = match fs::read(file) {
        Ok(bytes) => {
            String::from_utf8_lossy(bytes.get(after as usize..).unwrap_or_default()).replace('\r', "")
        }
        Err(error) => format!("({}: {error})", file.display()),
    };
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = &lines[lines.len().saturating_sub(count)..];
    tail.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// A command as a person would type it, with the variables that it sets.
pub(crate) fn shell_line(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy().into_owned();
        Some(format!("{}={}", name.to_string_lossy(), shell_quote(&value)))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| shell_quote(&word.to_string_lossy()));
    set.chain(words).collect::<Vec<_>>().join(" ")
}

/// `word` as a POSIX shell reads it back unchanged.
pub(crate) fn shell_quote(word: &str) -> String {
    // It fails for NUL alone, which no argument has.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_survives_a_shell() {
        for word in ["plain", "", "two words", "it's", "$HOME `id` \\ \"", "line\nbreak", "a=b"] {
            let script = format!("printf %s {}", shell_quote(word));
            let printed = output(Command::new("sh").args(["-c", &script])).expect("sh runs everywhere");
            assert_eq!(printed, word);
        }
    }

    #[test]
    fn a_shell_line_shows_the_variables_that_are_set() {
        let mut command = Command::new("cargo");
        command.args(["install", "bpf linker"]).env("LLVM_PREFIX", "/usr/lib/llvm-22").env_remove("RUSTC");
        assert_eq!(shell_line(&command), "LLVM_PREFIX=/usr/lib/llvm-22 cargo install 'bpf linker'");
    }
}
