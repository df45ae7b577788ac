//! Two senders on two processors at once, in a machine that has two: what is asserted follows from the scenario, not from
//! time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use shaper_common::policy::Effects;
use shaper_tests::{
    ms, needs,
    statistics::float,
    subject::{Context, Rig},
    traffic::{Arrival, Datagrams, datagrams, out_of_order},
    world::Container,
};

const fn steadily(count: u32) -> Datagrams {
    Datagrams { interval: Duration::from_micros(300), ..Datagrams::at_once(count, 100) }
}

/// Returns what arrives of two sockets of a container, each of whose senders has a processor of its own.
///
/// # Panics
///
/// On a machine with one processor.
fn arrive(rig: &Rig, from: &Container, sent: Datagrams) -> [Vec<Arrival>; 2] {
    assert!(thread::available_parallelism().is_ok_and(|number| number.get() > 1), "one processor");
    let send = move |processor| {
        let mut processors = CpuSet::new();
        processors.set(processor).expect("it is a small number");
        // Of this thread alone, and of the one that receives, which it starts.
        sched_setaffinity(Pid::from_raw(0), &processors).expect("it is there");
        datagrams(&from.netns, rig.world.host(), from.host_address.into(), sent, ms(2_000))
            .expect("sockets work")
    };
    thread::scope(|scope| {
        [0, 1]
            .map(|processor| scope.spawn(move || send(processor)))
            .map(|sender| sender.join().expect("it does not panic"))
    })
}

#[test]
fn changes_lose_and_repeat_no_packet_of_two_processors() {
    needs!(Root, Fq);
    let rig = Rig::new();
    rig.daemon.run("set web --prepare");
    let sent = steadily(30_000);
    let is_over = AtomicBool::new(false);
    let (arrivals, changes) = thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut changes = 0;
            while !is_over.load(Ordering::Relaxed) {
                // The program for plain policies, others in its place, and the plain one again, with its map changed.
                for netem in ["delay 10ms", "delay 5ms 2ms", "delay 5ms 2ms loss 0%", "delay 5ms"] {
                    rig.netem(netem);
                    changes += 1;
                }
                // Its queue stays, as it is prepared.
                rig.daemon.run("set web --latency 0");
            }
            changes
        });
        let arrivals = arrive(&rig, &rig.web, sent);
        is_over.store(true, Ordering::Relaxed);
        (arrivals, changing.join().expect("it does not panic"))
    });
    println!("{changes} changes");
    assert!(changes >= 4, "one of each kind: {changes}");
    for arrivals in arrivals {
        let mut numbers: Vec<_> = arrivals.iter().map(|arrival| arrival.number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..sent.count), "each arrives, and once");
    }
    let counted = rig.counted("delayed") + rig.counted("passed");
    assert!(counted >= 2 * u64::from(sent.count), "counted on both processors: {counted}");
}

#[test]
fn each_senders_order_is_kept_as_well_as_by_netem() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let other = rig.world.container("other").expect("a container");
    rig.netem("delay 2ms");
    other.qdisc("netem delay 2ms limit 100000");
    let sent = steadily(3_000);
    let mut shares = [0.0; 2];
    for _ in 0..3 {
        for (share, container) in shares.iter_mut().zip([&rig.web, &other]) {
            for arrivals in arrive(&rig, container, sent) {
                let numbers: Vec<_> = arrivals.iter().map(|arrival| arrival.number).collect();
                assert_eq!(numbers.len(), sent.count as usize, "none is lost");
                *share += float(out_of_order(&numbers) as u64) / float(6 * u64::from(sent.count));
            }
        }
    }
    let [ours, netem] = shares;
    println!("out of order: ours {:.2} %, netem {:.2} %", ours * 100.0, netem * 100.0);
    assert!(ours <= netem + 0.02, "{ours} of the packets are out of order, through netem {netem}");
}

#[test]
fn processors_that_book_a_link_at_once_lose_none_of_its_time() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let subject = rig.subject("rate 1mbit");
    // Without the end of its queue.
    subject.change_effects(|effects| *effects = Effects { rate: 125_000, ..Effects::default() });
    let (packet, time_ns) = ([0; 64], 64 * 8_000);
    let departs = || subject.once(&packet, &Context::new()).context.departure_ns();
    // So that the bottleneck is never free while this goes on.
    let _ = subject.repeat(&packet, &Context::new(), 1_000);
    let begin_ns = departs();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| subject.repeat(&packet, &Context::new(), 25_000));
        }
    });
    assert_eq!(departs() - begin_ns, 100_001 * time_ns);
}
