//! Delay, beside netem in the same boot; and that nothing is lost while shaping comes, changes and goes.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::Signal,
    socket::{
        setsockopt,
        sockopt::{Priority, SndBuf},
    },
};
use shaper_tests::{
    daemon::{Daemon, eventually},
    ms, needs,
    traffic::{Pings, ping, tcp, udp_burst},
    world::{Container, World},
};

fn shaped_world() -> (World, Container, Daemon) {
    let world = World::new().expect("a world");
    let web = world.container("web").expect("a container");
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    (world, web, daemon)
}

fn ping_host(container: &Container, count: u32, interval: Duration) -> Pings {
    ping(&container.netns, container.host_address, count, interval, &[]).expect("ping works")
}

fn root_qdisc(container: &Container) -> String {
    container.netns.run("tc qdisc show dev eth0 root").expect("tc works")
}

#[test]
fn the_mean_round_trip_is_what_was_asked() {
    needs!(Root, Fq, Netem);
    let (world, web, daemon) = shaped_world();
    let other = world.container("other").expect("a container for netem");
    println!("| asked | unshaped | shaper mean | error | deviation | netem mean | error | deviation |");
    let mut wrong = Vec::new();
    for (asked, count, interval) in [
        (ms(1), 300, ms(10)),
        (ms(10), 300, ms(10)),
        (ms(50), 200, ms(10)),
        (ms(500), 100, ms(20)),
        (ms(1000), 60, ms(50)),
        (ms(2000), 60, ms(50)),
    ] {
        let text = format!("{}ms", asked.as_millis());
        daemon.run("clear web");
        let unshaped = ping_host(&web, 200, ms(5)).mean;
        daemon.run(&format!("set web --latency {text}"));
        other
            .netns
            .run(&format!("tc qdisc replace dev eth0 root netem delay {text} limit 100000"))
            .expect("netem is there");
        let ours = ping_host(&web, count, interval);
        let netem = ping_host(&other, count, interval);
        assert_eq!(ours.received, count, "at {text}");
        // What the machine takes without us is not ours.
        let error =
            |mean: Duration| (mean.as_secs_f64() - unshaped.as_secs_f64() - asked.as_secs_f64()) * 1000.0;
        println!(
            "| {text} | {unshaped:?} | {:?} | {:.3} ms | {:?} | {:?} | {:.3} ms | {:?} |",
            ours.mean,
            error(ours.mean),
            ours.deviation,
            netem.mean,
            error(netem.mean),
            netem.deviation
        );
        if error(ours.mean).abs() > 0.1 + 0.005 * asked.as_secs_f64() * 1000.0 {
            wrong.push(text);
        }
    }
    assert!(wrong.is_empty(), "further than 0.1 ms + 0.5 % from what was asked: {wrong:?}");
}

#[test]
fn tcp_through_a_delay_is_as_fast_as_through_netem() {
    needs!(Root, Fq, Netem);
    let (world, web, daemon) = shaped_world();
    let other = world.container("other").expect("a container for netem");
    daemon.view("other");
    for direction in ["egress", "ingress"] {
        let (at_container, at_host) = (&other.netns, world.host());
        let (netem_at, device) =
            if direction == "egress" { (at_container, "eth0") } else { (at_host, other.host_end.as_str()) };
        netem_at
            .run(&format!("tc qdisc replace dev {device} root netem delay 50ms limit 100000"))
            .expect("netem");
        daemon.run(&format!("set web --latency 50ms --direction {direction}"));
        let goodput = |container: &Container| {
            let transfer = match direction {
                "egress" => tcp(&container.netns, at_host, container.host_address.into(), ms(4000)),
                _ => tcp(at_host, &container.netns, container.address.into(), ms(4000)),
            };
            transfer.expect("it arrives").mbit_per_second()
        };
        // Interleaved, and the best of three: other work on the machine only ever slows a transfer down.
        let rounds: Vec<_> = (0..3).map(|_| (goodput(&web), goodput(&other))).collect();
        let best = |of: fn(&(f64, f64)) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
        let (ours, netem) = (best(|round| round.0), best(|round| round.1));
        println!(
            "{direction}: {ours:.0} Mbit/s, netem {netem:.0} Mbit/s, ratio {:.2}; all: {rounds:.0?}",
            ours / netem
        );
        assert!(ours >= 0.95 * netem, "{direction}: {ours} Mbit/s, netem {netem} Mbit/s");
        daemon.run("clear web");
        netem_at.run(&format!("tc qdisc del dev {device} root")).expect("it is there");
    }
}

#[test]
fn five_thousand_packets_at_once_into_two_seconds_all_arrive() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    for direction in ["egress", "ingress"] {
        daemon.run(&format!("set web --latency 2s --direction {direction}"));
        let begin = Instant::now();
        let arrived = match direction {
            "egress" => udp_burst(&web.netns, world.host(), web.host_address, 5000, ms(8000)),
            _ => udp_burst(world.host(), &web.netns, web.address, 5000, ms(8000)),
        };
        assert_eq!(arrived.expect("sockets work"), 5000, "{direction}");
        assert!(begin.elapsed() >= ms(2000), "{direction}: they were delayed");
        println!("{direction}: 5000 of 5000 after {:?}", begin.elapsed());
        daemon.run("clear web");
    }
}

#[test]
fn what_the_queue_drops_is_seen() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    daemon.run("set web --latency 200ms");
    web.netns.run("tc qdisc change dev eth0 root fq limit 100 flow_limit 100").expect("an operator may");
    let arrived =
        udp_burst(&web.netns, world.host(), web.host_address, 1000, ms(3000)).expect("sockets work");
    assert!(arrived < 1000, "the case this test is about");
    eventually("the drops are listed", || {
        let interface = &daemon.view("web")["interfaces"][0];
        (interface["queue"]["dropped"].as_u64() == Some(u64::from(1000 - arrived))).then_some(())
    });
}

#[test]
fn a_daemon_killed_and_started_again_loses_no_packet() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    let before = web.netns.traces();
    daemon.run("set web --latency 50ms");
    let (pings, daemon) = thread::scope(|scope| {
        let pings = scope.spawn(|| ping_host(&web, 600, ms(10)));
        thread::sleep(ms(1000));
        daemon.kill(Signal::SIGKILL);
        thread::sleep(ms(1000));
        let daemon = world.daemon().expect("another daemon");
        (pings.join().expect("it does not panic"), daemon)
    });
    assert_eq!(pings.received, pings.sent);
    assert!(pings.least >= ms(50), "all of them were delayed: {pings:?}");
    assert_eq!(daemon.view("web")["interfaces"][0]["shaping"]["latency"], "50ms", "adopted");
    daemon.run("set web --latency 20ms");
    let pings = ping_host(&web, 20, ms(10));
    assert!(pings.least >= ms(20) && pings.least < ms(50), "changed: {pings:?}");
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before, "cleared");
}

#[test]
fn changes_lose_no_packet() {
    needs!(Root, Fq);
    let (_world, web, daemon) = shaped_world();
    daemon.run("set web --latency 20ms");
    let pings = thread::scope(|scope| {
        let pings = scope.spawn(|| ping_host(&web, 500, ms(10)));
        while !pings.is_finished() {
            for latency in ["40ms", "1ms", "120ms", "20ms"] {
                daemon.run(&format!("set web --latency {latency}"));
            }
        }
        pings.join().expect("it does not panic")
    });
    assert_eq!(pings.received, pings.sent);
}

#[test]
fn clearing_delivers_what_waits_and_gives_everything_back() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    web.netns.run("ip link set eth0 txqueuelen 0").expect("it can be set");
    let (inside, outside) = (web.netns.traces(), world.host().traces());
    daemon.run("set web --latency 2s --direction both");
    let arrived = thread::scope(|scope| {
        let burst = scope.spawn(|| udp_burst(&web.netns, world.host(), web.host_address, 500, ms(8000)));
        eventually("they wait", || {
            let view = daemon.view("web");
            (view["interfaces"][0]["delayed"]["packets"].as_u64() >= Some(500)).then_some(())
        });
        let begin = Instant::now();
        daemon.run("clear web --no-wait");
        let pings = ping_host(&web, 5, ms(10));
        assert!(pings.mean < ms(1000), "new packets are not delayed: {pings:?}");
        daemon.run("clear web");
        println!("cleared after {:?}", begin.elapsed());
        burst.join().expect("it does not panic")
    });
    assert_eq!(arrived.expect("sockets work"), 500);
    assert_eq!(web.netns.traces(), inside);
    assert_eq!(world.host().traces(), outside);
    assert_eq!(world.pins(), ["AYA_LOGS"]);
}

#[test]
fn a_delay_ends_on_time_without_a_daemon() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    let before = web.netns.traces();
    daemon.run("set web --latency 300ms --for 4s");
    let set = Instant::now();
    daemon.kill(Signal::SIGKILL);
    assert!(ping_host(&web, 3, ms(10)).least >= ms(300));
    thread::sleep(ms(4000).saturating_sub(set.elapsed()));
    assert!(ping_host(&web, 3, ms(10)).mean < ms(150), "it has ended");
    let _daemon = world.daemon().expect("another daemon");
    eventually("what is over is taken away", || (web.netns.traces() == before).then_some(()));
}

#[test]
fn loss_alone_has_no_queue_and_a_delay_taken_back_takes_its_queue_along() {
    needs!(Root, Fq);
    let (_world, web, daemon) = shaped_world();
    daemon.run("set web --loss 1%");
    assert!(root_qdisc(&web).contains("noqueue"));
    daemon.run("set web --latency 10ms");
    assert!(root_qdisc(&web).contains("qdisc fq 5a9e:"), "{}", root_qdisc(&web));
    daemon.run("set web --latency 0");
    eventually("the queue is gone", || root_qdisc(&web).contains("noqueue").then_some(()));
    assert_eq!(daemon.view("web")["interfaces"][0]["shaping"]["loss"], "1%");
}

#[test]
fn delay_and_loss_combine() {
    needs!(Root, Fq);
    let (_world, web, daemon) = shaped_world();
    daemon.run("set web --latency 20ms --loss 50%");
    let pings = ping_host(&web, 400, ms(5));
    let lost = f64::from(pings.sent - pings.received);
    // The binomial 99.99 % interval of 400 at 50 %.
    assert!((lost - 200.0).abs() <= 3.9 * 10.0, "{pings:?}");
    assert!(pings.least >= ms(20), "{pings:?}");
}

#[test]
fn traffic_of_the_highest_priority_is_delayed_too() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    daemon.run("set web --latency 300ms");
    let receiver = world.host().enter(|| UdpSocket::bind((web.host_address, 0))).expect("a socket");
    receiver.set_read_timeout(Some(ms(10_000))).expect("it is not zero");
    let to = receiver.local_addr().expect("it is bound");
    let begin = Instant::now();
    web.netns.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        // TC_PRIO_CONTROL, which fq serves before all others.
        setsockopt(&socket, Priority, &7).expect("root may");
        socket.send_to(b"urgent", to).expect("it is sent");
    });
    receiver.recv(&mut [0; 16]).expect("it arrives");
    assert!(begin.elapsed() >= ms(300), "after {:?}", begin.elapsed());
}

#[test]
fn a_fast_sender_is_not_held_back_by_what_waits() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    daemon.run("set web --latency 1s");
    let receiver = world.host().enter(|| UdpSocket::bind((web.host_address, 0))).expect("a socket");
    let to = receiver.local_addr().expect("it is bound");
    // The default send buffer holds some 280 packets, the least one six: charged for what waits, all would take 17 s and
    // 15 minutes.
    for buffer in [None, Some(1)] {
        let time = web.netns.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            if let Some(size) = buffer {
                setsockopt(&socket, SndBuf, &size).expect("it is rounded up");
            }
            let begin = Instant::now();
            (0..5_000).for_each(|_| assert_eq!(socket.send_to(&[0; 64], to).expect("it is sent"), 64));
            begin.elapsed()
        });
        assert!(time < ms(1000), "5000 datagrams took {time:?}, with a buffer of {buffer:?}");
    }
}

#[test]
fn small_messages_do_not_wait_for_one_another() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    daemon.run("set web --latency 100ms");
    let listener = world.host().enter(|| TcpListener::bind((web.host_address, 0))).expect("a socket");
    let to = listener.local_addr().expect("it is bound");
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        let arrival = |length: &usize| {
            stream.read_exact(&mut vec![0; *length]).expect("it arrives");
            Instant::now()
        };
        BURSTS.iter().flatten().map(arrival).collect::<Vec<_>>()
    });
    let sent: Vec<_> = web.netns.enter(|| {
        let mut stream = TcpStream::connect(to).expect("it connects");
        stream.set_nodelay(true).expect("it can be set");
        let send = |burst: &[usize; 6]| {
            let begin = Instant::now();
            burst.iter().for_each(|&length| stream.write_all(&vec![0; length]).expect("it is sent"));
            thread::sleep(ms(400));
            [begin; 6]
        };
        BURSTS.iter().flat_map(send).collect()
    });
    let arrivals = receiver.join().expect("it does not panic");
    let took: Vec<_> = sent.into_iter().zip(arrivals).map(|(sent, arrival)| arrival - sent).collect();
    // Held back by small queues, some would wait until others have left: twice the delay.
    assert!(took.iter().all(|took| (ms(100)..ms(120)).contains(took)), "{took:?}");
}

/// Less than the first ten packets that TCP sends at once (RFC 6928). From the second burst on it knows how long a round
/// trip takes, and what its small queues may hold. The first packet of a burst may stay charged to its socket if it is
/// short: one of 446 bytes is the longest that is, with its headers.
const BURSTS: [[usize; 6]; 4] = [
    [200, 3_000, 200, 200, 1_000, 200],
    [200, 3_000, 200, 200, 1_000, 200],
    [446, 1, 446, 1, 1, 446],
    [1, 1, 1, 1, 1, 1],
];

#[test]
fn other_classifiers_see_each_packet_once() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    web.netns.run("tc qdisc add dev eth0 clsact").expect("clsact is there");
    web.netns
        .run("tc filter add dev eth0 egress prio 10 protocol ip matchall action pass")
        .expect("matchall is there");
    let before = web.netns.traces();
    daemon.run("set web --latency 50ms");
    assert_eq!(
        udp_burst(&web.netns, world.host(), web.host_address, 300, ms(3000)).expect("sockets work"),
        300
    );
    let filters = web.netns.run("tc -s filter show dev eth0 egress").expect("tc works");
    assert!(filters.contains("300 pkt"), "orphaned packets pass twice, but not here: {filters}");
    daemon.run("clear web");
    assert_eq!(web.netns.traces(), before);
    assert!(web.netns.run("tc filter show dev eth0 egress").expect("tc works").contains("matchall"));
}

#[test]
fn tcp_over_ipv6_is_not_strangled_either() {
    needs!(Root, Fq);
    let (world, web, daemon) = shaped_world();
    for (netns, device, address) in
        [(&web.netns, "eth0", "fd00:99::2"), (world.host(), "veth0", "fd00:99::1")]
    {
        netns.run(&format!("ip addr add {address}/64 dev {device} nodad")).expect("IPv6 is there");
    }
    daemon.run("set web --latency 50ms");
    let to = "fd00:99::1".parse().expect("an address");
    let transfer = tcp(&web.netns, world.host(), to, ms(3000)).expect("it arrives");
    // With its packets charged to its socket it makes 0.9 Mbit/s.
    assert!(transfer.mbit_per_second() > 20.0, "{transfer:?}");
    println!("{:.0} Mbit/s", transfer.mbit_per_second());
}
