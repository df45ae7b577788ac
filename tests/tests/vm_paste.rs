//! Lines of the real `tc`, and what it prints of them: the daemon takes all of them for the same effects.

use shaper_tests::{needs, subject::Rig};

/// Effects in netem's words, as somebody types them behind `tc qdisc add dev eth0 root netem`.
const LINES: [&str; 17] = [
    "delay 100ms",
    "delay 100ms 20ms 25%",
    "delay 100ms 0ms 25%",
    "delay 1e2ms",
    "loss 1%",
    "loss 0.3% 25%",
    "loss 0% 25%",
    "loss gemodel 1% 10% 70% 0.1%",
    "loss state 1% 10% 5% 30% 2%",
    "loss 1% ecn",
    "duplicate 1%",
    "duplicate 0% 50%",
    "corrupt 0.1%",
    "delay 10ms reorder 25% 50% gap 5",
    "rate 1mbit 14 48 5",
    "limit 5mb delay 1ms",
    "slot 800us 1ms packets 42 bytes 512",
];

#[test]
fn what_tc_takes_and_prints_is_read_as_the_same_effects() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let scratch = rig.world.host();
    scratch.run("ip link add scratch type dummy").expect("a device");
    for words in LINES {
        let add = format!("tc qdisc replace dev scratch root netem {words}");
        scratch.run(&add).unwrap_or_else(|error| panic!("{add}: {error}"));
        // tc shows a limit that nobody gave, too.
        let limit = if words.contains("limit") { "" } else { "limit 1000" };
        let expected = effects(&rig, &format!("{add} {limit}"));
        for option in ["", "-s ", "-j "] {
            let text = scratch.run(&format!("tc {option}qdisc show dev scratch")).expect("tc works");
            assert_eq!(effects(&rig, &text), expected, "{words}: {text}");
        }
        scratch.run("tc qdisc del dev scratch root").expect("it was there");
    }
}

/// The effects of a container that is given these words, as the daemon shows them.
fn effects(rig: &Rig, words: &str) -> String {
    rig.daemon.run("clear web");
    rig.netem(words);
    let view = rig.daemon.view("web");
    view["interfaces"][0]["shaping"]["netem"].as_str().unwrap_or_default().to_owned()
}
