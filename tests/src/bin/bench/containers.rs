//! The containers that are compared: one host, a container for each way, a daemon that shapes one of them.

use anyhow::Result;
use shaper_tests::{
    daemon::Daemon,
    netns::Netns,
    world::{Container, World},
};

/// The direction that is shaped, as the container sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the container to the host; both ways of shaping sit at the container's end.
    Egress,
    /// From the host to the container; both sit at the host's end.
    Ingress,
}

/// A container for each way, so that none disturbs another.
pub(crate) struct Containers {
    /// Nothing is ever in its way.
    pub(crate) bare: Container,
    /// Shaped by `netem`.
    pub(crate) netem: Container,
    /// Shaped by us.
    pub(crate) web: Container,
    pub(crate) daemon: Daemon,
    // Dropped last: it holds the others' files.
    pub(crate) world: World,
}

impl Containers {
    pub(crate) fn new() -> Result<Self> {
        Self::with(World::daemon)
    }

    /// The same, with a daemon that puts its programs under clsact.
    pub(crate) fn on_clsact() -> Result<Self> {
        Self::with(World::daemon_on_clsact)
    }

    fn with(daemon: impl FnOnce(&World) -> Result<Daemon>) -> Result<Self> {
        let world = World::new()?;
        let [bare, netem, web] =
            [world.container("bare")?, world.container("netem")?, world.container("web")?];
        let daemon = daemon(&world)?;
        daemon.view("web");
        Ok(Self { bare, netem, web, daemon, world })
    }

    /// Shapes one container by `netem` and one by us, in the words of each. `netem` gets room for all that may wait.
    pub(crate) fn shape(&self, direction: Direction, netem: &str, shaper: &str) -> Result<()> {
        self.shape_with(direction, netem, &shaper.split_whitespace().collect::<Vec<_>>())
    }

    /// The same with words of ours in which there may be spaces.
    pub(crate) fn shape_with(&self, direction: Direction, netem: &str, shaper: &[&str]) -> Result<()> {
        let (at, device) = self.netem_at(direction);
        at.run(&format!("tc qdisc replace dev {device} root netem {netem} limit 1000000"))?;
        self.daemon.words(&[&["set", "web", "--direction", direction.name()], shaper].concat());
        Ok(())
    }

    /// Has both do the same of netem's words to what the containers send, and shaper `more` words.
    pub(crate) fn shape_alike(&self, words: &str, more: &str) -> Result<()> {
        self.shape_with(Direction::Egress, words, &["--netem", &format!("{words} {more}")])
    }

    /// Undoes `shape`. What waits is lost with `netem`, and waited for by us.
    pub(crate) fn clear(&self, direction: Direction) -> Result<()> {
        let (at, device) = self.netem_at(direction);
        at.run(&format!("tc qdisc del dev {device} root"))?;
        self.daemon.run("clear web");
        Ok(())
    }

    fn netem_at(&self, direction: Direction) -> (&Netns, &str) {
        match direction {
            Direction::Egress => (&self.netem.netns, "eth0"),
            Direction::Ingress => (self.world.host(), &self.netem.host_end),
        }
    }
}

impl Direction {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}
