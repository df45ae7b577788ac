use proptest::prelude::*;

use crate::{
    model::{Direction, MatchRule, Ports},
    samples::{any_match_rule, ports},
};

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
        ("proto 47", "all proto 47"),
        ("protocol !47", "all proto !47"),
        ("10.0.0.1,10.0.0.2 tcp", "10.0.0.1 10.0.0.2 tcp"),
        ("!10.0.0.1,10.0.0.2", "all !10.0.0.1 !10.0.0.2"),
        ("10.0.0.1-10.0.0.4", "10.0.0.1 10.0.0.2/31 10.0.0.4"),
        ("2001:db8::-2001:db8::1", "2001:db8::/127"),
        ("10.0.0.1:80", "10.0.0.1 port 80"),
        ("10.0.0.1:80,10.0.0.2:80 tcp", "10.0.0.1 10.0.0.2 tcp port 80"),
        ("10.0.0.0/8:443-445", "10.0.0.0/8 port 443-445"),
        ("[2001:db8::1]:80", "2001:db8::1 port 80"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::80", "2001:db8::80"),
        ("container:db:5432", "container:db port 5432"),
        ("container:label:app=web+!ns:a:5432", "container:label:app=web+!ns:a port 5432"),
        ("container:pod:shop/web-*,container:re:^a+$", "container:pod:shop/web-* container:re:^a+$"),
        ("host:example.org:443 !10.0.0.1", "host:example.org !10.0.0.1 port 443"),
        ("all port 8000:8080", "all port 8000-8080"),
        ("all dport 80 sport 1024-65535", "all dport 80 sport 1024-65535"),
        ("protocol 6 10.0.0.1 10.0.0.1", "10.0.0.1 tcp"),
    ] {
        let rule: MatchRule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let shown_rule = rule.to_string();
        let mut words: Vec<&str> = shown_rule.split(' ').collect();
        let mut expected: Vec<&str> = shown.split(' ').collect();
        words.sort_unstable();
        expected.sort_unstable();
        assert_eq!(words, expected, "{text}");
    }
}

#[test]
fn bad_match_rules_say_what_is_wrong() {
    for (text, said) in [
        ("", "a target of nothing: write `all`"),
        ("10.0.0.0/33", "unknown target \"10.0.0.0/33\": write an address"),
        ("tpc", "unknown target \"tpc\""),
        ("all 10.0.0.1", "`all` includes every address"),
        ("10.0.0.2 80", "\"80\" is a port or a protocol: write `port 80` or `proto 80`"),
        ("all !22", "\"22\" is a port or a protocol: write `port !22` or `proto !22`"),
        ("10.0.0.1:80 10.0.0.2", "10.0.0.2 has no port, and others have 80"),
        ("10.0.0.1:80 10.0.0.2:81", "\"10.0.0.2:81\" has another port than the address before it"),
        ("10.0.0.1:80 port 80", "port is given twice"),
        ("10.0.0.1 !10.0.0.2:80", "\"10.0.0.2:80\" excepts a port of an address"),
        ("10.0.0.1:eighty", "invalid port \"eighty\""),
        ("10.0.0.9-10.0.0.1", "\"10.0.0.9-10.0.0.1\" ends before it begins"),
        ("10.0.0.1-::1", "\"10.0.0.1-::1\" mixes IPv4 and IPv6"),
        ("all port 80 sport 1", "`port` and `local-port` do not go with `dport` and `sport`"),
        ("10.0.0.1,", "unknown target \"\""),
        ("10.0.0.1 !10.0.0.1", "10.0.0.1 is both named and excepted"),
        ("tcp udp", "a target has one protocol"),
        ("all port", "port needs a value: for example `port 443`"),
        ("all port 80 port 81", "port is given twice"),
        ("all port 90-80", "\"90-80\" ends before it begins"),
        ("all port 443,!22", "invalid port \"!22\""),
        ("all port !0-65535", "\"!0-65535\" leaves no port"),
        ("container:", "\"container:\" names nobody"),
        ("icmp port 80", "icmp has no ports"),
    ] {
        let answer = text.parse::<MatchRule>();
        let error = answer.expect_err(text).to_string();
        assert!(error.contains(said), "{text}: {error:?} lacks {said:?}");
    }
}

/// Every second port of `count`, so that no two of them are one range.
fn apart(count: usize) -> String {
    (0..count).map(|number| (2 * number + 1).to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn ranges_of_ports_that_multiply_are_refused_before_they_do() {
    let combined = |peer: usize, local: usize| {
        format!("all port {} local-port {}", apart(peer), apart(local)).parse::<MatchRule>()
    };
    assert!(combined(8, 8).is_ok());
    assert_eq!(
        combined(8, 9).expect_err("72 rules").to_string(),
        "too many combinations of ranges of ports: the most are 64; name fewer ranges"
    );
    let error = combined(20_000, 20_000).expect_err("400 million").to_string();
    assert!(error.contains("too many combinations"), "{error}");
}

#[test]
fn an_error_quotes_no_more_than_a_word_needs() {
    let long = "x".repeat(1 << 20);
    for text in [
        long.clone(),
        format!("container:{long}"),
        format!("all port {long}"),
        format!("proto {long}"),
        format!("{long}:80"),
        format!("10.0.0.1-{long}"),
        format!("10.0.0.1:{long}"),
        format!("all port {}", "1,".repeat(70_000)),
        "10.0.0.1 ".repeat(300_000),
    ] {
        let error = text.parse::<MatchRule>().expect_err("it is too long for anything").to_string();
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn ports_of_packets_are_those_of_the_direction() {
    let seen = |text: &str, direction| text.parse::<MatchRule>().expect(text).seen_in(direction).to_string();
    assert_eq!(seen("all dport 80 sport 1", Direction::Egress), "all port 80 local-port 1");
    assert_eq!(seen("all dport 80 sport 1", Direction::Ingress), "all port 1 local-port 80");
    assert_eq!(seen("all port 80", Direction::Ingress), "all port 80");
}

#[test]
fn of_many_peers_the_first_ones_are_shown() {
    let rule = |text: &str| text.parse::<MatchRule>().expect(text);
    assert_eq!(rule("10.0.0.1 tcp").short(), "10.0.0.1 tcp");
    let many = rule("10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 tcp port 443");
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

proptest! {
    #[test]
    fn match_rules_survive_their_text(rule in any_match_rule()) {
        prop_assert_eq!(rule.to_string().parse(), Ok(rule));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".*") {
        let _ = text.parse::<MatchRule>();
    }

    #[test]
    fn a_port_is_in_ports_or_in_all_others(ports in ports(), port: u16) {
        let has = |ports: &Ports| ports.ranges().iter().any(|range| range.contains(&port));
        let others = ports.others();
        prop_assert!(ports == Ports::default() || has(&ports) != has(&others));
    }
}
