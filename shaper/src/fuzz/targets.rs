//! The readers of input that anybody may write, each with its largest inputs; small ones are in files.

use std::{num::NonZeroU64, sync::Arc};

use crate::{
    containers::multus,
    shaping::{
        Asked, Clause, Clauses, Container, Direction, Distribution, Effects, Endpoint, Format, MatchRule,
        Named, NoFiles, Peers, Pod, Policy, Presets, Request, Selector, Shaping, Trace, fake::web, names_in,
    },
};

/// Takes one input after the other.
pub(super) type Take = Box<dyn FnMut(&[u8])>;

/// Something that takes inputs.
pub(super) struct Target {
    pub(super) name: &'static str,
    /// Makes it ready.
    pub(super) start: fn() -> Take,
    /// Inputs that are too large for files, of about so many bytes.
    pub(super) large: fn(usize) -> Vec<String>,
}

/// Something that takes text, and needs no preparation.
const fn of_text(name: &'static str, start: fn() -> Take, large: fn(usize) -> Vec<String>) -> Target {
    Target { name, start, large }
}

/// Takes text; bytes that are none are replaced.
fn text(take: impl Fn(&str) + 'static) -> Take {
    Box::new(move |input| take(&String::from_utf8_lossy(input)))
}

/// Inputs of one part each, over and over.
pub(super) fn repeated(parts: &[&str], length: usize) -> Vec<String> {
    parts.iter().map(|part| part.repeat(length / part.len())).collect()
}

/// Words of effects, as single ones and all at once, and whole commands of `tc`.
pub(super) const NETEM: Target = of_text(
    "netem",
    || {
        text(|words| {
            let named = Named::default();
            // A longer word of a command line is refused by the kernel (`MAX_ARG_STRLEN`).
            if words.len() < 128 << 10 {
                names_in(words);
            }
            for clause in Clause::fields() {
                let _ = Clauses::parse(&[(clause.name, words.to_owned())], &named);
            }
            let Ok(effects) = Effects::parse(words, &named) else { return };
            assert_eq!(Effects::parse(&effects.to_string(), &named).as_ref(), Ok(&effects), "as it is shown");
            carry_out(&effects.into());
        })
    },
    |length| {
        repeated(
            &["x", " ", "loss ", "delay 1ms ", "tc qdisc add dev eth0 root netem loss 1%\n", "\\\n", "1e308"],
            length,
        )
    },
);

/// Targets, as `--to` takes them.
pub(super) const MATCH_RULE: Target = of_text(
    "match_rule",
    || {
        text(|words| {
            let Ok(rule) = words.parse::<MatchRule>() else { return };
            assert_eq!(rule.to_string().parse().as_ref(), Ok(&rule), "as it is shown");
            rule.short();
            let loss = Effects::parse("loss 1%", &Named::default()).expect("a loss");
            let asked = Asked::Effects(Box::new(loss));
            let request = Request { asked, target: Some(rule), ..Request::default() };
            if let Ok(shaping) = Shaping::default().after(&request, Direction::Egress, 1) {
                carry_out(&shaping);
            }
        })
    },
    |length| {
        let ports =
            |most: u16| (1..most).step_by(2).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
        let both = |most| format!("tcp port {0} local-port {0}", ports(most));
        let mut large =
            repeated(&["x", "10.0.0.0/8 ", "!", "1,", "fe80::1 ", "host:a ", "container:a "], length);
        large.extend([
            both(4_000),
            both(20_000),
            both(u16::MAX),
            format!("10.0.0.1 port {}", ports(u16::MAX)),
        ]);
        large.push(format!("port {}", "1,".repeat(length / 2)));
        large.push(
            (0..length / 16)
                .map(|net| format!("10.{}.{}.{}/32 ", net >> 12, net >> 4 & 255, net & 15))
                .collect(),
        );
        large
    },
);

/// Selectors of containers, on a container that has all that they ask for.
pub(super) const SELECTOR: Target = of_text(
    "selector",
    || {
        let container = Container {
            image: Some("docker.io/library/nginx:1.25".to_owned()),
            pod: Some(Pod { namespace: Some("shop".to_owned()), name: "web-1".to_owned(), uid: None }),
            labels: [("app".to_owned(), "web".repeat(100))].into(),
            ..web().container
        };
        text(move |text| {
            let Ok(selector) = Selector::parse([text]) else { return };
            let shown = Selector::parse(selector.texts().iter().cloned());
            assert_eq!(shown.as_ref(), Ok(&selector), "as it is shown");
            let meant = selector.meant(false, |_| Ok(container.clone())).expect("each name means one");
            selector.fits(&container, &meant);
            selector.fits_loosely(&container);
        })
    },
    |length| {
        // A longer one than may be, and the longest ones that may.
        let parts = ["x", "!", "x,", "*a", "[a-z", "label:a=", "re:(a*)*", "re:a{1000}", "\\", "image:"];
        [repeated(&parts, length), repeated(&parts, 4096)].concat()
    },
);

/// Annotations of pods, which whoever makes pods writes.
pub(super) const MULTUS: Target = of_text(
    "multus",
    || {
        text(|text| {
            for key in ["network-status", "networks"] {
                let annotation = (format!("k8s.v1.cni.cncf.io/{key}"), text.to_owned());
                for endpoint in multus::networks(&[annotation].into(), "shop") {
                    let json = serde_json::to_string(&endpoint).expect("it can be written");
                    let read: Endpoint = serde_json::from_str(&json).expect("it can be read");
                    assert_eq!(read, endpoint, "as the API shows it");
                }
            }
        })
    },
    |length| {
        let parts = ["x", ",", "a,", "@", "[", "[[],", "{\"name\":", "1"];
        let list =
            |element: &str, length| format!("[{}1]", format!("{element},").repeat(length / element.len()));
        let lists = [length, 200 << 10].into_iter().flat_map(|length| {
            ["1", "[]", r#"{"name":"a"}"#, r#"{"name":"a","ips":["::1"]}"#]
                .map(|element| list(element, length))
        });
        repeated(&parts, length).into_iter().chain(repeated(&parts, 256 << 10)).chain(lists).collect()
    },
);

/// Policy files in TOML.
pub(super) const POLICY_TOML: Target = of_text(
    "policy-toml",
    || text(|text| read_policy(text, Format::Toml)),
    |length| repeated(&["[", "[[step]]\n", "x", "a.", "seed = 1\n", "target = [{", "#", "\"", "\n"], length),
);

/// Policies in JSON: files, parts of requests, and what is pinned.
pub(super) const POLICY_JSON: Target = of_text(
    "policy-json",
    || {
        text(|text| {
            read_policy(text, Format::Json);
        })
    },
    |length| {
        let mut large = repeated(&["[", "{\"a\":", "\"", "[[],", "1", "{\"step\":[{", " "], length);
        let list = |element: &str| vec![element; length / (element.len() + 1)].join(",");
        large.push(format!("{{\"step\": [{}]}}", list("{}")));
        large.push(format!("{{\"target\": [{}]}}", list("{\"to\":\"::1\"}")));
        large.push(format!("{{\"target\": [{{\"to\": [{}]}}]}}", list("\"::1\"")));
        large.push(format!("{{\"traces\": {{\"a\": [{}]}}}}", list("1")));
        large.push(format!("{{\"distributions\": {{\"a\": [{}]}}}}", list("0")));
        large.push(format!(
            "{{\"distributions\": {{{}}}}}",
            (0..length / 16).map(|name| format!("\"{name}\":[0,1]")).collect::<Vec<_>>().join(",")
        ));
        large.push(format!("{{\"netem\": \"{}\"}}", "x".repeat(length)));
        large
    },
);

/// Files with presets.
pub(super) const PRESETS: Target = of_text(
    "presets",
    || {
        text(|text| {
            let check = |words: &str| Effects::parse(words, &Named::default()).map(drop);
            let Ok(presets) = Presets::parse("presets.toml", text, check) else { return };
            for (name, preset) in presets.iter() {
                assert_eq!(presets.find(name), Ok(preset));
            }
        })
    },
    |length| {
        repeated(
            &["[", "[a]\n", "x", "a.", "title = \"\n", "#", "[a]\ntitle=\"a\"\negress=\"loss 1%\"\n"],
            length,
        )
    },
);

/// Delivery traces.
pub(super) const TRACE: Target = of_text(
    "trace",
    || {
        text(|text| {
            let Ok(trace) = Trace::parse("t", text) else { return };
            trace.mean_rate();
            let mut named = Named::default();
            named.traces.insert("t".to_owned(), trace);
            if let Ok(effects) = Effects::parse("trace t", &named) {
                carry_out(&effects.into());
            }
        })
    },
    |length| repeated(&["0\n", "4294967295\n", "#", "x", "\n", "1"], length),
);

/// Tables of distributions, and measured times.
pub(super) const DISTRIBUTION: Target = of_text(
    "distribution",
    || {
        text(|text| {
            let measured = Distribution::from_samples("d", text).map(|measured| measured.distribution);
            for distribution in [measured, Distribution::parse_table("d", text)].into_iter().flatten() {
                let mut named = Named::default();
                named.distributions.insert("d".to_owned(), distribution);
                let words = "delay 100ms 10ms distribution d slot distribution d 1ms 1ms";
                if let Ok(effects) = Effects::parse(words, &named) {
                    carry_out(&effects.into());
                }
            }
        })
    },
    |length| repeated(&["1\n", "1 ", "1\n2ms\n", "#", "x", "\n", "1e300\n"], length),
);

/// The map of a policy, as it is pinned: whatever bytes.
pub(super) const PINNED: Target = Target {
    name: "pinned",
    start: || {
        Box::new(|input| {
            let number = |at: usize| {
                input
                    .get(at..at + 8)
                    .map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")))
            };
            let map = shaper_common::Shaping {
                expires_at_ns: number(0),
                delay_ns: number(8),
                loss: number(16) as u32,
                orphan: number(20) as u32,
                in_maps: number(24) as u32,
                queueless: number(28) as u32,
            };
            let asked = String::from_utf8_lossy(input.get(32..).unwrap_or_default());
            let asked = Policy::parse(&asked, Format::Json, &NoFiles, &Named::default()).ok().map(Arc::new);
            let shaping = Shaping::from_map(&map, asked.as_ref());
            shaping.remaining(NonZeroU64::MIN.get());
            shaping.to_map();
            carry_out(&shaping);
        })
    },
    large: |_| Vec::new(),
};

fn read_policy(text: &str, format: Format) {
    if let Ok(policy) = Policy::parse(text, format, &NoFiles, &Named::default()) {
        carry_out(&Shaping { policy: Arc::new(policy), expires_at_ns: None });
    }
}

/// Has a policy shown, read back, and made ready for the kernel.
fn carry_out(shaping: &Shaping) {
    let json = serde_json::to_string(&*shaping.policy).expect("a policy can be written");
    let read = Policy::parse(&json, Format::Json, &NoFiles, &Named::default());
    assert_eq!(read.as_ref(), Ok(&*shaping.policy), "as it is kept: {:.300}", json);
    serde_json::to_string(shaping).expect("a policy can be written");
    shaping.targets().for_each(drop);
    let _ = (shaping.overall_latency(), shaping.overall_loss(), shaping.needs_queue());
    let _ = (shaping.to_map(), shaping.needs_single_segments());
    let _ = shaping.policy.compile(7, 42, &Peers::new());
}
