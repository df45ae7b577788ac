//! A shell completes names that only the daemon knows.

use std::process::Command;

use shaper_tests::{daemon::program, needs, scene::Scene};

/// Asks bash for the completions of the last one of `words`, as the key does; sorted.
fn completions(socket: &str, words: &[&str]) -> Vec<String> {
    // The words of the line and the index of the last one, as bash gives them to a completion function (bash(1)).
    let script = r#"
        source <(COMPLETE=bash "$PROGRAM")
        COMP_WORDS=(shaper "$@"); COMP_CWORD=$#; COMP_TYPE=9
        _clap_complete_shaper shaper "${@: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash"]).args(words);
    let output =
        bash.env("PROGRAM", program()).env("SHAPER_PLUGIN_SOCKET", socket).output().expect("bash runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut found: Vec<_> = text.lines().map(|line| line.trim().to_owned()).collect();
    found.sort();
    found
}

#[test]
fn names_of_containers_networks_and_rules_are_completed() {
    needs!(Root);
    let scene = Scene::of(&["web-1", "web-2", "db", "a$b"]).expect("a scene");
    scene.daemon.run("set db --loss 1% --keep lossy-db");
    let socket = scene.world.socket().display().to_string();
    for (words, expected) in [
        (&["clear", "w"][..], &["web-1", "web-2"][..]),
        (&["rm", "db,we"], &["db,web-1", "db,web-2"]),
        (&["run", "d"], &["db"]),
        // What a shell would not take as a name is left out.
        (&["inspect", "a"], &[""]),
        (&["set", "web-1", "--preset", "satellite-g"], &["satellite-geo"]),
        (&["rules", "suspend", "l"], &["lossy-db"]),
    ] {
        assert_eq!(completions(&socket, words), expected, "{words:?}");
    }
}

#[test]
fn without_a_daemon_there_are_the_words_of_the_program() {
    let nobody = "/nowhere/none.sock";
    assert_eq!(completions(nobody, &["clear", "w"]), [""]);
    assert_eq!(completions(nobody, &["set", "web", "--late"]), ["--latency"]);
    assert_eq!(completions(nobody, &["explain", "--preset", "satellite-g"]), ["satellite-geo"]);
    assert_eq!(completions(nobody, &["doc"]), ["doctor"]);
}
