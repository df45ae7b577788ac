//! Packets of every kind through every effect: nothing that a container sends may harm the kernel.
//!
//! What the kernel writes in its log meanwhile fails the suite as well. By hand, with more frames, or with those of a run
//! that failed: `SHAPER_FUZZ_FRAMES=10000000 SHAPER_FUZZ_SEED=7 cargo xtask test --vm random_frames`.

use std::{env, time::Instant};

use shaper_tests::{
    frame::{CE, Frame, Spec, TCP},
    needs,
    odd_frames::{ETHERNET, Frames, Sender},
    odd_traffic::Path,
    subject::{Context, Rig, Subject},
};
use socket2::Protocol;

/// All that may be done to packets.
const EFFECTS: [&str; 8] = [
    "corrupt 30%",
    "corrupt 30% fixed",
    "duplicate 50%",
    "loss 20% ecn",
    "delay 5ms 2ms reorder 25%",
    "rate 50mbit",
    "slot 1ms 3ms packets 8",
    "delay 2ms 1ms loss 5% duplicate 20% corrupt 20% rate 50mbit limit 100",
];
const IPV6_HEADER: usize = 40;
/// Bytes of each stream.
const STREAM: usize = 100_000;

fn path(rig: &Rig) -> Path<'_> {
    let (web, host) = (&rig.web, rig.world.host());
    Path { from: &web.netns, source: web.address, to: host, destination: web.host_address }
}

/// Shapes both directions anew.
fn shape(rig: &Rig, words: &str) {
    rig.daemon.run("clear web");
    rig.daemon.words(&["set", "web", "--netem", words, "--direction", "both"]);
}

#[test]
fn sctp_arrives_whole_where_packets_are_corrupt_or_come_twice() {
    needs!(Root);
    let rig = Rig::new();
    for effect in ["corrupt 50%", "duplicate 50%"] {
        rig.daemon.run("clear web");
        rig.netem(effect);
        let arrived = path(&rig).stream(Protocol::SCTP, 300, 1_000).expect("the kernel has SCTP");
        assert_eq!(arrived, 300_000, "{effect}");
        assert!(rig.counted("skipped") > 0, "{effect}: they are said to be left as they were");
    }
}

/// Sends each kind of traffic; gives which of them did not arrive whole.
fn send_all(rig: &Rig, tunnels: &[Path<'_>]) -> Vec<String> {
    let path = path(rig);
    let mut failed = Vec::new();
    let mut note = |what: String, arrived: usize, sent: usize| {
        if arrived != sent {
            failed.push(what);
        }
    };
    for path in [path, path.reversed()] {
        for protocol in [Protocol::SCTP, Protocol::MPTCP, Protocol::TCP] {
            let arrived = path.stream(protocol, STREAM / 1_000, 1_000).expect("the kernel has it");
            note(format!("{protocol:?}"), arrived, STREAM);
        }
        note("GSO".to_owned(), path.datagram(20_000, Some(1_000)).expect("sockets work"), 20_000);
        note("fragments".to_owned(), path.datagram(20_000, None).expect("sockets work"), 20_000);
        path.unread().expect("sockets work");
    }
    for tunnel in tunnels {
        let arrived = tunnel.stream(Protocol::TCP, STREAM / 1_000, 1_000).expect("there is TCP");
        note(format!("a tunnel's TCP, {}", tunnel.destination), arrived, STREAM);
        let arrived = tunnel.datagram(10_000, Some(1_000)).expect("sockets work");
        note(format!("a tunnel's GSO, {}", tunnel.destination), arrived, 10_000);
    }
    failed
}

fn set_mtu(rig: &Rig, mtu: u32) {
    rig.web.netns.run(&format!("ip link set eth0 mtu {mtu}")).expect("it is a veth");
    rig.world.host().run(&format!("ip link set {} mtu {mtu}", rig.web.host_end)).expect("it is a veth");
}

#[test]
fn traffic_of_every_kind_survives_every_effect() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let kinds = ["gre", "ipip", "vxlan id 7 dstport 4789"];
    let tunnels: Vec<_> =
        (0..).zip(kinds).map(|(n, kind)| path(&rig).tunnel(kind, n).expect("it has it")).collect();
    assert_eq!(send_all(&rig, &tunnels), [""; 0], "before");
    for effect in EFFECTS {
        let begin = Instant::now();
        shape(&rig, effect);
        let failed = send_all(&rig, &tunnels);
        set_mtu(&rig, 9_000);
        for path in [path(&rig), path(&rig).reversed()] {
            let _ = path.stream(Protocol::TCP, STREAM / 1_000, 1_000).expect("there is TCP");
            let _ = path.datagram(8_000, None).expect("sockets work");
        }
        set_mtu(&rig, 1_500);
        println!("{effect}: {:?}, not whole: {failed:?}", begin.elapsed());
    }
    rig.daemon.run("clear web");
    assert_eq!(send_all(&rig, &tunnels), [""; 0], "after");
}

/// Senders of both ends of the container's link, each with the frames that it sends.
fn ends(rig: &Rig, seed: u64, offloads: bool) -> [(Sender, Frames); 2] {
    let (web, host) = (&rig.web, rig.world.host());
    let inside = Sender::new(&web.netns, "eth0", offloads).expect("there is one");
    let outside = Sender::new(host, &web.host_end, offloads).expect("there is one");
    let macs = |to: &Sender, from: &Sender| {
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&to.mac());
        macs[6..].copy_from_slice(&from.mac());
        macs
    };
    let sent = Frames::new(seed, (web.address, web.host_address), macs(&outside, &inside));
    let received = Frames::new(!seed, (web.host_address, web.address), macs(&inside, &outside));
    [(inside, sent), (outside, received)]
}

#[test]
fn headers_cut_at_every_length_survive_every_effect() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let udp = Spec { ip_options: 8, ..Spec::udp(64) };
    let tcp = Spec { protocol: TCP, tcp_options: 12, ..udp };
    let others = [1, 4, 47, 50, 132].map(|protocol| Spec { protocol, ..udp });
    let specs = [udp, tcp, udp.v6(), tcp.v6()].into_iter().chain(others);
    let frames: Vec<_> = specs.map(|spec| spec.build().bytes).collect();
    let ends = ends(&rig, 0, false);
    for effect in EFFECTS {
        shape(&rig, effect);
        for frame in &frames {
            for length in ETHERNET..=frame.len() {
                for (sender, _) in &ends {
                    sender.send(&frame[..length]).expect("it can be sent");
                }
            }
        }
    }
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

fn seed() -> u64 {
    setting("SHAPER_FUZZ_SEED", fastrand::u64(..1 << 32))
}

/// Effects for fuzzing: those that this kernel has.
fn fuzzed_effects() -> Vec<&'static str> {
    let has_fq = shaper_tests::require::met(&[shaper_tests::require::Need::Fq]);
    let waits = |effect: &str| ["delay", "rate", "slot"].iter().any(|word| effect.contains(word));
    EFFECTS.into_iter().filter(|effect| has_fq || !waits(effect)).collect()
}

#[test]
fn random_frames_survive_every_effect_on_a_device() {
    needs!(Root);
    let (seed, frames) = (seed(), setting("SHAPER_FUZZ_FRAMES", 4_000));
    let rig = Rig::new();
    let effects = fuzzed_effects();
    let (begin, mut sent, mut taken) = (Instant::now(), 0, 0_u64);
    println!("SHAPER_FUZZ_SEED={seed}");
    for (number, effect) in (0..).zip(&effects) {
        shape(&rig, effect);
        let offloads = [false, true].map(|offloads| ends(&rig, seed + number, offloads));
        for (has_offload, ends) in [false, true].into_iter().zip(offloads) {
            for (sender, mut source) in ends {
                for _ in 0..frames / (effects.len() as u64 * 4) {
                    let frame = source.next_frame();
                    let frame =
                        if has_offload { [&source.next_offload(&frame)[..], &frame].concat() } else { frame };
                    taken += u64::from(sender.send(&frame).expect("it can be sent"));
                    sent += 1;
                }
            }
        }
    }
    println!("{taken} of {sent} frames were taken, in {:?}", begin.elapsed());
    assert!(taken > sent / 2);
}

#[test]
fn random_frames_survive_runs_of_the_program() {
    needs!(Root);
    let (seed, frames) = (seed(), setting("SHAPER_FUZZ_FRAMES", 4_000));
    let rig = Rig::new();
    println!("SHAPER_FUZZ_SEED={seed}");
    let (begin, mut ran) = (Instant::now(), 0);
    // Copies would go to the loopback, as packets that no sender made.
    let effects: Vec<_> =
        fuzzed_effects().into_iter().filter(|effect| !effect.contains("duplicate")).collect();
    for (number, effect) in (0..).zip(&effects) {
        let subject = rig.subject(effect);
        let mut source = Frames::new(seed + number, (rig.web.address, rig.web.host_address), [0; 12]);
        ran += run_frames(&subject, &mut source, frames / effects.len() as u64);
    }
    println!("the program ran on {ran} frames in {:?}", begin.elapsed());
}

/// Runs the program on frames; gives on how many.
fn run_frames(subject: &Subject<'_>, source: &mut Frames, count: u64) -> u64 {
    let mut runs = 0;
    for _ in 0..count {
        let frame = source.next_frame();
        if frame.len() < ETHERNET + IPV6_HEADER {
            // Kernels refuse to run programs on a header that is cut short (6.18), or on nothing (6.1).
            continue;
        }
        let size: u32 = [0, 0, 22, 1_400, 0xffff][source.below(5) as usize];
        let segments = if size == 0 { 0 } else { source.below(64) };
        let context = Context::new()
            .with(Context::GSO_SIZE, size.to_ne_bytes())
            .with(Context::GSO_SEGS, segments.to_ne_bytes());
        let ran = subject.once(&frame, &context);
        assert!(
            size == 0 || ran.packet == frame || Frame::ecn(&ran.packet) == CE,
            "a GSO packet stays as it is"
        );
        runs += 1;
    }
    runs
}
