//! Order: packets of a socket arrive in the order in which they were sent, whatever is done to them without `reordering`.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use shaper_tests::{
    ms, needs,
    netns::Netns,
    statistics::{DEVIATIONS, deviation, mean},
    subject::Rig,
    traffic::{Arrival, Datagrams, datagrams, out_of_order},
};

/// A way to degrade a network that keeps the order.
struct Case {
    /// The flags of `shaper set`.
    flags: &'static [&'static str],
    sent: Datagrams,
}

const fn case(flags: &'static [&'static str], count: u32, size: usize, interval_us: u64) -> Case {
    let interval = Duration::from_micros(interval_us);
    Case { flags, sent: Datagrams { interval, ..Datagrams::at_once(count, size) } }
}

/// Delays about the times between which packets stay charged to their sockets (1 and 2 ms), short of them and beyond.
const CASES: [Case; 8] = [
    case(&["--netem", "delay 2ms 1ms"], 600, 100, 500),
    case(&["--netem", "slot 4ms 6ms"], 300, 100, 500),
    case(&["--netem", "slot 20ms 30ms"], 200, 100, 1_000),
    case(&["--latency", "1.5ms"], 300, 1_400, 0),
    case(&["--latency", "1ms"], 2_000, 1_000, 0),
    case(&["--netem", "delay 5ms 4ms"], 300, 100, 1_000),
    case(&["--netem", "delay 1ms 1ms rate 20mbit duplicate 5%"], 300, 500, 150),
    case(&["--preset", "office-wifi"], 300, 100, 1_000),
];

/// The numbers of the datagrams that arrive where two sockets send at once, by socket.
fn arrive(from: &Netns, to: &Netns, address: IpAddr, sent: Datagrams) -> [Vec<u32>; 2] {
    let numbers = |arrivals: Vec<Arrival>| arrivals.iter().map(|arrival| arrival.number).collect();
    let send = || numbers(datagrams(from, to, address, sent, ms(500)).expect("sockets work"));
    thread::scope(|scope| {
        let other = scope.spawn(send);
        [send(), other.join().expect("it does not panic")]
    })
}

fn assert_in_order(direction: &str) {
    let rig = Rig::new();
    let (host, web) = (rig.world.host(), &rig.web);
    for Case { flags, sent } in CASES {
        rig.daemon.run("clear web");
        rig.daemon.words(&[&["set", "web", "--direction", direction], flags].concat());
        for connected in [false, true] {
            let sent = Datagrams { connected, ..sent };
            let numbers = if direction == "egress" {
                arrive(&web.netns, host, web.host_address.into(), sent)
            } else {
                arrive(host, &web.netns, web.address.into(), sent)
            };
            for numbers in numbers {
                assert!(numbers.len() >= sent.count as usize, "{flags:?}: {} arrived", numbers.len());
                assert_eq!(
                    out_of_order(&numbers),
                    0,
                    "{direction} {flags:?}, connected: {connected}: {numbers:?}"
                );
            }
        }
    }
}

#[test]
fn what_containers_send_keeps_its_order() {
    needs!(Root, Fq);
    assert_in_order("egress");
}

#[test]
fn what_containers_receive_keeps_its_order() {
    needs!(Root, Fq);
    assert_in_order("ingress");
}

#[test]
fn jitter_in_order_has_its_mean_and_spread_on_the_wire() {
    needs!(Root, Fq);
    let rig = Rig::new();
    // Delays of 2 to 18 ms hold for 24 ms on average.
    rig.netem("delay 10ms 8ms seed 21");
    let begin = Instant::now();
    let sent = Datagrams { interval: Duration::from_micros(2_500), ..Datagrams::at_once(2_000, 100) };
    let arrivals = rig.send(&rig.web, sent);
    let draws = begin.elapsed().as_secs_f64() / 24e-3;
    let delays: Vec<f64> = arrivals.iter().map(|arrival| arrival.took().as_secs_f64() * 1e3).collect();
    assert_eq!(delays.len(), 2_000, "none is lost");
    let (mean, spread) = (mean(&delays), deviation(&delays));
    println!("mean {mean:.2} ms, spread {spread:.2} ms, {draws:.0} draws");
    let asked = 8.0 / 3.0_f64.sqrt();
    // What so many draws may be off by at most, beside what is promised.
    let off = DEVIATIONS / draws.sqrt();
    assert!((mean - 10.0).abs() <= 0.02 * 10.0 + off * asked, "{mean}");
    assert!((spread / asked - 1.0).abs() <= 0.15 + off, "{spread}");
    let numbers: Vec<u32> = arrivals.iter().map(|arrival| arrival.number).collect();
    assert_eq!(out_of_order(&numbers), 0);
}
