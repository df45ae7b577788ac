use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use tower::ServiceExt as _;

use super::*;
use crate::shaping::{
    Attempt, ContainerState, Direction, Refusal, RuntimeName,
    fake::{FakeShaper, WEB, container, shaped_web, web},
};

async fn ask(shaper: &Arc<FakeShaper>, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
    let request = request.body(Body::from(body.to_owned())).expect("a request");
    let answer = router(shaper.clone()).oneshot(request).await.expect("an answer");
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

async fn check_error(shaper: &Arc<FakeShaper>, request: (&str, &str, &str), status: u16, text: &str) {
    let (method, path, body) = request;
    let (answered, answer) = ask(shaper, method, path, body).await;
    assert_eq!(answered, status, "{answer}");
    let said = answer["detail"].as_str().expect("an error");
    assert!(said.contains(text), "{said:?} lacks {text:?}");
}

#[tokio::test]
async fn containers_are_listed_and_inspected() {
    let shaper = Arc::new(FakeShaper::new([shaped_web()]));
    let (status, list) = ask(&shaper, "GET", "/containers", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(list[0]["container"]["name"], "web");
    let (status, inspection) = ask(&shaper, "GET", "/containers/web", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(inspection["container"]["id"], WEB);
    assert_eq!(inspection["details"][0]["program_id"], 17);
}

#[tokio::test]
async fn a_change_can_depend_on_what_was_seen() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let ask = async |method: &str, if_match: Option<&str>| {
        let mut request = Request::builder().method(method).uri("/api/v1/containers/web/shaping");
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        let body = if method == "GET" { "" } else { r#"{"loss": "1%"}"# };
        let request = request.body(Body::from(body)).expect("a request");
        let answer = router(shaper.clone()).oneshot(request).await.expect("an answer");
        let tag = answer.headers().get("etag").map(|tag| tag.to_str().expect("text").to_owned());
        (answer.status().as_u16(), tag)
    };
    let (_, first) = ask("GET", None).await;
    let first = first.expect("a tag");
    let (status, second) = ask("PATCH", Some(&first)).await;
    assert_eq!(status, 200);
    assert_eq!(ask("GET", None).await.1, second);
    assert_eq!(ask("PATCH", Some(&first)).await.0, 412, "somebody else was faster");
    assert_eq!(ask("PATCH", Some("*")).await.0, 200);
    assert_eq!(ask("PATCH", Some("W/what")).await.0, 400);
}

#[tokio::test]
async fn a_change_of_one_container_can_be_tried_dry() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let (status, answer) =
        ask(&shaper, "PATCH", "/containers/web/shaping?dry_run=true", r#"{"loss": "1%"}"#).await;
    assert_eq!((status, &answer["results"][0]["result"]), (StatusCode::OK, &"planned".into()), "{answer}");
    assert!(shaper.seen(WEB).interfaces.is_empty());
}

#[tokio::test]
async fn an_error_points_to_the_value_that_is_wrong() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    for (body, pointer) in [
        (r#"{"loss": "101%"}"#, "#/loss"),
        (r#"{"policy": {"step": [{"for": "1s"}, {"loss": "101%"}]}}"#, "#/policy/step/1/loss"),
    ] {
        let (status, answer) = ask(&shaper, "PATCH", "/containers/web/shaping", body).await;
        assert_eq!(
            (status, answer["pointer"].as_str()),
            (StatusCode::BAD_REQUEST, Some(pointer)),
            "{answer}"
        );
        assert_eq!((&answer["status"], &answer["title"]), (&400.into(), &"Bad Request".into()));
    }
}

#[tokio::test]
async fn an_error_does_not_quote_megabytes() {
    let body = format!(r#"{{"{}": 1}}"#, "x".repeat(1 << 20));
    let (status, answer) =
        ask(&Arc::new(FakeShaper::new([web()])), "PATCH", "/containers/web/shaping", &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["detail"].as_str().is_some_and(|error| error.len() < 400), "{answer:.300}");
}

#[tokio::test]
async fn probes_tell_life_from_readiness() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let get = async |path: &str| {
        let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
        router(shaper.clone()).oneshot(request).await.expect("an answer").status()
    };
    assert_eq!((get("/healthz").await, get("/readyz").await), (StatusCode::OK, StatusCode::OK));
    *shaper.unready.lock().expect("not poisoned") = Some("no bpffs is mounted".to_owned());
    assert_eq!(
        (get("/healthz").await, get("/readyz").await),
        (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE)
    );
    let (_, status) = ask(&shaper, "GET", "/status", "").await;
    assert_eq!(status["problem"], "no bpffs is mounted");
    assert_eq!(status["problem_since"], "1970-01-01T00:00:00Z");
    *shaper.stalled.lock().expect("not poisoned") = true;
    assert_eq!(get("/healthz").await, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_is_put_is_in_force_and_what_is_left_out_stays() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let path = "/containers/web/shaping";
    let (status, _) = ask(&shaper, "PATCH", path, r#"{"latency": "120ms", "direction": "both"}"#).await;
    assert_eq!(status, StatusCode::OK);
    let (_, view) = ask(&shaper, "PATCH", path, r#"{"loss": "2.5%", "for": "10m"}"#).await;
    assert_eq!(view["interfaces"][0]["shaping"]["latency"], "120ms");
    assert_eq!(view["interfaces"][0]["shaping"]["loss"], "2.5%");
    assert_eq!(view["interfaces"][0]["remaining_ms"], 600_000);
    assert_eq!(view["interfaces"][1]["shaping"]["loss"], Value::Null);
    let (_, view) = ask(&shaper, "PATCH", path, r#"{"latency": "0", "for": "forever"}"#).await;
    assert_eq!(view["interfaces"][0]["shaping"]["latency"], Value::Null);
    assert_eq!(view["interfaces"][0]["remaining_ms"], Value::Null);
}

#[tokio::test]
async fn each_effect_can_be_put_and_all_at_once() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let path = "/containers/web/shaping";
    let netem = async |body: &str| {
        let (status, view) = ask(&shaper, "PATCH", path, body).await;
        assert_eq!(status, StatusCode::OK, "{body}: {view}");
        view["interfaces"][0]["shaping"]["netem"].as_str().unwrap_or_default().to_owned()
    };
    for (body, words) in [
        (r#"{"netem": "tc qdisc add dev eth0 root netem delay 100ms 20ms 25%"}"#, "delay 100ms 20ms 25%"),
        (
            r#"{"jitter": "5ms distribution wifi", "distributions": {"wifi": [-8192, 0, 8192]}}"#,
            "delay 100ms 5ms distribution wifi",
        ),
        (r#"{"jitter": "0", "loss": "gemodel 1% 10%", "seed": 7}"#, "delay 100ms loss gemodel 1% 10% seed 7"),
        (
            r#"{"trace": "lte", "traces": {"lte": [0, 5]}, "queue": "100ms", "latency": "0"}"#,
            "loss gemodel 1% 10% seed 7 trace lte queue 100ms",
        ),
        (r#"{"netem": "loss 1%"}"#, "loss 1%"),
        (r#"{"loss": "5%", "ramp": "10s"}"#, "loss 1% ramping for 10s, then loss 5%"),
        (r#"{"policy": {"netem": "loss 2%", "target": [{"to": "all udp", "loss": "9%"}]}}"#, "loss 2%"),
        (r#"{"to": "10.0.0.0/8", "rate": "1mbit"}"#, "loss 2%"),
        (r#"{"preset": "lte", "direction": "egress"}"#, &egress_of("lte")),
    ] {
        assert_eq!(netem(body).await, words, "{body}");
    }
    let policy = &shaper.seen(WEB).interfaces[0].shaping.policy;
    let targets: Vec<String> = policy.targets.iter().map(|target| target.rule.to_string()).collect();
    assert_eq!(targets, ["10.0.0.0/8", "all udp"]);
}

/// Returns the effects of a shipped preset on what is sent, as they are shown.
fn egress_of(preset: &str) -> String {
    let presets = crate::shaping::Presets::shipped(|_| Ok(())).expect("they are good");
    crate::shaping::fake::shaping(&presets.find(preset).expect("it is there").egress).words()
}

#[tokio::test]
async fn a_preset_is_put_in_both_directions() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let (_, view) = ask(&shaper, "PATCH", "/containers/web/shaping", r#"{"preset": "lte"}"#).await;
    assert_eq!(view["interfaces"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_delete_clears() {
    let shaper = Arc::new(FakeShaper::new([shaped_web()]));
    let (status, view) = ask(&shaper, "DELETE", "/containers/web/shaping", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(view["interfaces"], json!([]));
    assert_eq!(shaper.seen(WEB).shaping(Direction::Egress), None);
}

#[tokio::test]
async fn what_is_read_can_be_put_elsewhere_and_replaces_all() {
    let other = container("beef", "other", RuntimeName::Docker, ContainerState::Running);
    let shaper = Arc::new(FakeShaper::new([web(), other]));
    let both = r#"{"loss": "gemodel 1%", "direction": "both", "for": "10m"}"#;
    ask(&shaper, "PATCH", "/containers/web/shaping", both).await;
    let (status, whole) = ask(&shaper, "GET", "/containers/web/shaping", "").await;
    assert_eq!(status, StatusCode::OK);
    let side = json!({ "policy": { "netem": "loss gemodel 1%" }, "for": "10m" });
    assert_eq!(whole, json!({ "egress": side, "ingress": side }));
    ask(&shaper, "PATCH", "/containers/other/shaping", r#"{"latency": "5s", "direction": "both"}"#).await;
    let (status, _) = ask(&shaper, "PUT", "/containers/other/shaping", &whole.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(ask(&shaper, "GET", "/containers/other/shaping", "").await.1, whole);
    let egress = json!({ "egress": { "policy": { "delay": "1ms" } } });
    ask(&shaper, "PUT", "/containers/other/shaping", &egress.to_string()).await;
    let (_, whole) = ask(&shaper, "GET", "/containers/other/shaping", "").await;
    assert_eq!(whole, json!({ "egress": { "policy": { "netem": "delay 1ms" } } }));
    for (body, text) in [
        (r#"{"latency": "1ms"}"#, "unknown field `latency`"),
        (r#"{"egress": {"for": "1m"}}"#, "missing field `policy`"),
        (r#"{"egress": {"policy": {"loss": "101%"}}}"#, "loss: a loss of 101% is impossible"),
        (r#"{"egress": {"policy": {}, "for": "soon"}}"#, "invalid duration \"soon\""),
    ] {
        check_error(&shaper, ("PUT", "/containers/other/shaping", body), 400, text).await;
    }
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_done() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    for (body, text) in [
        ("", "the body is not a shaping"),
        ("{}", "nothing is asked for"),
        (r#"{"direction": "both"}"#, "nothing is asked for"),
        (r#"{"latency": "1s", "los": "1%"}"#, "unknown field \"los\""),
        (r#"{"latency": 5}"#, "the body is not a shaping"),
        (r#"{"latency": "-1ms"}"#, "latency: invalid latency \"-1ms\": expected a time that is not negative"),
        (r#"{"latency": "6m"}"#, "the longest is 5m"),
        (r#"{"loss": "101%"}"#, "it is from 0% to 100%"),
        (r#"{"loss": "1%", "for": "0s"}"#, "a duration of nothing"),
        (r#"{"loss": "1%", "direction": "up"}"#, "unknown variant `up`"),
        (r#"{"netem": "delya 1ms"}"#, "did you mean \"delay\"?"),
        (r#"{"netem": "loss 1%", "loss": "2%"}"#, "each say all by themselves"),
        ("{\"policy\": {\n\"loss\": \"101%\"}}", "policy.loss: a loss of 101% is impossible"),
        (r#"{"rate": "1mbit", "trace": "lte"}"#, "unknown trace \"lte\""),
        (r#"{"to": "10.0.0.0/33", "loss": "1%"}"#, "unknown target"),
        (r#"{"to": "10.0.0.0/8", "for": "1m"}"#, "`to` and `ramp` say nothing"),
        (r#"{"jitter": "1ms", "distributions": {"normal": [1]}}"#, "cannot be called normal"),
    ] {
        check_error(&shaper, ("PATCH", "/containers/web/shaping", body), 400, text).await;
    }
    assert!(shaper.seen(WEB).interfaces.is_empty());
    check_error(
        &shaper,
        ("PATCH", "/containers/web/shaping", r#"{"queue": "1ms"}"#),
        422,
        "queue needs a bottleneck",
    )
    .await;
    check_error(
        &shaper,
        ("PATCH", "/containers/web/shaping", r#"{"preset": "moon"}"#),
        422,
        "unknown preset",
    )
    .await;
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    let paused = container("beef", "frozen", RuntimeName::Docker, ContainerState::Paused);
    let twin = container("c0ffee02", "twin", RuntimeName::Docker, ContainerState::Running);
    let shaper = Arc::new(FakeShaper::new([web(), paused, twin]));
    let loss = r#"{"loss": "1%"}"#;
    check_error(&shaper, ("GET", "/containers/none", ""), 404, "no container is called").await;
    check_error(&shaper, ("PATCH", "/containers/none/shaping", loss), 404, "no container is called").await;
    check_error(&shaper, ("DELETE", "/containers/c0ffee/shaping", ""), 409, "any of web, twin").await;
    check_error(&shaper, ("PATCH", "/containers/beef/shaping", loss), 409, "is paused").await;
    let fail = |failure| *shaper.failure.lock().expect("not poisoned") = Some(failure);
    fail(|| Refusal::HostNetwork.into());
    check_error(&shaper, ("PATCH", "/containers/web/shaping", loss), 422, "the host's network").await;
    fail(|| Attempt::Attach("eth0".to_owned()).failed("no").into());
    check_error(&shaper, ("PATCH", "/containers/web/shaping", loss), 500, "attach to eth0").await;
}

#[tokio::test]
async fn unknown_routes_and_methods_are_answered_in_json() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    check_error(&shaper, ("GET", "/nothing", ""), 404, "there is no /api/v1/nothing here").await;
    check_error(&shaper, ("GET", "", ""), 404, "there is no /api/v1 here").await;
    check_error(&shaper, ("GET", "x/containers", ""), 404, "there is no /api/v1x/containers here").await;
    check_error(&shaper, ("POST", "/containers", ""), 405, "/api/v1/containers does not take POST").await;
    check_error(&shaper, ("GET", "/containers/%ff", ""), 400, "the container's name in the path").await;
    let (_, version) = ask(&shaper, "GET", "/version", "").await;
    assert_eq!(version, json!({"name": "shaper", "version": env!("CARGO_PKG_VERSION")}));
}
