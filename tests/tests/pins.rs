//! A daemon that finds anything at all among its pins: it starts, says what it cannot take over, and harms nobody.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fastrand::Rng;
use nix::sys::signal::Signal;
use serde_json::Value;
use shaper_tests::{daemon::Daemon, needs, world::World};

/// Rounds of a short run; `SHAPER_FUZZ_ROUNDS` asks for more.
const ROUNDS: u64 = 8;
/// Names of directories that no daemon makes.
const ODD_NAMES: [&str; 6] = [
    "netns-1-if-1-egress",
    "netns-18446744073709551616-if-4294967296-egress",
    "netns-4026531840-if-1-ingress",
    "new-netns-7-if-7-egress",
    "netns--if--",
    "x",
];

fn bpftool(args: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("bpftool").args(args).output().expect("bpftool is installed");
    output.status.success().then_some(output.stdout)
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("the test's own paths are text")
}

/// Writes random bytes, often zeros or ones, over some entries of a pinned map; programs stay as they are.
fn overwrite(path: &Path, random: &mut Rng) {
    let Some(shown) = bpftool(&["-j", "map", "show", "pinned", path_text(path)]) else { return };
    let map: Value = serde_json::from_slice(&shown).expect("JSON");
    let size = |name: &str| map[name].as_u64().unwrap_or_default();
    for _ in 0..random.usize(1..4) {
        let entry = u32::try_from(random.u64(..size("max_entries").max(1))).expect("maps are smaller");
        let key: Vec<u8> = if size("bytes_key") == 4 {
            entry.to_ne_bytes().to_vec()
        } else {
            (0..size("bytes_key")).map(|_| random.u8(..)).collect()
        };
        let fill = *random.choice(&[None, Some(0), Some(0xff)]).expect("there are some");
        let value = (0..size("bytes_value")).map(|_| fill.unwrap_or_else(|| random.u8(..)));
        let decimal = |bytes: Vec<u8>| bytes.iter().map(u8::to_string).collect::<Vec<_>>();
        let (key, value) = (decimal(key), decimal(value.collect()));
        let mut args = vec!["map", "update", "pinned", path_text(path), "key"];
        args.extend(key.iter().map(String::as_str));
        args.push("value");
        args.extend(value.iter().map(String::as_str));
        // The kernel may refuse a key.
        let _ = bpftool(&args);
    }
}

fn make_foreign_map(path: &Path, random: &mut Rng) {
    let kind = *random.choice(&["hash", "array"]).expect("there are some");
    let value = random.choice(&["4", "16", "88", "4096"]).expect("there are some");
    let args = ["map", "create", path_text(path), "type", kind, "key", "4", "value", value, "entries", "1"];
    let _ = bpftool(&[&args[..], &["name", "foreign"]].concat());
}

/// Spoils one pin in a directory of an instance, or the directory.
fn spoil(directory: &Path, random: &mut Rng) {
    let pins: Vec<PathBuf> =
        fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("a pin").path()).collect();
    let Some(pin) = random.choice(&pins) else { return };
    match random.u8(..10) {
        0 => fs::remove_file(pin).expect("a pin can be removed"),
        1 => {
            fs::remove_file(pin).expect("a pin can be removed");
            make_foreign_map(pin, random);
        }
        2 => {
            let name = *random.choice(&["SHAPING", "ORIGINAL", "STATES", "OTHER"]).expect("there are some");
            let _ = fs::rename(pin, directory.join(name));
        }
        3 => {
            let name = *random.choice(&ODD_NAMES).expect("there are some");
            let _ = fs::rename(directory, directory.with_file_name(name));
        }
        _ => overwrite(pin, random),
    }
}

fn start(world: &World) -> Daemon {
    let daemon = world.daemon().expect("a daemon starts");
    daemon.view("db");
    daemon
}

fn log_of(daemon: &Daemon) -> String {
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{log}");
    log
}

#[test]
fn whatever_the_pins_have_become_a_daemon_starts_and_others_stay_shaped() {
    needs!(Root);
    let rounds = std::env::var("SHAPER_FUZZ_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a number"));
    for round in 0..rounds {
        let mut random = Rng::with_seed(round);
        let world = World::new().expect("a world");
        let (web, db) =
            (world.container("web").expect("a container"), world.container("db").expect("another"));
        let untouched = db.netns.traces();
        let daemon = start(&world);
        daemon.view("web");
        daemon.run("set db --loss 100%");
        let of_db = world.pins();
        daemon.run("set web --loss 1% --direction both");
        if round % 2 == 1 {
            daemon.words(&["set", "web", "--netem", "loss 1% seed 3", "--to", "10.0.0.0/8 tcp port 80"]);
        }
        daemon.kill(Signal::SIGKILL);
        let of_web = |name: &String| !of_db.contains(name);
        for name in world.pins().into_iter().filter(of_web) {
            for _ in 0..random.usize(1..4) {
                let directory = world.pin_dir().join(&name);
                if directory.exists() {
                    spoil(&directory, &mut random);
                }
            }
        }
        for name in ODD_NAMES {
            if random.bool() && fs::create_dir(world.pin_dir().join(name)).is_ok() {
                make_foreign_map(&world.pin_dir().join(name).join("SHAPING"), &mut random);
            }
        }
        let daemon = start(&world);
        daemon.view("web");
        for line in ["list", "list --json", "inspect web", "inspect db"] {
            daemon.run(line);
        }
        let interface = daemon.view("db")["interfaces"][0].clone();
        assert_eq!(interface["shaping"]["loss"], "100%", "round {round}: {}", log_of(&daemon));
        assert_eq!(interface["state"], "intact", "round {round}: {}", log_of(&daemon));
        daemon.run("clear db");
        assert_eq!(db.netns.traces(), untouched, "round {round}: {}", log_of(&daemon));
        if daemon.shaper("clear web").output().expect("it runs").status.success() {
            let left = web.netns.classifiers("eth0");
            assert_eq!(left, [""; 0], "round {round}: {}", log_of(&daemon));
        }
        let _ = log_of(&daemon);
    }
}
