//! A round of the probe: all its reporters at once.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::Result;

use super::Probe;

/// Stands in for Scope's Docker reporter (`probe/docker/reporter.go`).
#[derive(Clone, Copy, Debug)]
pub struct DockerReporter<'a> {
    /// The running containers, by id.
    pub containers: &'a [&'a str],
    /// The time that it takes until it has their buttons.
    pub takes: Duration,
}

/// The buttons that Scope's Docker reporter has on a running container (`probe/docker/container.go`).
const DOCKER_BUTTONS: [&str; 5] = [
    "docker_attach_container",
    "docker_exec_container",
    "docker_pause_container",
    "docker_restart_container",
    "docker_stop_container",
];

/// The buttons on each container, by its id, in no order.
pub type ButtonLists = BTreeMap<String, Vec<String>>;

impl Probe {
    /// Asks the plugin and Docker's reporter at the same time, and returns the buttons that people see.
    ///
    /// The probe stamps the lists of both with the time at which it has them, and of one container's two lists the later
    /// one is all that remains (`WithLatestActiveControls` and `Merge` in `report/node.go`).
    ///
    /// # Errors
    ///
    /// As [`Self::report`].
    pub fn round(&self, docker: DockerReporter<'_>) -> Result<ButtonLists> {
        let (dockers, ours) = thread::scope(|scope| {
            let dockers = scope.spawn(|| {
                thread::sleep(docker.takes);
                std::time::Instant::now()
            });
            let ours = self.report().map(|report| (std::time::Instant::now(), report));
            (dockers.join(), ours)
        });
        let dockers = dockers.map_err(|_| anyhow::anyhow!("Docker's reporter panicked"))?;
        let (ours, report) = ours?;
        let plugins = report.container.nodes.keys().filter_map(|id| {
            let id = id.strip_suffix(super::report::NODE_SUFFIX)?;
            Some((id.to_owned(), owned(&report.node(id)?.controls())))
        });
        let mut lists: ButtonLists = plugins.collect();
        for &id in docker.containers {
            if dockers > ours || !lists.contains_key(id) {
                lists.insert(id.to_owned(), owned(&DOCKER_BUTTONS));
            }
        }
        Ok(lists)
    }
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}
