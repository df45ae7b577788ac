//! The program of a shaped interface, run on packets of a test's own: `BPF_PROG_TEST_RUN` on what the daemon pinned.

use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

use aya::{
    maps::{Array, Map, MapData, PerCpuArray},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use shaper_common::{
    COUNTERS_MAP, Counters, SCHEDULES_MAP, SHAPING_MAP, STEPS_MAP, Shaping, Tally,
    policy::{Effects, Schedule, Step},
};

use crate::{
    daemon::Daemon,
    frame::Spec,
    netns::Netns,
    statistics::float,
    traffic::{Arrival, Datagrams, datagrams},
    world::{Container, World},
};

/// The verdict of the program: the packet goes on to the next classifier.
pub const TC_ACT_UNSPEC: u32 = u32::MAX;
/// It is dropped, and its sender told.
pub const TC_ACT_SHOT: u32 = 2;
/// It is dropped, and nobody told.
pub const TC_ACT_STOLEN: u32 = 4;
/// The other verdict that frees a packet silently: of a redirection to nowhere, on the TCX hook.
const TC_ACT_REDIRECT: u32 = 7;
/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// The time that a machine whose clock counts instructions may itself take for a packet on its way.
pub const SLACK: Duration = Duration::from_micros(100);
/// The longest packet that is run.
const LONGEST: usize = 2_048;

/// `struct __sk_buff`, of which the kernel lets tests set and read some fields.
#[derive(Clone, Debug)]
pub struct Context([u8; 192]);

#[expect(missing_docs, reason = "the fields are the kernel's")]
impl Context {
    pub const PRIORITY: usize = 32;
    pub const CB: usize = 48;
    pub const TSTAMP: usize = 152;
    pub const WIRE_LEN: usize = 160;
    pub const GSO_SEGS: usize = 164;
    pub const GSO_SIZE: usize = 176;

    /// One with nothing set.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; 192])
    }

    /// That of a packet that is to depart then, in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn departing(ns: u64) -> Self {
        Self::new().with(Self::TSTAMP, ns.to_ne_bytes())
    }

    /// With a field set.
    #[must_use]
    pub fn with<const N: usize>(mut self, offset: usize, value: [u8; N]) -> Self {
        self.0[offset..offset + N].copy_from_slice(&value);
        self
    }

    /// A field of 64 bits.
    #[must_use]
    pub fn u64_at(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.0[offset..offset + 8].try_into().expect("eight bytes"))
    }

    /// A field of 32 bits.
    #[must_use]
    pub fn u32_at(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.0[offset..offset + 4].try_into().expect("four bytes"))
    }

    /// When the packet departs.
    #[must_use]
    pub fn departure_ns(&self) -> u64 {
        self.u64_at(Self::TSTAMP)
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
///
/// # Panics
///
/// Without that clock.
#[must_use]
pub fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec().cast_unsigned() * SECOND_NS + now.tv_nsec().cast_unsigned()
}

/// Returns the counts between two looks.
#[must_use]
pub const fn difference(after: Counters, before: Counters) -> Counters {
    const fn tally(a: Tally, b: Tally) -> Tally {
        Tally { packets: a.packets - b.packets, bytes: a.bytes - b.bytes }
    }
    Counters {
        passed: tally(after.passed, before.passed),
        delayed: tally(after.delayed, before.delayed),
        lost: tally(after.lost, before.lost),
        refused: tally(after.refused, before.refused),
        overflowed: tally(after.overflowed, before.overflowed),
        marked: tally(after.marked, before.marked),
        duplicated: tally(after.duplicated, before.duplicated),
        corrupted: tally(after.corrupted, before.corrupted),
        reordered: tally(after.reordered, before.reordered),
        skipped: tally(after.skipped, before.skipped),
        invalid_policy: after.invalid_policy - before.invalid_policy,
        orphan_failed: after.orphan_failed - before.orphan_failed,
    }
}

/// A container, `web`, and a daemon that shapes it. The daemon ends first.
#[derive(Debug)]
pub struct Rig {
    /// The daemon.
    pub daemon: Daemon,
    /// The container.
    pub web: Container,
    /// Where both are.
    pub world: World,
}

impl Rig {
    /// Makes them.
    ///
    /// # Panics
    ///
    /// Without root.
    #[must_use]
    pub fn new() -> Self {
        let world = World::new().expect("a world");
        let web = world.container("web").expect("a container");
        let daemon = world.daemon().expect("a daemon");
        daemon.view("web");
        Self { daemon, web, world }
    }

    /// Has netem's words done to what the container sends.
    ///
    /// # Panics
    ///
    /// When the daemon does not take them.
    pub fn netem(&self, words: &str) {
        self.daemon.words(&["set", "web", "--netem", words]);
    }

    /// Has a policy file's policy done to packets in `direction`.
    ///
    /// # Panics
    ///
    /// When the daemon does not take it.
    pub fn shaping(&self, toml: &str, direction: &str) {
        let file = self.file("policy.toml", toml);
        let file = file.to_string_lossy();
        self.daemon.words(&["set", "web", "--policy", &file, "--direction", direction]);
    }

    /// Writes a file that is gone with the world.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.world.directory().join(name);
        fs::write(&path, text).expect("it can be written");
        path
    }

    /// The program that does `words` from the beginning.
    ///
    /// # Panics
    ///
    /// When the daemon does not take them.
    #[must_use]
    pub fn subject(&self, words: &str) -> Subject<'_> {
        self.daemon.run("clear web");
        self.netem(words);
        self.shaped("egress")
    }

    /// The program that does a policy file's policy from the beginning to what the container sends.
    ///
    /// # Panics
    ///
    /// When the daemon does not take it.
    #[must_use]
    pub fn subject_of_shaping(&self, toml: &str) -> Subject<'_> {
        self.daemon.run("clear web");
        self.shaping(toml, "egress");
        self.shaped("egress")
    }

    /// The program that is there in `direction`.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn shaped(&self, direction: &str) -> Subject<'_> {
        Subject::shaped(&self.world, &self.web, direction)
    }

    /// For how long each of `count` packets of 142 bytes waits that come at the same moment, in nanoseconds, where `words`
    /// are done to them from the beginning.
    ///
    /// # Panics
    ///
    /// When one is dropped.
    #[must_use]
    pub fn waits(&self, words: &str, count: usize) -> Vec<f64> {
        let waits = self.subject(words).waits_ns(&Spec::udp(100).build().bytes, count);
        waits.into_iter().map(|wait| float(wait.expect("it is not dropped"))).collect()
    }

    /// Sends datagrams from a container to the host; gives those that arrived until none did for two seconds.
    ///
    /// # Panics
    ///
    /// When a socket fails.
    #[must_use]
    pub fn send(&self, from: &Container, sent: Datagrams) -> Vec<Arrival> {
        let patience = Duration::from_secs(2);
        let to = from.host_address.into();
        datagrams(&from.netns, self.world.host(), to, sent, patience).expect("sockets work")
    }

    /// Returns a count of the daemon, such as `lost`, in the first direction that is shaped.
    ///
    /// # Panics
    ///
    /// When it says nothing.
    #[must_use]
    pub fn counted(&self, what: &str) -> u64 {
        let view = self.daemon.view("web");
        view["interfaces"][0][what]["packets"].as_u64().unwrap_or_else(|| panic!("no {what} in {view}"))
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

/// The program of a shaped interface, and its maps.
pub struct Subject<'a> {
    host: &'a Netns,
    pins: PathBuf,
    program: SchedClassifier,
    shaping: Array<MapData, Shaping>,
    counters: PerCpuArray<MapData, Counters>,
}

/// The fate of one packet.
#[derive(Debug)]
pub struct Ran {
    /// One of `TC_ACT_*`.
    pub verdict: u32,
    /// The packet as it is now.
    pub packet: Vec<u8>,
    /// The context of the program.
    pub context: Context,
}

impl<'a> Subject<'a> {
    /// Opens what is pinned of a container's `eth0`, to be run in the host's namespace. Packets stay with their socket, so
    /// that what is decided on them is seen, and not made of a copy.
    ///
    /// # Panics
    ///
    /// When there is nothing.
    #[must_use]
    pub fn shaped(world: &'a World, container: &Container, direction: &str) -> Self {
        let pins = world.pins_of(container, direction).expect("its pins");
        let map = |name: &str| MapData::from_pin(pins.join(name)).expect("it is pinned");
        let subject = Self {
            host: world.host(),
            program: SchedClassifier::from_pin(pins.join("program")).expect("it is pinned"),
            shaping: Array::try_from(Map::Array(map(SHAPING_MAP))).expect("its layout"),
            counters: PerCpuArray::try_from(Map::PerCpuArray(map(COUNTERS_MAP))).expect("its layout"),
            pins,
        };
        subject.change_effects(|effects| effects.orphan = 0);
        subject
    }

    /// Changes the effects of all steps in the kernel, if there is a policy.
    ///
    /// # Panics
    ///
    /// When they cannot be written.
    pub fn change_effects(&self, change: impl Fn(&mut Effects)) {
        let path = self.pins.join(STEPS_MAP);
        if !path.exists() {
            return;
        }
        let map = Map::Array(MapData::from_pin(path).expect("it is pinned"));
        let mut steps: Array<_, Step> = Array::try_from(map).expect("its layout");
        for number in 0..steps.len() {
            let mut step = steps.get(&number, 0).expect("it can be read");
            change(&mut step.effects);
            steps.set(number, step, 0).expect("it can be written");
        }
    }

    /// Returns the number of instructions that the kernel looked at when it verified the program.
    ///
    /// # Panics
    ///
    /// When the kernel does not say (before Linux 5.16).
    #[must_use]
    pub fn verified_instructions(&self) -> u32 {
        let info = self.program.info().expect("the kernel tells");
        info.verified_instruction_count().expect("since Linux 5.16")
    }

    /// The schedule of a class, as the kernel has it.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn schedule(&self, class: u32) -> Schedule {
        let map = MapData::from_pin(self.pins.join(SCHEDULES_MAP)).expect("it is pinned");
        let schedules: Array<_, Schedule> = Array::try_from(Map::Array(map)).expect("its layout");
        schedules.get(&class, 0).expect("it can be read")
    }

    /// Has the kernel read this policy from now on.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn set_shaping(&mut self, shaping: Shaping) {
        self.shaping.set(0, shaping, 0).expect("it can be written");
    }

    /// The policy that the kernel reads.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    #[must_use]
    pub fn shaping(&self) -> Shaping {
        self.shaping.get(&0, 0).expect("it can be read")
    }

    /// Returns the counts so far, of all processors.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    #[must_use]
    pub fn count(&self) -> Counters {
        let mut sum = Counters::default();
        for cpu in self.counters.get(&0, 0).expect("it can be read").iter() {
            sum += *cpu;
        }
        sum
    }

    /// Runs the program on a packet `repeat` times, and says what was counted.
    ///
    /// # Panics
    ///
    /// When the kernel does not run it.
    #[must_use]
    pub fn repeat(&self, packet: &[u8], context: &Context, repeat: u32) -> (Ran, Counters) {
        let before = self.count();
        let ran = self.host.enter(|| run(&self.program, packet, context, repeat));
        (ran, difference(self.count(), before))
    }

    /// Runs the program on a packet once.
    ///
    /// # Panics
    ///
    /// When the kernel does not run it.
    #[must_use]
    pub fn once(&self, packet: &[u8], context: &Context) -> Ran {
        self.host.enter(|| run(&self.program, packet, context, 1))
    }

    /// Runs the program once on the copy of a packet that came at this moment; says when that was.
    ///
    /// # Panics
    ///
    /// When the kernel does not run it.
    #[must_use]
    pub fn copied(&self, packet: &[u8]) -> (u64, Ran) {
        self.host.enter(|| {
            let came_ns = now_ns();
            (came_ns, run(&self.program, packet, &Context::new().with(Context::CB, came_ns.to_ne_bytes()), 1))
        })
    }

    /// Runs the program on the same packet `count` times, one after the other, and has `look` at each.
    ///
    /// # Panics
    ///
    /// When the kernel does not run it.
    pub fn each<T: Send>(
        &self,
        packet: &[u8],
        context: &Context,
        count: usize,
        look: impl Fn(Ran) -> T + Send + Sync,
    ) -> Vec<T> {
        self.host.enter(|| (0..count).map(|_| look(run(&self.program, packet, context, 1))).collect())
    }

    /// Returns the losses among `count` packets.
    ///
    /// # Panics
    ///
    /// When one is neither lost nor passed.
    #[must_use]
    pub fn losses(&self, packet: &[u8], count: usize) -> Vec<bool> {
        self.each(packet, &Context::new(), count, |ran| match ran.verdict {
            TC_ACT_STOLEN => true,
            TC_ACT_UNSPEC => false,
            verdict => panic!("verdict {verdict}"),
        })
    }

    /// For how long each of `count` packets waits that come at the same moment, in nanoseconds; not at all where one is
    /// dropped.
    ///
    /// # Panics
    ///
    /// When the kernel does not run it.
    #[must_use]
    pub fn waits_ns(&self, packet: &[u8], count: usize) -> Vec<Option<u64>> {
        // Their own departure time is ahead, so that it does not matter when they are run.
        let ready_ns = now_ns() + 200 * SECOND_NS;
        self.each(packet, &Context::departing(ready_ns), count, |ran| {
            (ran.verdict == TC_ACT_UNSPEC).then(|| ran.context.departure_ns() - ready_ns)
        })
    }
}

fn run(program: &SchedClassifier, packet: &[u8], context: &Context, repeat: u32) -> Ran {
    let (mut packet_out, mut out) = (vec![0; LONGEST], Context::new());
    let options = TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut packet_out),
        ctx_in: Some(&context.0),
        ctx_out: Some(&mut out.0),
        repeat,
        ..TestRunOptions::new()
    };
    let result = program.test_run(options).expect("the kernel runs it");
    packet_out.truncate(result.data_size_out as usize);
    // To the packet and its sender they are the same.
    let verdict = match result.return_value {
        TC_ACT_REDIRECT => TC_ACT_STOLEN,
        verdict => verdict,
    };
    Ran { verdict, packet: packet_out, context: out }
}

/// A list of numbers, as policy files have it.
#[must_use]
pub fn list(numbers: &[i64]) -> String {
    let mut text = String::from("[");
    for number in numbers {
        let _ = write!(text, "{number}, ");
    }
    text + "]"
}
