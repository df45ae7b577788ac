//! One scrape: all families, with the samples of one moment.

use std::{fmt, time::SystemTime};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    Moment,
    family::Family,
    series::{STATES, Series, state},
};
use crate::shaping::{Action, Author, ContainerView, Figures, RuleState};

const PACKETS: Family = Family::counter(
    "shaper_packets",
    "Packets by outcome. A packet passed, was delayed, lost, or overflowed a queue; the other outcomes are counted besides.",
);
const BYTES: Family =
    Family::counter("shaper_bytes", "Bytes of these packets, with link-layer headers, by outcome.");
const QUEUE: Family = Family::gauge("shaper_queue_packets", "Packets that wait in the fq queue.");
const QUEUE_DROPS: Family =
    Family::counter("shaper_queue_dropped_packets", "Packets that the fq queue dropped for want of room.");
const SHAPING: Family =
    Family::info("shaper_shaping", "The policy in force, in netem's words, its rule, and the state of it.");
const EXPIRY: Family = Family::gauge(
    "shaper_shaping_expiry_timestamp_seconds",
    "The time at which the policy ends, in seconds since the Unix epoch.",
);
const SHAPINGS: Family =
    Family::gauge("shaper_shapings", "Shaped interfaces and directions by the state of their shaping.");
const ORPHANED: Family = Family::gauge(
    "shaper_orphaned_namespaces",
    "Network namespaces with shaping that belong to no container that a runtime lists.",
);
const CONTAINERS: Family = Family::gauge("shaper_containers", "Containers that the runtimes list.");
const SHAPED: Family =
    Family::gauge("shaper_shaped_containers", "Containers with shaping, whatever its state.");
const EVENTS: Family = Family::counter("shaper_events", "Events by action and kind of author.");
const RULES: Family = Family::gauge("shaper_rules", "Rules by state.");
const RUNTIME_UP: Family =
    Family::gauge("shaper_runtime_up", "1 if the runtime is watched, 0 if it cannot be.");
const RUNTIME_CONTAINERS: Family =
    Family::gauge("shaper_runtime_containers", "Containers of the runtime, as last heard.");
const REPORTS: Family = Family::histogram(
    "shaper_scope_report_duration_seconds",
    "The time that reports to Weave Scope took to make.",
);
const READY: Family = Family::gauge("shaper_ready", "1 if containers can be shaped, 0 if nothing can be.");
const BUILD: Family = Family::info("shaper_build", "The version of the daemon.");
const START: Family = Family::gauge(
    "process_start_time_seconds",
    "The time at which the daemon was started, in seconds since the Unix epoch.",
);

/// All that is known at one moment.
#[derive(Debug)]
pub(super) struct Scrape {
    containers: usize,
    shaped: usize,
    series: Vec<Series>,
    figures: Figures,
    is_ready: bool,
    moment: Moment,
}

impl Scrape {
    pub(super) fn new(views: Vec<ContainerView>, figures: Figures, is_ready: bool, moment: Moment) -> Self {
        let (containers, shaped) =
            (views.len(), views.iter().filter(|view| !view.interfaces.is_empty()).count());
        Self { containers, shaped, series: Series::of(views), figures, is_ready, moment }
    }

    /// Writes what is known of each shaped interface in each direction.
    fn encode_series(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counted = || self.series.iter().filter(|series| series.is_known());
        let in_force = || self.series.iter().filter(|series| series.is_in_force());
        let outcomes = || {
            counted().flat_map(|series| {
                let outcomes = series.view.outcomes.iter();
                outcomes.map(|(outcome, counts)| ((&*series.labels, [("outcome", outcome.name)]), counts))
            })
        };
        PACKETS.counts(encoder, outcomes().map(|(labels, counts)| (labels, counts.packets)))?;
        BYTES.counts(encoder, outcomes().map(|(labels, counts)| (labels, counts.bytes)))?;
        QUEUE.levels(encoder, counted().map(|series| (&*series.labels, series.view.queue.waiting)))?;
        QUEUE_DROPS.counts(encoder, counted().map(|series| (&*series.labels, series.view.queue.dropped)))?;
        SHAPING.texts(encoder, in_force().map(|series| (&*series.labels, series.info())))?;
        let expiry = |series: &Series| {
            let deadline = series.view.shaping.expires_at_ns?;
            Some(self.moment.unix_seconds_at(deadline.get()))
        };
        let expiring = in_force().filter_map(|series| Some((&*series.labels, expiry(series)?)));
        EXPIRY.levels(encoder, expiring)?;
        let number = |name| in_force().filter(|series| state(&series.view.state) == name).count();
        SHAPINGS.levels(encoder, STATES.map(|name| ([("state", name)], number(name))))
    }

    /// Writes the daemon's own figures.
    fn encode_figures(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Figures { started, runtimes, rules, orphaned, events, reports } = &self.figures;
        ORPHANED.level(encoder, *orphaned)?;
        CONTAINERS.level(encoder, self.containers)?;
        SHAPED.level(encoder, self.shaped)?;
        let kinds = Action::ALL.iter().flat_map(|action| Author::KINDS.map(|by| (*action, by)));
        EVENTS.counts(
            encoder,
            kinds.map(|(action, by)| {
                let count = events.get(&(action, by)).copied().unwrap_or_default();
                ([("action", action.name()), ("by", by)], count)
            }),
        )?;
        let number = |state| rules.iter().filter(|one| **one == state).count();
        RULES.levels(encoder, RuleState::ALL.map(|state| ([("state", state.to_string())], number(state))))?;
        let labelled = || {
            runtimes.iter().map(|one| {
                let socket = one.socket.clone().map(|socket| ("socket", socket));
                let labels: Vec<_> =
                    [("runtime", one.runtime.to_string())].into_iter().chain(socket).collect();
                (labels, one)
            })
        };
        RUNTIME_UP
            .levels(encoder, labelled().map(|(labels, one)| (labels, u32::from(one.problem.is_none()))))?;
        RUNTIME_CONTAINERS.levels(encoder, labelled().map(|(labels, one)| (labels, one.containers)))?;
        let classes: Vec<_> = reports.classes().collect();
        REPORTS.distribution(encoder, reports.sum_s(), reports.count(), &classes)?;
        READY.level(encoder, u32::from(self.is_ready))?;
        BUILD.texts(encoder, [[("version", env!("CARGO_PKG_VERSION"))]])?;
        START.level(encoder, started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64())
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_series(&mut encoder)?;
        self.encode_figures(&mut encoder)
    }
}
