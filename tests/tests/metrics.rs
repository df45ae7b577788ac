//! The metrics say what the daemon and the kernel know, Prometheus takes them, and the dashboard and the alert rules ask
//! for those that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use shaper_tests::{
    daemon::{Daemon, PATIENCE, eventually, program},
    documents::{read, root},
    http::exchange,
    needs,
    traffic::ping,
    world::{Container, World},
};

const ALERTS: &str = "deployments/alerts.yaml";
const DASHBOARD: &str = "deployments/grafana.json";
/// Where Prometheus listens, in the world's own namespace.
const PROMETHEUS: &str = "127.0.0.1:9090";

/// A scrape, in the format that `accept` asks for.
fn scrape(world: &World, accept: &str) -> String {
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: shaper\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let answer = exchange(&world.socket(), request.as_bytes(), PATIENCE, 16 << 20).expect("an answer");
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).expect("text")
}

/// The value of the one sample of this name that has all these labels; none if there is no such sample.
fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let is_meant = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let mut found = text.lines().filter(is_meant);
    let sample = found.next()?;
    assert_eq!(found.next(), None, "several are {name} {labels:?}");
    Some(sample.rsplit_once(' ').expect("a value").1.parse().expect("a number"))
}

fn number(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    value(text, name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in {text}"))
}

fn send(from: &Container, packets: u32) {
    ping(&from.netns, from.host_address, packets, Duration::from_millis(1), &["-W", "0.2"])
        .expect("ping works");
}

fn world_of_two() -> (World, [Container; 2], Daemon) {
    let world = World::new().expect("a world");
    let containers = ["web", "db"].map(|name| world.container(name).expect("a container"));
    let daemon = world.daemon().expect("a daemon");
    daemon.view("web");
    daemon.view("db");
    (world, containers, daemon)
}

#[test]
fn counts_are_those_of_inspect_and_of_the_packets_sent() {
    needs!(Root);
    let (world, [web, _db], daemon) = world_of_two();
    daemon.run("set web --loss 100%");
    daemon.run("set web --direction ingress --loss 1% --for 1h");
    send(&web, 20);
    let text = scrape(&world, "*/*");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let of = [("container", "web"), ("id", "web"), ("runtime", "netns"), ("interface", "eth0")];
    let egress = [&of[..], &[("direction", "egress")]].concat();
    let lost = [&egress[..], &[("outcome", "lost")]].concat();
    assert_eq!(number(&text, "shaper_packets_total", &lost), 20.0);
    // Of 84 bytes of IP each, and a header of Ethernet.
    assert_eq!(number(&text, "shaper_bytes_total", &lost), 20.0 * 98.0);
    let inspected: Value = serde_json::from_str(&daemon.run("inspect web --json")).expect("JSON");
    let interfaces = inspected[0]["interfaces"].as_array().or_else(|| inspected["interfaces"].as_array());
    let interfaces = interfaces.expect("interfaces");
    assert_eq!(interfaces.len(), 2);
    let mut compared = 0;
    for interface in interfaces {
        let direction = interface["direction"].as_str().expect("a direction");
        for (outcome, counts) in interface.as_object().expect("an object") {
            let Some(packets) = counts["packets"].as_f64() else { continue };
            let labels = [&of[..], &[("direction", direction), ("outcome", outcome)]].concat();
            assert_eq!(number(&text, "shaper_packets_total", &labels), packets, "{direction} {outcome}");
            let bytes = counts["bytes"].as_f64().expect("a number");
            assert_eq!(number(&text, "shaper_bytes_total", &labels), bytes, "{direction} {outcome}");
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * 9);
    assert_eq!(number(&text, "shaper_queue_packets", &egress), 0.0);
    let policy = [&egress[..], &[("netem", "loss 100%"), ("state", "intact")]].concat();
    assert_eq!(number(&text, "shaper_shaping_info", &policy), 1.0);
    let name = "shaper_shaping_expiry_timestamp_seconds";
    let ends = number(&text, name, &[("container", "web"), ("direction", "ingress")]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64();
    assert!((now + 3500.0..now + 3601.0).contains(&ends), "{ends} at {now}");
    assert_eq!(value(&text, name, &egress), None, "it stays");
}

#[test]
fn what_is_shaped_broken_and_over_is_counted() {
    needs!(Root);
    let (world, [web, _db], daemon) = world_of_two();
    let now = |name: &str, labels: &[(&str, &str)]| value(&scrape(&world, "*/*"), name, labels);
    assert_eq!(now("shaper_containers", &[]), Some(2.0));
    assert_eq!(now("shaper_shaped_containers", &[]), Some(0.0));
    assert_eq!(now("shaper_ready", &[]), Some(1.0));
    assert_eq!(now("shaper_runtime_up", &[("runtime", "netns")]), Some(1.0));
    assert_eq!(now("shaper_runtime_containers", &[("runtime", "netns")]), Some(2.0));
    daemon.run("set web --loss 1% --direction both");
    assert_eq!(now("shaper_shaped_containers", &[]), Some(1.0));
    assert_eq!(now("shaper_shapings", &[("state", "intact")]), Some(2.0));
    web.netns.remove_classifiers("eth0");
    eventually("it is seen", || (now("shaper_shapings", &[("state", "broken")])? >= 1.0).then_some(()));
    let egress = [("container", "web"), ("direction", "egress"), ("state", "broken")];
    assert_eq!(now("shaper_shaping_info", &egress), Some(1.0));
    daemon.run("clear web");
    assert_eq!(now("shaper_packets_total", &[("container", "web")]), None);
    assert_eq!(now("shaper_shapings", &[("state", "broken")]), Some(0.0));
}

#[test]
fn events_are_counted_by_action_and_author() {
    needs!(Root);
    let (world, _containers, daemon) = world_of_two();
    let counts = || {
        let text = scrape(&world, "*/*");
        let lines = text.lines().filter_map(|line| line.strip_prefix("shaper_events_total{"));
        let counted = lines.filter_map(|line| {
            let (labels, count) = line.split_once("} ").expect("a value");
            let values: Vec<_> = labels.split('"').skip(1).step_by(2).collect();
            Some((values.join(" "), count.parse::<u32>().ok().filter(|count| *count > 0)?))
        });
        counted.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(counts(), BTreeMap::new());
    let mut expected = BTreeMap::new();
    let mut check = |line: &str, more: &[(&str, u32)]| {
        let _ = daemon.shaper(line).output().expect("the program can be run");
        for (kind, count) in more {
            *expected.entry((*kind).to_owned()).or_insert(0) += count;
        }
        assert_eq!(counts(), expected, "{line}");
    };
    check("set web --loss 1%", &[("began process", 1)]);
    check("set web db --loss 2%", &[("began process", 1), ("changed process", 1)]);
    check("set web db --loss 3% --dry-run", &[]);
    check("set nosuch --loss 1%", &[("refused process", 1)]);
    check("set nosuch-* --loss 1%", &[("refused process", 1)]);
    check("set web --netem rate", &[]);
    check("set web --queue 1s", &[("refused process", 1)]);
    check("list", &[]);
    check("clear web", &[("ended process", 1)]);
    check("clear web", &[]);
    check("clear --all", &[("ended process", 1)]);
    daemon.run("set web --loss 4% --keep slow");
    let by_rule = |kind: &str| counts().get(kind).copied();
    eventually("the rule is carried out", || by_rule("began rule"));
    let text = scrape(&world, "*/*");
    assert_eq!(number(&text, "shaper_rules", &[("state", "active")]), 1.0);
    assert_eq!(number(&text, "shaper_shaping_info", &[("container", "web"), ("rule", "slow")]), 1.0);
    daemon.run("rules remove slow");
    eventually("its shaping is cleared", || by_rule("ended rule"));
    assert_eq!(by_rule("began rule"), Some(1));
}

/// A program that is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The place where the daemon listens by TCP.
const LISTEN: &str = "127.0.0.1:7474";

/// Prometheus, which scrapes a daemon each second, in the namespace of the daemon.
struct Prometheus<'a> {
    world: &'a World,
    _server: Running,
}

impl<'a> Prometheus<'a> {
    fn start(world: &'a World) -> Self {
        let configuration = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [root().join(ALERTS)],
            "scrape_configs": [{
                "job_name": "shaper",
                "static_configs": [{ "targets": [LISTEN] }],
            }],
        });
        let file = world.directory().join("prometheus.yml");
        // JSON is YAML.
        fs::write(&file, configuration.to_string()).expect("it can be written");
        let mut command = world.host().command("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", world.directory().join("prometheus").display()));
        command.arg(format!("--web.listen-address={PROMETHEUS}"));
        let log = fs::File::create(world.directory().join("prometheus.log")).expect("a file");
        let server = command.stdin(Stdio::null()).stderr(log).spawn().expect("it can be run");
        Self { world, _server: Running(server) }
    }

    /// The result of a query; none while there is no answer.
    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let mut command = self.world.host().command("promtool");
        command.args(["query", "--format=json", "instant", &format!("http://{PROMETHEUS}"), expression]);
        let output = command.output().expect("promtool can be run");
        serde_json::from_slice::<Vec<Value>>(&output.stdout).ok()
    }

    /// The value of a query with one result, once it has that.
    fn value(&self, expression: &str) -> Option<f64> {
        match &*self.query(expression)? {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.world.directory().join("prometheus.log")).unwrap_or_default()
    }
}

#[test]
fn prometheus_scrapes_it_whatever_containers_are_called() {
    needs!(Root, Prometheus);
    let world = World::new().expect("a world");
    let name = r#"a"b\c{d='e"#;
    let web = world.container(name).expect("a container");
    let arguments = ["--runtime", "netns", "--listen", LISTEN];
    let daemon = world.spawn(world.host().command(program()), world.pin_dir(), &arguments).expect("a daemon");
    daemon.view(name);
    // In selectors, a backslash makes the next character an ordinary one.
    let selector = name.replace('\\', r"\\");
    daemon.words(&["set", &selector, "--loss", "100%", "--for", "1h"]);
    send(&web, 20);
    let prometheus = Prometheus::start(&world);
    let is_up = || (prometheus.value("up")? > 0.0).then_some(());
    eventually("Prometheus has scraped", is_up);
    let lost = r#"shaper_packets_total{container="a\"b\\c{d='e",outcome="lost"}"#;
    assert_eq!(prometheus.value(lost), Some(20.0), "{}", prometheus.log());
    assert_eq!(prometheus.value("count(shaper_shaping_info)"), Some(1.0));
    send(&web, 20);
    eventually("it scrapes again", || (prometheus.value(lost)? == 40.0).then_some(()));
    for query in queries() {
        let found = prometheus.query(&query).unwrap_or_else(|| panic!("{query}: {}", prometheus.log()));
        // What compares needs not be so, and a rate needs more than one scrape.
        let may_be_empty = query.contains(" > 0") || query.contains("histogram_quantile");
        assert!(may_be_empty || !found.is_empty(), "{query} gives nothing");
    }
    web.netns.remove_classifiers("eth0");
    let pending = r#"ALERTS{alertname="ShaperShapingBroken",alertstate="pending"}"#;
    eventually("an alert is near", || prometheus.value(pending));
}

#[test]
fn promtool_finds_no_fault() {
    needs!(Root, Prometheus);
    let (world, _containers, daemon) = world_of_two();
    daemon.run("set web db --loss 1% --direction both --for 1h");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let text = scrape(&world, "text/plain");
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it is read");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn alerts_fire_when_they_should() {
    needs!(Prometheus);
    let of = r#"container="web",id="c0ffee",runtime="docker",interface="eth0",direction="egress",instance="a",job="s""#;
    let broken = format!(r#"shaper_shaping_info{{{of},state="broken",netem="loss 1%"}}"#);
    let intact = format!(r#"shaper_shaping_info{{{of},state="intact",netem="loss 1%"}}"#);
    let changed = format!(r#"shaper_shaping_info{{{of},state="intact",netem="loss 2%"}}"#);
    let failed = r#"shaper_events_total{instance="a",job="s",action="failed",by="process"}"#;
    let ready = r#"shaper_ready{instance="a",job="s"}"#;
    let second = r#"shaper_ready{instance="b",job="s"}"#;
    let runtime = r#"shaper_runtime_up{instance="a",job="s",runtime="docker"}"#;
    let orphaned = r#"shaper_orphaned_namespaces{instance="a",job="s"}"#;
    let case = |series: &[(&str, &str)], time: &str, fired: &[&str]| {
        let series: Vec<_> = series
            .iter()
            .map(|(series, values)| serde_json::json!({ "series": series, "values": values }))
            .collect();
        let alerts = BTreeSet::from_iter(names_of_alerts());
        let expected = alerts.into_iter().map(|alert| {
            let count = usize::from(fired.contains(&&*alert));
            // The number of those that fire.
            let expression =
                format!(r#"count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)"#);
            serde_json::json!({
                "expr": expression, "eval_time": time,
                "exp_samples": [{ "labels": "{}", "value": count }],
            })
        });
        let expected: Vec<_> = expected.collect();
        serde_json::json!({ "interval": "1m", "input_series": series, "promql_expr_test": expected })
    };
    let always = (ready, "1x2000");
    let cases = [
        case(&[always, (&broken, "1x10")], "5m", &["ShaperShapingBroken"]),
        case(&[always, (&intact, "1x10")], "5m", &[]),
        // The policy is changed, and some scrapes fail, within more than a day.
        case(&[always, (&intact, "1x700"), (&changed, "_x705 1x1000")], "1500m", &["ShaperShapingForgotten"]),
        case(&[always, (&intact, "1x700"), (&changed, "_x730 1x1000")], "1500m", &[]),
        case(&[always, (failed, "0x5 1x10")], "10m", &["ShaperChangesFail"]),
        case(&[always, (failed, "3x20")], "18m", &[]),
        case(&[always, (runtime, "0x10")], "6m", &["ShaperRuntimeDown"]),
        case(&[always, (orphaned, "1x20")], "16m", &["ShaperShapingOrphaned"]),
        case(&[(ready, "0x10")], "6m", &["ShaperNotReady"]),
        case(&[always, (second, "1x10")], "40m", &["ShaperAbsent"]),
        case(&[always, (second, "1x10")], "80m", &[]),
        case(&[], "6m", &["ShaperAbsent"]),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("test.yml");
    let tests = serde_json::json!({ "rule_files": [root().join(ALERTS)], "evaluation_interval": "1m", "tests": cases });
    fs::write(&file, tests.to_string()).expect("it can be written");
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().expect("it can be run");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}

fn alerts() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read(ALERTS)).expect("YAML");
    file["groups"][0]["rules"].as_array().expect("rules").clone()
}

fn names_of_alerts() -> Vec<String> {
    alerts().iter().map(|rule| rule["alert"].as_str().expect("a name").to_owned()).collect()
}

/// All queries of the alert rules and of the dashboard, with its variables as they are at first.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").clone();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let text = |value: &Value| value.as_str().expect("a query").to_owned();
    let asked = targets.map(|target| text(&target["expr"]));
    let shown = asked.map(|query| query.replace("$__rate_interval", "5m").replace("$instance", ".*"));
    shown.map(|query| query.replace("$container", ".*")).collect()
}

/// The labels of each metric, as the page has them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = read("docs/metrics.md");
    let rows = |title: &str| {
        let (_, table) = page.split_once(title).expect("a table");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
        rows.map(|row| row.split(" | ").map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
    };
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let of_a_shaping: Vec<_> = rows("| label | value |").iter().flat_map(|row| quoted(&row[0])).collect();
    let labels = |cell: &String| {
        let shaping = of_a_shaping.iter().filter(|_| cell.contains("*shaping*")).cloned();
        shaping.chain(quoted(cell)).collect()
    };
    let metrics = rows("| metric | type | labels | meaning |");
    metrics.iter().map(|row| (quoted(&row[0]).remove(0), labels(&row[2]))).collect()
}

/// The names in a query that are followed by a match of a label, or are listed for an aggregation.
fn labels_of(query: &str) -> BTreeSet<String> {
    let matched = query.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let matched = matched.flat_map(|list| list.split("\",").filter_map(|one| one.split(['=', '!']).next()));
    let listed = ["by (", "without ("].into_iter().flat_map(|word| query.split(word).skip(1));
    let listed = listed.filter_map(|rest| rest.split(')').next()).flat_map(|list| list.split(','));
    matched.chain(listed).map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect()
}

/// The names of metrics in a query.
fn metrics_of(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("shaper_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_and_labels_that_there_are() {
    let documented = documented();
    let of_alerts = alerts().into_iter().map(|rule| rule["expr"].as_str().expect("a query").to_owned());
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables").clone();
    let of_variables = variables.iter().filter_map(|one| {
        let (metric, label) =
            one["query"]["query"].as_str()?.strip_prefix("label_values(")?.rsplit_once(", ")?;
        Some(format!("max by ({}) ({metric})", label.trim_end_matches(')')))
    });
    let all: Vec<_> = queries().into_iter().chain(of_alerts).chain(of_variables).collect();
    assert!(all.len() > 20);
    for query in &all {
        let metrics = metrics_of(query);
        assert!(!metrics.is_empty(), "{query}");
        // What Prometheus adds by itself.
        let mut known: BTreeSet<_> = ["instance", "job"].map(str::to_owned).into();
        for metric in &metrics {
            let family = metric.strip_suffix("_bucket").unwrap_or(metric);
            let labels = documented.get(family).unwrap_or_else(|| panic!("{query}: there is no {metric}"));
            known.extend(labels.iter().cloned());
            if family != metric {
                known.insert("le".to_owned());
            }
        }
        for label in labels_of(query) {
            assert!(known.contains(&label), "{query}: {metrics:?} have no label {label}");
        }
    }
}

/// The labels that the texts of an alert show.
fn labels_shown(rule: &Value) -> Vec<String> {
    let texts = rule["annotations"].to_string();
    let shown = texts
        .split("$labels.")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next());
    shown.map(str::to_owned).collect()
}

#[test]
fn the_texts_of_alerts_show_labels_that_their_metrics_have() {
    let documented = documented();
    let mut count = 0;
    for rule in alerts() {
        let metrics = metrics_of(rule["expr"].as_str().expect("a query"));
        for label in labels_shown(&rule) {
            count += 1;
            let has = metrics.iter().any(|metric| documented[metric].contains(&label));
            assert!(has, "{}: {metrics:?} have no label {label}", rule["alert"]);
        }
    }
    assert!(count > 3);
}
