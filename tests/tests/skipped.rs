//! Packets that effects leave alone: the kernel parts them by how they lie in memory, and nothing may change that.

use std::{fs, iter, net::UdpSocket};

use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBufForce, UdpGsoSegment},
};
use shaper_tests::{
    frame::{Spec, TCP},
    ms, needs,
    subject::{Context, Rig, TC_ACT_UNSPEC},
    traffic::tcp_bytes,
};

fn gso() -> Context {
    let context = Context::new().with(Context::GSO_SEGS, 3_u32.to_ne_bytes());
    context.with(Context::GSO_SIZE, 22_u32.to_ne_bytes()).with(Context::WIRE_LEN, 300_u32.to_ne_bytes())
}

#[test]
fn packets_that_the_kernel_parts_later_and_unknown_ones_are_never_written_into() {
    needs!(Root);
    let rig = Rig::new();
    let subject = rig.subject("corrupt 100% seed 9");
    let assert_skipped = |bytes: &[u8], context: &Context, packets: u64| {
        let (ran, counted) = subject.repeat(bytes, context, 10);
        assert_eq!((ran.verdict, &ran.packet[..]), (TC_ACT_UNSPEC, bytes));
        assert_eq!((counted.skipped.packets, counted.corrupted.packets), (packets * 10, 0), "{bytes:x?}");
    };
    let tcp = Spec { protocol: TCP, ..Spec::udp(64) };
    for spec in [tcp, tcp.v6(), Spec::udp(64), Spec::udp(64).v6()] {
        assert_skipped(&spec.build().bytes, &gso(), 3);
    }
    let list = Context::new().with(Context::GSO_SIZE, 0xffff_u32.to_ne_bytes());
    let plain = Context::new();
    // SCTP, GRE, ESP, IP in IP.
    for protocol in [132, 47, 50, 4] {
        let spec = Spec { protocol, ..Spec::udp(64) };
        assert_skipped(&spec.build().bytes, &list, 1);
        assert_skipped(&spec.build().bytes, &plain, 1);
        assert_skipped(&spec.v6().build().bytes, &plain, 1);
    }
    for flags in [[0x20, 0], [0, 9]] {
        let mut fragment = Spec::udp(64).build().bytes;
        fragment[20..22].copy_from_slice(&flags);
        assert_skipped(&fragment, &plain, 1);
    }
    let mut arp = Spec::udp(64).build().bytes;
    arp[12..14].copy_from_slice(&[8, 6]);
    assert_skipped(&arp, &plain, 1);
    for icmp in [Spec { protocol: 1, ..Spec::udp(64) }, Spec { protocol: 58, ..Spec::udp(64) }.v6()] {
        assert_eq!(subject.repeat(&icmp.build().bytes, &plain, 10).1.corrupted.packets, 10);
    }
}

#[test]
fn lists_of_packets_are_not_duplicated() {
    needs!(Root);
    let rig = Rig::new();
    let sctp = Spec { protocol: 132, ..Spec::udp(64) }.build().bytes;
    let list = Context::new().with(Context::GSO_SIZE, 0xffff_u32.to_ne_bytes());
    let (_, counted) = rig.subject("duplicate 100%").repeat(&sctp, &list, 10);
    assert_eq!((counted.skipped.packets, counted.duplicated.packets), (10, 0));
}

#[test]
fn no_wrong_byte_is_delivered_of_packets_in_segments() {
    needs!(Root);
    let rig = Rig::new();
    let other = rig.world.container("other").expect("a container");
    rig.world.host().enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("it forwards");
    for container in [&rig.web, &other] {
        let line = format!("ip route add default via {}", container.host_address);
        container.netns.run(&line).expect("a route");
    }
    // Bulk TCP from another container, whose checksums nobody has computed.
    rig.daemon.words(&["set", "web", "--netem", "corrupt 5%", "--direction", "ingress"]);
    let web = rig.web.address.into();
    let transfer = tcp_bytes(&other.netns, &rig.web.netns, web, 20_000_000).expect("it arrives");
    assert_eq!((transfer.turned, transfer.bytes >= 20_000_000), (0, true), "{transfer:?}");
    assert!(rig.counted("skipped") > 0, "it came in segments");

    // UDP that the kernel parts.
    rig.daemon.run("clear web");
    rig.netem("corrupt 100%");
    let receiver = rig.world.host().enter(|| UdpSocket::bind((rig.web.host_address, 0))).expect("a socket");
    receiver.set_read_timeout(Some(ms(500))).expect("it can be set");
    setsockopt(&receiver, RcvBufForce, &(64 << 20)).expect("it holds all");
    let to = receiver.local_addr().expect("it is bound");
    let sender = rig.web.netns.enter(|| UdpSocket::bind((rig.web.address, 0))).expect("a socket");
    setsockopt(&sender, UdpGsoSegment, &1_000).expect("the kernel parts UDP");
    for _ in 0..100 {
        sender.send_to(&[0; 10_000], to).expect("it is sent");
    }
    let mut datagram = [1; 2_000];
    let arrived =
        iter::from_fn(|| receiver.recv(&mut datagram).ok().map(|length| datagram[..length].to_vec()));
    let arrived: Vec<_> = arrived.take(1_000).collect();
    assert!(arrived.iter().all(|bytes| **bytes == [0; 1_000]), "what arrives is what was sent");
    assert_eq!((arrived.len(), rig.counted("skipped")), (1_000, 1_000));
}
