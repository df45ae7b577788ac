//! Finds the sockets at which a runtime is served, and watches each.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::SendError},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, info, warn};

use super::{Runtime, Source, Update};
use crate::shaping::RuntimeName;

/// The pause between looks at where sockets may be.
const LOOK: Duration = Duration::from_secs(5);

/// The places at which a runtime may be served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Sockets that are waited for in any case.
    named: Vec<PathBuf>,
    /// Sockets, each with the directory that is there once the runtime has been: without it, no container of it runs.
    usual: Vec<(PathBuf, PathBuf)>,
    /// The directory with one for each user, and the path of a socket below that.
    users: Option<(PathBuf, PathBuf)>,
}

/// A socket that may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The path.
    pub(crate) socket: Arc<Path>,
    /// The user that it is for, if it is not the system's.
    pub(crate) user: Option<u32>,
}

impl Places {
    /// These sockets, which were chosen.
    pub(crate) fn named(sockets: Vec<PathBuf>) -> Self {
        Self { named: sockets, ..Self::default() }
    }

    /// Usual sockets, each with a directory that the runtime has made before it runs a container.
    pub(crate) fn usual(sockets: &[(&str, &str)]) -> Self {
        let usual = sockets.iter().map(|(socket, trace)| (socket.into(), trace.into())).collect();
        Self { usual, ..Self::default() }
    }

    /// Adds one socket for each user that has a directory in `users`.
    pub(crate) fn and_users(self, users: impl Into<PathBuf>, socket: impl Into<PathBuf>) -> Self {
        Self { users: Some((users.into(), socket.into())), ..self }
    }

    /// The usual sockets that are there now, and those that were chosen.
    pub(crate) fn of_the_system(&self) -> impl Iterator<Item = &Path> {
        let usual = self.usual.iter().filter(|(_, trace)| trace.exists()).map(|(socket, _)| socket);
        self.named.iter().chain(usual).map(PathBuf::as_path)
    }

    /// The sockets at which a service is or may come back, in order.
    fn present(&self) -> Vec<Found> {
        let system = self.of_the_system().map(|socket| Found { socket: socket.into(), user: None });
        let users = self.users.iter().flat_map(|(users, below)| {
            let entries = fs::read_dir(users).into_iter().flatten().flatten();
            entries.filter_map(move |entry| {
                let user = entry.file_name().to_str()?.parse().ok()?;
                let socket = entry.path().join(below);
                // A user's links could lead to the sockets of others.
                let directory = fs::symlink_metadata(socket.parent()?).ok()?;
                let is_own = directory.is_dir() && directory.uid() == user;
                is_own.then(|| Found { socket: socket.into(), user: Some(user) })
            })
        });
        let mut present: Vec<_> = system.chain(users).collect();
        present.sort_by(|a, b| a.socket.cmp(&b.socket));
        present.dedup_by(|a, b| a.socket == b.socket);
        present
    }
}

/// A runtime that may be served at several sockets, each of which is watched by what `watcher` makes.
pub(crate) struct Sockets<F> {
    runtime: RuntimeName,
    places: Places,
    is_expected: bool,
    look: Duration,
    watcher: F,
}

impl<F, R> Sockets<F>
where
    F: Fn(Source, Found) -> R + Send + Sync,
    R: Runtime + Send + 'static,
{
    /// The runtime at any of `places`, now or later. Unless it `is_expected`, its absence is no fault.
    pub(crate) const fn new(runtime: RuntimeName, places: Places, is_expected: bool, watcher: F) -> Self {
        Self { runtime, places, is_expected, look: LOOK, watcher }
    }

    async fn follow(&self, updates: &mpsc::Sender<Update>) -> Result<(), SendError<Update>> {
        let mut watched: HashMap<Arc<Path>, JoinSet<()>> = HashMap::new();
        let mut told = None;
        loop {
            let present = self.places.present();
            if told.as_ref() != Some(&present) {
                let is_there = |socket: &Arc<Path>| present.iter().any(|found| found.socket == *socket);
                for (_, mut watcher) in watched.extract_if(|socket, _| !is_there(socket)) {
                    // What it still tells must not come after the news that it is gone.
                    watcher.shutdown().await;
                }
                updates.send(self.news(&present, told.is_none())).await?;
                told = Some(present.clone());
            }
            for found in present {
                let watcher = watched.entry(Arc::clone(&found.socket)).or_insert_with(|| {
                    let source = Source::at(self.runtime, Arc::clone(&found.socket));
                    let mut task = JoinSet::new();
                    task.spawn((self.watcher)(source, found).watch(updates.clone()));
                    task
                });
                if let Some(Err(ended)) = watcher.try_join_next()
                    && let Ok(panic) = ended.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
            sleep(self.look).await;
        }
    }

    fn news(&self, present: &[Found], is_first: bool) -> Update {
        let Self { runtime, places, is_expected, .. } = self;
        let sockets: Vec<_> = present.iter().map(|found| Arc::clone(&found.socket)).collect();
        match (sockets.is_empty(), is_first && *is_expected) {
            (true, true) => {
                warn!(%runtime, ?places, "no socket of the runtime is there: it is waited for");
                let problem = "none of its sockets is there".to_owned();
                return Update::Lost { source: (*runtime).into(), problem };
            }
            (true, false) => debug!(%runtime, ?places, "no socket of the runtime is there"),
            (false, _) => info!(%runtime, ?sockets, "the runtime is or may be served"),
        }
        Update::Sockets { runtime: *runtime, sockets }
    }
}

impl<F, R> Runtime for Sockets<F>
where
    F: Fn(Source, Found) -> R + Send + Sync,
    R: Runtime + Send + 'static,
{
    async fn watch(self, updates: mpsc::Sender<Update>) {
        tokio::select! {
            () = updates.closed() => {}
            _ = self.follow(&updates) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(places: &Places) -> Vec<(String, Option<u32>)> {
        let present = places.present().into_iter();
        present.map(|found| (found.socket.display().to_string(), found.user)).collect()
    }

    #[test]
    fn a_socket_is_waited_for_where_it_was_chosen_or_its_runtime_has_been() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let named = Places::named(vec![path("chosen.sock").into()]);
        assert_eq!(sockets(&named), [(path("chosen.sock"), None)]);
        let (socket, trace) = (path("a/a.sock"), path("a"));
        let usual = Places::usual(&[(&socket, &trace)]);
        assert_eq!(sockets(&usual), []);
        fs::create_dir(directory.path().join("a")).expect("it is not there");
        assert_eq!(sockets(&usual), [(socket, None)], "it may be restarted just now");
    }

    #[test]
    fn each_user_has_a_socket() {
        let directory = tempfile::tempdir().expect("a directory");
        let user = nix::unistd::geteuid().as_raw();
        let own = user.to_string();
        for name in [&format!("{own}/podman"), "4242/podman", "4243", "not-a-user/podman"] {
            fs::create_dir_all(directory.path().join(name)).expect("it is not there");
        }
        let places = Places::default().and_users(directory.path(), "podman/podman.sock");
        let socket = directory.path().join(&own).join("podman/podman.sock").display().to_string();
        assert_eq!(sockets(&places), [(socket, Some(user))], "nobody else's directory is a user's");
    }

    /// A runtime of which nobody knows more than that it was started.
    struct Silent(Source);

    impl Runtime for Silent {
        async fn watch(self, updates: mpsc::Sender<Update>) {
            let all = Update::All { source: self.0, containers: Vec::new() };
            updates.send(all).await.expect("it is listened to");
            updates.closed().await;
        }
    }

    #[tokio::test]
    async fn a_socket_is_watched_as_long_as_its_runtime_may_be_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let (trace, runtime) = (directory.path().join("a"), RuntimeName::Podman);
        let socket: Arc<Path> = trace.join("a.sock").into();
        let places = Places::usual(&[(&socket.display().to_string(), &trace.display().to_string())]);
        let (sender, mut updates) = mpsc::channel(1);
        let found = Sockets::new(runtime, places, false, |source, _| Silent(source));
        let found = Sockets { look: Duration::from_millis(1), ..found };
        let watch = tokio::spawn(found.watch(sender));
        let all = |sockets: &[&Arc<Path>]| {
            Some(Update::Sockets {
                runtime,
                sockets: sockets.iter().map(|&socket| Arc::clone(socket)).collect(),
            })
        };
        assert_eq!(updates.recv().await, all(&[]));
        fs::create_dir(&trace).expect("it is not there");
        assert_eq!(updates.recv().await, all(&[&socket]));
        let source = Source::at(runtime, Arc::clone(&socket));
        assert_eq!(updates.recv().await, Some(Update::All { source, containers: Vec::new() }));
        fs::remove_dir(&trace).expect("it is there");
        assert_eq!(updates.recv().await, all(&[]));
        drop(updates);
        watch.await.expect("it ends when nobody listens");
    }
}
