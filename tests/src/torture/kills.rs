//! Kills the daemon at one system call after the other of a change, and compares what is left with what was.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Extent, Outcome,
    stage::{Bystander, Policies, Stage, until_unshaped},
};
use crate::{
    daemon::{Daemon, PATIENCE, eventually, program},
    require::Need,
    tracer::{Calls, Traced, kill_at, kill_at_from_start},
    traffic::ping,
};

/// A change that is interrupted at each of its system calls.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// The name on the command line.
    pub name: &'static str,
    /// Commands of `shaper` that come before it.
    prelude: &'static [&'static [&'static str]],
    change: Change,
    /// The needs of the machine, beside the superuser.
    pub(super) needs: &'static [Need],
}

#[derive(Clone, Copy, Debug)]
enum Change {
    /// A command of `shaper`.
    Command(&'static [&'static str]),
    /// The container that a target names gets one more address.
    Retarget,
    /// A daemon starts where another one was killed.
    Start,
}

const LOSS: &[&str] = &["set", "web", "--loss", "2%", "--direction", "both"];
const MORE_LOSS: &[&str] = &["set", "web", "--loss", "3%", "--direction", "both"];
const PERIODIC: &[&str] = &["set", "web", "--netem", "loss every 50 seed 7", "--direction", "both"];
const OTHER_PERIODIC: &[&str] = &["set", "web", "--netem", "loss every 60 seed 7", "--direction", "both"];
const TO_DB: &[&str] = &["set", "web", "--netem", "loss every 1 seed 7", "--to", "container:db"];
const CLEAR: &[&str] = &["clear", "web"];
const RECEIVED_LOSS: &[&str] = &["set", "web", "--loss", "2%", "--direction", "ingress"];
const RECEIVED_DELAY: &[&str] = &["set", "web", "--latency", "1ms", "--direction", "ingress"];
const DETOUR: &[&str] = &["set", "web", "--latency", "1ms", "--direction", "ingress", "--interface", "inner"];

/// All changes.
pub const KILLS: [Kill; 12] = [
    Kill { name: "kill-first-set", prelude: &[], change: Change::Command(LOSS), needs: &[] },
    Kill { name: "kill-first-set-of-schedule", prelude: &[], change: Change::Command(PERIODIC), needs: &[] },
    Kill { name: "kill-change", prelude: &[LOSS], change: Change::Command(MORE_LOSS), needs: &[] },
    Kill { name: "kill-change-to-schedule", prelude: &[LOSS], change: Change::Command(PERIODIC), needs: &[] },
    Kill {
        name: "kill-change-of-schedule",
        prelude: &[PERIODIC],
        change: Change::Command(OTHER_PERIODIC),
        needs: &[],
    },
    Kill { name: "kill-clear", prelude: &[LOSS], change: Change::Command(CLEAR), needs: &[] },
    Kill { name: "kill-clear-of-schedule", prelude: &[PERIODIC], change: Change::Command(CLEAR), needs: &[] },
    Kill { name: "kill-retarget", prelude: &[TO_DB], change: Change::Retarget, needs: &[] },
    Kill { name: "kill-adoption", prelude: &[PERIODIC], change: Change::Start, needs: &[] },
    Kill {
        name: "kill-move",
        prelude: &[RECEIVED_LOSS],
        change: Change::Command(RECEIVED_DELAY),
        needs: &[Need::Fq],
    },
    Kill { name: "kill-detour", prelude: &[], change: Change::Command(DETOUR), needs: &[Need::Fq] },
    Kill {
        name: "kill-clear-of-detour",
        prelude: &[DETOUR],
        change: Change::Command(CLEAR),
        needs: &[Need::Fq],
    },
];

/// Runs a scenario: counts the system calls of the change, and repeats it with a kill at each of those picked.
pub(super) fn run(scenario: &Kill, extent: Extent) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut run = Run::begin(scenario, extent.calls)?;
    let calls = run.total;
    for nth in picked(calls, extent.kills) {
        let (faults, leak) = run.round(nth)?;
        outcome.faults.extend(faults.into_iter().map(|fault| format!("call {nth} of {calls}: {fault}")));
        outcome.rounds += 1;
        if let Some(left) = leak {
            outcome.leaks.push(format!("call {nth} of {calls}: {left}"));
            // What is left would be found again after the next round.
            outcome.lost_pings += std::mem::replace(&mut run, Run::begin(scenario, extent.calls)?).end()?;
        }
    }
    outcome.lost_pings += run.end()?;
    Ok(outcome)
}

/// A stage with a daemon, and what is in force before and after an undisturbed change.
struct Run<'a> {
    scenario: &'a Kill,
    calls: Calls,
    daemon: Option<Daemon>,
    before: Policies,
    after: Policies,
    /// System calls of the undisturbed change.
    total: usize,
    bystander: Bystander,
    stage: Stage,
}

impl<'a> Run<'a> {
    fn begin(scenario: &'a Kill, calls: Calls) -> Result<Self> {
        let stage = Stage::set()?;
        let daemon = stage.daemon()?;
        let before = prepare(&stage, &daemon, scenario);
        let (daemon, counted) = change(&stage, daemon, scenario, calls, usize::MAX)?;
        let Traced::Passed(total) = counted else { bail!("the change has no last system call") };
        ensure!(total > 0, "the change does nothing");
        let after = Stage::policies(&daemon);
        ensure!(stage.clear(&daemon).is_none(), "a change that is not disturbed leaves something behind");
        until_unshaped(&daemon);
        let bystander = stage.watch_bystander()?;
        Ok(Self { scenario, calls, daemon: Some(daemon), before, after, total, bystander, stage })
    }

    /// Kills the daemon at the `nth` call of the change; returns what is wrong then, and what is left after a clear.
    fn round(&mut self, nth: usize) -> Result<(Vec<String>, Option<String>)> {
        let Self { scenario, calls, stage, .. } = self;
        let daemon = self.daemon.take().context("there is a daemon between rounds")?;
        prepare(stage, &daemon, scenario);
        drop(change(stage, daemon, scenario, *calls, nth)?);
        let daemon = stage.daemon()?;
        let faults = check(stage, &daemon, scenario, &self.before, &self.after)?;
        let left = stage.clear(&daemon);
        self.daemon = Some(daemon);
        Ok((faults, left))
    }

    fn end(self) -> Result<u32> {
        self.bystander.stop()
    }
}

/// At most `most` of the numbers below `calls`, evenly spread.
fn picked(calls: usize, most: usize) -> BTreeSet<usize> {
    let most = most.clamp(1, calls);
    (0..most).map(|index| index * calls / most).collect()
}

/// Carries out what comes before the change, and returns what is in force then.
fn prepare(stage: &Stage, daemon: &Daemon, scenario: &Kill) -> Policies {
    if let Change::Retarget = scenario.change {
        // It may not be there, as before the first round.
        let _ = stage.db.netns.run("ip addr del 10.97.0.1/32 dev eth0");
    }
    for words in scenario.prelude {
        daemon.words(words);
    }
    Stage::policies(daemon)
}

/// Makes the change under a tracer that kills the daemon at the `nth` call; returns the daemon, dead or alive.
fn change(
    stage: &Stage,
    daemon: Daemon,
    scenario: &Kill,
    calls: Calls,
    nth: usize,
) -> Result<(Daemon, Traced)> {
    match scenario.change {
        Change::Command(words) => {
            let traced = kill_at(daemon.pid(), calls, nth, || run_quietly(&daemon, words))?;
            Ok((daemon, traced))
        }
        Change::Retarget => {
            let traced = kill_at(daemon.pid(), calls, nth, || retarget(stage, &daemon))?;
            Ok((daemon, traced))
        }
        Change::Start => {
            daemon.kill(Signal::SIGKILL);
            start(stage, calls, nth)
        }
    }
}

fn run_quietly(daemon: &Daemon, words: &[&str]) {
    let mut command = daemon.command(words);
    // It fails where the daemon is killed; what became of it is looked at afterwards.
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Gives `db` one more address, and waits until the daemon has taken it in or has ended.
fn retarget(stage: &Stage, daemon: &Daemon) {
    let log = daemon.log().len();
    stage.db.netns.run("ip addr add 10.97.0.1/32 dev eth0").expect("an address");
    // A new container has the daemon look at all addresses.
    let alias = stage.db.netns.alias(stage.world.netns_dir().join("alias")).expect("an alias");
    eventually("the daemon has taken in the address", || {
        let has_ended = kill(Pid::from_raw(daemon.pid().cast_signed()), None).is_err();
        (has_ended || daemon.log()[log..].contains("other addresses")).then_some(())
    });
    drop(alias);
}

/// Starts a daemon under a tracer; if it is not killed, another one is started when it has ended.
fn start(stage: &Stage, calls: Calls, nth: usize) -> Result<(Daemon, Traced)> {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]);
    let daemon = stage.world.host().command(program());
    command.arg(daemon.get_program()).args(daemon.get_args());
    command.arg("serve").arg("--pin-dir").arg(stage.world.pin_dir());
    command.arg("--netns-dir").arg(stage.world.netns_dir()).args(["--runtime", "netns"]);
    command.arg("--plugin-socket").arg(stage.world.socket());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.context("start a daemon")?;
    let traced = kill_at_from_start(child.id(), calls, nth, |has_ended| {
        let begin = Instant::now();
        while !has_ended() && begin.elapsed() < PATIENCE {
            let mut list = Command::new(program());
            list.arg("list").arg("--plugin-socket").arg(stage.world.socket());
            if list.stderr(Stdio::null()).output().is_ok_and(|output| output.status.success()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    })?;
    let _ = child.kill();
    let _ = child.wait();
    Ok((stage.daemon()?, traced))
}

/// Describes what is neither as before nor as after the change.
fn check(
    stage: &Stage,
    daemon: &Daemon,
    scenario: &Kill,
    before: &Policies,
    after: &Policies,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    // What is over may still be shown for a moment.
    let mut policies = Stage::policies(daemon);
    let is_known = |policies: &Policies| {
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).chain(policies.keys()).cloned().collect();
        keys.into_iter().all(|key| {
            let now = policies.get(&key);
            now == before.get(&key) || now == after.get(&key)
        })
    };
    if !is_known(&policies) {
        policies = Stage::policies(daemon);
        if !is_known(&policies) {
            found.push(format!("{policies:?} is neither {before:?} nor {after:?}"));
        }
    }
    let shaped: Vec<_> = policies.keys().collect();
    if let Change::Retarget = scenario.change {
        found.extend(targets(stage, daemon)?);
    } else if shaped.is_empty() {
        stage.settle();
    }
    // Losses are rare or periodic from the 50th packet on: all of ten packets are lost by a fault only.
    let lost = stage.lost()?;
    if lost > 5 || (shaped.is_empty() && lost > 0) {
        found.push(format!("{lost} of 10 pings were lost with {shaped:?} shaped"));
    }
    if daemon.log().contains("panicked") {
        found.push("the daemon panicked".to_owned());
    }
    Ok(found)
}

/// Describes what is wrong with the targets: `db` has two addresses, and all packets to both are lost, once the daemon has
/// looked at its containers.
fn targets(stage: &Stage, daemon: &Daemon) -> Result<Option<String>> {
    let count = || daemon.view("web")["interfaces"][0]["lost"]["packets"].as_u64().unwrap_or_default();
    let begin = Instant::now();
    loop {
        let before = count();
        for address in [stage.db.address, [10, 97, 0, 1].into()] {
            ping(&stage.web.netns, address, 3, Duration::from_millis(1), &["-W", "0.1"])?;
        }
        let lost = count() - before;
        if lost == 6 {
            return Ok(None);
        }
        if begin.elapsed() > Duration::from_secs(5) {
            return Ok(Some(format!("{lost} of 6 packets to the target were lost")));
        }
    }
}
