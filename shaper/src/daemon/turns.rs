//! Changes of one container happen in the order in which they were asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};

use futures_util::FutureExt as _;
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

    /// Waits as [`Self::take`] does, for several containers: whoever asks for some of them as well, waits for all of those
    /// behind this, or before this, so that nobody waits for another in a circle.
    pub(super) async fn take_all(&self, all: &BTreeSet<NetnsId>) -> Vec<Turn> {
        let places = {
            let mut queues = self.0.lock();
            queues.retain(|_, queue| queue.strong_count() > 0);
            let place = |netns: &NetnsId| {
                let queue = queues.get(netns).and_then(Weak::upgrade).unwrap_or_default();
                queues.insert(*netns, Arc::downgrade(&queue));
                let mut place = Box::pin(queue.lock_owned());
                // One has a place in the queue once one has asked.
                let taken = (&mut place).now_or_never();
                (taken, place)
            };
            all.iter().map(place).collect::<Vec<_>>()
        };
        let mut turns = Vec::with_capacity(places.len());
        for (taken, place) in places {
            turns.push(match taken {
                Some(turn) => turn,
                None => place.await,
            });
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

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
    #[tokio::test]
    async fn turns_of_many_come_in_the_order_of_asking_for_each_of_them() {
        let turns = Turns::default();
        let all =
            |inodes: &[u64]| inodes.iter().map(|&inode| NetnsId { dev: 4, inode }).collect::<BTreeSet<_>>();
        let (low, high, both) = (all(&[1]), all(&[2]), all(&[1, 2]));
        let first = turns.take_all(&high).await;
        let mut many = turns.take_all(&both).boxed();
        assert!((&mut many).now_or_never().is_none(), "the second one is taken");
        let mut later = turns.take_all(&low).boxed();
        assert!((&mut later).now_or_never().is_none(), "it asked after the many, which wait for another");
        drop(first);
        let held = many.await;
        assert_eq!(held.len(), 2);
        assert!((&mut later).now_or_never().is_none());
        drop(held);
        assert_eq!(later.await.len(), 1);
        assert!(turns.take_all(&BTreeSet::new()).await.is_empty());
    }
}
