use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use tower::ServiceExt as _;

use super::*;
use crate::{
    api::{request, router},
    shaping::{
        Action, Author, ContainerState, ContainerView, Direction, Entry, Insistence, InterfaceView, NetnsId,
        NetnsRef, Pod, RuntimeName, ShapingState, Terms,
        fake::{FakeShaper, WEB, container, interface, shaped_web, shaping, web},
    },
};

/// 300 seconds before the deadline of [`shaped_web`].
const MOMENT: Moment = Moment { unix: Duration::from_secs(1_000_600), monotonic_ns: 600_000_000_000 };

/// A container of a pod, shaped by a rule.
fn of_a_pod() -> ContainerView {
    let mut view = shaped_web();
    let (namespace, name) = (Some("shop".to_owned()), "web-7d9f".to_owned());
    view.container.pod = Some(Pod { namespace, name, uid: None });
    view.rule = Some("slow-web".to_owned());
    view
}

/// Figures of each kind, none of which is zero throughout.
async fn busy(views: Vec<ContainerView>) -> Arc<FakeShaper> {
    let shaper = Arc::new(FakeShaper::new(views));
    *shaper.orphaned.lock().expect("not poisoned") = 2;
    for (action, by) in
        [(Action::Began, Author::Scope), (Action::Failed, Author::Rule { name: "slow-web".to_owned() })]
    {
        let entry = Entry::new(action, "web", by);
        shaper.journal.lock().expect("not poisoned").add(entry, SystemTime::UNIX_EPOCH);
    }
    shaper.note_report(Duration::from_millis(3));
    let rule = r#"{"name": "slow-web", "select": "web", "set": {"latency": "2s"}}"#;
    let rule: crate::shaping::RuleDocument = serde_json::from_str(rule).expect("a document");
    shaper.put_rule(rule.try_into().expect("a rule")).await.expect("it is taken");
    shaper
}

async fn written(shaper: &FakeShaper, format: Format) -> String {
    let (views, is_ready) = (shaper.list().await, shaper.problem().is_none());
    format.write(Scrape::new(views, shaper.figures(), is_ready, MOMENT)).expect("it can be written")
}

async fn text_of(views: Vec<ContainerView>) -> String {
    let figures = busy(Vec::new()).await.figures();
    Format::OpenMetrics.write(Scrape::new(views, figures, true, MOMENT)).expect("it can be written")
}

async fn ask(shaper: &Arc<FakeShaper>, accept: Option<&str>) -> (StatusCode, String, String) {
    let mut request = Request::builder().uri("/metrics");
    if let Some(accept) = accept {
        request = request.header(ACCEPT, accept);
    }
    let request = request.body(Body::empty()).expect("a request");
    let answer = router(shaper.clone()).oneshot(request).await.expect("an answer");
    let (status, kind) = (answer.status(), answer.headers()[CONTENT_TYPE].to_str().expect("text").to_owned());
    let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    (status, kind, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn all_that_is_known_is_in_the_text() {
    insta::assert_snapshot!(written(&*busy(vec![of_a_pod()]).await, Format::OpenMetrics).await);
}

#[tokio::test]
async fn clients_get_the_format_that_they_ask_for() {
    let shaper = busy(vec![of_a_pod()]).await;
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for accept in [None, Some("*/*"), Some(prometheus)] {
        let (status, kind, text) = ask(&shaper, accept).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8", "{accept:?}");
        assert!(text.contains("# TYPE shaper_packets counter\n") && text.ends_with("\n# EOF\n"), "{text}");
    }
    for accept in ["text/plain", "text/html, Text/Plain;version=0.0.4;q=0.5"] {
        let (_, kind, text) = ask(&shaper, Some(accept)).await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8", "{accept}");
        assert!(text.contains("# TYPE shaper_packets_total counter\n") && !text.contains("# EOF"), "{text}");
    }
}

#[tokio::test]
async fn a_daemon_that_cannot_shape_says_so() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    assert!(ask(&shaper, None).await.2.contains("\nshaper_ready 1\n"));
    *shaper.unready.lock().expect("not poisoned") = Some("no bpffs is mounted".to_owned());
    assert!(ask(&shaper, None).await.2.contains("\nshaper_ready 0\n"));
}

#[tokio::test]
async fn names_of_any_kind_are_written_as_values() {
    for (name, written) in [
        ("plain", "plain"),
        ("a\"b", "a\\\"b"),
        ("a\\b", "a\\\\b"),
        ("a\nb", "a\\nb"),
        ("a\"} 1\nshaper_ready 0\n#", "a\\\"} 1\\nshaper_ready 0\\n#"),
        ("{}=,", "{}=,"),
        ("\u{202e}\u{0}é", "\u{202e}\u{0}é"),
    ] {
        let mut view = of_a_pod();
        name.clone_into(&mut view.container.name);
        view.container.pod.as_mut().expect("it has one").name = name.to_owned();
        name.clone_into(&mut view.interfaces[0].interface);
        let usual = text_of(vec![of_a_pod()]).await.lines().count();
        let text = text_of(vec![view]).await;
        for label in ["container", "pod", "interface"] {
            assert!(text.contains(&format!("{label}=\"{written}\"")), "{label} {name:?}: {text}");
        }
        assert_eq!(text.lines().count(), usual, "{name:?} makes no line of its own");
        assert!(text.contains("\nshaper_ready 1\n"), "{name:?}");
    }
}

#[tokio::test]
async fn long_names_and_policies_are_cut() {
    let mut view = web();
    view.container.name = "é".repeat(100_000);
    let steps: Vec<_> =
        (0..500).map(|step| json!({ "for": "1s", "delay": format!("{}ms", step + 1) })).collect();
    let shaper = Arc::new(FakeShaper::new([view]));
    let request = request(json!({ "policy": { "repeat": true, "step": steps } }).to_string().as_bytes())
        .expect("a policy");
    shaper
        .set(WEB, request, Terms { insistence: Insistence::Force, ..Terms::of(Author::Scope) })
        .await
        .expect("it is taken");
    let text = written(&shaper, Format::OpenMetrics).await;
    assert!(text.contains("netem=\"delay 1ms") && text.contains("...\""), "{text}");
    assert!(text.contains(&format!("container=\"{}...\"", "é".repeat(256))));
    assert!(text.len() < 64 << 10, "{} bytes", text.len());
}

#[tokio::test]
async fn what_is_unknown_has_no_counters_that_would_seem_to_begin_anew() {
    let mut view = web();
    let unknown = InterfaceView::unknown("?".to_owned(), Direction::Egress, "its namespace cannot be found");
    view.interfaces = vec![unknown, interface(Direction::Ingress, shaping("loss 1%"))];
    view.interfaces[1].state = ShapingState::Broken("classifier removed".to_owned());
    let text = text_of(vec![view]).await;
    let lines =
        |words: &[&str]| text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(lines(&["shaper_shaping_info{", "direction=\"egress\"", "state=\"unknown\""]), 1, "{text}");
    assert_eq!(lines(&["shaper_shaping_info{", "direction=\"ingress\"", "state=\"broken\""]), 1, "{text}");
    assert_eq!(lines(&["shaper_packets_total{", "direction=\"egress\""]), 0, "{text}");
    assert_eq!(lines(&["shaper_packets_total{", "direction=\"ingress\"", "outcome=\"lost\""]), 1, "{text}");
    for (state, number) in [("intact", 0), ("broken", 1), ("unknown", 1)] {
        assert!(text.contains(&format!("\nshaper_shapings{{state=\"{state}\"}} {number}\n")), "{text}");
    }
}

#[tokio::test]
async fn containers_of_one_namespace_are_counted_once_and_no_series_is_there_twice() {
    let mut twin = shaped_web();
    twin.container.name = "web-2".to_owned();
    let mut stranger = shaped_web();
    stranger.container.netns =
        Some(NetnsRef { id: NetnsId { dev: 4, inode: 7 }, path: "/proc/7/ns/net".into() });
    let text = text_of(vec![shaped_web(), twin, stranger]).await;
    let mut series = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, _) = line.rsplit_once(' ').expect("a value");
        assert!(series.insert(name.to_owned()), "{name} is there twice");
    }
    assert!(!text.contains("web-2"), "{text}");
    assert!(
        text.contains("\nshaper_shaped_containers 3\n") && text.contains("shapings{state=\"intact\"} 2\n")
    );
}

#[test]
fn a_deadline_is_the_same_second_at_each_scrape() {
    let later = Moment { unix: MOMENT.unix + Duration::from_millis(15_300), monotonic_ns: 615_300_000_777 };
    for moment in [MOMENT, later] {
        assert_eq!(moment.unix_seconds_at(900_000_000_000), 1_000_900);
        assert_eq!(moment.unix_seconds_at(500_000_000_000), 1_000_500);
    }
}

/// The types and labels of all families in a text, by the names that samples have.
fn families(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut current = (String::new(), String::new());
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').expect("a type");
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            current = (format!("{name}{suffix}"), kind.to_owned());
        } else if !line.starts_with('#') {
            let (_, labels) =
                families.entry(current.0.clone()).or_insert((current.1.clone(), BTreeSet::new()));
            let names = line.split_once('{').into_iter().flat_map(|(_, labels)| labels.split("\","));
            labels.extend(names.filter_map(|label| Some(label.split_once("=\"")?.0.to_owned())));
        }
    }
    families
}

/// The names in a cell of a table of the documents: ``*shaping*, `outcome` ``.
fn named(list: &str, of_a_shaping: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names: BTreeSet<_> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    if list.contains("*shaping*") {
        names.extend(of_a_shaping.iter().cloned());
    }
    names
}

#[tokio::test]
async fn the_page_has_each_metric_with_its_type_and_labels() {
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).expect("a page");
    let rows = |title: &str| {
        let (_, table) = page.split_once(title).unwrap_or_else(|| panic!("no table {title:?}"));
        let rows = table.lines().skip(2).take_while(|line| line.starts_with("| ")).map(str::to_owned);
        rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").map(str::to_owned).collect()).collect()
    };
    let labels: Vec<Vec<String>> = rows("| label | value |");
    let of_a_shaping = labels.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let metrics: Vec<Vec<String>> = rows("| metric | type | labels | meaning |");
    let documented: BTreeMap<_, _> = metrics
        .iter()
        .map(|row| {
            let mut labels = named(&row[2], &of_a_shaping);
            // Those of a runtime with one socket have none.
            labels.remove("socket");
            (row[0].trim_matches('`').to_owned(), (row[1].clone(), labels))
        })
        .collect();
    let mut given = families(&written(&*busy(vec![of_a_pod()]).await, Format::OpenMetrics).await);
    let histogram = given.get_mut("shaper_scope_report_duration_seconds").expect("a histogram");
    histogram.1.remove("le");
    assert_eq!(given, documented);
}

/// 1,000 containers, each shaped in both directions.
fn crowd() -> Vec<ContainerView> {
    let member = |number: usize| {
        let name = format!("c{number}");
        let mut view = container(&name, &name, RuntimeName::Netns, ContainerState::Running);
        let id = NetnsId { dev: 4, inode: 1_000 + u64::try_from(number).expect("small") };
        view.container.netns = Some(NetnsRef { id, path: format!("/run/netns/{name}").into() });
        view.interfaces = shaped_web().interfaces;
        view
    };
    (0..1_000).map(member).collect()
}

/// The time that this thread has had a processor, whatever else the machine does.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

#[tokio::test]
async fn a_scrape_of_a_thousand_containers_is_quick_and_leaves_nothing() {
    let shaper = FakeShaper::new(crowd());
    let mut sizes = BTreeSet::new();
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let begin = processor_time();
        sizes.insert(written(&shaper, Format::OpenMetrics).await.len());
        least = least.min(processor_time() - begin);
    }
    assert_eq!(sizes.len(), 1, "no scrape is larger than the one before");
    // `cargo xtask bench control` has the bound of a release; this is ten times that, for a debug build.
    assert!(least < Duration::from_millis(600), "{least:?} for {sizes:?} bytes");
}
