//! The time of a control, beside the way of the Traffic Control plugin, and the memory that shaping needs.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd as _},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{maps::MapData, programs::SchedClassifier};
use shaper_tests::{
    daemon::Daemon,
    http::{Answer, Connection, gunzip},
    netns::Netns,
    world::World,
};

use crate::table::{Table, percentile};

/// The numbers of shaped containers, one step after the other.
const SHAPED: [usize; 3] = [1, 100, 1_000];
/// Containers that are shaped and cleared again, in turn, while the others stay as they are.
const SPARE: usize = 20;
const ROUNDS: usize = 200;
const REPORTS: usize = 100;
const LOADED_REPORTS: usize = 20;
const SCRAPES: usize = 100;
/// The most that Prometheus' scrape of all containers may take, in milliseconds.
const SCRAPE_MS: f64 = 60.0;
/// The seconds of rates in each report.
const HISTORY: usize = 5;
/// Programs that do nothing but compute while the report is measured on a loaded machine.
const LOAD: usize = 8;
/// The most that a report of all containers may take on a loaded machine, in milliseconds: the probe waits 500 ms, and has
/// to decode it in that time.
const LOADED_REPORT_MS: f64 = 150.0;

/// The request for all containers at once, and the most that it may take, in seconds.
const ALL: &str = "/api/v1/shaping?selector=c*";
const ALL_AT_ONCE_S: f64 = 5.0;

/// A crowd, a daemon and a client of its socket.
struct Bench {
    client: Connection,
    daemon: Daemon,
    shaped: usize,
    crowd: Vec<Netns>,
    // Dropped last: it holds the others' files.
    world: World,
}

/// The requests to the daemon.
impl Bench {
    fn new() -> Result<Self> {
        let world = World::new()?;
        let crowd = world.crowd(SHAPED[SHAPED.len() - 1] + SPARE)?;
        let daemon = world.daemon()?;
        daemon.view(&format!("c{}", crowd.len() - 1));
        let client = Connection::to(&world.socket())?;
        Ok(Self { client, daemon, shaped: 0, crowd, world })
    }

    /// Asks, and gives how long the answer took in milliseconds.
    fn ask(&mut self, method: &str, target: &str, body: &str) -> Result<(f64, Answer)> {
        let length = body.len();
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {length}\r\n\r\n{body}");
        let begin = Instant::now();
        let answer = self.client.ask(request.as_bytes())?;
        let took_ms = begin.elapsed().as_secs_f64() * 1e3;
        let text = || String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == 200, "{method} {target}: {}: {}", answer.status, text());
        Ok((took_ms, answer))
    }

    fn set(&mut self, container: usize, loss: &str) -> Result<f64> {
        let target = format!("/api/v1/containers/c{container}/shaping");
        Ok(self.ask("PATCH", &target, &format!(r#"{{"loss":"{loss}"}}"#))?.0)
    }

    fn clear(&mut self, container: usize) -> Result<f64> {
        Ok(self.ask("DELETE", &format!("/api/v1/containers/c{container}/shaping"), "")?.0)
    }

    /// Presses the button for a loss of 10 % in Scope.
    fn press(&mut self, container: usize) -> Result<f64> {
        let body = format!(
            r#"{{"AppID":"1","Control":"traffic-control-table-pkt-drop-low","NodeID":"c{container};<container>"}}"#
        );
        let (took_ms, answer) = self.ask("POST", "/control?api_version=1&probe_id=1", &body)?;
        ensure!(answer.body.starts_with(br#"{"shortcutReport""#), "the control was refused");
        Ok(took_ms)
    }

    fn report(&mut self) -> Result<(f64, Answer)> {
        self.ask("GET", "/report?api_version=1&probe_id=1", "")
    }

    /// Shapes containers from the first on, until `shaped` are.
    fn shape(&mut self, shaped: usize) -> Result<()> {
        while self.shaped < shaped {
            self.set(self.shaped, "1%")?;
            self.shaped += 1;
        }
        Ok(())
    }

    /// Shapes all containers in both directions.
    fn shape_both_ways(&mut self) -> Result<()> {
        for container in 0..self.shaped {
            let target = format!("/api/v1/containers/c{container}/shaping");
            self.ask("PATCH", &target, r#"{"loss":"1%","direction":"both"}"#)?;
        }
        Ok(())
    }

    /// Asks as the probe does, once a second and for gzip, while others compute; gives times in milliseconds, and the sizes
    /// of the last report as it is sent and as it is decoded.
    fn loaded_reports(&mut self) -> Result<(Vec<f64>, [usize; 2])> {
        let load: Vec<_> =
            (0..LOAD).map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn()).collect();
        let request =
            "GET /report?api_version=1&probe_id=1 HTTP/1.1\r\nHost: plugin\r\nAccept-Encoding: gzip\r\n\r\n";
        let (mut times_ms, mut sizes) = (Vec::new(), Ok([0; 2]));
        for _ in 0..LOADED_REPORTS {
            let begin = Instant::now();
            let answer = self.client.ask(request.as_bytes());
            times_ms.push(begin.elapsed().as_secs_f64() * 1e3);
            sizes = answer.and_then(|answer| Ok([answer.body.len(), gunzip(&answer.body)?.len()]));
            std::thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
        }
        for program in load {
            let mut program = program.context("start a program that computes")?;
            program.kill()?;
            program.wait()?;
        }
        Ok((times_ms, sizes?))
    }

    /// Waits until the daemon shows as much of the past as it ever does.
    fn wait_for_history(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let report: serde_json::Value = serde_json::from_slice(&self.report()?.1.body)?;
            let last = &report["Container"]["nodes"][format!("c{};<container>", self.shaped - 1)];
            let samples = last["metrics"]["traffic_control_passed"]["samples"].as_array().map_or(0, Vec::len);
            if samples == HISTORY {
                return Ok(());
            }
            ensure!(begin.elapsed() < Duration::from_secs(180), "only {samples} samples are shown");
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// All tables of controls.
pub(crate) fn run() -> Result<Vec<Table>> {
    let mut bench = Bench::new()?;
    let idle_mb = bench.resident_mb()?;
    let times = times(&mut bench)?;
    let (reports, scrapes) = (loaded_reports(&mut bench)?, scrapes(&mut bench)?);
    let (plugins, memory) = (plugins_way(&bench)?, memory(&bench, idle_mb)?);
    Ok(vec![times, at_once(&mut bench)?, reports, scrapes, plugins, memory])
}

/// Measures one request for all containers, after none of them is shaped any more.
fn at_once(bench: &mut Bench) -> Result<Table> {
    let count = bench.crowd.len();
    let mut table = Table::new(
        "Time of one request for many containers, in seconds",
        &format!("`{ALL}`, for {count} containers, to the last byte of the answer. Each is checked first."),
        &["operation", "time"],
    );
    bench.ask("DELETE", ALL, "")?;
    let set = r#"{"loss":"1%"}"#;
    for (operation, method, target, body) in [
        ("dry run", "PATCH", format!("{ALL}&dry_run=true"), set),
        ("first control", "PATCH", ALL.to_owned(), set),
        ("change", "PATCH", ALL.to_owned(), r#"{"loss":"2%"}"#),
        ("clear", "DELETE", ALL.to_owned(), ""),
    ] {
        let seconds = bench.ask(method, &target, body)?.0 / 1e3;
        table.row(vec![operation.to_owned(), format!("{seconds:.2}")]);
        table.at_most(&format!("{operation} of {count} at once, in s"), seconds, ALL_AT_ONCE_S);
    }
    bench.shaped = 0;
    Ok(table)
}

fn times(bench: &mut Bench) -> Result<Table> {
    let mut table = Table::new(
        "Time of a control, in milliseconds",
        "One client on one connection to the plugin socket, from the first byte of a request to the last one of the \
         answer. First control: a loss for a container that is not shaped yet, 20 of them in turn. Change: another loss \
         for each of the shaped ones in turn. Clear: of the 20, one by one. Scope's button changes as well and gets a \
         report of the container. The report is of all containers.",
        &["operation", "shaped containers", "p50", "p99"],
    );
    for shaped in SHAPED {
        bench.shape(shaped)?;
        let (mut first, mut cleared) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let spare = SHAPED[SHAPED.len() - 1] + round % SPARE;
            first.push(bench.set(spare, "1%")?);
            cleared.push(bench.clear(spare)?);
        }
        let changes = (0..ROUNDS * 5).map(|round| bench.set(round % shaped, ["2%", "3%"][round % 2]));
        let changed = changes.collect::<Result<_>>()?;
        let presses = (0..ROUNDS).map(|round| bench.press(round % shaped));
        let pressed = presses.collect::<Result<_>>()?;
        if shaped == SHAPED[SHAPED.len() - 1] {
            bench.wait_for_history()?;
        }
        let reports = (0..REPORTS).map(|_| bench.report().map(|(took_ms, _)| took_ms));
        let reported = reports.collect::<Result<_>>()?;
        row(&mut table, "first control", shaped, first, 5.0);
        row(&mut table, "change", shaped, changed, 0.2);
        row(&mut table, "clear", shaped, cleared, f64::INFINITY);
        row(&mut table, "Scope's button", shaped, pressed, f64::INFINITY);
        row(&mut table, "Scope's report", shaped, reported, 20.0);
    }
    Ok(table)
}

fn loaded_reports(bench: &mut Bench) -> Result<Table> {
    let mut table = Table::new(
        "Scope's report on a loaded machine",
        &format!(
            "All containers are shaped in both directions, {LOAD} programs compute, and one probe asks once a second, as \
             Scope's does, from the first byte of a request to the last one of the compressed answer. No container is \
             Docker's, for which reports are held back."
        ),
        &["shaped containers", "p50 in ms", "p99 in ms", "sent, in KB", "decoded, in KB"],
    );
    bench.shape_both_ways()?;
    let (times_ms, sizes) = bench.loaded_reports()?;
    let (middle, late) = (percentile(times_ms.clone(), 50), percentile(times_ms, 99));
    let times = [middle, late].map(|ms| format!("{ms:.1}"));
    let sizes = sizes.map(|bytes| (bytes / 1000).to_string());
    table.row([vec![bench.shaped.to_string()], times.to_vec(), sizes.to_vec()].concat());
    table.at_most("Scope's report on a loaded machine, p99 in ms", late, LOADED_REPORT_MS);
    Ok(table)
}

/// Measures scrapes of all containers, shaped in both directions.
fn scrapes(bench: &mut Bench) -> Result<Table> {
    let mut table = Table::new(
        "Prometheus' scrape",
        &format!(
            "All containers are shaped in both directions, and `/metrics` is asked for {SCRAPES} times, one after the \
             other, from the first byte of a request to the last one of the answer. Growth: of the daemon's resident \
             memory, over these scrapes."
        ),
        &["shaped containers", "p50 in ms", "p99 in ms", "size, in KB", "growth, in MB"],
    );
    let size = bench.ask("GET", "/metrics", "")?.1.body.len();
    let before_mb = bench.resident_mb()?;
    let times_ms: Vec<_> =
        (0..SCRAPES).map(|_| Ok(bench.ask("GET", "/metrics", "")?.0)).collect::<Result<_>>()?;
    let growth_mb = bench.resident_mb()? - before_mb;
    let (middle, late) = (percentile(times_ms.clone(), 50), percentile(times_ms, 99));
    let numbers =
        [format!("{middle:.1}"), format!("{late:.1}"), (size / 1000).to_string(), format!("{growth_mb:.1}")];
    table.row([vec![bench.shaped.to_string()], numbers.to_vec()].concat());
    table.at_most("Prometheus' scrape, p50 in ms", middle, SCRAPE_MS);
    Ok(table)
}

fn row(table: &mut Table, operation: &str, shaped: usize, times_ms: Vec<f64>, limit_ms: f64) {
    let (middle, late) = (percentile(times_ms.clone(), 50), percentile(times_ms, 99));
    table.row(vec![operation.to_owned(), shaped.to_string(), format!("{middle:.3}"), format!("{late:.3}")]);
    if limit_ms.is_finite() {
        table.at_most(&format!("{operation}, {shaped} shaped, p50 in ms"), middle, limit_ms);
    }
}

/// Measures what the plugin does for each control: it goes into the namespace, and has `tc` set and show the queue.
fn plugins_way(bench: &Bench) -> Result<Table> {
    let last = bench.crowd.last().context("there is a crowd")?;
    let netem = ["netem", "loss", "1%"];
    let has_netem = last.run(&format!("tc qdisc replace dev eth0 root {}", netem.join(" "))).is_ok();
    let queue = if has_netem { &netem[..] } else { &["pfifo", "limit", "1000"] };
    let mut table = Table::new(
        "Time of a control the plugin's way, in milliseconds",
        &format!(
            "A thread enters the namespace, and runs `tc qdisc replace dev eth0 root {}`{}, then `tc qdisc show`. \
             Without HTTP, and with {} shaped containers.",
            queue.join(" "),
            if has_netem { "" } else { " (this kernel has no netem)" },
            bench.shaped
        ),
        &["p50", "p99"],
    );
    let mut times_ms = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        last.enter(|| {
            run_tc(&[&["replace", "dev", "eth0", "root"], queue].concat())?;
            run_tc(&["show", "dev", "eth0"])
        })?;
        times_ms.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    table.row([50, 99].map(|percent| format!("{:.3}", percentile(times_ms.clone(), percent))).to_vec());
    last.run("tc qdisc del dev eth0 root")?;
    Ok(table)
}

fn run_tc(words: &[&str]) -> Result<()> {
    let output = Command::new("tc").arg("qdisc").args(words).output().context("run tc")?;
    ensure!(output.status.success(), "tc {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Bench {
    /// Returns the daemon's memory, in megabytes.
    fn resident_mb(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.daemon.pid());
        Ok(field(&path, "VmRSS:")? * 1024.0 / 1e6)
    }
}

fn memory(bench: &Bench, idle_mb: f64) -> Result<Table> {
    let mut table = Table::new(
        "Memory",
        "The daemon's is resident memory, after all of the above. The kernel's, for one interface and direction, is \
         what it charges for the program and its maps (memlock in fdinfo), and the size of the type information \
         (bpftool).",
        &["what", "size"],
    );
    let shaped = bench.shaped;
    let resident_mb = bench.resident_mb()?;
    table.row(vec!["daemon, nothing shaped".to_owned(), format!("{idle_mb:.1} MB")]);
    table.row(vec![format!("daemon, {shaped} shaped"), format!("{resident_mb:.1} MB")]);
    table.at_most(&format!("resident memory with {shaped} shaped, in MB"), resident_mb, 30.0);
    let pins = bench.world.pins().into_iter().find(|name| name.starts_with("netns-"));
    let pins = bench.world.pin_dir().join(pins.context("something is pinned")?);
    let mut total = 0.0;
    for (what, bytes) in kernel_memory(&pins)? {
        total += bytes;
        table.row(vec![format!("kernel: {what}"), format!("{:.1} KB", bytes / 1e3)]);
    }
    table.row(vec!["kernel: together".to_owned(), format!("{:.1} KB", total / 1e3)]);
    Ok(table)
}

const LOG_RING: &str = "AYA_LOGS";

/// Returns the memory of one instance in the kernel, in bytes.
fn kernel_memory(pins: &Path) -> Result<Vec<(String, f64)>> {
    let program = SchedClassifier::from_pin(pins.join("program"))?;
    let mut sizes = vec![("program".to_owned(), charged(program.fd()?)?)];
    for id in program.info()?.map_ids()?.context("the program has maps")? {
        let map = MapData::from_id(id)?;
        let info = map.info()?;
        let name = info.name_as_str().context("a map has a name")?;
        // All instances share it.
        if name != LOG_RING {
            sizes.push((format!("map {name}"), charged(map.fd())?));
        }
    }
    let types = program.info()?.btf_id().context("the program has type information")?;
    // `12: name <anon>  size 8898B  prog_ids 40  map_ids 1,2,3`
    let shown = Command::new("bpftool").args(["btf", "show", "id", &types.to_string()]).output();
    let shown = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let size = shown.split_once(" size ").and_then(|(_, rest)| rest.split_once('B'));
    if let Some(size) = size.and_then(|(size, _)| size.parse().ok()) {
        sizes.push(("type information".to_owned(), size));
    }
    Ok(sizes)
}

/// Returns the kernel's charge for a program or a map, in bytes.
fn charged(object: &impl AsFd) -> Result<f64> {
    field(&format!("/proc/self/fdinfo/{}", object.as_fd().as_raw_fd()), "memlock:")
}

/// A number that a file of `/proc` gives beside a word.
fn field(path: &str, name: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .with_context(|| format!("{path} has no {name}"))?
        .parse()
        .with_context(|| format!("{name} in {path}"))
}
