//! Starts to watch the runtimes that were asked for. Knows where each is served.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::{Options, tasks::Tasks};
use crate::{
    containers::{self, Cri, Dialect, Docker, NamedNetns, Places, Processes, Runtime as _, Sockets, Update},
    datapath::Blindness,
    shaping::{RuntimeKind, RuntimeName},
};

/// The sockets of containerd, each with the directory in which that containerd keeps what runs: of its own, of k3s and of
/// MicroK8s.
const CONTAINERD: [(&str, &str); 3] = [
    ("/run/containerd/containerd.sock", "/run/containerd/io.containerd.runtime.v2.task"),
    ("/run/k3s/containerd/containerd.sock", "/run/k3s/containerd"),
    ("/var/snap/microk8s/common/run/containerd.sock", "/var/snap/microk8s/common/run"),
];
/// The socket of CRI-O, and its directory.
const CRI_O: [(&str, &str); 1] = [("/run/crio/crio.sock", "/run/crio")];

/// The socket of the system's Podman, and its directory.
const PODMAN: [(&str, &str); 1] = [("/run/podman/podman.sock", "/run/podman")];
/// The directory with one for each user, and the socket of the user's Podman below that.
const PODMAN_OF_USERS: (&str, &str) = ("/run/user", "podman/podman.sock");

/// The runtimes that are watched, by the names under which they tell.
pub(super) fn names(options: &Options) -> impl Iterator<Item = RuntimeName> {
    let names = |kind: &RuntimeKind| -> &[RuntimeName] {
        match kind {
            RuntimeKind::Docker => &[RuntimeName::Docker],
            RuntimeKind::Podman => &[RuntimeName::Podman],
            RuntimeKind::Cri => &[RuntimeName::Containerd, RuntimeName::CriO],
            RuntimeKind::Netns => &[RuntimeName::Netns],
            RuntimeKind::Process => &[RuntimeName::Process],
        }
    };
    options.runtimes.iter().flat_map(names).copied()
}

/// Watches the runtimes.
pub(super) fn watch(options: &Options, updates: &mpsc::Sender<Update>, tasks: &mut Tasks) {
    let is_expected = options.expects_runtimes;
    for kind in &options.runtimes {
        let updates = updates.clone();
        match kind {
            RuntimeKind::Docker => {
                let docker = Docker::new(RuntimeName::Docker, &options.docker_socket, is_expected);
                tasks.spawn("watches Docker", docker.watch(updates));
            }
            RuntimeKind::Podman => {
                let watched = podman(is_expected);
                tasks.spawn("watches Podman", watched.watch(updates));
            }
            RuntimeKind::Cri => {
                for runtime in [RuntimeName::Containerd, RuntimeName::CriO] {
                    let watched = cri(options, runtime);
                    tasks.spawn("watches CRI", watched.watch(updates.clone()));
                }
            }
            RuntimeKind::Netns => {
                let named = NamedNetns::new(&options.netns_dir);
                tasks.spawn("watches named network namespaces", named.watch(updates));
            }
            RuntimeKind::Process => tasks.spawn("watches processes", Processes::new().watch(updates)),
        }
    }
}

fn podman(is_expected: bool) -> impl containers::Runtime {
    let places = Places::usual(&PODMAN).and_users(PODMAN_OF_USERS.0, PODMAN_OF_USERS.1);
    Sockets::new(RuntimeName::Podman, places, is_expected, move |source, found| {
        let podman = Docker::new(source, &*found.socket, is_expected);
        match found.user {
            Some(uid) => podman.of_user(uid),
            None => podman,
        }
    })
}

fn cri(options: &Options, runtime: RuntimeName) -> impl containers::Runtime + use<> {
    let is_expected = options.expects_runtimes;
    // One of the two is enough.
    let has_cri_o = cri_places(options, RuntimeName::CriO).of_the_system().next().is_some();
    let is_missed = is_expected && runtime == RuntimeName::Containerd && !has_cri_o;
    let docker_is_watched = options.runtimes.contains(&RuntimeKind::Docker);
    Sockets::new(runtime, cri_places(options, runtime), is_missed, move |source, found| {
        Cri::new(source, found.socket, is_expected, docker_is_watched)
    })
}

/// The places of a CRI runtime. A socket that was chosen is CRI-O's if its name says so.
fn cri_places(options: &Options, runtime: RuntimeName) -> Places {
    let usual: &[_] = if runtime == RuntimeName::CriO { &CRI_O } else { &CONTAINERD };
    if options.cri_sockets.is_empty() {
        return Places::usual(usual);
    }
    let name = |socket: &Path| socket.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_its = |socket: &&PathBuf| name(socket).contains("crio") == (runtime == RuntimeName::CriO);
    Places::named(options.cri_sockets.iter().filter(is_its).cloned().collect())
}

/// The sockets of the engines that are watched, those of users excepted.
pub(super) fn engines(options: &Options) -> Vec<PathBuf> {
    let watches = |kind| options.runtimes.contains(&kind);
    let docker = watches(RuntimeKind::Docker).then(|| options.docker_socket.clone());
    let podman = watches(RuntimeKind::Podman).then(|| Places::usual(&PODMAN));
    let cri = watches(RuntimeKind::Cri)
        .then(|| [RuntimeName::Containerd, RuntimeName::CriO].map(|runtime| cri_places(options, runtime)));
    let places = podman.into_iter().chain(cri.into_iter().flatten());
    let served = places.flat_map(|places| places.of_the_system().map(Path::to_path_buf).collect::<Vec<_>>());
    docker.into_iter().chain(served).collect()
}

/// Makes the check that the daemon sees the containers of the runtimes.
pub(super) fn blindness(options: &Options) -> Blindness {
    let watches = |kind| options.runtimes.contains(&kind);
    let docker = watches(RuntimeKind::Docker).then(|| options.docker_socket.clone());
    let podman = watches(RuntimeKind::Podman).then(|| Places::usual(&PODMAN));
    let cri = [("containerd", RuntimeName::Containerd), ("CRI-O", RuntimeName::CriO)];
    let cri = cri.map(|(name, runtime)| (name, cri_places(options, runtime)));
    let cri = watches(RuntimeKind::Cri).then_some(cri);
    Box::new(move || {
        let of_docker =
            docker.iter().filter_map(|socket| containers::blindness("Docker", socket, Dialect::Docker));
        let of_podman = podman.iter().flat_map(|places| {
            places
                .of_the_system()
                .filter_map(|socket| containers::blindness("Podman", socket, Dialect::Docker))
        });
        let of_cri = cri.iter().flatten().flat_map(|(name, places)| {
            places.of_the_system().filter_map(|socket| containers::blindness(name, socket, Dialect::Grpc))
        });
        of_docker.chain(of_podman).chain(of_cri).next()
    })
}
