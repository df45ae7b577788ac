//! Changes of one container happen in the order in which they were asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::shaping::NetnsId;

/// Permission to change a container, until it is dropped.
pub(super) type Turn = OwnedMutexGuard<()>;

/// A queue for each container that is being changed.
#[derive(Default)]
pub(super) struct Turns(Mutex<BTreeMap<NetnsId, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits behind all who asked earlier and still wait; who stops waiting leaves the queue.
    pub(super) async fn take(&self, netns: NetnsId) -> Turn {
        let queue = {
            let mut queues = self.0.lock();
            queues.retain(|_, queue| queue.strong_count() > 0);
            let queue = queues.get(&netns).and_then(Weak::upgrade).unwrap_or_default();
            queues.insert(netns, Arc::downgrade(&queue));
            queue
        };
        queue.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::BoxFuture};

    use super::*;

    #[tokio::test]
    async fn turns_come_in_the_order_of_asking_and_pass_over_who_has_gone() {
        let turns = Turns::default();
        let of = |inode| NetnsId { dev: 4, inode };
        let waits = |future: &mut BoxFuture<'_, Turn>| future.now_or_never().is_none();
        let first = turns.take(of(1)).await;
        let mut second = turns.take(of(1)).boxed();
        let mut third = turns.take(of(1)).boxed();
        assert!(waits(&mut second) && waits(&mut third));
        assert!(turns.take(of(2)).now_or_never().is_some(), "another container's");
        drop(first);
        assert!(waits(&mut third), "the second comes first");
        drop(second);
        drop(third.await);
        drop(turns.take(of(3)).await);
        assert_eq!(turns.0.lock().len(), 1, "queues of nobody are forgotten");
    }
}
