//! Gives whatever people and programs may write to what reads it: no input may panic, take 64 MB or a second.
//!
//! Each target starts from the inputs in `fuzz/TARGET/` of this package, and goes on with inputs made from those. As tests
//! they run for a moment; `cargo xtask fuzz` runs them for longer, and has the compiler count what code each input reaches:
//! those that reach something new are kept, and further inputs made from them.

mod coverage;
mod http;
mod meter;
mod mutation;
mod targets;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Once,
    time::{Duration, Instant},
};

use serde::Serialize;

use self::{
    coverage::Coverage,
    mutation::{Dictionary, LONGEST, mutate},
    targets::{Take, Target},
};

/// The most memory that an input may take, in bytes.
const MOST_BYTES: usize = 64 << 20;
/// The longest time that an input may take, of this thread's processor: in a program that is optimised, as `cargo xtask fuzz`
/// has it, and in one that is not, as the tests are.
const LONGEST_TIMES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// The bytes of the largest inputs: as many as a file and a request's body may have, and fewer as a test.
const LARGE: [usize; 2] = [12 << 20, 1 << 19];
/// The seconds that a target runs for as a test, beside its seeds.
const SHORTLY: u64 = 2;
/// The faults after which a target ends.
const MOST_FAULTS: usize = 20;
/// The time between two lines about the progress.
const PROGRESS: Duration = Duration::from_secs(10);

macro_rules! tests {
    ($($test:ident: $target:path,)+) => {
        $(#[test]
        fn $test() {
            run(&$target);
        })+
    };
}

tests! {
    netem: targets::NETEM,
    match_rule: targets::MATCH_RULE,
    selector: targets::SELECTOR,
    policy_toml: targets::POLICY_TOML,
    policy_json: targets::POLICY_JSON,
    multus: targets::MULTUS,
    presets: targets::PRESETS,
    trace: targets::TRACE,
    distribution: targets::DISTRIBUTION,
    pinned: targets::PINNED,
    body: http::BODY,
    control: http::CONTROL,
    request: http::REQUEST,
}

/// Outcome of a run, for `cargo xtask fuzz`.
#[derive(Default, Serialize)]
struct Outcome {
    inputs: u64,
    seconds: f64,
    edges: usize,
    slowest_ms: f64,
    most_bytes: usize,
    /// By kind, the file of the first input of that kind.
    faults: BTreeMap<String, PathBuf>,
}

/// One target under way.
struct Run {
    target: &'static Target,
    take: Take,
    coverage: Coverage,
    outcome: Outcome,
    longest_time: Duration,
    /// Where inputs and the outcome are kept.
    directory: PathBuf,
}

/// Runs a target for the seconds that `SHAPER_FUZZ_SECONDS` says; or with one input, the file that `SHAPER_FUZZ_INPUT` names.
fn run(target: &'static Target) {
    let variable = |name: &str| std::env::var(name).ok();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().expect("the package is in the workspace");
    let directory = root.join("target/fuzz").join(target.name);
    fs::create_dir_all(&directory).expect("inputs can be kept");
    let (take, coverage, outcome) = ((target.start)(), Coverage::default(), Outcome::default());
    let seconds = variable("SHAPER_FUZZ_SECONDS").map(|text| text.parse().expect("a number of seconds"));
    let longest_time = LONGEST_TIMES[usize::from(seconds.is_none())];
    let mut run = Run { target, take, coverage, outcome, longest_time, directory };
    if let Some(file) = variable("SHAPER_FUZZ_INPUT") {
        run.one(&fs::read(file).expect("the input can be read"));
    } else {
        run.go_on(read_all(&package.join("fuzz").join(target.name)), seconds);
    }
    let outcome = &run.outcome;
    fs::write(run.directory.join("outcome.json"), serde_json::to_vec(outcome).expect("JSON"))
        .expect("it can be kept");
    assert!(outcome.faults.is_empty(), "{:#?}", outcome.faults);
}

/// The files of a directory.
fn read_all(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed can be read")).collect()
}

impl Run {
    /// Tries all seeds, and then what is made from them and from what reaches something new.
    fn go_on(&mut self, seeds: Vec<Vec<u8>>, seconds: Option<u64>) {
        let dictionary = Dictionary::of(&seeds);
        let mut rng = fastrand::Rng::with_seed(seconds.map_or(1, |_| fastrand::u64(..)));
        let is_test = usize::from(seconds.is_none());
        for large in (self.target.large)(LARGE[is_test]) {
            self.one(large.as_bytes());
        }
        for seed in &seeds {
            self.one(seed);
        }
        let mut corpus = seeds;
        corpus.retain(|seed| seed.len() <= LONGEST);
        let begin = Instant::now();
        let mut told = begin;
        while begin.elapsed() < Duration::from_secs(seconds.unwrap_or(SHORTLY))
            && self.outcome.faults.len() < MOST_FAULTS
        {
            let mut input = corpus[rng.usize(..corpus.len())].clone();
            mutate(&mut input, &corpus[rng.usize(..corpus.len())], &dictionary, &mut rng);
            if self.one(&input) && input.len() <= LONGEST {
                corpus.push(input);
            }
            if seconds.is_some() && told.elapsed() > PROGRESS {
                told = Instant::now();
                let Outcome { inputs, edges, faults, .. } = &self.outcome;
                eprintln!("{}: {inputs} inputs, {edges} edges, {} faults", self.target.name, faults.len());
            }
        }
        self.outcome.seconds = begin.elapsed().as_secs_f64();
    }

    /// Tries an input; returns whether it reached something new.
    fn one(&mut self, input: &[u8]) -> bool {
        // For an end of the whole process, as by too deep a recursion.
        fs::write(self.directory.join("current"), input).expect("inputs can be kept");
        Coverage::reset();
        let mut panicked = None;
        let (took, bytes) = meter::measure(|| panicked = panic_of(|| (self.take)(input)));
        let is_new = self.coverage.add();
        let outcome = &mut self.outcome;
        outcome.inputs += 1;
        outcome.edges = self.coverage.edges();
        outcome.slowest_ms = outcome.slowest_ms.max(took.as_secs_f64() * 1e3);
        outcome.most_bytes = outcome.most_bytes.max(bytes);
        if panicked.is_some() {
            self.take = (self.target.start)();
        }
        let slow = (took > self.longest_time).then(|| format!("takes longer than {:?}", self.longest_time));
        let large = (bytes > MOST_BYTES).then(|| format!("takes more than {MOST_BYTES} bytes"));
        for fault in [panicked, slow, large].into_iter().flatten() {
            self.keep(&fault, input);
        }
        is_new
    }

    /// Keeps the input of a fault that is the first of its kind.
    fn keep(&mut self, fault: &str, input: &[u8]) {
        let (directory, faults) = (&self.directory, &mut self.outcome.faults);
        let file = directory.join(format!("fault-{}", faults.len()));
        if !faults.contains_key(fault) {
            fs::write(&file, input).expect("inputs can be kept");
            eprintln!(
                "{}: {fault}\n  repeat: cargo xtask fuzz {0} --input {}",
                self.target.name,
                file.display()
            );
            faults.insert(fault.to_owned(), file);
        }
    }
}

thread_local! {
    /// The first panic of this thread, while it is of interest: where, and its message.
    static PANIC: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Runs `work`; returns its first panic, also one that something in it has caught.
fn panic_of(work: impl FnOnce()) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_ours = PANIC.with_borrow_mut(|panic| {
                let Some(first) = panic else { return false };
                first.get_or_insert_with(|| format!("panics: {:.200}", info.to_string()));
                true
            });
            if !is_ours {
                usual(info);
            }
        }));
    });
    PANIC.set(Some(None));
    let _ = catch_unwind(AssertUnwindSafe(work));
    PANIC.take().flatten()
}
