//! Random operations with random kills, and containers that come and go, while the daemon lacks something.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{Extent, Outcome, hardship::Hardship, stage::Stage};
use crate::{
    daemon::{Daemon, eventually},
    netns::Netns,
    statistics::is_binomial,
    tracer::{Calls, kill_at},
    traffic::ping,
};

/// Operations in a round.
const OPERATIONS: usize = 8;
/// Lasting system calls of the longest change, and some.
const CALLS: usize = 70;
/// Runs a scenario.
pub(super) fn run(name: &str, extent: Extent) -> Result<Outcome> {
    let mut dice = fastrand::Rng::with_seed(extent.seed);
    let mut outcome = Outcome::default();
    let mut round = Round::begin(name)?;
    while outcome.rounds < extent.rounds {
        outcome.rounds += 1;
        let number = outcome.rounds;
        let faults = if name == "churn" { round.churn(&mut dice)? } else { round.random(&mut dice)? };
        outcome.faults.extend(faults.into_iter().map(|fault| format!("round {number}: {fault}")));
        if let Some(left) = round.clear()? {
            outcome.leaks.push(format!("round {number}: {left}"));
            outcome.lost_pings += std::mem::replace(&mut round, Round::begin(name)?).end()?;
        }
    }
    outcome.lost_pings += round.end()?;
    Ok(outcome)
}

/// A stage, a daemon with a hardship, and what is in force: packets between two losses, if any.
struct Round {
    daemon: Option<Daemon>,
    in_force: Option<u32>,
    /// After the daemon, which suffers from it to the last.
    hardship: Hardship,
    bystander: super::stage::Bystander,
    stage: Stage,
}

impl Round {
    fn begin(name: &str) -> Result<Self> {
        let mut stage = Stage::set()?;
        let hardship = Hardship::new(name, &mut stage)?;
        let daemon = hardship.daemon(&stage)?;
        let bystander = stage.watch_bystander()?;
        Ok(Self { hardship, daemon: Some(daemon), in_force: None, bystander, stage })
    }

    fn end(self) -> Result<u32> {
        self.bystander.stop()
    }

    fn daemon(&mut self) -> Result<Daemon> {
        match self.daemon.take() {
            Some(daemon) => Ok(daemon),
            None => self.hardship.daemon(&self.stage),
        }
    }

    /// Clears everything; returns what is left.
    fn clear(&mut self) -> Result<Option<String>> {
        let daemon = self.daemon()?;
        // Others were perhaps shaped, or not; it fails where nothing was.
        run_quietly(&daemon, &["clear", "--all"]);
        let left = self.stage.clear(&daemon);
        self.daemon = Some(daemon);
        self.in_force = None;
        Ok(left)
    }

    /// Carries out random operations, each of which has to be shown.
    fn random(&mut self, dice: &mut fastrand::Rng) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for _ in 0..OPERATIONS {
            let daemon = self.daemon()?;
            let (next, done) = operation(daemon, self.in_force, dice)?;
            self.daemon = next;
            let mut daemon = self.daemon()?;
            match &in_force(&daemon)[..] {
                [shown] if done.allowed.contains(shown) => self.in_force = *shown,
                // Killed when one interface had the new policy and the other not yet.
                [first, second] if done.allowed.contains(first) && done.allowed.contains(second) => {
                    daemon.run("clear web");
                    self.in_force = None;
                }
                shown => {
                    faults.push(format!("{}: {shown:?} is shown, not one of {:?}", done.name, done.allowed))
                }
            }
            self.hardship.strain(&mut daemon)?;
            self.daemon = (!daemon.has_ended()).then_some(daemon);
        }
        faults.extend(self.losses()?);
        faults.extend(self.hardship.harm());
        Ok(faults)
    }

    /// Compares the packets that are lost with what is in force.
    fn losses(&self) -> Result<Option<String>> {
        let interval = std::time::Duration::from_millis(1);
        let pings = ping(&self.stage.web.netns, self.stage.web.host_address, 200, interval, &["-W", "0.5"])?;
        let lost = pings.sent - pings.received;
        let is_right = match self.in_force {
            None => lost == 0,
            // Requests are lost one way, replies the other.
            Some(every) => is_binomial(lost.into(), 400, 1.0 / f64::from(every)),
        };
        Ok((!is_right).then(|| format!("{lost} of 200 pings were lost with one in {:?}", self.in_force)))
    }

    /// Shapes a container that goes, before or after the daemon is killed.
    fn churn(&mut self, dice: &mut fastrand::Rng) -> Result<Vec<String>> {
        let daemon = self.daemon()?;
        let name = format!("brief{}", dice.u32(..));
        let brief = Netns::create(self.stage.world.netns_dir().join(&name))?;
        let host = self.stage.world.host();
        host.run(&format!("ip link add brief type veth peer name eth0 netns {}", brief.path().display()))?;
        daemon.view(&name);
        let words = ["set", &name, "--loss", "5%", "--direction", "both"];
        if dice.bool() {
            kill_at(daemon.pid(), Calls::Lasting, dice.usize(..CALLS), || run_quietly(&daemon, &words))?;
            drop(daemon);
        } else {
            run_quietly(&daemon, &words);
            self.daemon = Some(daemon);
        }
        drop(brief);
        // The kernel takes its time to end a namespace.
        eventually("the device of the container that went is gone", || {
            host.run("ip link show brief").is_err().then_some(())
        });
        let daemon = self.daemon()?;
        let stage = &self.stage;
        eventually("its pins are gone", || {
            stage.world.pins().iter().all(|pin| !pin.contains("netns-")).then_some(())
        });
        self.daemon = Some(daemon);
        Ok(Vec::new())
    }
}

/// An operation that was carried out, and what may be in force after it.
struct Done {
    name: &'static str,
    allowed: Vec<Option<u32>>,
}

/// Carries out one operation; returns the daemon, if it still runs.
fn operation(
    mut daemon: Daemon,
    before: Option<u32>,
    dice: &mut fastrand::Rng,
) -> Result<(Option<Daemon>, Done)> {
    let every = dice.u32(20..100);
    let netem = format!("loss every {every} seed 7");
    let set = ["set", "web", "--netem", &netem, "--direction", "both"];
    let clear = ["clear", "web"];
    let (words, after): (&[&str], _) = if dice.u32(..3) == 0 { (&clear, None) } else { (&set, Some(every)) };
    match dice.u32(..10) {
        0 => {
            daemon.kill(Signal::SIGTERM);
            Ok((None, Done { name: "restart", allowed: vec![before] }))
        }
        1 => {
            daemon.kill(Signal::SIGKILL);
            Ok((None, Done { name: "kill", allowed: vec![before] }))
        }
        2..5 => {
            kill_at(daemon.pid(), Calls::Lasting, dice.usize(..CALLS), || run_quietly(&daemon, words))?;
            drop(daemon);
            Ok((None, Done { name: "kill in a change", allowed: vec![before, after] }))
        }
        _ => {
            let succeeded = daemon.command(words).output().context("run shaper")?.status.success();
            if daemon.has_ended() {
                return Ok((
                    None,
                    Done { name: "change of a daemon that ended", allowed: vec![before, after] },
                ));
            }
            let allowed = if succeeded { vec![after] } else { vec![before] };
            Ok((Some(daemon), Done { name: "change", allowed }))
        }
    }
}

fn run_quietly(daemon: &Daemon, words: &[&str]) {
    // It fails where the daemon is killed; what became of it is looked at afterwards.
    let _ = daemon.command(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Packets between two losses, if any are lost, on the interfaces of `web`: each number once.
fn in_force(daemon: &Daemon) -> Vec<Option<u32>> {
    let policies = Stage::policies(daemon);
    let every = |shaping: &serde_json::Value| {
        shaping["netem"].as_str()?.strip_prefix("loss every ")?.split(' ').next()?.parse::<u32>().ok()
    };
    let mut shown: Vec<_> = policies.values().map(every).collect();
    // One for each direction.
    shown.resize(2, None);
    shown.dedup();
    shown
}
