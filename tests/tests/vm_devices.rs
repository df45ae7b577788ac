//! Interfaces of every kind that lead out of a container.

use std::{net::Ipv4Addr, os::fd::AsRawFd as _};

use nix::{
    libc,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};
use serde_json::Value;
use shaper_tests::{
    daemon::Daemon,
    ms, needs,
    netns::Netns,
    traffic::{Pings, ping},
    world::World,
};

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// A container without any interface, the network behind its host, and a device of the host that leads there.
struct Scene {
    daemon: Daemon,
    bare: Netns,
    outside: Netns,
    // Dropped last, as it holds the others' files.
    world: World,
}

impl Scene {
    fn new() -> Self {
        let world = World::new().expect("a world");
        let bare = Netns::create(world.netns_dir().join("bare")).expect("a namespace");
        let outside = Netns::create(world.directory().join("outside")).expect("a namespace");
        let path = outside.path().display();
        world.host().run(&format!("ip link add lower type veth peer name far netns {path}")).expect("a veth");
        for (netns, line) in [(world.host(), "ip link set lower up"), (&outside, "ip link set far up")] {
            netns.run(line).expect(line);
        }
        let daemon = world.daemon().expect("a daemon");
        daemon.view("bare");
        Self { daemon, bare, outside, world }
    }

    /// Gives an interface of the container, and one outside, addresses of the same network.
    fn connect(&self, inside: &str, netns: &Netns, outside: &str) {
        for (netns, name, address) in [(netns, outside, OUTSIDE), (&self.bare, inside, INSIDE)] {
            netns.run(&format!("ip addr add {address}/24 dev {name}")).expect("an address");
            netns.run(&format!("ip link set {name} up")).expect("it goes up");
        }
    }

    fn ping(&self) -> Pings {
        ping(&self.bare, OUTSIDE, 20, ms(5), &["-W", "1"]).expect("ping works")
    }

    /// Asserts that what the container sends is lost, or delayed, and that clearing ends it.
    fn assert_shapes(&self, kind: &str, direction: &str) {
        assert_eq!(self.ping().received, 20, "{kind}: before");
        self.daemon.run(&format!("set bare --loss 100% --direction {direction}"));
        assert_eq!(self.ping().received, 0, "{kind} {direction}: lost");
        self.daemon.run("clear bare");
        self.daemon.run(&format!("set bare --latency 20ms --direction {direction}"));
        let delayed = self.ping();
        assert_eq!(delayed.received, 20, "{kind} {direction}");
        assert!(delayed.mean >= ms(20) && delayed.mean < ms(25), "{kind} {direction}: {delayed:?}");
        self.daemon.run("clear bare");
        assert!(self.ping().mean < ms(5), "{kind} {direction}: after");
    }
}

fn interfaces(view: &Value) -> Vec<&str> {
    view["interfaces"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["interface"].as_str())
        .collect()
}

#[test]
fn devices_on_top_of_the_hosts_are_shaped_in_both_directions() {
    needs!(Root, Fq);
    for (kind, options) in [("macvlan", "mode bridge"), ("ipvlan", "mode l2"), ("vlan", "id 5")] {
        let scene = Scene::new();
        let (host, path) = (scene.world.host(), scene.bare.path().display());
        host.run(&format!("ip link add link lower name up0 netns {path} type {kind} {options}")).expect(kind);
        let far = if kind == "vlan" {
            scene.outside.run("ip link add link far name far.5 type vlan id 5").expect("a VLAN");
            "far.5"
        } else {
            "far"
        };
        scene.connect("up0", &scene.outside, far);
        for direction in ["egress", "ingress"] {
            scene.assert_shapes(kind, direction);
        }
    }
}

/// `include/uapi/linux/if_link.h`, Linux 6.12.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_NETKIT_MODE: u16 = 5;
const NETKIT_MODES: [u32; 2] = [0, 1];

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("it is short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Makes a pair of netkits, `primary0` and what the kernel calls `nk0`, which Debian 12's `ip` cannot in each mode. Returns
/// false if the kernel has none.
fn add_netkits(netns: &Netns, mode: u32) -> bool {
    let data = attribute(IFLA_INFO_DATA, &attribute(IFLA_NETKIT_MODE, &mode.to_ne_bytes()));
    let info = [attribute(IFLA_INFO_KIND, b"netkit\0"), data].concat();
    let body = [vec![0; 16], attribute(IFLA_IFNAME, b"primary0\0"), attribute(IFLA_LINKINFO, &info)].concat();
    let length = u32::try_from(16 + body.len()).expect("it is short");
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let flags = u16::try_from(flags).expect("it has 16 bits");
    let header =
        [&length.to_ne_bytes()[..], &libc::RTM_NEWLINK.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    let errno = netns.enter(|| {
        let (kind, protocol) = (SockType::Raw, SockProtocol::NetlinkRoute);
        let socket =
            socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol).expect("a socket");
        send(socket.as_raw_fd(), &[header, body].concat(), MsgFlags::empty()).expect("it is sent");
        let mut answer = [0; 512];
        recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("it answers");
        -i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]])
    });
    assert!([0, libc::EOPNOTSUPP].contains(&errno), "netkit: errno {errno}");
    errno == 0
}

#[test]
fn a_netkit_is_shaped_in_both_directions() {
    needs!(Root, Fq);
    for mode in NETKIT_MODES {
        let scene = Scene::new();
        let (host, path) = (scene.world.host(), scene.bare.path().display());
        if !add_netkits(host, mode) {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
            assert!(release.starts_with("6.1."), "Linux has netkit since 6.7: {release}");
            return;
        }
        host.run(&format!("ip link set nk0 netns {path} name up0")).expect("it can go");
        scene.connect("up0", host, "primary0");
        for direction in ["egress", "ingress"] {
            scene.assert_shapes(&format!("netkit in mode {mode}"), direction);
        }
    }
}

#[test]
fn a_tap_is_shaped_if_it_is_the_way_out_and_what_is_left_out_is_said() {
    needs!(Root, Fq);
    let scene = Scene::new();
    for line in [
        "ip tuntap add mode tun name tun0",
        "ip tuntap add mode tap name tap0",
        "ip link set tap0 up",
        "ip addr add 10.0.2.100/24 dev tap0",
    ] {
        scene.bare.run(line).expect(line);
    }
    let refused = scene.daemon.complaint("set bare --loss 1%");
    let reason =
        "it has no network interface that leads out of it: it has tun0 (tun, not Ethernet), tap0 (tun)";
    assert!(refused.contains(reason), "{refused}");
    scene.bare.run("ip route add default via 10.0.2.2").expect("a route");
    scene.daemon.run("set bare --loss 1%");
    assert_eq!(interfaces(&scene.daemon.view("bare")), ["tap0"]);
}
