use proptest::prelude::*;

use super::*;

#[test]
fn selectors_are_read_and_shown() {
    for (text, shown) in [
        ("all", "all"),
        ("!10.0.0.0/8", "all !10.0.0.0/8"),
        ("10.0.0.0/8 !10.1.0.0/16 tcp port 443,8000-8080", "10.0.0.0/8 !10.1.0.0/16 tcp port 443,8000-8080"),
        ("port 443 tcp 10.1.2.3/8", "10.0.0.0/8 tcp port 443"),
        ("192.0.2.1 2001:db8::/32 ::1", "192.0.2.1 2001:db8::/32 ::1"),
        ("container:db", "container:db"),
        ("host:example.org udp", "host:example.org udp"),
        ("all tcp port !22", "all tcp port !22"),
        ("all !tcp local-port 80,81,90-99,85-91", "all !tcp local-port 80-81,85-99"),
        ("47", "all 47"),
        ("protocol 6 10.0.0.1 10.0.0.1", "10.0.0.1 tcp"),
    ] {
        let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let shown_selector = selector.to_string();
        let mut words: Vec<&str> = shown_selector.split(' ').collect();
        let mut expected: Vec<&str> = shown.split(' ').collect();
        words.sort_unstable();
        expected.sort_unstable();
        assert_eq!(words, expected, "{text}");
    }
}

#[test]
fn bad_selectors_say_what_is_wrong() {
    for (text, said) in [
        ("", "a target of nothing: write `all`"),
        ("10.0.0.0/33", "\"10.0.0.0/33\" is no target: write an address"),
        ("tpc", "\"tpc\" is no target"),
        ("all 10.0.0.1", "`all` leaves nothing to name"),
        ("10.0.0.1 !10.0.0.1", "10.0.0.1 is both named and excepted"),
        ("tcp udp", "a target has one protocol"),
        ("all port", "port has nothing behind it"),
        ("all port 80 port 81", "port is given twice"),
        ("all port 90-80", "the ports 90-80 end before they begin"),
        ("all port 443,!22", "\"!22\" is no port"),
        ("all port !0-65535", "\"!0-65535\" leaves no port"),
        ("container:", "\"container:\" names nobody"),
        ("icmp port 80", "icmp has no ports"),
    ] {
        let answer = text.parse::<Selector>();
        let error = answer.expect_err(text);
        assert!(error.contains(said), "{text}: {error:?} lacks {said:?}");
    }
}

#[test]
fn of_many_peers_the_first_ones_are_shown() {
    let selector = |text: &str| text.parse::<Selector>().expect(text);
    assert_eq!(selector("10.0.0.1 tcp").short(), "10.0.0.1 tcp");
    let many = selector("10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 tcp port 443");
    assert_eq!(many.short(), "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 tcp port 443 and 2 more");
}

#[test]
fn all_other_ports_are_the_ranges_between() {
    let ranges = |text: &str| text.parse::<Ports>().expect("ports").ranges();
    assert_eq!(ranges("!22"), [0..=21, 23..=65535]);
    assert_eq!(ranges("!0,22-80,65535"), [1..=21, 81..=65534]);
    assert_eq!(ranges("0-65535"), [0..=65535]);
    assert_eq!(ranges("80,443"), [80..=80, 443..=443]);
}

fn peers() -> impl Strategy<Value = Peer> {
    let net = prop_oneof![
        (any::<u32>(), 0..=32_u8)
            .prop_map(|(address, length)| format!("{}/{length}", std::net::Ipv4Addr::from(address))),
        (any::<u128>(), 0..=128_u8)
            .prop_map(|(address, length)| format!("{}/{length}", std::net::Ipv6Addr::from(address))),
        "container:[a-z]{1,8}",
        "host:[a-z]{1,8}\\.org",
    ];
    (net, any::<bool>()).prop_map(|(of, except)| {
        let peer: Peer = of.parse().expect("a peer");
        Peer { except, ..peer }
    })
}

fn ports() -> impl Strategy<Value = Ports> {
    let some = (proptest::collection::vec((any::<u16>(), any::<u16>()), 1..4), any::<bool>()).prop_map(
        |(list, except)| {
            let list: Vec<_> = list.iter().map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))).collect();
            format!("{}{}", if except { "!" } else { "" }, list.join(",")).parse().unwrap_or_default()
        },
    );
    prop_oneof![Just(Ports::default()), some]
}

/// Any selector.
pub(crate) fn any_selector() -> impl Strategy<Value = Selector> {
    let protocol = proptest::option::of((any::<u8>(), any::<bool>()));
    (proptest::collection::vec(peers(), 0..5), protocol, ports(), ports()).prop_map(
        |(mut peers, protocol, ports, local_ports)| {
            peers.sort();
            peers.dedup_by(|one, other| one.of == other.of);
            let protocol = protocol.map(|(number, except)| Protocol { number, except });
            let portless = matches!(protocol, Some(Protocol { number: 1 | 58, except: false }));
            let of = |ports| if portless { Ports::default() } else { ports };
            Selector { peers, protocol, ports: of(ports), local_ports: of(local_ports) }
        },
    )
}

proptest! {
    #[test]
    fn selectors_survive_their_text(selector in any_selector()) {
        prop_assert_eq!(selector.to_string().parse(), Ok(selector));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".*") {
        let _ = text.parse::<Selector>();
    }

    #[test]
    fn a_port_is_in_ports_or_in_all_others(ports in ports(), port: u16) {
        let has = |ports: &Ports| ports.ranges().iter().any(|range| range.contains(&port));
        let others = Ports { except: !ports.except, ..ports.clone() };
        prop_assert!(ports == Ports::default() || has(&ports) != has(&others));
    }
}
