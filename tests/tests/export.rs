//! `shaper export` and `shaper import`: what shapes a host can be taken away, and put back.

use std::{fs, process::Output};

use serde_json::{Value, json};
use shaper_tests::{needs, scene::Scene};

fn export(scene: &Scene) -> Value {
    serde_json::from_str(&scene.daemon.run("export")).expect("JSON")
}

/// Imports a document; the exit code, what was written, and what was complained of.
fn import(scene: &Scene, document: &Value, words: &[&str]) -> (Option<i32>, String, String) {
    let file = scene.world.directory().join("shaping.json");
    fs::write(&file, document.to_string()).expect("it can be written");
    let path = file.to_string_lossy();
    let words = [&["import", &*path], words].concat();
    let Output { status, stdout, stderr } = scene.daemon.command(&words).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// A document without its times, the first of which is what is left of an hour.
fn timeless(mut document: Value) -> Value {
    let left = document["containers"]["web"]["egress"]["for"].take();
    let left = left.as_str().expect("a time");
    assert!(left == "1h" || left.starts_with("59m 5"), "{left}");
    document
}

#[test]
fn what_is_exported_can_be_imported_again() {
    needs!(Root);
    let scene = Scene::of(&["web", "db", "idle"]).expect("a scene");
    scene.daemon.run("set web --loss 1% --for 1h");
    scene.daemon.words(&["set", "web", "--loss", "gemodel 1% 10%", "--direction", "ingress"]);
    scene.daemon.words(&["set", "db", "--to", "10.0.0.0/8 tcp port 443", "--loss", "5%"]);
    let exported = export(&scene);
    let names: Vec<_> = exported["containers"].as_object().expect("an object").keys().collect();
    assert_eq!(names, ["db", "web"]);
    scene.daemon.run("clear --all");
    assert_eq!(export(&scene), json!({ "version": 1, "containers": {} }));

    let (code, told, complaints) = import(&scene, &exported, &["--dry-run"]);
    assert_eq!((code, &*complaints), (Some(0), ""));
    assert_eq!(told.matches("would be set").count(), 2, "{told}");
    assert_eq!(export(&scene)["containers"], json!({}));

    let (code, told, complaints) = import(&scene, &exported, &[]);
    assert_eq!((code, &*complaints), (Some(0), ""));
    assert!(told.contains("loss gemodel 1% 10%") && told.contains("1 target"), "{told}");
    assert_eq!(timeless(export(&scene)), timeless(exported));
}

#[test]
fn what_is_not_there_is_listed_and_the_rest_is_shaped() {
    needs!(Root);
    let scene = Scene::of(&["web"]).expect("a scene");
    scene.daemon.run("set web --loss 30%");
    let side = |loss: &str| json!({ "egress": { "policy": { "loss": loss } } });
    let both = json!({ "version": 1, "containers": { "web": side("2%"), "gone:a*": side("1%") } });
    let (code, told, complaints) = import(&scene, &both, &[]);
    assert_eq!(code, Some(6), "{complaints}");
    assert!(told.contains("loss 30% -> loss 2%"), "{told}");
    assert!(complaints.starts_with("error: no container is called \"gone:a*\""), "{complaints}");
    assert!(complaints.ends_with("\nerror: 1 of 2 containers were not shaped\n"), "{complaints}");
    let (_, results, _) = import(&scene, &both, &["--json"]);
    let results: Value = serde_json::from_str(&results).expect("JSON");
    assert_eq!(results["results"][0]["result"], "changed");
    let reason = results["errors"]["gone:a*"].as_str().expect("a reason");
    assert!(reason.starts_with("no container is called"), "{reason}");
    let gone = json!({ "version": 1, "containers": { "gone": side("1%") } });
    assert_eq!(import(&scene, &gone, &[]).0, Some(4));
    assert_eq!(scene.daemon.view("web")["interfaces"][0]["shaping"]["loss"], "2%");
}

#[test]
fn a_file_that_is_no_export_changes_nothing_and_says_so() {
    needs!(Root);
    let scene = Scene::of(&["web"]).expect("a scene");
    let bad_loss = json!({ "egress": { "policy": { "loss": "101%" } } });
    for (document, said) in [
        (json!([]), "is not what `shaper export` writes"),
        (json!({ "version": 2, "containers": {} }), "is of version 2, and this shaper knows version 1"),
        (json!({ "version": 1, "containers": { "web": bad_loss } }), "101%"),
    ] {
        let (code, told, complaints) = import(&scene, &document, &[]);
        assert_eq!((code, &*told), (Some(1), ""), "{complaints}");
        assert!(complaints.contains(said), "{complaints}");
    }
    assert_eq!(export(&scene)["containers"], json!({}));
}
