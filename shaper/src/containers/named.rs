//! Watches named network namespaces: files of nsfs in a directory, as `ip netns add` makes them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};
use tracing::{info, warn};

use super::{Runtime, Update, netns_at};
use crate::shaping::{Container, ContainerId, ContainerState, RuntimeName};

/// The longest time until a change is seen that the mount table does not show, such as a new symbolic link.
const RELIST: Duration = Duration::from_secs(5);

/// The named network namespaces of a directory.
#[derive(Debug)]
pub(crate) struct NamedNetns {
    dir: PathBuf,
    relist: Duration,
}

impl NamedNetns {
    /// Returns those of `dir`, commonly `/run/netns`, which need not exist yet.
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), relist: RELIST }
    }

    async fn follow(&self, updates: &mpsc::Sender<Update>) -> Result<(), mpsc::error::SendError<Update>> {
        let mounts = Mounts::watch();
        let mut told = None;
        let mut complaints = Complaints::default();
        loop {
            let listed = list(&self.dir, &mut complaints);
            complaints.about_the_list(&self.dir, &listed);
            match listed {
                Ok(containers) if told.as_ref() != Some(&containers) => {
                    let all =
                        Update::All { source: RuntimeName::Netns.into(), containers: containers.clone() };
                    updates.send(all).await?;
                    told = Some(containers);
                }
                Ok(_) => {}
                Err(error) => {
                    let problem = format!("list {}: {error}", self.dir.display());
                    updates.send(Update::Lost { source: RuntimeName::Netns.into(), problem }).await?;
                    told = None;
                }
            }
            tokio::select! {
                () = mounts.changed() => {}
                () = tokio::time::sleep(self.relist) => {}
            }
        }
    }
}

impl Runtime for NamedNetns {
    async fn watch(self, updates: mpsc::Sender<Update>) {
        tokio::select! {
            () = updates.closed() => {}
            _ = self.follow(&updates) => {}
        }
    }
}

/// The namespaces in `dir`, by name.
fn list(dir: &Path, complaints: &mut Complaints) -> io::Result<Vec<Container>> {
    // There is one nsfs per kernel, so its device number tells a namespace from a file left behind. Compared with
    // statfs, the same look yields the identity: nothing can be unmounted in between.
    let nsfs = fs::metadata("/proc/self/ns/net")?.dev();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut containers = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let netns = match netns_at(path.clone()) {
            Ok(netns) => netns,
            // A file that is gone by now, or leads nowhere, is none of ours. One that cannot be looked at may be.
            Err(error) if leads_nowhere(&error) => continue,
            Err(error) => return Err(error),
        };
        if netns.id.dev != nsfs {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(id) = name.and_then(ContainerId::new) else {
            complaints.about_the_name(&path);
            continue;
        };
        let (name, state) = (id.to_string(), ContainerState::Running);
        containers.push(Container::new(id, name, RuntimeName::Netns, state, Some(netns)));
    }
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(containers)
}

fn leads_nowhere(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory) || error.raw_os_error() == Some(nix::libc::ELOOP)
}

/// The complaints that have been logged, so that each is logged once.
#[derive(Debug, Default)]
struct Complaints {
    names: BTreeSet<PathBuf>,
    list: Option<String>,
}

impl Complaints {
    fn about_the_name(&mut self, path: &Path) {
        if self.names.insert(path.to_owned()) {
            warn!(
                ?path,
                "left out a network namespace: rename it, without ';', white space and control characters"
            );
        }
    }

    fn about_the_list(&mut self, dir: &Path, listed: &io::Result<Vec<Container>>) {
        let error = listed.as_ref().err().map(ToString::to_string);
        match &error {
            Some(error) if self.list.as_ref() != Some(error) => {
                warn!(?dir, error, "list network namespaces: those known before are kept; is it readable?");
            }
            None if self.list.is_some() => info!(?dir, "can list network namespaces again"),
            _ => {}
        }
        self.list = error;
    }
}

/// The mount table of our mount namespace; none where it cannot be watched.
#[derive(Debug)]
struct Mounts(Option<AsyncFd<File>>);

impl Mounts {
    fn watch() -> Self {
        let table = Self::open();
        if let Err(error) = &table {
            warn!(%error, "watch /proc/self/mountinfo: looking every {RELIST:?} instead");
        }
        Self(table.ok())
    }

    #[expect(unsafe_code, reason = "tokio calls every other way to make an AsyncFd deprecated")]
    fn open() -> io::Result<AsyncFd<File>> {
        let table = File::open("/proc/self/mountinfo")?;
        // The kernel reports each change once, as EPOLLPRI (mounts_poll in fs/proc_namespace.c).
        // SAFETY: A `File` has one descriptor all its life, and the `AsyncFd` that owns it neither lends it mutably nor
        // is taken apart or forgotten.
        unsafe { AsyncFd::register_with_interest(table, Interest::PRIORITY) }.map_err(Into::into)
    }

    async fn changed(&self) {
        let Some(table) = &self.0 else { return std::future::pending().await };
        match table.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            // Only a runtime that is shutting down says so; the next wait is then the last.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command, time::Instant};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let listed = list(dir, &mut Complaints::default()).expect("a readable directory");
        listed.into_iter().map(|container| container.name).collect()
    }

    #[test]
    fn a_directory_that_does_not_exist_has_no_namespaces() {
        assert_eq!(names(Path::new("/nonexistent/netns")), [""; 0]);
    }

    #[test]
    fn only_files_of_nsfs_are_namespaces() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("leftover"), "").expect("a file");
        symlink("/nonexistent", dir.path().join("dangling")).expect("a link");
        symlink("leftover/below", dir.path().join("lost")).expect("a link");
        symlink("loop", dir.path().join("loop")).expect("a link");
        symlink("/proc/self/ns/net", dir.path().join("linked")).expect("a link");
        symlink("/proc/self/ns/net", dir.path().join("bad name")).expect("a link");
        assert_eq!(names(dir.path()), ["linked"]);
    }

    /// A network namespace that a file names, as `ip netns add` makes one, but anywhere.
    struct Named<'a>(&'a Path);

    impl<'a> Named<'a> {
        fn new(path: &'a Path) -> Self {
            fs::write(path, "").expect("a file to mount on");
            let mut net = std::ffi::OsString::from("--net=");
            net.push(path);
            let made = Command::new("unshare").arg(net).arg("true").status().expect("unshare of util-linux");
            assert!(made.success(), "unshare --net={path:?}: {made}");
            Self(path)
        }
    }

    impl Drop for Named<'_> {
        fn drop(&mut self) {
            nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH).expect("it was mounted");
        }
    }

    fn is_root() -> bool {
        let root = nix::unistd::geteuid().is_root();
        let required =
            std::env::var("SHAPER_REQUIRE").is_ok_and(|all| all.split(',').any(|one| one == "root"));
        assert!(root || !required, "SHAPER_REQUIRE asks for root, and this is not root");
        if !root {
            println!("skipped: needs root");
        }
        root
    }

    async fn next(updates: &mut mpsc::Receiver<Update>) -> Vec<Container> {
        let update = tokio::time::timeout(Duration::from_secs(10), updates.recv()).await;
        match update.expect("an update in time").expect("a watcher") {
            Update::All { containers, .. } => containers,
            other => panic!("expected all, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_namespace_is_seen_when_it_comes_and_when_it_goes() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let (sender, mut updates) = mpsc::channel(1);
        // So long between looks that only the mount table can have told.
        let watched = NamedNetns { dir: dir.path().into(), relist: Duration::from_secs(3600) };
        let watcher = tokio::spawn(watched.watch(sender));
        assert_eq!(next(&mut updates).await, []);

        let path = dir.path().join("blue");
        let blue = Named::new(&path);
        let added = Instant::now();
        let seen = next(&mut updates).await;
        println!("seen after {:?}", added.elapsed());
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].id.as_str(), "blue");
        assert_eq!(seen[0].netns.as_ref().map(|netns| &netns.path), Some(&path));

        drop(blue);
        let deleted = Instant::now();
        assert_eq!(next(&mut updates).await, []);
        println!("missed after {:?}", deleted.elapsed());

        drop(updates);
        watcher.await.expect("it ends when nobody listens");
    }
}
