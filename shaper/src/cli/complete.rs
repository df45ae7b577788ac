//! Completes names in a shell by asking the daemon: `source <(COMPLETE=bash shaper)`.
//!
//! A name that cannot be asked for is not completed: a shell has no room for errors, and does not wait.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use clap_complete::engine::CompletionCandidate;
use tokio::time;

use super::{Client, DEFAULT_SOCKET, SOCKET_VARIABLE, client::ClientError};
use crate::shaping::{Presets, Selector};

/// The longest that a person waits for a completion.
const PATIENCE: Duration = Duration::from_millis(500);

/// The flag of the daemon's socket.
const SOCKET_FLAG: &str = "--plugin-socket";

/// Completes the last name of a selector.
pub(super) fn selectors(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let begin = current.rfind([',', '+', '!']).map_or(0, |at| at + 1);
    let (before, name) = current.split_at(begin);
    let containers = asked(async |client| client.list().await).unwrap_or_default();
    let candidate = |name: &str, help: String| candidate(format!("{before}{name}"), help);
    let fitting = containers.iter().filter(|view| view.container.name.starts_with(name));
    fitting
        .filter(|view| is_plain(&view.container.name))
        .map(|view| {
            let container = &view.container;
            candidate(&container.name, format!("{}, {}", container.runtime, container.state))
        })
        .collect()
}

/// Completes the name of a network: those of the daemon, else those that are shipped.
pub(super) fn presets() -> Vec<CompletionCandidate> {
    if let Some(presets) = asked(async |client| client.presets().await) {
        let plain = presets.into_iter().filter(|(name, _)| is_plain(name));
        return plain.map(|(name, preset)| candidate(name, preset.title)).collect();
    }
    shipped_presets()
}

/// Completes the name of a shipped network.
pub(super) fn shipped_presets() -> Vec<CompletionCandidate> {
    let Ok(shipped) = Presets::shipped(|_| Ok(())) else { return Vec::new() };
    shipped.iter().map(|(name, preset)| candidate(name.to_owned(), preset.title.clone())).collect()
}

/// Completes the name of a rule.
pub(super) fn rules() -> Vec<CompletionCandidate> {
    let view = asked(async |client| client.rules().await);
    let rules = view.map(|view| view.rules).unwrap_or_default();
    rules.into_iter().map(|view| candidate(view.rule.name, view.state.to_string())).collect()
}

/// A candidate with a help of one line, without what a shell or a terminal takes for commands.
fn candidate(value: String, help: String) -> CompletionCandidate {
    let help = help.chars().filter(|c| !c.is_control()).collect::<String>();
    CompletionCandidate::new(value).help(Some(help.into()))
}

/// Tells whether a name can be typed in a shell and in a selector as it is.
fn is_plain(name: &str) -> bool {
    Selector::escaped(name) == name
}

/// The daemon's answer to a question, unless it takes long.
fn asked<T>(question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let client = Client::new(socket(env::args_os(), env::var_os(SOCKET_VARIABLE)));
    runtime.block_on(async { time::timeout(PATIENCE, question(&client)).await }).ok()?.ok()
}

/// The socket that the command line names, else the environment, else the usual one.
fn socket(arguments: impl Iterator<Item = OsString>, variable: Option<OsString>) -> PathBuf {
    let arguments: Vec<_> = arguments.collect();
    let value = |pair: &[OsString]| {
        let joined = pair[0].to_str().and_then(|word| word.strip_prefix(SOCKET_FLAG)?.strip_prefix('='));
        joined.map(OsString::from).or_else(|| (pair[0] == SOCKET_FLAG).then(|| pair.get(1).cloned())?)
    };
    let named = (0..arguments.len()).find_map(|at| value(&arguments[at..]));
    named.or(variable).map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_one_that_the_command_would_ask() {
        let socket = |line: &str, variable: Option<&str>| {
            socket(line.split(' ').map(OsString::from), variable.map(OsString::from)).display().to_string()
        };
        assert_eq!(socket("shaper clear w", None), DEFAULT_SOCKET);
        assert_eq!(socket("shaper clear w", Some("/a")), "/a");
        assert_eq!(socket("shaper --plugin-socket /b clear w", Some("/a")), "/b");
        assert_eq!(socket("shaper clear --plugin-socket=/c w", Some("/a")), "/c");
        assert_eq!(socket("shaper clear --plugin-socket", None), DEFAULT_SOCKET);
    }

    #[test]
    fn shipped_networks_need_no_daemon() {
        let all = shipped_presets();
        assert!(all.iter().any(|one| one.get_value() == "lte"), "{all:?}");
    }

    #[test]
    fn names_that_a_shell_would_change_are_left_out() {
        assert!(is_plain("shop-web_1.a"));
        for name in ["a b", "$(reboot)", "a;b", "a:b", "\u{1b}[31m", "all"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
