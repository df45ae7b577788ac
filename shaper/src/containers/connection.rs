//! Stays connected with a service that comes and goes.

use std::{collections::BTreeSet, future::Future, path::Path, time::Duration};

use tokio::{sync::mpsc, time::sleep};
use tracing::{info, warn};

use super::{Source, Update};

/// The pause after the first failure to connect; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Something that can be followed for as long as one connection lasts.
pub(super) trait Follow: Send {
    /// The socket of the service.
    fn socket(&self) -> &Path;

    /// Connects, calls `connected` once all containers have been told of, and follows until nobody listens any more.
    ///
    /// # Errors
    ///
    /// The end of the connection.
    fn follow(&mut self, connected: impl FnOnce() + Send) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Follows a source until nobody listens any more; connects again whenever it was lost. Unless it `is_expected`, its
/// absence is no fault. `name` is what people call it.
pub(super) async fn stay_connected(
    follower: &mut impl Follow,
    source: &Source,
    name: &str,
    is_expected: bool,
    updates: &mpsc::Sender<Update>,
) {
    let (mut pause, mut is_expected) = (FIRST_PAUSE, is_expected);
    let mut logged = BTreeSet::new();
    loop {
        let connected = || (pause, is_expected, logged) = (FIRST_PAUSE, true, BTreeSet::new());
        let Err(error) = follower.follow(connected).await else { return };
        let (socket, error) = (follower.socket(), format!("{error:#}"));
        let lost = Update::Lost { source: source.clone(), problem: error.clone() };
        if updates.send(lost).await.is_err() {
            return;
        }
        if !logged.contains(&error) {
            if is_expected {
                warn!(
                    ?socket,
                    error, "{name} cannot be watched: what is known is kept, and {name} is waited for"
                );
            } else if logged.is_empty() {
                info!(?socket, error, "no {name}: it is watched once it listens there");
            }
            logged.insert(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
