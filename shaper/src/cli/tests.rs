use std::{path::Path, sync::Arc};

use tokio::{sync::oneshot, task::JoinHandle};

use super::*;
use crate::{
    server::{self, PluginSocket},
    shaping::{
        Attempt, ContainerState, RuntimeName,
        fake::{FakeShaper, WEB, container, shaped_web, web},
    },
};

/// A daemon on a socket of its own.
struct Daemon {
    shaper: Arc<FakeShaper>,
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Daemon {
    fn start(shaper: FakeShaper) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("traffic-control.sock");
        let shaper = Arc::new(shaper);
        let listener = PluginSocket::bind(&socket, None).expect("the socket");
        let (stop, stopped) = oneshot::channel::<()>();
        let router = crate::daemon::router(shaper.clone(), &[]).expect("there is no preset to miss");
        let server = tokio::spawn(server::serve(listener, None, router, async move {
            let _ = stopped.await;
        }));
        Self { shaper, socket, stop, server, _directory: directory }
    }

    /// Returns the output of a command, its complaints, and whether it failed.
    async fn run(&self, args: &[&str]) -> (String, String, Result<()>) {
        run_on(&self.socket, args).await
    }

    /// Returns the output of a command that succeeds without complaints.
    async fn output(&self, args: &[&str]) -> String {
        let (out, err, result) = self.run(args).await;
        result.expect("success");
        assert_eq!(err, "");
        out
    }

    async fn error(&self, args: &[&str]) -> String {
        let (out, _, result) = self.run(args).await;
        assert_eq!(out, "");
        format!("{:#}", result.expect_err("a failure"))
    }
}

async fn run_on(socket: &Path, args: &[&str]) -> (String, String, Result<()>) {
    let cli = Cli::try_parse_from([&["shaper"], args].concat()).expect("a right usage");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams::new(&mut out, &mut err);
    let result = ask(cli.command, &Client::new(socket.to_owned()), &mut streams).await.map(drop);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(out), text(err), result)
}

fn frozen() -> crate::shaping::ContainerView {
    container("beef", "frozen", RuntimeName::Docker, ContainerState::Paused)
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn each_command_explains_itself() {
    let mut help = String::new();
    let commands = [
        "serve",
        "list",
        "set",
        "run",
        "presets",
        "clear",
        "inspect",
        "status",
        "doctor",
        "completions",
        "man",
    ];
    let commands = commands.map(|command| format!("shaper {command}"));
    for command in std::iter::once("shaper").chain(commands.iter().map(String::as_str)) {
        let args = command.split(' ').chain(["--help"]);
        // Outside of a terminal, the width is clap's default of 100.
        let text = Cli::command().term_width(100).try_get_matches_from(args).expect_err("help");
        help.push_str(&format!("$ {command} --help\n{text}\n"));
    }
    // Clap indents empty lines, too.
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn wrong_usage_says_what_is_wrong() {
    let mut errors = String::new();
    for args in [
        "set web",
        "set web --direction both",
        "set web --latency -1ms",
        "set web --latency 100",
        "set web --loss 101%",
        "set web --loss 1% --for 0s",
        "set web --loss 1% --direction up",
        "set web --loss gemodle",
        "set web --rate 0mbit",
        "set web --queue 100",
        "set web --loss 1% --to 10.0.0.0/33",
        "set web --preset lte --loss 1%",
        "run web -- true",
        "run web --loss 1%",
        "clear",
        "clear web --all",
        "serve --runtime lxc",
        "serve --log-level shaper=loud",
    ] {
        let error = Cli::command()
            .term_width(100)
            .try_get_matches_from(["shaper"].into_iter().chain(args.split(' ')))
            .expect_err("an error");
        assert_eq!(error.exit_code(), 2);
        errors.push_str(&format!("$ shaper {args}\n{error}\n"));
    }
    insta::assert_snapshot!(errors);
}

#[tokio::test]
async fn a_broken_shaping_is_shown_in_place_of_what_was_set() {
    let mut broken = shaped_web();
    broken.interfaces[0].state = crate::shaping::ShapingState::Broken("queue replaced by pfifo".to_owned());
    let daemon = Daemon::start(FakeShaper::new([broken]));
    insta::assert_snapshot!(daemon.output(&["list"]).await, @"
    NAME  ID            RUNTIME  STATE    EGRESS                           INGRESS  REMAINING  PASSED  DELAYED  DROPPED
    web   c0ffee000000  docker   running  broken: queue replaced by pfifo  200ms    10m            90       90       10
    ");
    let json: serde_json::Value =
        serde_json::from_str(&daemon.output(&["list", "--json"]).await).expect("JSON");
    let interfaces = &json[0]["interfaces"];
    assert_eq!((&interfaces[0]["state"], &interfaces[1]["state"]), (&"broken".into(), &"intact".into()));
    assert_eq!(interfaces[0]["reason"], "queue replaced by pfifo");
    let inspected = daemon.output(&["inspect", "web"]).await;
    assert!(inspected.contains("loss 10%, ends in 10m; broken: queue replaced by pfifo"), "{inspected}");
}

#[tokio::test]
async fn the_list_shows_who_is_shaped_how() {
    let mut ending = container("e0d", "ending", RuntimeName::Netns, ContainerState::Running);
    ending.interfaces =
        vec![crate::shaping::fake::interface(crate::shaping::Direction::Egress, Default::default())];
    let daemon = Daemon::start(FakeShaper::new([shaped_web(), frozen(), ending]));
    *daemon.shaper.waits.lock().expect("not poisoned") = 9;
    insta::assert_snapshot!(daemon.output(&["list"]).await, @"
    NAME    ID            RUNTIME  STATE    EGRESS       INGRESS  REMAINING  PASSED  DELAYED  DROPPED
    web     c0ffee000000  docker   running  2000ms, 10%  200ms    10m            90       90       10
    frozen  beef          docker   paused   -            -        -               -        -        -
    ending  e0d           netns    running  ending       -        -               0        0        0
    ");
    let json = daemon.output(&["list", "--json"]).await;
    let views: Vec<crate::shaping::ContainerView> = serde_json::from_str(&json).expect("views");
    assert_eq!(views[0].container.id.as_str(), WEB);
}

#[tokio::test]
async fn set_prints_what_is_now_in_force() {
    let daemon = Daemon::start(FakeShaper::new([web()]));
    let args = ["set", "web", "--latency", "120ms", "--direction", "both", "--for", "10m"];
    insta::assert_snapshot!(daemon.output(&args).await, @"
    web (c0ffee000000)
      eth0 egress: latency 120ms, ends in 10m
      eth0 ingress: latency 120ms, ends in 10m
    ");
    insta::assert_snapshot!(daemon.output(&["set", "c0ffee", "--loss", "2.5"]).await, @"
    web (c0ffee000000)
      eth0 egress: latency 120ms, loss 2.5%, ends in 10m
      eth0 ingress: latency 120ms, ends in 10m
    ");
    let json = daemon.output(&["set", "web", "--latency", "0", "--json"]).await;
    assert!(json.contains(r#""latency": null"#), "{json}");
}

#[tokio::test]
async fn words_that_people_type_mean_the_same() {
    let daemon = Daemon::start(FakeShaper::new([web()]));
    let set = daemon.output(&["set", "web", "--delay", "120ms", "--duration", "10m"]).await;
    assert_eq!(set, daemon.output(&["set", "web", "--latency", "120ms", "--for", "10m"]).await);
    assert_eq!(daemon.output(&["ls"]).await, daemon.output(&["list"]).await);
    assert_eq!(daemon.output(&["rm", "web"]).await, "web (c0ffee000000) is no longer shaped\n");
}

#[tokio::test]
async fn set_takes_all_effects_and_shows_them_in_netems_words() {
    let daemon = Daemon::start(FakeShaper::new([web()]));
    let netem = "qdisc netem 8001: root refcnt 2 limit 1000 delay 100ms  20ms 25% loss 1%";
    insta::assert_snapshot!(daemon.output(&["set", "web", "--netem", netem]).await, @"
    web (c0ffee000000)
      eth0 egress: limit 1000 delay 100ms 20ms 25% loss 1%
    ");
    let args = ["set", "web", "--jitter", "5ms distribution normal", "--rate", "5mbit", "--mark", "20ms"];
    insta::assert_snapshot!(daemon.output(&args).await, @"
    web (c0ffee000000)
      eth0 egress: limit 1000 delay 100ms 5ms distribution normal loss 1% rate 5Mbit mark 20ms
    ");
    let args = ["set", "web", "--to", "10.0.0.0/8 tcp port 443", "--loss", "gemodel 1% 10%", "--ramp", "10s"];
    insta::assert_snapshot!(daemon.output(&args).await, @"
    web (c0ffee000000)
      eth0 egress: limit 1000 delay 100ms 5ms distribution normal loss 1% rate 5Mbit mark 20ms, to 10.0.0.0/8 tcp port 443: nothing ramping for 10s, then loss gemodel 1% 10%
    ");
    insta::assert_snapshot!(daemon.output(&["list"]).await, @"
    NAME  ID            RUNTIME  STATE    EGRESS                                                                                 INGRESS  REMAINING  PASSED  DELAYED  DROPPED
    web   c0ffee000000  docker   running  limit 1000 delay 100ms 5ms distribution normal loss 1% rate 5Mbit mark 20ms, 1 target  -        -               0        0        0
    ");
    assert!(daemon.error(&["set", "web", "--preset", "moon"]).await.starts_with("unknown preset \"moon\""));
}

#[tokio::test]
async fn a_policy_file_brings_the_files_that_it_names() {
    let daemon = Daemon::start(FakeShaper::new([web()]));
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.into_os_string().into_string().expect("text")
    };
    write("wifi.dist", "# measured\n-8192 0 8192\n");
    let samples = write("samples.txt", "10\n20\n30\n");
    let trace = write("lte.trace", "0\n5\n10\n");
    let shaping = write(
        "commute.toml",
        "delay = \"9ms 1ms distribution wifi\"\ntrace = \"lte\"\n[distributions]\nwifi = \"wifi.dist\"\n[traces]\n\
         lte = \"lte.trace\"\n",
    );
    let notes = async |args: &[&str]| {
        let (_, notes, result) = daemon.run(args).await;
        result.expect("success");
        notes.replace(&format!("{}/", directory.path().display()), "")
    };
    let said = notes(&["set", "web", "--policy", &shaping]).await;
    assert_eq!(said, "lte.trace: carries 3609 kbit/s in the mean\n");
    let words = || daemon.shaper.seen(WEB).interfaces[0].shaping.words();
    assert_eq!(words(), "delay 9ms 1ms distribution wifi trace lte");
    let said = notes(&["set", "web", "--netem", &format!("delay 9ms 1ms distribution {samples}")]).await;
    assert_eq!(said, "samples.txt: `delay 20ms 10ms distribution samples.txt` is delayed as was measured\n");
    assert_eq!(words(), format!("delay 9ms 1ms distribution {samples}"));
    notes(&["set", "web", "--trace", &trace]).await;
    assert_eq!(words(), format!("delay 9ms 1ms distribution {samples} trace lte"));
    let bad = write("bad.json", "{\n  \"delay\": \"fast\"\n}");
    let error = daemon.error(&["set", "web", "--policy", &bad]).await;
    assert_eq!(
        error,
        format!(
            "{bad}: invalid delay \"fast\": expected a time such as 120ms, 1.5s or 250us at line 2 column 11"
        )
    );
}

#[tokio::test]
async fn presets_are_listed_with_what_they_do() {
    let daemon = Daemon::start(FakeShaper::new([]));
    let list = daemon.output(&["presets"]).await;
    let lte = list.lines().find(|line| line.starts_with("lte ")).expect("it is there");
    assert!(list.starts_with("NAME ") && lte.contains("rate "), "{list}");
    let json = daemon.output(&["presets", "--json"]).await;
    assert!(json.contains("\"sources\""), "{json}");
}

#[tokio::test]
async fn no_name_commands_a_terminal() {
    let name = "\u{1b}[31m\u{202e}evil";
    let mut hostile = shaped_web();
    hostile.container.name = name.into();
    let daemon = Daemon::start(FakeShaper::new([hostile]));
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["set", name, "--loss", "1%"],
        &["set", name, "--loss", "1%", "--json"],
        &["inspect", name],
        &["inspect", name, "--json"],
        &["clear", "--all", "--json"],
        &["clear", name],
    ] {
        let (out, err, result) = daemon.run(args).await;
        result.expect("success");
        let all = out + &err;
        assert!(!all.contains(['\u{1b}', '\u{202e}']), "{args:?}: {all:?}");
        assert!(all.contains("\\u001b[31m\\u202eevil"), "{args:?}: {all:?}");
    }
}

#[test]
fn wrong_usage_is_quoted_short_and_without_commands_of_a_terminal() {
    let long = "9 ".repeat(10_000);
    for value in ["\u{1b}[31m\u{202e}evil", &long] {
        let error = Cli::try_parse_from(["shaper", "set", "web", "--to", value]).expect_err("not a target");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        misused(error, &mut Streams::new(&mut out, &mut err));
        let told = String::from_utf8(err).expect("text");
        assert!(!told.contains(['\u{1b}', '\u{202e}']), "{told:?}");
        assert!(told.len() < 800, "{told}");
    }
}

#[tokio::test]
async fn clear_says_what_was_not_shaped() {
    let daemon = Daemon::start(FakeShaper::new([shaped_web()]));
    assert_eq!(daemon.output(&["clear", "web"]).await, "web (c0ffee000000) is no longer shaped\n");
    assert_eq!(daemon.output(&["clear", "web"]).await, "web (c0ffee000000) was not shaped\n");
    let json = daemon.output(&["clear", "web", "--json"]).await;
    assert!(json.contains("\"was_shaped\": false"), "{json}");
    assert_eq!(daemon.output(&["clear", "--all"]).await, "no container is shaped\n");
    assert_eq!(daemon.output(&["clear", "--all", "--json"]).await, "[]\n");
}

#[tokio::test]
async fn status_tells_whether_anything_can_be_shaped() {
    let daemon = Daemon::start(FakeShaper::new([shaped_web(), frozen()]));
    let version = env!("CARGO_PKG_VERSION");
    let line = format!(
        "shaper {version} since 1970-01-01T00:00:00Z: 2 containers, 1 shaped, 0 broken, 0 unknown\n\
         docker: 1 containers\n\
         netns: not watched: list /run/netns: Permission denied (os error 13)\n"
    );
    assert_eq!(daemon.output(&["status"]).await, line);
    *daemon.shaper.unready.lock().expect("not poisoned") = Some("no bpffs is mounted".to_owned());
    let (out, _, result) = daemon.run(&["status"]).await;
    assert_eq!(out, line);
    assert_eq!(
        result.expect_err("not ready").to_string(),
        "nothing can be shaped since 1970-01-01T00:00:00Z: no bpffs is mounted"
    );
    let (out, _, result) = daemon.run(&["status", "--json"]).await;
    assert!(out.contains("\"problem\": \"no bpffs is mounted\""), "{out}");
    assert!(result.is_err());
}

#[tokio::test]
async fn a_daemon_lives_as_long_as_its_tasks_go_on() {
    let daemon = Daemon::start(FakeShaper::new([]));
    *daemon.shaper.unready.lock().expect("not poisoned") = Some("no bpffs is mounted".to_owned());
    assert_eq!(daemon.output(&["status", "--live"]).await, "the daemon works\n");
    *daemon.shaper.stalled.lock().expect("not poisoned") = true;
    let (out, _, result) = daemon.run(&["status", "--live"]).await;
    assert_eq!(out, "");
    assert_eq!(
        result.expect_err("it hangs").to_string(),
        "the daemon has not done anything for 120s: start it again; shaping stays as it is"
    );
}

#[tokio::test]
async fn clear_waits_for_the_last_packets() {
    let daemon = Daemon::start(FakeShaper::new([shaped_web()]));
    *daemon.shaper.waits.lock().expect("not poisoned") = 3;
    assert_eq!(daemon.output(&["clear", "web"]).await, "web (c0ffee000000) is no longer shaped\n");
    assert!(daemon.shaper.seen(WEB).interfaces.is_empty());
}

#[tokio::test]
async fn clear_need_not_wait() {
    let daemon = Daemon::start(FakeShaper::new([shaped_web()]));
    *daemon.shaper.waits.lock().expect("not poisoned") = 3;
    let said = daemon.output(&["clear", "web", "--no-wait"]).await;
    assert_eq!(said, "web (c0ffee000000) is no longer shaped; 6 packets still wait\n");
    assert!(!daemon.shaper.seen(WEB).interfaces.is_empty());
}

#[tokio::test]
async fn clear_all_goes_on_after_a_failure() {
    let mut frozen = frozen();
    frozen.interfaces = shaped_web().interfaces;
    let idle = container("1d1e", "idle", RuntimeName::Docker, ContainerState::Running);
    let daemon = Daemon::start(FakeShaper::new([frozen, shaped_web(), idle]));
    let (out, err, result) = daemon.run(&["clear", "--all"]).await;
    assert_eq!(out, "web (c0ffee000000) is no longer shaped\n");
    assert_eq!(
        err,
        "error: frozen (beef): container frozen is paused: only a running container can be shaped\n"
    );
    assert_eq!(result.expect_err("a failure").to_string(), "1 container was not cleared");
}

#[tokio::test]
async fn inspect_shows_where_to_look() {
    let daemon = Daemon::start(FakeShaper::new([shaped_web()]));
    insta::assert_snapshot!(daemon.output(&["inspect", "web"]).await, @"
    web (c0ffee000000), docker, running
      id       c0ffee0000000000000000000000000000000000000000000000000000000001
      netns    net:[108716361152], /proc/42/ns/net

    eth0 egress
      policy   latency 2000ms, loss 10%, ends in 10m
      passed   0 packets, 0 bytes
      delayed  90 packets, 8820 bytes
      lost     10 packets, 980 bytes
      queue    0 packets wait, 0 dropped
      device   eth0, ifindex 2, in /proc/42/ns/net
      qdisc    fq 8001:
      program  17 on tcx
      pinned   /sys/fs/bpf/shaper/netns-4026532200-if-2-egress
      see      bpftool prog show id 17

    eth0 ingress
      policy   latency 200ms
      passed   0 packets, 0 bytes
      delayed  0 packets, 0 bytes
      lost     0 packets, 0 bytes
      queue    0 packets wait, 0 dropped
      device   veth7, ifindex 9, on the host
      qdisc    fq 8001:
      program  17 on tcx
      pinned   /sys/fs/bpf/shaper/netns-4026532200-if-2-ingress
      see      bpftool prog show id 17
    ");
    let json = daemon.output(&["inspect", "web", "--json"]).await;
    let inspection: crate::shaping::Inspection = serde_json::from_str(&json).expect("an inspection");
    assert_eq!(inspection.details.len(), 2);
}

#[tokio::test]
async fn the_daemons_refusals_are_passed_on() {
    let daemon = Daemon::start(FakeShaper::new([web(), frozen()]));
    assert!(
        daemon.error(&["inspect", "none/of that"]).await.starts_with(r#"no container is called "none/of"#)
    );
    assert!(daemon.error(&["set", "frozen", "--loss", "1%"]).await.starts_with("container frozen is paused"));
    *daemon.shaper.failure.lock().expect("not poisoned") =
        Some(|| Attempt::Attach("eth0 (egress) of container web".to_owned()).failed("no").into());
    assert_eq!(daemon.error(&["clear", "web"]).await, "attach to eth0 (egress) of container web: no");
}

#[tokio::test]
async fn without_a_daemon_one_is_told_to_start_it() {
    let daemon = Daemon::start(FakeShaper::default());
    daemon.stop.send(()).expect("a running daemon");
    daemon.server.await.expect("no panic");
    let expected = format!(
        "no daemon listens on {}: start it with `shaper serve`, or say where it does with --plugin-socket",
        daemon.socket.display()
    );
    let error = |result: Result<()>| result.expect_err("no daemon").to_string();
    assert_eq!(error(run_on(&daemon.socket, &["list"]).await.2), expected);
    drop(std::os::unix::net::UnixListener::bind(&daemon.socket).expect("a dead daemon's socket"));
    assert_eq!(error(run_on(&daemon.socket, &["list"]).await.2), expected);
}

#[tokio::test]
async fn a_daemon_of_another_kind_is_recognised() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("other.sock");
    let socket = PluginSocket::bind(&path, None).expect("the socket");
    let other = axum::Router::new().fallback(|| async { "hello" });
    tokio::spawn(server::serve(socket, None, other, std::future::pending()));
    let (_, _, result) = run_on(&path, &["list"]).await;
    let error = result.expect_err("no list").to_string();
    assert!(error.contains("(GET /api/v1/containers): it answered with something else"), "{error}");
}

#[test]
fn completions_name_the_commands() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams::new(&mut out, &mut err);
    completions(Shell::Bash, &mut streams).expect("a script");
    assert!(String::from_utf8(out).expect("text").contains("inspect"));
}

#[test]
fn a_reader_that_had_enough_is_no_failure() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (mut closed, mut err) = (Closed, Vec::new());
    let mut streams = Streams::new(&mut closed, &mut err);
    let error = completions(Shell::Bash, &mut streams).expect_err("nobody reads");
    assert!(is_broken_pipe(&error));
    let error = print_json(&web(), &mut streams).expect_err("nobody reads");
    assert!(is_broken_pipe(&error));
}
