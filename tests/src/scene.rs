//! A world whose containers a daemon knows, and a probe that asks it.

use std::time::Duration;

use anyhow::Result;

use crate::{
    daemon::Daemon,
    http::{self, Answer},
    probe::{ControlAnswer, Probe, Report},
    world::{Container, World},
};

/// The id of the probe.
pub const PROBE_ID: &str = "1f9e";
/// The prefix of control ids.
const CONTROL_PREFIX: &str = "traffic-control-table-";

/// Containers, a daemon and a probe. The daemon ends first.
#[derive(Debug)]
pub struct Scene {
    /// The daemon.
    pub daemon: Daemon,
    /// Scope's probe.
    pub probe: Probe,
    /// In the order in which they were asked for.
    pub containers: Vec<Container>,
    /// Where all that is.
    pub world: World,
}

impl Scene {
    /// Makes containers with these names, and waits until the daemon has seen them.
    ///
    /// # Errors
    ///
    /// Without root.
    pub fn of(names: &[&str]) -> Result<Self> {
        let world = World::new()?;
        let containers = names.iter().map(|name| world.container(name)).collect::<Result<Vec<_>>>()?;
        let daemon = world.daemon()?;
        for name in names {
            daemon.view(name);
        }
        let probe = Probe::new(world.socket(), PROBE_ID);
        Ok(Self { daemon, probe, containers, world })
    }

    /// The report, as the probe takes it.
    ///
    /// # Panics
    ///
    /// When Scope would not take it.
    #[must_use]
    pub fn report(&self) -> Report {
        self.probe
            .report()
            .unwrap_or_else(|error| panic!("{error:#}\nthe daemon's log:\n{}", self.daemon.log()))
    }

    /// Presses one of our buttons (`slow`) of a container.
    ///
    /// # Panics
    ///
    /// When there is no good answer in time; a refusal is one.
    #[must_use]
    pub fn press(&self, container: &str, button: &str) -> ControlAnswer {
        let answer =
            self.probe.press(&format!("{container};<container>"), &format!("{CONTROL_PREFIX}{button}"));
        answer.unwrap_or_else(|error| panic!("{error:#}\nthe daemon's log:\n{}", self.daemon.log()))
    }

    /// Sends bytes, which need not be a request, to the daemon.
    ///
    /// # Errors
    ///
    /// When they are not answered.
    pub fn send(&self, request: &[u8]) -> Result<Answer> {
        http::exchange(&self.world.socket(), request, Duration::from_secs(10), 32 << 20)
    }

    /// Sends a request to the daemon, and gives the status and the text.
    ///
    /// # Panics
    ///
    /// When it is not answered.
    #[must_use]
    pub fn ask(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer =
            self.send(request.as_bytes()).unwrap_or_else(|error| panic!("{method} {target}: {error:#}"));
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }
}
