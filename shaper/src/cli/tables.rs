//! Reads the files of distributions and delivery traces that effects name, and tells what is in them.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    files,
    shaping::{Distribution, Files, Latency, Measured, Named, PolicyError, Trace, names_in},
};

/// Where iproute2 has its distributions: where its own variable says, or where distributions (of Linux) put them.
fn iproute2() -> impl Iterator<Item = PathBuf> {
    let own = std::env::var_os("TC_LIB_DIR").map(PathBuf::from);
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let multiarch = libraries.map(|entry| entry.path().join("tc"));
    own.into_iter().chain(["/usr/lib/tc", "/usr/lib64/tc"].map(PathBuf::from)).chain(multiarch)
}

/// Files beside one that names them, and what people should know of those that were read.
#[derive(Debug, Default)]
pub(super) struct FilesIn {
    directory: PathBuf,
    notes: RefCell<Vec<String>>,
}

impl Files for FilesIn {
    fn distribution(&self, name: &str, path: &str) -> Result<Distribution, PolicyError> {
        self.read_distribution(name, &self.directory.join(path))
    }

    fn trace(&self, name: &str, path: &str) -> Result<Trace, PolicyError> {
        let path = self.directory.join(path);
        let trace = Trace::parse(name, &read(&path)?).map_err(|error| error.within(shown(&path)))?;
        self.note(&path, &format!("carries {} kbit/s in the mean", trace.mean_rate() / 1000));
        Ok(trace)
    }
}

impl FilesIn {
    /// Returns those in `directory`, by relative paths.
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), notes: RefCell::default() }
    }

    /// Returns what people should know of the files that were read, a line each.
    pub(super) fn notes(self) -> Vec<String> {
        self.notes.into_inner()
    }

    /// The tables that words of effects name: files, or distributions of iproute2's.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it is none.
    pub(super) fn named_by(&self, words: &str, named: &mut Named) -> Result<(), PolicyError> {
        let (distributions, traces) = names_in(words);
        for name in distributions {
            let distribution = self.read_distribution(name, &self.find_distribution(name)?)?;
            named.distributions.insert(name.to_owned(), distribution);
        }
        for name in traces {
            named.traces.insert(name.to_owned(), self.trace(name, name)?);
        }
        Ok(())
    }

    fn find_distribution(&self, name: &str) -> Result<PathBuf, PolicyError> {
        let shipped = iproute2().map(|directory| directory.join(format!("{name}.dist")));
        let mut places = std::iter::once(self.directory.join(name)).chain(shipped);
        places.find(|path| path.is_file()).ok_or_else(|| {
            PolicyError::unknown(
                "distribution",
                name,
                "it is none of uniform, normal, pareto and paretonormal, no file, and none of iproute2's (TC_LIB_DIR \
                 says where these are)",
            )
        })
    }

    /// A table in netem's format if the file is called so, else measured times.
    fn read_distribution(&self, name: &str, path: &Path) -> Result<Distribution, PolicyError> {
        let text = read(path)?;
        if path.extension().is_some_and(|extension| extension == "dist") {
            return Distribution::parse_table(name, &text).map_err(|error| error.within(shown(path)));
        }
        let measured = Distribution::from_samples(name, &text).map_err(|error| error.within(shown(path)))?;
        let Measured { distribution, mean, deviation } = measured;
        let latency =
            |time| Latency::new(time).ok().flatten().map_or_else(|| "0ms".to_owned(), |it| it.to_string());
        let words = format!("delay {} {} distribution {name}", latency(mean), latency(deviation));
        self.note(path, &format!("`{words}` is delayed as was measured"));
        Ok(distribution)
    }

    fn note(&self, path: &Path, what: &str) {
        self.notes.borrow_mut().push(format!("{}: {what}", shown(path)));
    }
}

fn read(path: &Path) -> Result<String, PolicyError> {
    files::read(path).map_err(|error| PolicyError::unreadable(error.to_string()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
