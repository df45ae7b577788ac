//! Keeps rules: those in a directory of files, and those that were asked for, in a file of the daemon's own.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, ensure};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::{
    Memory,
    decision::{Exemption, Held},
};
use crate::{
    files,
    shaping::{
        Attempt, ContainerId, MAX_RULES, NetnsId, Refusal, Rule, RuleDocument, RuleName, Rules, ShapingError,
        read_rules,
    },
};

/// The version of the daemon's own file.
const VERSION: u32 = 1;

/// All rules, and where they are kept.
#[derive(Debug)]
pub(in crate::daemon) struct Book {
    directory: PathBuf,
    state: PathBuf,
    files: Mutex<BTreeMap<PathBuf, RuleFile>>,
    own: Mutex<Vec<Rule>>,
    /// Held while they are changed, and while they are written.
    changing: Mutex<()>,
}

/// A file with rules.
#[derive(Debug, Default)]
struct RuleFile {
    /// The inode, size and time, which tell whether it is another one.
    stamp: Option<(u64, u64, Option<SystemTime>)>,
    /// The rules of its last good contents.
    rules: Vec<Rule>,
    /// The reason why its present contents are not in force.
    problem: Option<String>,
}

/// The daemon's own file.
#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    rules: Vec<RuleDocument>,
    #[serde(default)]
    held: Vec<HeldDocument>,
}

/// The memory of a network namespace, as it is written.
#[derive(Serialize, Deserialize)]
struct HeldDocument {
    netns: NetnsId,
    /// The boot in which the namespace was: its number is used again after the next.
    boot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<RuleDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exempt_from: Option<ExemptionDocument>,
}

/// An exemption, as it is written.
#[derive(Serialize, Deserialize)]
struct ExemptionDocument {
    rule: String,
    container: ContainerId,
    path: PathBuf,
}

impl Book {
    /// The rules in the files of `directory` that end in `.toml`, and those in the file `state`, neither of which need
    /// exist.
    pub(in crate::daemon) fn new(directory: PathBuf, state: PathBuf) -> Self {
        Self { directory, state, files: Mutex::default(), own: Mutex::default(), changing: Mutex::default() }
    }

    /// All rules. Of those with one name, a file's counts, and of files the first by name.
    pub(in crate::daemon) fn rules(&self) -> Rules {
        let files = self.files.lock();
        let own = self.own.lock();
        Rules::of(files.values().flat_map(|file| &file.rules).chain(&*own).cloned())
    }

    /// The file that a rule is in; none if it was asked for.
    pub(in crate::daemon) fn file_of(&self, name: &RuleName) -> Option<PathBuf> {
        let files = self.files.lock();
        let has_it = |file: &RuleFile| file.rules.iter().any(|rule| rule.name == *name);
        files.iter().find(|(_, file)| has_it(file)).map(|(path, _)| path.clone())
    }

    /// The files whose present contents are not in force, with the reasons.
    pub(in crate::daemon) fn problems(&self) -> Vec<String> {
        self.files.lock().values().filter_map(|file| file.problem.clone()).collect()
    }

    /// Reads the daemon's own file, and says what it remembers. One that cannot be read is set aside.
    pub(in crate::daemon) fn load(&self) -> BTreeMap<NetnsId, Held> {
        match self.try_load() {
            Ok((rules, held)) => {
                *self.own.lock() = rules;
                held
            }
            Err(error) => {
                let aside = self.state.with_extension("broken");
                let moved = fs::rename(&self.state, &aside);
                tracing::error!(
                    state = %self.state.display(), error = format!("{error:#}"), aside = %aside.display(), is_aside = moved.is_ok(),
                    "the rules that were kept cannot be read: the file is set aside, and shaping stays as it is"
                );
                BTreeMap::new()
            }
        }
    }

    fn try_load(&self) -> anyhow::Result<(Vec<Rule>, BTreeMap<NetnsId, Held>)> {
        let text = match fs::read_to_string(&self.state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            text => text?,
        };
        let State { version, rules, held } = serde_json::from_str(&text)?;
        ensure!(version == VERSION, "it is of version {version}, and this daemon knows {VERSION}");
        let rules = rules.into_iter().map(|rule| Ok(rule.read()?)).collect::<anyhow::Result<_>>()?;
        let boot = boot()?;
        let remembered = held.into_iter().filter(|held| held.boot == boot);
        let held = remembered.filter_map(|HeldDocument { netns, rule, exempt_from, .. }| {
            let held = match (rule, exempt_from) {
                (Some(rule), _) => Held::Ruled(Box::new(rule.read().ok()?)),
                (None, exempt) => {
                    let ExemptionDocument { rule, container, path } = exempt?;
                    Held::Exempt(Exemption { rule: rule.parse().ok()?, container, path })
                }
            };
            Some((netns, held))
        });
        Ok((rules, held.collect()))
    }

    /// Writes the daemon's own file, with what is remembered.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn save(&self, memory: &Mutex<Memory>) -> anyhow::Result<()> {
        self.write(memory, &self.changing.lock())
    }

    fn write(&self, memory: &Mutex<Memory>, _changing: &MutexGuard<'_, ()>) -> anyhow::Result<()> {
        let boot = boot()?;
        let held = memory.lock().to_keep();
        let document = |(netns, held): (&NetnsId, &Held)| {
            let (rule, exempt_from) = match held {
                Held::Ruled(rule) => (Some(RuleDocument::from(&**rule)), None),
                Held::Exempt(Exemption { rule, container, path }) => {
                    let (rule, container, path) = (rule.to_string(), container.clone(), path.clone());
                    (None, Some(ExemptionDocument { rule, container, path }))
                }
            };
            HeldDocument { netns: *netns, boot: boot.clone(), rule, exempt_from }
        };
        let rules = self.own.lock().iter().map(RuleDocument::from).collect();
        let state = State { version: VERSION, rules, held: held.iter().map(document).collect() };
        let text = serde_json::to_vec_pretty(&state)?;
        files::replace(&self.state, &text).with_context(|| format!("write {}", self.state.display()))?;
        memory.lock().keep(held);
        Ok(())
    }

    /// Changes the rules that were asked for, and keeps them, with what is remembered.
    ///
    /// # Errors
    ///
    /// The errors of the change, and one when they cannot be kept; they are as they were then.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&Self) -> Result<(), ShapingError>,
        memory: &Mutex<Memory>,
    ) -> Result<(), ShapingError> {
        let changing = self.changing.lock();
        let before = self.own.lock().clone();
        let done = change(self).and_then(|()| {
            self.write(memory, &changing)
                .map_err(|error| Attempt::KeepRules.failed(format!("{error:#}")).into())
        });
        done.inspect_err(|_| *self.own.lock() = before)
    }

    /// Adds a rule, or takes it in the place of the one with its name.
    ///
    /// # Errors
    ///
    /// When a file has a rule of that name, or there are too many.
    pub(in crate::daemon) fn put(&self, rule: Rule) -> Result<(), ShapingError> {
        self.refuse_in_file(&rule.name)?;
        let mut own = self.own.lock();
        own.retain(|other| other.name != rule.name);
        if own.len() >= MAX_RULES {
            return Err(Refusal::TooManyRules { most: MAX_RULES }.into());
        }
        own.push(rule);
        Ok(())
    }

    /// Takes a rule away, and returns it.
    ///
    /// # Errors
    ///
    /// When there is none, or it is in a file.
    pub(in crate::daemon) fn take(&self, name: &RuleName) -> Result<Rule, ShapingError> {
        self.refuse_in_file(name)?;
        let mut own = self.own.lock();
        let place = own.iter().position(|rule| rule.name == *name);
        place.map(|place| own.remove(place)).ok_or_else(|| ShapingError::NoRule { name: name.to_string() })
    }

    fn refuse_in_file(&self, name: &RuleName) -> Result<(), ShapingError> {
        match self.file_of(name) {
            Some(file) => Err(Refusal::RuleOfFile { name: name.to_string(), file }.into()),
            None => Ok(()),
        }
    }

    /// Reads what has changed in the directory; says whether anything has.
    pub(in crate::daemon) fn look(&self) -> bool {
        let present = match rule_files(&self.directory) {
            Ok(present) => present,
            Err(error) => {
                tracing::warn!(directory = %self.directory.display(), %error, "rules cannot be looked for");
                return false;
            }
        };
        let mut files = self.files.lock();
        let count = files.len();
        files.retain(|path, _| present.contains(path));
        let mut has_changed = files.len() != count;
        for path in present {
            let file = files.entry(path.clone()).or_default();
            let stamp = stamp(&path);
            if file.stamp == stamp && stamp.is_some() {
                continue;
            }
            file.stamp = stamp;
            match read(&path) {
                Ok(rules) => {
                    has_changed |= file.rules != rules || file.problem.is_some();
                    tracing::info!(file = %path.display(), rules = rules.len(), "rules read");
                    (file.rules, file.problem) = (rules, None);
                }
                Err(error) => {
                    let kept = file.rules.len();
                    let error = format!("{error:#}");
                    if file.problem.as_ref() != Some(&error) {
                        tracing::warn!(%error, kept, "a rule file is not in force: what it said before is");
                    }
                    file.problem = Some(error);
                }
            }
        }
        has_changed
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<Rule>> {
    Ok(read_rules(&path.display().to_string(), &files::read(path)?)?)
}

fn stamp(path: &Path) -> Option<(u64, u64, Option<SystemTime>)> {
    use std::os::unix::fs::MetadataExt as _;
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.len(), file.modified().ok()))
}

/// The files of a directory that end in `.toml`, by name.
fn rule_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let is_one = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let mut files: Vec<_> = paths.into_iter().filter(is_one).collect();
    files.sort();
    Ok(files)
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
