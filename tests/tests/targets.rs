//! Tests of the packets of a target: packets run through the program that the daemon pinned, and real ones. The effects
//! are losses, so that no queue is needed.

use std::net::{IpAddr, UdpSocket};

use shaper_tests::{
    daemon::eventually,
    frame::{Frame, Spec, TCP, UDP},
    ms, needs,
    subject::{Context, Rig, Subject, TC_ACT_STOLEN},
    traffic::{Datagrams, datagrams, tcp_bytes},
};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// UDP from port 40000 to port 9 of an address.
fn to(destination: &str) -> Spec {
    let destination = address(destination);
    let spec = if destination.is_ipv4() { Spec::udp(20) } else { Spec::udp(20).v6() };
    Spec { destination, ..spec }
}

fn tcp(spec: Spec) -> Spec {
    Spec { protocol: TCP, ..spec }
}

fn port(spec: Spec, port: u16) -> Spec {
    Spec { ports: (spec.ports.0, port), ..spec }
}

fn is_lost(subject: &Subject<'_>, spec: Spec) -> bool {
    is_frame_lost(subject, &spec.build())
}

fn is_frame_lost(subject: &Subject<'_>, frame: &Frame) -> bool {
    subject.once(&frame.bytes, &Context::new()).verdict == TC_ACT_STOLEN
}

/// Asserts which packets are of the target that `--to` names.
fn check(rig: &Rig, rule: &str, its: &[Spec], others: &[Spec]) {
    rig.daemon.run("clear web");
    rig.daemon.words(&["set", "web", "--netem", "partition", "--to", rule]);
    let subject = rig.shaped("egress");
    for spec in its {
        assert!(is_lost(&subject, *spec), "{rule} has {spec:?}");
    }
    for spec in others {
        assert!(!is_lost(&subject, *spec), "{rule} has not {spec:?}");
    }
    let counted = subject.count();
    assert_eq!(counted.lost.packets, its.len() as u64, "{rule}");
    assert_eq!(counted.passed.packets, others.len() as u64, "{rule}");
}

#[test]
fn a_target_has_the_addresses_of_its_prefixes() {
    needs!(Root);
    let rig = Rig::new();
    let (near, far, v6) = (to("10.2.0.2"), to("10.3.0.2"), to("fd02::2"));
    check(&rig, "10.2.0.0/16", &[near, tcp(near)], &[far, v6]);
    check(&rig, "10.2.0.2", &[near], &[to("10.2.0.3"), far, v6]);
    check(&rig, "fd02::/16", &[v6], &[to("fd03::2"), near]);
    check(&rig, "fd02::2", &[v6], &[to("fd02::3"), near]);
    check(&rig, "0.0.0.0/0", &[near, far], &[v6]);
    check(&rig, "::/0", &[v6, to("2001:db8::1")], &[near, far]);
    check(&rig, "10.2.0.0/16 fd02::/16", &[near, v6], &[far]);
    check(&rig, "all", &[near, far, v6], &[]);
}

#[test]
fn the_most_specific_prefix_decides_whether_it_is_excepted_or_not() {
    needs!(Root);
    let rig = Rig::new();
    let (near, far, v6) = (to("10.2.0.2"), to("10.3.0.2"), to("fd02::2"));
    check(&rig, "10.0.0.0/8 !10.2.0.0/16", &[far], &[near, v6, to("11.0.0.1")]);
    check(&rig, "10.0.0.0/8 !10.2.0.0/16 10.2.0.2", &[far, near], &[to("10.2.0.3"), v6]);
    check(&rig, "!10.2.0.0/16", &[far, v6], &[near]);
    check(&rig, "!10.2.0.0/16 !fd02::/16", &[far, to("fd03::1")], &[near, v6]);
}

#[test]
fn a_target_has_its_protocol_and_ports() {
    needs!(Root);
    let rig = Rig::new();
    let udp = to("10.2.0.2");
    let other = |protocol| Spec { protocol, ..udp };
    let (icmp, gre) = (other(1), other(47));
    check(&rig, "all tcp", &[tcp(udp), tcp(to("fd02::2"))], &[udp, icmp, gre]);
    check(&rig, "all !udp", &[tcp(udp), icmp, gre], &[udp, to("fd02::2")]);
    check(&rig, "all icmp", &[icmp], &[udp, tcp(udp)]);
    check(&rig, "all protocol 47", &[gre], &[udp, icmp]);
    check(&rig, "all icmpv6", &[Spec { protocol: 58, ..to("fd02::2") }], &[to("fd02::2"), icmp]);
    // A port is of whatever has ports; and what has none is in no range of them.
    check(&rig, "all port 9", &[udp, tcp(udp)], &[port(udp, 10), icmp]);
    check(&rig, "all tcp port 9", &[tcp(udp)], &[udp, tcp(port(udp, 10))]);
    let ranges = "10.2.0.2 udp port 443,8000-8080";
    check(
        &rig,
        ranges,
        &[port(udp, 443), port(udp, 8_000), port(udp, 8_040), port(udp, 8_080)],
        &[port(udp, 442), port(udp, 444), port(udp, 7_999), port(udp, 8_081), tcp(port(udp, 443))],
    );
    check(&rig, "all udp port !9", &[port(udp, 8), port(udp, 10), port(udp, 65_535)], &[udp, icmp]);
    check(&rig, "all local-port 40000", &[udp], &[Spec { ports: (40_001, 9), ..udp }]);
    check(&rig, "all port 9 local-port 1-100", &[Spec { ports: (100, 9), ..udp }], &[udp]);
}

#[test]
fn targets_are_taken_as_other_tools_write_them() {
    needs!(Root);
    let rig = Rig::new();
    let (near, far) = (to("10.2.0.2"), to("10.3.0.2"));
    check(&rig, "10.2.0.2,10.3.0.2", &[near, far], &[to("10.2.0.3")]);
    check(&rig, "!10.2.0.2,10.3.0.2", &[to("10.2.0.3")], &[near, far]);
    check(
        &rig,
        "10.2.0.2-10.2.0.5",
        &[near, to("10.2.0.3"), to("10.2.0.5")],
        &[to("10.2.0.1"), to("10.2.0.6"), far],
    );
    check(&rig, "10.2.0.2:9 udp", &[near], &[port(near, 10), far, tcp(near)]);
    check(&rig, "[fd02::2]:9", &[to("fd02::2")], &[port(to("fd02::2"), 10), near]);
    check(&rig, "all port 8000:8080", &[port(near, 8_000), port(near, 8_080)], &[port(near, 8_081)]);
    check(&rig, "all proto 47", &[Spec { protocol: 47, ..near }], &[near]);
    check(&rig, "all dport 9", &[near], &[port(near, 10)]);
    check(&rig, "all sport 40000 dport 9", &[near], &[Spec { ports: (40_001, 9), ..near }]);
}

#[test]
fn ports_are_found_behind_options_and_extension_headers() {
    needs!(Root);
    let rig = Rig::new();
    rig.daemon.words(&["set", "web", "--netem", "partition", "--to", "all udp port 9"]);
    let subject = rig.shaped("egress");
    for spec in [to("10.2.0.2"), to("fd02::2")] {
        for ip_options in [0, 8, 16, 24] {
            assert!(is_lost(&subject, Spec { ip_options, ..spec }), "{ip_options} {spec:?}");
            assert!(!is_lost(&subject, port(Spec { ip_options, ..spec }, 10)), "{ip_options} {spec:?}");
        }
    }
}

/// A fragment of the datagram `identification`, `offset` times 8 bytes from its beginning; never the last one.
fn fragment(spec: Spec, identification: u8, offset: u8) -> Frame {
    let mut frame = spec.build();
    if spec.destination.is_ipv6() {
        let header = [UDP, 0, 0, offset << 3 | 1, 0, 0, 0, identification];
        frame.bytes[14 + 6] = 44;
        frame.bytes.splice(54..54, header);
    } else {
        frame.bytes[14 + 5] = identification;
        frame.bytes[14 + 6] = 0x20;
        frame.bytes[14 + 7] = offset;
    }
    if offset > 0 {
        // The payload, which looks like other ports.
        let at =
            frame.bytes.len() - spec.build().bytes.len() + if spec.destination.is_ipv6() { 54 } else { 34 };
        frame.bytes[at..at + 4].copy_from_slice(&[0, 10, 0, 10]);
    }
    frame
}

#[test]
fn later_fragments_follow_the_first_one_which_has_the_ports() {
    needs!(Root);
    let rig = Rig::new();
    rig.daemon.words(&["set", "web", "--netem", "partition", "--to", "all udp port 9"]);
    let subject = rig.shaped("egress");
    for spec in [to("10.2.0.2"), to("fd02::2")] {
        let lost =
            |spec, identification, offset| is_frame_lost(&subject, &fragment(spec, identification, offset));
        assert!(!lost(spec, 1, 5), "its first one has not come");
        assert!(lost(spec, 1, 0) && lost(spec, 1, 5) && lost(spec, 1, 9), "{spec:?}");
        assert!(!lost(spec, 2, 5), "another datagram");
        assert!(!lost(port(spec, 10), 3, 0) && !lost(port(spec, 10), 3, 5), "another port");
        let more: Vec<bool> = (4..200).map(|number| lost(spec, number, 0) && lost(spec, number, 1)).collect();
        assert!(more.iter().all(|lost| *lost), "as many as are on their way");
    }
}

#[test]
fn real_datagrams_in_fragments_are_lost_whole_or_not_at_all() {
    needs!(Root);
    let rig = Rig::new();
    let receiver = rig.world.host().enter(|| UdpSocket::bind((rig.web.host_address, 0))).expect("a socket");
    receiver.set_read_timeout(Some(ms(500))).expect("it can be set");
    let port = receiver.local_addr().expect("it is bound").port();
    let sender = rig.web.netns.enter(|| UdpSocket::bind((rig.web.address, 0))).expect("a socket");
    let arrived = |to: &str| {
        rig.daemon.run("clear web");
        rig.daemon.words(&["set", "web", "--netem", "partition", "--to", to]);
        for _ in 0..20 {
            sender.send_to(&[0; 4_000], (rig.web.host_address, port)).expect("it is sent");
        }
        let arrived = (0..20).map_while(|_| receiver.recv(&mut [0; 5_000]).ok()).count();
        (arrived, rig.counted("lost"), rig.counted("passed"))
    };
    assert_eq!(arrived(&format!("all udp port {port}")), (0, 60, 0));
    assert_eq!(arrived(&format!("all udp port {}", port ^ 1)), (20, 0, 60));
}

#[test]
fn what_is_not_ip_is_of_no_target() {
    needs!(Root);
    let rig = Rig::new();
    rig.daemon.words(&["set", "web", "--netem", "partition", "--to", "all"]);
    let subject = rig.shaped("egress");
    let mut arp = [0; 64];
    arp[12..14].copy_from_slice(&[8, 6]);
    let (ran, counted) = subject.repeat(&arp, &Context::new(), 100);
    assert_ne!(ran.verdict, TC_ACT_STOLEN);
    assert_eq!(counted.passed.packets, 100);
}

const SEVERAL: &str = r#"
    loss = "every 5"
    [[target]]
    to = "10.2.0.2"
    protocol = "tcp"
    loss = "every 2"
    [[target]]
    to = ["10.2.0.0/16", "fd02::/16"]
    loss = "every 3"
    [[target]]
    to = "10.0.0.0/8"
    loss = "every 4"
    [[target]]
    to = "10.9.0.0/16"
    netem = "partition"
    [[target]]
    to = "11.0.0.0/8"
    netem = ""
"#;

#[test]
fn the_first_target_that_has_a_packet_decides_and_each_has_its_own_effects() {
    needs!(Root);
    let rig = Rig::new();
    let subject = rig.subject_of_shaping(SEVERAL);
    let near = to("10.2.0.2");
    // In turns, so that each has to count its own.
    let packets = [
        (tcp(near), 2),
        (near, 3),
        (to("fd02::2"), 3),
        (to("10.3.0.2"), 4),
        (to("10.9.0.2"), 4),
        (to("192.0.2.1"), 5),
        (to("11.0.0.1"), u64::MAX),
    ];
    let mut came = std::collections::BTreeMap::new();
    for round in 1..=60 {
        for (spec, every) in packets {
            let number = came.entry(every).or_insert(0_u64);
            *number += 1;
            assert_eq!(
                is_lost(&subject, spec),
                *number % every == 0,
                "round {round}: every {every} of {spec:?}"
            );
        }
    }
}

#[test]
fn targets_of_what_a_container_receives_are_those_who_send_it() {
    needs!(Root);
    let rig = Rig::new();
    rig.daemon.words(&[
        "set",
        "web",
        "--netem",
        "partition",
        "--to",
        "10.1.0.0/16 udp port 40000 local-port 9",
        "--direction",
        "ingress",
    ]);
    let subject = rig.shaped("ingress");
    let spec = to("10.2.0.2");
    assert!(is_lost(&subject, spec));
    let swapped = Spec { source: spec.destination, destination: spec.source, ..spec };
    assert!(!is_lost(&subject, swapped));
    assert!(!is_lost(&subject, Spec { ports: (9, 40_000), ..spec }));
    assert!(!is_lost(&subject, tcp(spec)));
}

#[test]
fn real_packets_to_a_target_are_lost_and_the_rest_is_untouched() {
    needs!(Root);
    let rig = Rig::new();
    let (host, second) = (rig.world.host(), "10.99.0.9");
    host.run(&format!("ip addr add {second}/32 dev {}", rig.web.host_end)).expect("it can be added");
    rig.web.netns.run(&format!("ip route add {second}/32 via {}", rig.web.host_address)).expect("a route");
    rig.daemon.words(&["set", "web", "--netem", "loss every 2", "--to", &format!("{second} udp")]);
    let send = |to: IpAddr| {
        let sent = Datagrams::at_once(1_000, 100);
        let arrived = datagrams(&rig.web.netns, host, to, sent, std::time::Duration::from_millis(300));
        arrived.expect("sockets work").len()
    };
    assert_eq!(send(rig.web.host_address.into()), 1_000, "another address");
    assert_eq!(rig.counted("lost"), 0);
    assert_eq!(send(address(second)), 500);
    assert_eq!(rig.counted("lost"), 500);
    let transferred = tcp_bytes(&rig.web.netns, host, address(second), 100_000).expect("it arrives");
    assert_eq!(transferred.retransmits, 0, "another protocol");
    assert_eq!(rig.counted("lost"), 500);
}

#[test]
fn a_target_follows_a_container_to_its_addresses() {
    needs!(Root);
    let rig = Rig::new();
    let db = rig.world.container("db").expect("a container");
    rig.daemon.view("db");
    rig.daemon.words(&["set", "web", "--netem", "partition", "--to", "container:db"]);
    let own = to(&db.address.to_string());
    assert!(is_lost(&rig.shaped("egress"), own));
    let (second, v6) = (to("10.77.0.7"), to("fd77::7"));
    assert!(!is_lost(&rig.shaped("egress"), second));
    db.netns.run("ip addr add 10.77.0.7/24 dev eth0").expect("it can be added");
    db.netns.run("ip addr add fd77::7/64 dev eth0 nodad").expect("it can be added");
    eventually("it is found there, too", || {
        let subject = rig.shaped("egress");
        (is_lost(&subject, second) && is_lost(&subject, v6)).then_some(())
    });
    assert!(is_lost(&rig.shaped("egress"), own));
    db.netns.run(&format!("ip addr del {}/24 dev eth0", db.address)).expect("it can be removed");
    eventually("it has gone from there", || (!is_lost(&rig.shaped("egress"), own)).then_some(()));
    assert!(is_lost(&rig.shaped("egress"), second));
    assert!(!is_lost(&rig.shaped("egress"), to("10.3.0.2")), "nobody's");
}

#[test]
fn fragments_to_a_name_follow_their_first_one_even_if_the_name_had_no_address() {
    needs!(Root);
    let rig = Rig::new();
    let db = rig.world.container("db").expect("a container");
    db.netns.run("ip addr flush dev eth0").expect("it had one");
    rig.daemon.view("db");
    rig.daemon.words(&["set", "web", "--netem", "partition", "--to", "container:db udp port 9"]);
    db.netns.run("ip addr add 10.77.0.7/24 dev eth0").expect("it can be added");
    let spec = to("10.77.0.7");
    eventually("it is found there", || is_lost(&rig.shaped("egress"), spec).then_some(()));
    let subject = rig.shaped("egress");
    let lost = |identification, offset| is_frame_lost(&subject, &fragment(spec, identification, offset));
    for identification in 1..100 {
        assert!(lost(identification, 0) && lost(identification, 5), "datagram {identification}");
    }
}

#[test]
fn a_target_is_not_where_a_container_holds_others() {
    needs!(Root);
    let rig = Rig::new();
    let db = rig.world.container("db").expect("a container");
    for line in [
        "ip link add docker0 type bridge",
        "ip addr add 10.98.0.1/24 dev docker0",
        "ip link add br0 type bridge",
        "ip addr add 10.98.1.1/24 dev br0",
        "ip link set eth0 master br0",
        "ip addr add 10.98.2.1/32 dev lo",
    ] {
        db.netns.run(line).expect(line);
    }
    rig.daemon.view("db");
    rig.daemon.words(&["set", "web", "--netem", "partition", "--to", "container:db"]);
    let subject = rig.shaped("egress");
    for own in [&*db.address.to_string(), "10.98.1.1", "10.98.2.1"] {
        assert!(is_lost(&subject, to(own)), "{own} is its own");
    }
    assert!(!is_lost(&subject, to("10.98.0.1")), "another host's bridge may have it, too");
}

#[test]
fn a_bad_target_is_refused_before_anything_changes() {
    needs!(Root);
    let rig = Rig::new();
    let before = rig.web.netns.traces();
    let set = |to: &str| rig.daemon.complaint_about(&["set", "web", "--netem", "loss 1%", "--to", to]);
    let bad = [
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("container:nobody", "nobody"),
        ("all port 70000", "70000"),
        ("all icmp port 5", "port"),
        ("10.0.0.1 !10.0.0.1", "10.0.0.1"),
        ("nonsense", "nonsense"),
    ];
    for (to, named) in bad {
        let complaint = set(to);
        assert!(complaint.contains(named), "{to}: {complaint}");
        assert_eq!(rig.web.netns.traces(), before, "{to}");
        assert!(rig.world.pins().iter().all(|pin| pin == "AYA_LOGS"), "{to}: {:?}", rig.world.pins());
    }
    rig.daemon.words(&["set", "web", "--netem", "loss every 2", "--to", "10.2.0.2"]);
    let shaped = rig.daemon.view("web")["interfaces"][0]["shaping"].clone();
    for (to, _) in bad {
        set(to);
        assert_eq!(rig.daemon.view("web")["interfaces"][0]["shaping"], shaped, "{to}");
    }
    let subject = rig.shaped("egress");
    let losses = subject.losses(&to("10.2.0.2").build().bytes, 10);
    assert_eq!(losses.iter().filter(|lost| **lost).count(), 5, "as it was");
}

#[test]
fn the_frames_here_are_what_they_seem() {
    let frame = to("10.2.0.2").build();
    assert_eq!((frame.bytes[23], &frame.bytes[30..34]), (UDP, &[10, 2, 0, 2][..]));
}
