use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use tower::ServiceExt as _;

use super::*;
use crate::shaping::{
    ContainerState, Direction, RuntimeName, ShapingError,
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
    let said = answer["error"].as_str().expect("an error");
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
async fn what_is_put_is_in_force_and_what_is_left_out_stays() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    let path = "/containers/web/shaping";
    let (status, _) = ask(&shaper, "PUT", path, r#"{"latency": "120ms", "direction": "both"}"#).await;
    assert_eq!(status, StatusCode::OK);
    let (_, view) = ask(&shaper, "PUT", path, r#"{"loss": "2.5%", "for": "10m"}"#).await;
    assert_eq!(view["interfaces"][0]["policy"]["latency"], "120ms");
    assert_eq!(view["interfaces"][0]["policy"]["loss"], "2.5%");
    assert_eq!(view["interfaces"][0]["remaining_ms"], 600_000);
    assert_eq!(view["interfaces"][1]["policy"]["loss"], Value::Null);
    let (_, view) = ask(&shaper, "PUT", path, r#"{"latency": "0", "for": "forever"}"#).await;
    assert_eq!(view["interfaces"][0]["policy"]["latency"], Value::Null);
    assert_eq!(view["interfaces"][0]["remaining_ms"], Value::Null);
}

#[tokio::test]
async fn a_delete_clears() {
    let shaper = Arc::new(FakeShaper::new([shaped_web()]));
    let (status, view) = ask(&shaper, "DELETE", "/containers/web/shaping", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(view["interfaces"], json!([]));
    assert_eq!(shaper.seen(WEB).policy(Direction::Egress), None);
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_done() {
    let shaper = Arc::new(FakeShaper::new([web()]));
    for (body, text) in [
        ("", "the body is no shaping"),
        ("{}", "nothing is asked for"),
        (r#"{"direction": "both"}"#, "nothing is asked for"),
        (r#"{"latency": "1s", "los": "1%"}"#, "unknown field `los`"),
        (r#"{"latency": 5}"#, "the body is no shaping"),
        (r#"{"latency": "-1ms"}"#, "a latency cannot be negative"),
        (r#"{"latency": "6m"}"#, "the longest is 5m"),
        (r#"{"loss": "101%"}"#, "it is from 0% to 100%"),
        (r#"{"loss": "1%", "for": "0s"}"#, "a duration of nothing"),
        (r#"{"loss": "1%", "direction": "up"}"#, "unknown variant `up`"),
    ] {
        check_error(&shaper, ("PUT", "/containers/web/shaping", body), 400, text).await;
    }
    assert!(shaper.seen(WEB).interfaces.is_empty());
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    let paused = container("beef", "frozen", RuntimeName::Docker, ContainerState::Paused);
    let twin = container("c0ffee02", "twin", RuntimeName::Docker, ContainerState::Running);
    let shaper = Arc::new(FakeShaper::new([web(), paused, twin]));
    let loss = r#"{"loss": "1%"}"#;
    check_error(&shaper, ("GET", "/containers/none", ""), 404, "no container is called").await;
    check_error(&shaper, ("PUT", "/containers/none/shaping", loss), 404, "no container is called").await;
    check_error(&shaper, ("DELETE", "/containers/c0ffee/shaping", ""), 409, "any of web, twin").await;
    check_error(&shaper, ("PUT", "/containers/beef/shaping", loss), 409, "is paused").await;
    let fail = |failure| *shaper.failure.lock().expect("not poisoned") = Some(failure);
    fail(|| ShapingError::Refused("web has the host's network".to_owned()));
    check_error(&shaper, ("PUT", "/containers/web/shaping", loss), 422, "the host's network").await;
    fail(|| ShapingError::Failed("attach to eth0".to_owned()));
    check_error(&shaper, ("PUT", "/containers/web/shaping", loss), 500, "attach to eth0").await;
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
