//! Finds what is missing on this machine, and installs it or says what to type.
//!
//! Each component only looks (files, programs, `rustup`) and answers with [`Action`]s; apt is asked nothing as long
//! as nothing is missing, and installs the packages of all components at once.

mod apt;
mod bpf;
pub(crate) mod kernel;

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

pub(crate) use self::apt::Apt;
use self::kernel::{Kernel, Series};
use crate::capabilities::has_qdisc;
use crate::process::{run_logged, shell_line};
use crate::progress::{say, step};
use crate::workspace::Workspace;

/// Installs what building, testing and virtual machines need
///
/// Looks first and installs only what is missing, so a second run changes nothing and needs no network. Installs as
/// root where there is apt-get; otherwise prints what to type and fails. Logs go to setup/ in the target directory.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only say what is missing and what to type; fail if that is anything
    #[arg(long)]
    check: bool,
    /// The components to set up (default: all)
    #[arg(value_enum)]
    components: Vec<Component>,
}

/// A purpose that this machine can be prepared for.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Component {
    /// The compiler and linker of BPF programs: the rustup toolchain `shaper-bpf`, and bpf-linker
    Bpf,
    /// The programs that the demo runs; a virtual machine for it where this kernel has no fq or this is not root
    Demo,
    /// The programs that the tests run, and the BPF file system
    Test,
    /// QEMU and Debian's kernels 6.1 and 6.12, with the fq and netem queueing disciplines
    Vm,
}

/// One thing to do about something missing.
pub(crate) enum Action {
    /// Install packages. Needs root.
    Packages(Vec<String>),
    /// Run a command.
    Run { what: String, command: Box<Command>, needs_root: bool },
    /// Download and unpack Debian's newest kernel of a series. Needs no root, but apt-get.
    UnpackKernel(Series),
}

/// `cargo xtask setup`.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let all = [Component::Bpf, Component::Test, Component::Vm];
    let components = if arguments.components.is_empty() { &all[..] } else { &arguments.components };
    if !arguments.check {
        return ensure(workspace, components);
    }
    let missing = missing(workspace, components)?;
    if !missing.is_empty() {
        bail!("{}", what_to_type(components, &missing));
    }
    say(&format!("{} ready", names(components)));
    Ok(())
}

/// Makes the components ready, or fails with what to type.
///
/// Looks twice, as what got installed may turn out to need something else.
pub(crate) fn ensure(workspace: &Workspace, components: &[Component]) -> Result<()> {
    let mut apt = Apt::new(workspace);
    for _ in 0..2 {
        let missing = missing(workspace, components)?;
        if missing.is_empty() {
            say(&format!("{} ready", names(components)));
            return Ok(());
        }
        if !missing.iter().all(Action::is_possible) {
            let what = what_to_type(components, &missing);
            bail!("{what}\n(this command types it for you as root, where there is apt-get)");
        }
        for action in missing {
            action.execute(workspace, &mut apt)?;
        }
    }
    let left = missing(workspace, components)?;
    if left.is_empty() {
        return Ok(());
    }
    bail!("after doing all that was missing: {}", what_to_type(components, &left))
}

/// Makes the components ready while `build` goes on. A build script that needs one of them waits for all (see
/// [`Workspace::setup_lock`]).
pub(crate) fn ensure_beside<T>(
    workspace: &Workspace,
    components: &[Component],
    build: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let lock = workspace.setup_lock()?;
    if lock.try_lock().is_err() {
        say("waiting for another setup");
        lock.lock().context("lock the setup")?;
    }
    thread::scope(|scope| {
        let setup = scope.spawn(|| {
            let _until_done = lock;
            ensure(workspace, components)
        });
        let built = build();
        setup.join().map_err(|_| anyhow!("the setup panicked"))??;
        built
    })
}

/// All that the components lack, with all packages in one action.
fn missing(workspace: &Workspace, components: &[Component]) -> Result<Vec<Action>> {
    let (mut packages, mut others) = (BTreeSet::new(), Vec::new());
    for component in components {
        for action in component.missing(workspace)? {
            match action {
                Action::Packages(more) => packages.extend(more),
                other => others.push(other),
            }
        }
    }
    let packages = (!packages.is_empty()).then(|| Action::Packages(packages.into_iter().collect()));
    Ok(packages.into_iter().chain(others).collect())
}

fn what_to_type(components: &[Component], actions: &[Action]) -> String {
    let lines = actions.iter().flat_map(Action::to_type).map(|line| format!("\n    {line}"));
    let advice = if components.contains(&Component::Bpf) { bpf::ELSEWHERE } else { "" };
    format!("{} something is missing; type{}{advice}", names(components), lines.collect::<String>())
}

fn names(components: &[Component]) -> String {
    let names =
        components.iter().filter_map(|component| Some(component.to_possible_value()?.get_name().to_owned()));
    format!("setup ({}):", names.collect::<Vec<_>>().join(", "))
}

impl Component {
    fn missing(self, workspace: &Workspace) -> Result<Vec<Action>> {
        match self {
            Component::Bpf => bpf::missing(),
            Component::Demo if is_root() && has_qdisc("fq") => Ok(missing_for_demo()),
            Component::Demo => {
                let vm = missing_for_vm(workspace, &[Series::default()]);
                Ok(apt::missing(&DEMO).into_iter().chain(vm).collect())
            }
            Component::Test => Ok(missing_for_tests()),
            Component::Vm => Ok(missing_for_vm(workspace, Series::value_variants())),
        }
    }
}

impl Action {
    fn is_possible(&self) -> bool {
        match self {
            Action::Packages(_) => is_root() && apt::exists(),
            Action::Run { needs_root, .. } => !needs_root || is_root(),
            Action::UnpackKernel(_) => apt::exists(),
        }
    }

    fn execute(self, workspace: &Workspace, apt: &mut Apt) -> Result<()> {
        match self {
            Action::Packages(packages) => apt.install(&packages),
            Action::Run { what, mut command, .. } => {
                step(&what, || run_logged(&mut command, &workspace.target.join("setup/commands.log")))
            }
            Action::UnpackKernel(series) => Kernel::unpack(&workspace.vm_dir(), series, apt).map(drop),
        }
    }

    fn to_type(&self) -> Vec<String> {
        let sudo = |needed: bool| if needed && !is_root() { "sudo " } else { "" };
        match self {
            Action::Packages(packages) => vec![
                format!("{}apt-get update", sudo(true)),
                format!(
                    "{}apt-get install -y --no-install-recommends --no-remove {}",
                    sudo(true),
                    packages.join(" ")
                ),
            ],
            Action::Run { command, needs_root, .. } => {
                vec![format!("{}{}", sudo(*needs_root), shell_line(command))]
            }
            Action::UnpackKernel(series) => {
                let what = format!("fetches Debian's kernel {}*, needs no root", series.prefix());
                vec![format!("cargo xtask setup vm   # on Debian or Ubuntu: {what}")]
            }
        }
    }
}

/// Returns true if this process may install packages and mount file systems.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of one's own entry in /proc is one's effective user.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The programs that the demo runs, and their packages.
const DEMO: [(&str, &str); 2] = [("ip", "iproute2"), ("ping", "iputils-ping")];

/// The programs that the tests run beside those of the demo, and their packages.
const TEST: [(&str, &str); 15] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-compose", "docker-compose"),
    ("podman", "podman"),
    ("/usr/lib/podman/netavark", "netavark"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("tini", "tini"),
    ("bpftool", "bpftool"),
    ("strace", "strace"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("unshare", "util-linux"),
];

fn missing_for_demo() -> Vec<Action> {
    apt::missing(&DEMO).into_iter().chain(unmounted()).collect()
}

fn missing_for_tests() -> Vec<Action> {
    apt::missing(&TEST).into_iter().chain(missing_for_demo()).collect()
}

/// Mounts the BPF file system, if it is not.
fn unmounted() -> Option<Action> {
    if is_mounted("bpf", "/sys/fs/bpf") {
        return None;
    }
    let mut command = Command::new("mount");
    command.args(["-t", "bpf", "-o", "mode=0700", "bpf", "/sys/fs/bpf"]);
    let what = "mounting the BPF file system on /sys/fs/bpf".to_owned();
    Some(Action::Run { what, command: Box::new(command), needs_root: true })
}

fn is_mounted(kind: &str, on: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(on) && fields.next() == Some(kind)
    })
}

fn missing_for_vm(workspace: &Workspace, kernels: &[Series]) -> Vec<Action> {
    let needs = [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("cpio", "cpio"),
        ("modprobe", "kmod"),
        ("depmod", "kmod"),
        ("setpriv", "util-linux"),
    ];
    let mut actions = apt::missing(&needs);
    for series in kernels {
        if Kernel::find(&workspace.vm_dir(), *series).is_none() {
            actions.push(Action::UnpackKernel(*series));
        }
    }
    actions
}
