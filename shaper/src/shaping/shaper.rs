//! The daemon, as the adapters see it.

use std::{future::Future, sync::Arc, time::Duration};

use super::{
    Author, Changed, Cleared, ContainerView, Entry, Figures, Inspection, NetnsId, Order, Presets, Problem,
    Request, Rule, RuleName, RulesView, Selection, ShapingError, Status, Terms,
};

/// The daemon, seen from the side of those who talk to people.
///
/// `name` is a container's name, its id, or the beginning of an id that no other container shares.
pub(crate) trait Shaper: Send + Sync + 'static {
    /// All containers that are running, paused or stopped, by name.
    fn list(&self) -> impl Future<Output = Vec<ContainerView>> + Send;

    /// Returns an error with the reason while nothing can be shaped, after it was tried to do something about it.
    fn ready(&self) -> impl Future<Output = Result<(), ShapingError>> + Send;

    /// Returns what [`Self::ready`] last said, without waiting.
    fn problem(&self) -> Option<Problem>;

    /// Returns an error with the reason when the daemon no longer does its work, and has to be started again.
    ///
    /// Being unable to shape is no such reason.
    fn alive(&self) -> Result<(), ShapingError>;

    /// The state of the daemon.
    fn status(&self) -> impl Future<Output = Status> + Send;

    /// The daemon's own figures.
    fn figures(&self) -> Figures;

    /// Notes that a report to Scope took so long to make.
    fn note_report(&self, took: Duration);

    /// A number that becomes another one whenever [`Self::list`] may say something else, counters aside until they have
    /// been read for the rates.
    fn revision(&self) -> u64;

    /// Waits until the counters have been read for the rates again, once a second.
    fn sampled(&self) -> impl Future<Output = ()> + Send;

    /// The containers that have this network namespace, and so share their shaping, by name.
    fn sharing(&self, netns: NetnsId) -> impl Future<Output = Vec<ContainerView>> + Send;

    /// Changes a container's shaping and says what it has become; after all changes of it that were asked for earlier.
    ///
    /// A change whose future is dropped before it has begun is not made, as nobody waits for it; one that has begun goes on.
    fn set(
        self: &Arc<Self>,
        name: &str,
        request: Request,
        terms: Terms,
    ) -> impl Future<Output = Result<ContainerView, ShapingError>> + Send;

    /// Ends a container's shaping: packets that arrive from now on are not touched. What already waits still leaves at
    /// its time; only then does the interface become what it was, and the view lose its last `interfaces`. In order, and dropped, as [`Self::set`].
    fn clear(
        self: &Arc<Self>,
        name: &str,
        terms: Terms,
    ) -> impl Future<Output = Result<Cleared, ShapingError>> + Send;

    /// The containers that a selection chooses, whatever their state, by name.
    fn select(
        &self,
        selection: &Selection,
    ) -> impl Future<Output = Result<Vec<ContainerView>, ShapingError>> + Send;

    /// Changes the shaping of all containers that a selection chooses, or, unless what can be done is enough, of none; in
    /// order, and dropped, as [`Self::set`]. Containers that a pattern or a kind fits are left out where they cannot be
    /// changed; those that are named are to be.
    ///
    /// # Errors
    ///
    /// When nothing was tried. What was tried and failed is among the results.
    fn change(
        self: &Arc<Self>,
        selection: Selection,
        order: Order,
        by: Author,
    ) -> impl Future<Output = Result<Changed, ShapingError>> + Send;

    /// The events behind the one with this number, or the last ones; at most so many, in order.
    fn events(&self, after: Option<u64>, most: usize) -> Vec<Arc<Entry>>;

    /// Waits for events behind the one with this number; none once the daemon ends.
    fn next_events(&self, after: u64) -> impl Future<Output = Option<Vec<Arc<Entry>>>> + Send;

    /// All rules, and what has become of them.
    fn rules(&self) -> impl Future<Output = RulesView> + Send;

    /// Has a rule carried out from now on, in the place of the one with its name; it is kept when this returns.
    fn put_rule(self: &Arc<Self>, rule: Rule) -> impl Future<Output = Result<(), ShapingError>> + Send;

    /// Suspends a rule, or has it carried out again.
    fn suspend_rule(
        self: &Arc<Self>,
        name: &RuleName,
        suspended: bool,
    ) -> impl Future<Output = Result<(), ShapingError>> + Send;

    /// Takes a rule away, and with it the shaping that it gave.
    fn remove_rule(
        self: &Arc<Self>,
        name: &RuleName,
    ) -> impl Future<Output = Result<(), ShapingError>> + Send;

    /// The networks that can be asked for by name.
    fn presets(&self) -> &Presets;

    /// Says where a container's shaping can be seen.
    fn inspect(&self, name: &str) -> impl Future<Output = Result<Inspection, ShapingError>> + Send;
}
