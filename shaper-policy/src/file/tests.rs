use proptest::prelude::*;

use super::*;
use crate::{
    compile,
    model::Effects,
    samples::{any_policy, effects, named, step},
};

fn parse(text: &str, format: Format) -> Result<Policy, String> {
    Policy::parse(text, format, &NoFiles, &Named::default()).map_err(|error| error.to_string())
}

fn toml(text: &str) -> Policy {
    parse(text, Format::Toml).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_document_has_all_that_a_policy_has() {
    let policy = toml(
        r#"
            seed = 42
            repeat = true

            [[step]]
            for = "10s"
            netem = "tc qdisc add dev eth0 root netem delay 100ms 20ms distribution wifi"

            [[step]]
            for = "1m 30s"
            delay = "10ms 5ms distribution wifi"
            loss = "gemodel 1% 10%"
            ecn = true
            reorder = "25% 50% gap 5"
            duplicate = "1%"
            corrupt = "1% fixed"
            slot = "1ms"
            limit = 1000

            [[target]]
            to = ["10.0.0.0/8", "!10.1.0.0/16", "container:db", "host:example.org"]
            protocol = "tcp"
            port = "443,8000-8080"
            local-port = 80
            rate = "5mbit"
            queue = "100ms 50packets"
            mark = "50ms"

            [[target]]
            to = "all udp"
            trace = "lte"

            [distributions]
            wifi = [-8192, -100, 9000]

            [traces]
            lte = [0, 3, 3, 10]
        "#,
    );
    assert_eq!(policy.seed, Some(42));
    assert!(policy.schedule.repeats());
    let words: Vec<String> = policy.effects().map(Effects::to_string).collect();
    assert_eq!(
        words,
        [
            "delay 100ms 20ms distribution wifi",
            "limit 1000 delay 10ms 5ms distribution wifi loss gemodel 1% 10% ecn duplicate 1% reorder 25% 50% gap 5 \
             corrupt 1% fixed slot 1ms 1ms",
            "limit 50 rate 5Mbit queue 100ms mark 50ms",
            "trace lte",
        ]
    );
    let shown = policy.targets[0].rule.to_string();
    assert!(shown.ends_with("tcp port 443,8000-8080 local-port 80"), "{shown}");
    assert_eq!(policy.targets[1].rule.to_string(), "all udp");
    assert_eq!(policy.schedule.steps()[1].lasts, Some(std::time::Duration::from_secs(90)));
}

#[test]
fn an_empty_document_does_nothing() {
    assert_eq!(toml(""), Policy::default());
    assert_eq!(parse("{}", Format::Json), Ok(Policy::default()));
}

#[test]
fn what_is_wrong_in_toml_is_said_with_its_line() {
    for (text, line, said) in [
        ("seed = 1\ndelay = \"100ms\nloss = 1", 2, "invalid basic string"),
        ("seed = 1\nlatencies = \"100ms\"", 2, "unknown field \"latencies\"; did you mean \"latency\"?"),
        ("seed = -1", 1, "invalid value"),
        ("seed = 1\n\ndelay = \"fast\"", 3, "invalid delay \"fast\""),
        ("delay = 100", 1, "expected netem's words"),
        ("loss = \"1%\"\ndelay = \"1ms loss 1%\"", 2, "loss does not belong to delay"),
        ("netem = \"delay 1ms\"\ndelay = \"2ms\"", 2, "delay is given twice"),
        ("seed = 1\nloss = \"1%\"\nreorder = \"25%\"", 3, "reorder needs a delay"),
        ("seed = 1\nnetem = \"reorder 25%\"", 2, "reorder needs a delay"),
        ("loss = \"1%\"\nqueue = \"100ms\"", 2, "queue needs a bottleneck"),
        ("seed = 1\necn = true", 2, "ecn needs a loss"),
        ("seed = 1\nrepeat = true", 2, "repeat needs steps"),
        ("delay = \"1ms 1ms distribution gauss\"", 1, "unknown distribution \"gauss\""),
        ("delay = \"1ms\"\n[[step]]\nloss = \"1%\"", 1, "there are effects beside steps"),
        ("[[step]]\nfor = \"soon\"", 2, "invalid time \"soon\""),
        ("[[step]]\ndelay = \"1ms\"\n[[step]]\nloss = \"1%\"", 2, "step 1 has no end"),
        ("[[step]]\nloss = \"1%\"\nreorder = \"1%\"", 3, "reorder needs a delay"),
        (
            "[[step]]\nfor = \"1s\"\nramp = true\n[[step]]\nrate = \"1mbit\"",
            3,
            "step 1 cannot ramp to the next",
        ),
        ("repeat = true\n[[step]]\nfor = \"1s\"\n[[step]]\nloss = \"1%\"", 5, "the last step has no end"),
        ("[[target]]\nto = \"10.0.0.0/33\"", 2, "unknown target \"10.0.0.0/33\""),
        ("[[target]]\nto = [\n\"10.0.0.1\",\n\"10.0.0.0/33\"\n]", 4, "unknown target \"10.0.0.0/33\""),
        ("[[target]]\nto = []", 2, "a target of nobody"),
        ("[[target]]\nto = \"all\"\nport = \"0-70000\"", 3, "invalid port \"0-70000\""),
        ("[[target]]\nto = \"all tcp\"\nprotocol = \"udp\"", 3, "a target has one protocol"),
        ("[[target]]\nto = \"all\"\n[[target]]\nto = \"all\"", 4, "the target all is given twice"),
        ("[[target]]\nto = \"all\"\n[[target.step]]\nfor = \"1s\"", 4, "the last step stays"),
        ("[[target]]\nfrom = \"all\"", 2, "unknown field \"from\""),
        ("seed = 1\n[distributions]\nwifi = []", 3, "distribution wifi is empty"),
        ("[distributions]\nwifi = [1,\n4000000000]", 3, "invalid value"),
        ("[distributions]\nwifi = \"wifi.dist\"", 2, "only the command line reads files"),
        ("[distributions]\nnormal = [1]", 2, "cannot be called normal"),
        ("[traces]\nlte = [3, 2]", 2, "trace lte, opportunity 2"),
        ("[traces]\n\"l te\" = [3]", 2, "invalid name of a trace \"l te\""),
    ] {
        let error = parse(text, Format::Toml).expect_err(text);
        assert!(error.contains(said), "{text}\n{error}\nlacks {said:?}");
        assert!(error.contains(&format!("at line {line}, column ")), "{text}\n{error}\nlacks line {line}");
    }
}

#[test]
fn what_is_wrong_in_json_is_said_with_its_line() {
    for (text, line, said) in [
        ("{\n\"delay\": \"fast\"}", 2, "invalid delay \"fast\""),
        ("{\n\"latencies\": \"1ms\"}", 2, "unknown field \"latencies\""),
        ("{\n\"loss\": \"1%\",\n\"loss\": \"2%\"}", 3, "loss is given twice"),
        ("{\"loss\": \"1%\",\n\"reorder\": \"25%\"\n\n}", 2, "reorder needs a delay"),
        ("{\"target\": [\n{\"to\": \"all\"},\n{\n\"to\": \"all\"}]}", 4, "the target all is given twice"),
        ("{\"step\": [{\"for\": \"1s\",\n\"netem\": \"delay 1\"}]\n}", 1, "the last step stays"),
        ("{}\n}", 2, "trailing characters"),
    ] {
        let error = parse(text, Format::Json).expect_err(text);
        assert!(error.contains(said), "{text}\n{error}\nlacks {said:?}");
        assert!(error.contains(&format!("at line {line} column ")), "{text}\n{error}\nlacks line {line}");
    }
}

#[test]
fn a_policy_is_written_as_short_as_it_is() {
    let policy = Policy::always(effects("delay 100ms 20ms distribution wifi"));
    let json = serde_json::to_string(&policy).expect("JSON");
    assert_eq!(
        json,
        r#"{"netem":"delay 100ms 20ms distribution wifi","distributions":{"wifi":[-8192,-100,9000]}}"#
    );
    let schedule =
        compile::schedule(vec![step(1, true, "loss 1%"), step(0, false, "")], false).expect("a schedule");
    let json = serde_json::to_string(&Policy { schedule, ..Policy::default() }).expect("JSON");
    assert_eq!(json, r#"{"step":[{"for":"1s","ramp":true,"netem":"loss 1%"},{}]}"#);
}

#[test]
fn tables_from_elsewhere_can_be_named() {
    let policy = Policy::parse("trace = \"lte\"", Format::Toml, &NoFiles, &named()).expect("a policy");
    assert_eq!(policy.traces().next(), named().traces.get("lte"));
}

proptest! {
    #[test]
    fn a_policy_survives_its_document(policy in any_policy()) {
        let json = serde_json::to_string(&policy).expect("JSON");
        prop_assert_eq!(parse(&json, Format::Json), Ok(policy.clone()), "{}", json);
        prop_assert_eq!(serde_json::from_str::<Policy>(&json).map_err(|error| error.to_string()), Ok(policy.clone()));
        if policy.seed.is_none_or(|seed| i64::try_from(seed).is_ok()) {
            let text = toml::to_string(&policy).expect("TOML");
            prop_assert_eq!(parse(&text, Format::Toml), Ok(policy), "{}", text);
        }
    }

    #[test]
    fn no_document_makes_the_parser_panic(text in ".*") {
        let _ = parse(&text, Format::Toml);
        let _ = parse(&text, Format::Json);
    }
}
