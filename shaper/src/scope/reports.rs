//! Reports as bytes; those that take long are made before the probe asks for them.

use std::{
    io::{self, BufWriter, Read as _},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::body::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use parking_lot::Mutex;
use tokio::{
    task::{AbortHandle, spawn_blocking},
    time::timeout,
};

use super::{
    buttons::Buttons,
    networks::Networks,
    nodes::{Nodes, docker_controls},
    recent::Recent,
    report::{Report, Topology},
    templates,
};
use crate::shaping::{ContainerView, Problem, Shaper};

/// The least and the longest time from a probe's question to the end of the answer, where Docker's reporter has buttons on
/// the same containers.
///
/// The probe asks all its reporters at once (`report` in `probe/probe.go`), and stamps each container's list of buttons at
/// the moment when it has it: Docker's in `GetNode` (`probe/docker/container.go`), ours when the report has been read
/// (`updateAndGetControlsInTopology` in `probe/plugins/registry.go`). Of the two the later one is shown alone. Ours has
/// Docker's buttons, too, Docker's has not ours: so ours must be the later one. Docker's reporter copies what it knows of
/// each container, and does not ask Docker. The time that this takes grows with the containers and with the machine's load,
/// as that of our own report does, which is what can be measured here.
///
/// At 60 ms no container was without our buttons in 80 reports on a loaded machine, at 0 ms half of them were. The probe
/// gives up after 500 ms, and has to read the report in the rest of them. A click waits for the report that is under way.
const HOLD: (Duration, Duration) = (Duration::from_millis(60), Duration::from_millis(250));
/// Docker's reporter copies more of each container than there is in our report.
const HOLD_PER_REPORT: u32 = 4;
/// The longest time that a report may take to be made when it is asked for, with the counts of that moment. One that takes
/// longer is made once for each reading of the counters, and answers all questions until the next one or a change.
const QUICK: Duration = Duration::from_millis(50);
/// The time without a question after which no more reports are made: the probe asks every second.
const PREPARED_FOR: Duration = Duration::from_secs(5);
const BUFFER: usize = 64 * 1024;

/// The parts that every report is made with.
pub(super) struct Reporter {
    buttons: Buttons,
    networks: Networks,
    recent: Mutex<Recent>,
}

impl Reporter {
    pub(super) fn new(buttons: Buttons, networks: Networks) -> Self {
        Self { buttons, networks, recent: Mutex::default() }
    }

    /// Hands what the probe `probe_id` is told at `now` to `write`; `problem` is one with all shaping.
    pub(super) fn report<T>(
        &self,
        views: &[ContainerView],
        problem: Option<&Problem>,
        probe_id: &str,
        now: SystemTime,
        write: impl FnOnce(&Report<Nodes<'_>>) -> T,
    ) -> T {
        let mut recent = self.recent.lock();
        recent.forget(now);
        let mut views: Vec<_> = views.iter().collect();
        views.sort_by_key(|view| &view.container.id);
        views.dedup_by_key(|view| &view.container.id);
        let nodes = Nodes {
            views,
            buttons: self.buttons,
            networks: &self.networks,
            probe_id,
            now,
            recent: (&mut *recent).into(),
        };
        write(&Report {
            container: Topology {
                nodes,
                controls: templates::controls(self.buttons),
                metadata_templates: templates::metadata(),
                metric_templates: templates::metrics(),
                table_templates: templates::tables(),
            },
            plugins: [templates::plugin(problem)],
        })
    }
}

/// A report that has been made.
#[derive(Clone)]
pub(super) struct Made {
    revision: u64,
    probe_id: String,
    gzip: Bytes,
    /// The time that it took to make.
    took: Duration,
    /// The least time from the question to the answer.
    pub(super) hold: Duration,
}

impl Made {
    /// For those who take `Content-Encoding: gzip`.
    pub(super) fn gzip(&self) -> Bytes {
        self.gzip.clone()
    }

    /// For those who do not.
    pub(super) fn plain(&self) -> io::Result<Bytes> {
        let mut plain = Vec::new();
        GzDecoder::new(&self.gzip[..]).read_to_end(&mut plain)?;
        Ok(plain.into())
    }
}

/// The last report, and the next one.
pub(super) struct Reports<S> {
    shaper: Arc<S>,
    reporter: Arc<Reporter>,
    last: tokio::sync::Mutex<Option<Made>>,
    preparing: Mutex<Option<AbortHandle>>,
}

impl<S: Shaper> Reports<S> {
    pub(super) fn new(shaper: Arc<S>, reporter: Arc<Reporter>) -> Self {
        Self { shaper, reporter, last: tokio::sync::Mutex::default(), preparing: Mutex::default() }
    }

    /// The report to the probe `probe_id`, which will soon ask for the next one.
    ///
    /// # Errors
    ///
    /// When the report cannot be written.
    pub(super) async fn ask(self: &Arc<Self>, probe_id: &str) -> io::Result<Made> {
        let made = self.current(probe_id).await?;
        #[expect(clippy::disallowed_methods, reason = "without it, the report is made when it is asked for")]
        let next = (made.took > QUICK)
            .then(|| tokio::spawn(Arc::clone(self).prepare(probe_id.to_owned())).abort_handle());
        let last = std::mem::replace(&mut *self.preparing.lock(), next);
        if let Some(last) = last {
            last.abort();
        }
        Ok(made)
    }

    /// Makes a report each time that the counters have been read, so that the probe need not wait for it.
    async fn prepare(self: Arc<Self>, probe_id: String) {
        let prepare = async {
            loop {
                self.shaper.sampled().await;
                // Whoever asks gets the error.
                let _ = self.current(&probe_id).await;
            }
        };
        let _ = timeout(PREPARED_FOR, prepare).await;
    }

    /// The last report if it took long and nothing has changed, else another one.
    async fn current(&self, probe_id: &str) -> io::Result<Made> {
        let mut last = self.last.lock().await;
        // Before anything is read, so that no change is missed.
        let revision = self.shaper.revision();
        if let Some(made) = &*last
            && made.took > QUICK
            && (made.revision, &*made.probe_id) == (revision, probe_id)
        {
            return Ok(made.clone());
        }
        let made = self.make(revision, probe_id.to_owned()).await?;
        *last = Some(made.clone());
        Ok(made)
    }

    async fn make(&self, revision: u64, probe_id: String) -> io::Result<Made> {
        // Before anything is read: what is changed meanwhile is told with a later time.
        let (begin, now) = (Instant::now(), SystemTime::now());
        let (views, problem) = (self.shaper.list().await, self.shaper.problem());
        let reporter = Arc::clone(&self.reporter);
        let make = move || {
            let gzip = reporter.report(&views, problem.as_ref(), &probe_id, now, compressed)?.into();
            let races = views.iter().any(|view| !docker_controls(view).is_empty());
            let took = begin.elapsed();
            let hold = if races { hold(took) } else { Duration::ZERO };
            Ok(Made { revision, probe_id, gzip, took, hold })
        };
        let made: io::Result<Made> = spawn_blocking(make).await.map_err(io::Error::other)?;
        made.inspect(|made| self.shaper.note_report(made.took))
    }
}

fn compressed(report: &Report<Nodes<'_>>) -> io::Result<Vec<u8>> {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut writer = BufWriter::with_capacity(BUFFER, encoder);
    serde_json::to_writer(&mut writer, report)?;
    writer.into_inner()?.finish()
}

/// The hold where a report `took` so long to make.
fn hold(took: Duration) -> Duration {
    (took * HOLD_PER_REPORT).clamp(HOLD.0, HOLD.1)
}
