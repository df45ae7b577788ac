//! A world with a container that is tortured and one that nobody shapes, and what both looked like at first.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    daemon::{Daemon, eventually},
    traffic::{parse_ping, ping},
    world::{Container, World},
};

/// The policies in force, by interface and direction; what has no policy is not in it.
pub(super) type Policies = BTreeMap<(String, String), Value>;

/// The world of a scenario.
#[derive(Debug)]
pub struct Stage {
    /// The container that is shaped.
    pub web: Container,
    /// A container that targets name.
    pub db: Container,
    /// The container that nobody shapes.
    pub bystander: Container,
    /// Traces of `web` and of the host before anything was shaped.
    before: (String, String),
    /// After its containers, whose files are in it.
    pub world: World,
}

impl Stage {
    /// Makes the world. The devices of `web` differ from the kernel's defaults in what shaping touches: a queue length of
    /// none at one end and an odd one at the other, which also has a clsact of somebody else. A device in it leads
    /// nowhere.
    ///
    /// # Errors
    ///
    /// Without root.
    pub fn set() -> Result<Self> {
        let world = World::new()?;
        let (web, db) = (world.container("web")?, world.container("db")?);
        web.netns.run(&format!("ip route add default via {}", web.host_address))?;
        let bystander = world.container("bystander")?;
        web.netns.run("ip link set eth0 txqueuelen 0")?;
        world.host().run(&format!("ip link set {} txqueuelen 777", web.host_end))?;
        world.host().run(&format!("tc qdisc add dev {} clsact", web.host_end))?;
        web.netns.run("ip link add inner type bridge")?;
        let before = (web.netns.traces(), world.host().traces());
        Ok(Self { web, db, bystander, before, world })
    }

    /// Starts a daemon and waits until it knows the containers.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn daemon(&self) -> Result<Daemon> {
        let daemon = self.world.daemon()?;
        for container in [&self.web, &self.db, &self.bystander] {
            daemon.view(&container.name);
        }
        Ok(daemon)
    }

    /// Returns the policies that the daemon says are in force on `web`.
    ///
    /// # Panics
    ///
    /// When it says nothing.
    #[must_use]
    pub(super) fn policies(daemon: &Daemon) -> Policies {
        let view = daemon.view("web");
        let interfaces = view["interfaces"].as_array().cloned().unwrap_or_default();
        let key = |interface: &Value, field: &str| interface[field].as_str().unwrap_or_default().to_owned();
        interfaces
            .into_iter()
            .filter(|interface| has_effect(&interface["shaping"]))
            .map(|interface| {
                ((key(&interface, "interface"), key(&interface, "direction")), interface["shaping"].clone())
            })
            .collect()
    }

    /// Describes what is not as it was before anything was shaped; nothing if all is.
    #[must_use]
    pub fn leftovers(&self) -> Option<String> {
        let now = (self.web.netns.traces(), self.world.host().traces());
        let host_end = &self.web.host_end;
        let inside = ["eth0", "inner"].map(|device| self.web.netns.classifiers(device));
        let classifiers = [inside.concat(), self.world.host().classifiers(host_end)];
        let pins = self.world.pins();
        let mut found = Vec::new();
        for (place, before, now) in [("web", &self.before.0, &now.0), ("host", &self.before.1, &now.1)] {
            found.extend(different_lines(before, now).map(|line| format!("{place}: {line}")));
        }
        found.extend(classifiers.concat());
        found.extend(pins.into_iter().filter(|pin| pin.contains("netns-")));
        (!found.is_empty()).then(|| found.join("; "))
    }

    /// Gives a daemon that starts a moment to take away what an interrupted change left: the kernel drops packets while a
    /// clsact goes. What it leaves is found later.
    pub(super) fn settle(&self) {
        let begin = Instant::now();
        while self.leftovers().is_some() && begin.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clears `web` and describes what is left of its shaping; nothing if nothing is.
    #[must_use]
    pub fn clear(&self, daemon: &Daemon) -> Option<String> {
        let complaint = match daemon.shaper("clear web").output() {
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        self.leftovers().map(|left| format!("{left}; clear said {complaint:?}"))
    }

    /// Pings that `web` and the host lose of ten each.
    ///
    /// # Errors
    ///
    /// When `ping` cannot be run.
    pub fn lost(&self) -> Result<u32> {
        let interval = Duration::from_millis(1);
        let pings = ping(&self.web.netns, self.web.host_address, 10, interval, &["-W", "0.5"])?;
        Ok(pings.sent - pings.received)
    }

    /// Pings the bystander from the host until [`Bystander::stop`].
    ///
    /// # Errors
    ///
    /// When `ping` cannot be run.
    pub fn watch_bystander(&self) -> Result<Bystander> {
        let mut command: Command = self.world.host().command("ping");
        command.args(["-n", "-q", "-i", "0.02", &self.bystander.address.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("run ping")?;
        Ok(Bystander(child))
    }
}

/// A ping that runs beside a scenario.
#[derive(Debug)]
pub struct Bystander(Child);

impl Bystander {
    /// Ends the ping, and returns the number of requests that had no reply.
    ///
    /// # Errors
    ///
    /// When `ping` says something else than usual.
    pub fn stop(self) -> Result<u32> {
        kill(Pid::from_raw(self.0.id().try_into()?), Signal::SIGINT).context("end ping")?;
        let output = self.0.wait_with_output().context("wait for ping")?;
        let pings = parse_ping(&String::from_utf8_lossy(&output.stdout))?;
        ensure!(pings.sent > 0, "ping sent nothing");
        // The last request may have been sent just before the end.
        Ok((pings.sent - pings.received).saturating_sub(1))
    }
}

/// Waits until a daemon shows nothing in force on `web`.
pub(super) fn until_unshaped(daemon: &Daemon) {
    eventually("nothing is in force", || Stage::policies(daemon).is_empty().then_some(()));
}

/// Returns true if a policy has any effect.
fn has_effect(shaping: &Value) -> bool {
    shaping.as_object().is_some_and(|fields| {
        fields.iter().any(|(name, value)| match name.as_str() {
            "latency" => value != "0ms" && value != "0s" && !value.is_null(),
            "loss" => value != "0%" && !value.is_null(),
            "netem" => value != "" && !value.is_null(),
            _ => false,
        })
    })
}

fn different_lines<'a>(before: &'a str, now: &'a str) -> impl Iterator<Item = String> {
    let missing = before.lines().filter(|line| !now.lines().any(|other| other == *line));
    let added = now.lines().filter(|line| !before.lines().any(|other| other == *line));
    let lines = missing.map(|line| format!("- {line}")).chain(added.map(|line| format!("+ {line}")));
    lines.collect::<Vec<_>>().into_iter()
}
