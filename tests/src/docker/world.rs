//! A Docker Engine with a daemon that watches it, and Scope's probe.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use anyhow::{Context as _, Result};

use super::DockerDaemon;
use crate::{
    daemon::{Daemon, eventually, program},
    netns::Netns,
    probe::{ControlAnswer, NodeView, Probe, socket_under},
};

/// In a bpffs that only the engine's namespaces have.
const PIN_DIR: &str = "/sys/fs/bpf/shaper";

/// An engine, in its namespaces a daemon that watches it, and a probe. The daemon ends first.
#[derive(Debug)]
pub struct DockerWorld {
    /// The daemon.
    pub daemon: Daemon,
    /// Scope's probe on the daemon's socket.
    pub probe: Probe,
    /// The engine.
    pub engine: DockerDaemon,
    /// Where the engine's bridges are.
    pub host: Netns,
}

impl DockerWorld {
    /// Starts an engine and the daemon.
    ///
    /// # Errors
    ///
    /// As [`DockerDaemon::start`], and when the daemon does not answer.
    pub fn start() -> Result<Self> {
        Self::around(DockerDaemon::start()?, "docker")
    }

    /// Starts an engine and the daemon, with more arguments for `shaper serve`.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::start`].
    pub fn start_with(args: &[&str]) -> Result<Self> {
        Self::serving(DockerDaemon::start()?, "docker", args)
    }

    /// Starts a daemon that watches these runtimes inside the namespaces of an engine.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn around(engine: DockerDaemon, runtimes: &str) -> Result<Self> {
        Self::serving(engine, runtimes, &[])
    }

    fn serving(engine: DockerDaemon, runtimes: &str, args: &[&str]) -> Result<Self> {
        let daemon = engine.watched_by(runtimes, args)?;
        let host = Netns::at(format!("/proc/{}/ns/net", engine.pid()).into());
        Ok(Self { daemon, probe: Probe::new(plugin_socket(&engine), "5ca1ab1e"), engine, host })
    }

    /// Starts a container, with more arguments for `docker run`, and returns its id once its buttons are shown.
    ///
    /// # Panics
    ///
    /// When Docker cannot start it, or it is never shown.
    #[must_use]
    pub fn run(&self, name: &str, extra_args: &[&str]) -> String {
        let id = self.engine.run(name, extra_args).expect("a container");
        self.node(&format!("{name} has buttons"), &id, |node| {
            node?.controls().contains(&"traffic-control-table-clear").then_some(())
        });
        id
    }

    /// Waits until `condition` gives something for what Scope shows of a container, by its id.
    ///
    /// # Panics
    ///
    /// When it never does, or a report is not as it should be.
    pub fn node<T>(&self, what: &str, id: &str, condition: impl Fn(Option<NodeView<'_>>) -> Option<T>) -> T {
        eventually(what, || {
            let report = self.probe.report().unwrap_or_else(|error| {
                panic!("{error:#}\nthe daemon's log:\n{}", self.daemon.log());
            });
            condition(report.node(id))
        })
    }

    /// Presses a button, named as after `traffic-control-table-`, of a container.
    ///
    /// # Panics
    ///
    /// When Scope would not wait for the answer.
    #[must_use]
    pub fn press(&self, id: &str, button: &str) -> ControlAnswer {
        let pressed =
            self.probe.press(&format!("{id};<container>"), &format!("traffic-control-table-{button}"));
        pressed.unwrap_or_else(|error| panic!("{error:#}\nthe daemon's log:\n{}", self.daemon.log()))
    }

    /// See [`DockerDaemon::netns`].
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn netns(&self, container: &str) -> Result<Netns> {
        self.engine.netns(container)
    }

    /// See [`DockerDaemon::addresses`].
    ///
    /// # Errors
    ///
    /// When it is not connected to the network.
    pub fn addresses(&self, container: &str, network: &str) -> Result<(Ipv4Addr, Ipv4Addr)> {
        self.engine.addresses(container, network)
    }

    /// See [`DockerDaemon::pins`].
    #[must_use]
    pub fn pins(&self) -> Vec<String> {
        self.engine.pins()
    }

    /// The links and qdiscs of the engine's host, without what time changes on a bridge.
    ///
    /// # Panics
    ///
    /// When `ip` or `tc` fail.
    #[must_use]
    pub fn host_traces(&self) -> String {
        let links = self.host.run("ip -o link show").expect("ip works");
        links + &self.host.run("tc qdisc show").expect("tc works")
    }
}

impl DockerDaemon {
    /// Starts a daemon inside the namespaces that watches these runtimes, with more arguments for `shaper serve`. What it
    /// keeps is in the engine's directory.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn watched_by(&self, runtimes: &str, arguments: &[&str]) -> Result<Daemon> {
        let mut command = self.command(program());
        command.args(["serve", "--runtime", runtimes, "--pin-dir", PIN_DIR]);
        command.arg("--state-dir").arg(self.state_dir());
        command.arg("--rules-dir").arg(self.directory().join("rules.d"));
        command.args(arguments);
        Daemon::listening_on(plugin_socket(self), command)
    }

    /// Where the daemon keeps rules that were asked for.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.directory().join("state")
    }

    /// The network namespace that a container has now.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn netns(&self, container: &str) -> Result<Netns> {
        let pid = self.inspect(container, "{{.State.Pid}}")?;
        // Pids are those of the engine's namespaces.
        Ok(Netns::at(self.inside(&format!("/proc/{pid}/ns/net"))))
    }

    /// A container's address in one of its networks, and the bridge's.
    ///
    /// # Errors
    ///
    /// When it is not connected to the network.
    pub fn addresses(&self, container: &str, network: &str) -> Result<(Ipv4Addr, Ipv4Addr)> {
        let of = |field| -> Result<Ipv4Addr> {
            let address = self.inspect(
                container,
                &format!("{{{{(index .NetworkSettings.Networks {network:?}).{field}}}}}"),
            )?;
            address.parse().with_context(|| format!("{field} of {container} in {network}: {address:?}"))
        };
        Ok((of("IPAddress")?, of("Gateway")?))
    }

    /// Returns the names of the pins.
    #[must_use]
    pub fn pins(&self) -> Vec<String> {
        let entries = fs::read_dir(self.inside(PIN_DIR)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !["host", "lock"].contains(&name.as_str()));
        names.sort();
        names
    }

    fn inspect(&self, container: &str, format: &str) -> Result<String> {
        self.docker(&["inspect", "--format", format, container])
    }

    /// A path of the engine's mounts, from outside.
    fn inside(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.pid()).into()
    }
}

fn plugin_socket(engine: &DockerDaemon) -> PathBuf {
    socket_under(&engine.directory().join("plugins"))
}
