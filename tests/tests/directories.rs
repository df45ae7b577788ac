//! Other users' directories, links and locks where the daemon pins and listens: nothing of theirs is used, and nothing
//! of others' is removed.

use std::{
    fs,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use shaper_tests::{
    daemon::{Daemon, program},
    needs,
    world::World,
};

/// `nobody`.
const STRANGER: u32 = 65534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").mode() & 0o7777
}

/// Has the stranger run a shell script.
fn stranger(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).uid(STRANGER).gid(STRANGER).status();
    assert!(status.expect("sh runs").success(), "{script}");
}

/// The stranger's `flock` of a directory that they may read.
struct Held(Child);

impl Held {
    fn new(directory: &Path) -> Self {
        let mut command = Command::new("flock");
        command.arg(directory).args(["sh", "-c", "echo held; exec sleep 1000"]);
        let child = command.uid(STRANGER).gid(STRANGER).process_group(0).stdout(Stdio::piped()).spawn();
        let mut this = Self(child.expect("flock runs"));
        let mut line = String::new();
        let stdout = this.0.stdout.take().expect("it is piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
        assert_eq!(line, "held\n");
        this
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// A daemon that answers, and its refusal to shape.
fn refusal(world: &World, pin_dir: &Path) -> String {
    let daemon = world.daemon_pinning_in(pin_dir).expect("a daemon that answers");
    daemon.view("web");
    daemon.complaint("set web --loss 1%")
}

#[test]
fn a_strangers_link_among_the_pins_removes_nothing() {
    needs!(Root);
    let mut world = World::new().expect("a world");
    world.pin_among_others().expect("a bpffs");
    let _web = world.container("web").expect("a container");
    let victim = world.directory().join("victim");
    fs::create_dir(&victim).expect("a directory");
    fs::write(victim.join("precious"), "").expect("a file");
    let pin_dir = world.pin_dir().to_owned();
    let shown = pin_dir.display();
    stranger(&format!(
        "mkdir '{shown}'; ln -s '{}' '{shown}/new-netns-1-if-2-egress'; ln -s '{}' '{shown}/netns-1-if-2-egress'",
        victim.display(),
        victim.display()
    ));
    let text = refusal(&world, &pin_dir);
    let expected = format!("{shown} belongs to user {STRANGER}, and should belong to root");
    assert!(text.contains(&expected), "{text}");
    assert!(victim.join("precious").exists(), "the daemon removes nothing outside of its own directory");
    assert_eq!(fs::read_dir(&pin_dir).expect("it is there").count(), 2, "nothing in it is touched");
}

#[test]
fn a_link_in_the_daemons_own_directory_is_not_followed() {
    needs!(Root);
    let world = World::new().expect("a world");
    let _web = world.container("web").expect("a container");
    let victim = world.directory().join("victim");
    fs::create_dir(&victim).expect("a directory");
    fs::write(victim.join("precious"), "").expect("a file");
    fs::DirBuilder::new().mode(0o700).create(world.pin_dir()).expect("a directory in bpffs");
    symlink(&victim, world.pin_dir().join("new-netns-1-if-2-egress")).expect("a link");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 1%");
    assert!(victim.join("precious").exists());
    fs::remove_file(world.pin_dir().join("new-netns-1-if-2-egress")).expect("the link stays");
}

#[test]
fn a_pin_directory_that_others_may_write_to_is_refused_by_name() {
    needs!(Root);
    let world = World::new().expect("a world");
    let _web = world.container("web").expect("a container");
    fs::create_dir(world.pin_dir()).expect("a directory in bpffs");
    for wide in [0o770, 0o1777] {
        set_mode(world.pin_dir(), wide);
        let text = refusal(&world, world.pin_dir());
        let expected = format!("other users may write to {} (mode {wide:o})", world.pin_dir().display());
        assert!(text.contains(&expected), "{text}");
        assert_eq!(mode(world.pin_dir()), wide, "it is left alone");
    }
}

#[test]
fn a_strangers_lock_keeps_no_daemon_out() {
    needs!(Root);
    let mut world = World::new().expect("a world");
    world.pin_among_others().expect("a bpffs");
    let _web = world.container("web").expect("a container");
    let directory_of_socket = world.socket().parent().expect("a directory").to_owned();
    for directory in [world.pin_dir(), &directory_of_socket] {
        fs::create_dir_all(directory).expect("a directory");
        set_mode(directory, 0o755);
    }
    let _held = (Held::new(world.pin_dir()), Held::new(&directory_of_socket));
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.run("set web --loss 1%");
    assert_eq!(mode(world.pin_dir()), 0o700, "nobody else is to look at the pins");
    assert_eq!(mode(&world.pin_dir().join("lock")), 0o700);
    daemon.run("clear web");
    daemon.kill(nix::sys::signal::Signal::SIGTERM);
    assert!(!world.pin_dir().exists(), "nothing is left");
    assert_eq!(fs::read_dir(&directory_of_socket).expect("it stays").count(), 0);
}

#[test]
fn a_strangers_directory_is_not_listened_in() {
    needs!(Root);
    let world = World::new().expect("a world");
    let socket = world.socket();
    let parent = socket.parent().expect("a directory");
    let above = parent.parent().expect("one above it");
    fs::create_dir(above).expect("a directory");
    set_mode(above, 0o1777);
    stranger(&format!("mkdir '{}'", parent.display()));
    let mut command = Command::new(program());
    command.args(["serve", "--runtime", "netns", "--pin-dir"]).arg(world.pin_dir());
    let error = Daemon::listening_on(socket.clone(), command).expect_err("it does not start");
    let expected = format!("{} belongs to user {STRANGER}, and should belong to root", parent.display());
    assert!(format!("{error:#}").contains(&expected), "{error:#}");
}

#[test]
fn a_presets_file_that_never_ends_is_refused_at_once() {
    needs!(Root);
    let world = World::new().expect("a world");
    let fifo = world.directory().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for (path, kind) in [(&*fifo, "a pipe"), (Path::new("/dev/zero"), "a device")] {
        // Bounded, so that a daemon that does read it ends as well.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 1000000; exec timeout 20 \"$@\"", "sh"]).arg(program());
        command.args(["serve", "--presets"]).arg(path).arg("--plugin-socket").arg(world.socket());
        let output = command.output().expect("the program runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = format!("read {}: it is {kind}, a regular file is expected", path.display());
        assert!(!output.status.success() && text.contains(&expected), "{text}");
    }
}
