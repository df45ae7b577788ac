//! Packets that effects leave alone: the kernel parts them by how they lie in memory, and nothing may change that.

use shaper_tests::{
    frame::{Spec, TCP},
    needs,
    subject::{Context, Rig, TC_ACT_UNSPEC},
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
