//! A small world for one test: a host, containers on it, and a daemon that sees nothing else.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    daemon::{Daemon, eventually, program},
    netns::Netns,
};

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// Namespaces, pins and a socket of one test's own, gone with it.
#[derive(Debug)]
pub struct World {
    /// The world's directory in bpffs.
    pin_root: PathBuf,
    pin_dir: PathBuf,
    bpffs: Option<Mounted>,
    host: Netns,
    containers: AtomicU8,
    /// After the host's namespace, which is mounted in it.
    directory: Directory,
}

/// A file system, unmounted with all that is in it.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // The kernel keeps it for whoever still has a file in it open.
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {error}", self.0.display());
        }
    }
}

/// A directory, gone with all that is in it.
#[derive(Debug)]
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

/// A container: a named network namespace with a veth to the world's host.
#[derive(Debug)]
pub struct Container {
    /// The name that the daemon calls it by.
    pub name: String,
    /// The namespace.
    pub netns: Netns,
    /// The address of its `eth0`.
    pub address: Ipv4Addr,
    /// The host's address on the same veth.
    pub host_address: Ipv4Addr,
    /// The host's end of the veth.
    pub host_end: String,
}

impl Container {
    /// The node id that Scope would use.
    #[must_use]
    pub fn node_id(&self) -> String {
        format!("{};<container>", self.name)
    }

    /// Has a qdisc, in `tc`'s words, shape what it sends.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    pub fn qdisc(&self, words: &str) {
        self.netns.run(&format!("tc qdisc replace dev eth0 root {words}")).expect("the kernel has it");
    }
}

impl World {
    /// Makes an empty world.
    ///
    /// # Errors
    ///
    /// Without root.
    pub fn new() -> Result<Self> {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("shaper-test-{}-{number}", std::process::id());
        let directory = Directory(Path::new("/run").join(&name));
        fs::create_dir_all(directory.0.join("netns"))
            .with_context(|| format!("make {}", directory.0.display()))?;
        let host = Netns::create(directory.0.join("host"))?;
        let pin_dir = Path::new("/sys/fs/bpf").join(&name);
        let containers = AtomicU8::new(0);
        Ok(Self { pin_root: pin_dir.clone(), pin_dir, bpffs: None, host, containers, directory })
    }

    /// The namespace that the daemon is in.
    #[must_use]
    pub const fn host(&self) -> &Netns {
        &self.host
    }

    /// Where the daemon pins.
    #[must_use]
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Has the daemon pin in a bpffs of the world's own, of mode 1777: everybody may make a directory beside the daemon's,
    /// whoever may enter the machine's.
    ///
    /// # Errors
    ///
    /// When it cannot be mounted.
    pub fn pin_among_others(&mut self) -> Result<()> {
        let path = self.directory.0.join("bpf");
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), Some("mode=1777"))
            .with_context(|| format!("mount a bpffs on {}", path.display()))?;
        self.pin_dir = path.join("shaper");
        self.bpffs = Some(Mounted(path));
        Ok(())
    }

    /// Where files of the test's own may be, which are gone with the world.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// Where the daemon finds containers.
    #[must_use]
    pub fn netns_dir(&self) -> PathBuf {
        self.directory.0.join("netns")
    }

    /// Where the daemon looks for rule files.
    #[must_use]
    pub fn rules_dir(&self) -> PathBuf {
        self.directory.0.join("rules.d")
    }

    /// Where the daemon keeps rules that were asked for.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.directory.0.join("state")
    }

    /// Where the daemon listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.0.join("plugins/traffic-control/traffic-control.sock")
    }

    /// Adds a container with one interface, `eth0`.
    ///
    /// # Errors
    ///
    /// When a command fails.
    pub fn container(&self, name: &str) -> Result<Container> {
        let subnet = self.containers.fetch_add(1, Ordering::Relaxed);
        let netns = Netns::create(self.netns_dir().join(name))?;
        let container = Container {
            name: name.to_owned(),
            netns,
            address: Ipv4Addr::new(10, 99, subnet, 2),
            host_address: Ipv4Addr::new(10, 99, subnet, 1),
            host_end: format!("veth{subnet}"),
        };
        self.add_interface(
            &container,
            "eth0",
            &container.host_end,
            container.host_address,
            container.address,
        )?;
        Ok(container)
    }

    /// Adds many containers, `c0` and so on, quickly: with an `eth0` each that is up, but has no address.
    ///
    /// # Errors
    ///
    /// When a command fails.
    pub fn crowd(&self, count: usize) -> Result<Vec<Netns>> {
        let create = |number| Netns::create(self.netns_dir().join(format!("c{number}")));
        let crowd: Vec<_> = (0..count).map(create).collect::<Result<_>>()?;
        let add = |(number, netns): (usize, &Netns)| {
            let path = netns.path().display();
            format!(
                "link add crowd{number} type veth peer name eth0 netns {path}\nlink set crowd{number} up\n"
            )
        };
        let batch = self.directory.0.join("links");
        fs::write(&batch, crowd.iter().enumerate().map(add).collect::<String>())
            .with_context(|| format!("write {}", batch.display()))?;
        self.host.run(&format!("ip -batch {}", batch.display()))?;
        for netns in &crowd {
            netns.run("ip link set eth0 up")?;
        }
        Ok(crowd)
    }

    /// Adds many veths between the host and a container, quickly: `more0` and so on, which are down.
    ///
    /// # Errors
    ///
    /// When a command fails.
    pub fn add_links(&self, container: &Container, count: usize) -> Result<()> {
        let path = container.netns.path().display();
        let end = &container.host_end;
        let add = |number| format!("link add {end}.{number} type veth peer name more{number} netns {path}\n");
        let batch = self.directory.0.join("links");
        fs::write(&batch, (0..count).map(add).collect::<String>())
            .with_context(|| format!("write {}", batch.display()))?;
        self.host.run(&format!("ip -batch {}", batch.display())).map(drop)
    }

    /// Adds a veth between the host and a container.
    ///
    /// # Errors
    ///
    /// When a command fails.
    pub fn add_interface(
        &self,
        container: &Container,
        name: &str,
        host_end: &str,
        host_address: Ipv4Addr,
        address: Ipv4Addr,
    ) -> Result<()> {
        let inside = &container.netns;
        let path = inside.path().display();
        self.host.run(&format!("ip link add {host_end} type veth peer name {name} netns {path}"))?;
        let ends = [(&self.host, host_end, host_address, address), (inside, name, address, host_address)];
        for (netns, end, own, _) in ends {
            // No neighbour discovery of IPv6, so that the only packets are the test's.
            netns.run(&format!("ip link set {end} addrgenmode none"))?;
            netns.run(&format!("ip addr add {own}/24 dev {end}"))?;
            netns.run(&format!("ip link set {end} up"))?;
        }
        for (index, (netns, end, _, other)) in ends.into_iter().enumerate() {
            let up =
                || netns.run(&format!("ip -o link show {end}")).is_ok_and(|link| link.contains("state UP"));
            eventually(&format!("{end} is up"), || up().then_some(()));
            // No ARP either: a request that is lost is not sent again for a second.
            let (there, its_end, ..) = ends[1 - index];
            let mac = mac(there, its_end)?;
            netns.run(&format!("ip neigh replace {other} lladdr {mac} dev {end} nud permanent"))?;
        }
        Ok(())
    }

    /// Starts a daemon that watches this world's containers.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn daemon(&self) -> Result<Daemon> {
        self.daemon_pinning_in(&self.pin_dir)
    }

    /// Starts `command`, which is to end with the program, as a daemon that watches this world's containers.
    ///
    /// # Errors
    ///
    /// When it ends instead of answering.
    pub fn spawn(&self, mut command: Command, pin_dir: &Path, arguments: &[&str]) -> Result<Daemon> {
        command.arg("serve").arg("--pin-dir").arg(pin_dir);
        command.arg("--netns-dir").arg(self.netns_dir());
        command.arg("--rules-dir").arg(self.rules_dir()).arg("--state-dir").arg(self.state_dir());
        command.args(arguments);
        Daemon::listening_on(self.socket(), command)
    }

    /// Starts a daemon that pins elsewhere.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn daemon_pinning_in(&self, pin_dir: &Path) -> Result<Daemon> {
        self.spawn(self.host.command(program()), pin_dir, &["--runtime", "netns"])
    }

    /// Starts a daemon that puts its programs under clsact, on any kernel.
    ///
    /// # Errors
    ///
    /// When it ends instead of answering.
    pub fn daemon_on_clsact(&self) -> Result<Daemon> {
        let arguments = ["--runtime", "netns", "--hook", "clsact"];
        self.spawn(self.host.command(program()), &self.pin_dir, &arguments)
    }

    /// Returns the names of the pins; the daemon's lock and its record of the host are no pins.
    #[must_use]
    pub fn pins(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.pin_dir).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !["host", "lock"].contains(&name.as_str()));
        names.sort();
        names
    }

    /// The directory of a container's shaped `eth0`, at whatever site.
    ///
    /// # Errors
    ///
    /// When its namespace cannot be looked at.
    pub fn pins_of(&self, container: &Container, direction: &str) -> Result<PathBuf> {
        let inode = fs::metadata(container.netns.path())?.ino();
        // `3: eth0@if7: <...`; sysfs would show the namespace it was mounted in.
        let link = container.netns.run("ip -o link show eth0")?;
        let ifindex = link.split(':').next().context("ip begins with the index")?;
        let named = |site| self.pin_dir.join(format!("netns-{inode}-if-{ifindex}-{direction}{site}"));
        let found = ["", "-own", "-detour"].map(named).into_iter().find(|path| path.exists());
        Ok(found.unwrap_or_else(|| named("")))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.pin_root);
    }
}

fn mac(netns: &Netns, device: &str) -> Result<String> {
    let link = netns.run(&format!("ip -o link show {device}"))?;
    let (_, mac) = link.split_once("link/ether ").context("it is an Ethernet device")?;
    Ok(mac.split(' ').next().context("an address")?.to_owned())
}
