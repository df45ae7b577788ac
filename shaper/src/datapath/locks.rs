//! One lock for each container, so that a change of one of them holds up no other.

use std::{collections::BTreeMap, sync::Arc};

use crate::shaping::NetnsId;
use parking_lot::Mutex;

/// Locks by network namespace; one that nobody holds or waits for takes no room.
#[derive(Default)]
pub(super) struct Locks(Mutex<BTreeMap<NetnsId, Arc<Mutex<()>>>>);

impl Locks {
    /// Does `work` while nobody else does any with the same container.
    pub(super) fn with<T>(&self, netns: NetnsId, work: impl FnOnce() -> T) -> T {
        let own = self.of(netns);
        let held = own.lock();
        let done = work();
        drop(held);
        self.give_back(netns, own);
        done
    }

    /// Does `work`, unless somebody else is at work with the same container; none if so.
    pub(super) fn try_with<T>(&self, netns: NetnsId, work: impl FnOnce() -> T) -> Option<T> {
        let own = self.of(netns);
        let done = own.try_lock().map(|_held| work());
        self.give_back(netns, own);
        done
    }

    fn of(&self, netns: NetnsId) -> Arc<Mutex<()>> {
        Arc::clone(self.0.lock().entry(netns).or_default())
    }

    fn give_back(&self, netns: NetnsId, own: Arc<Mutex<()>>) {
        let mut locks = self.0.lock();
        drop(own);
        // Others get theirs under this lock only, so nobody has it by now, and nobody will.
        if locks.get(&netns).is_some_and(|kept| Arc::strong_count(kept) == 1) {
            locks.remove(&netns);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    fn netns(inode: u64) -> NetnsId {
        NetnsId { dev: 4, inode }
    }

    #[test]
    fn work_with_one_container_waits_for_its_own_and_for_no_other() {
        let locks = Arc::new(Locks::default());
        let (enter, entered) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let (done, waited) = mpsc::channel();
        let worker = thread::spawn({
            let locks = Arc::clone(&locks);
            move || {
                locks.with(netns(1), || {
                    enter.send(()).expect("the test waits");
                    left.recv().expect("the test says so");
                });
            }
        });
        entered.recv().expect("it begins");
        assert_eq!(locks.try_with(netns(1), || ()), None);
        assert_eq!(locks.with(netns(2), || 2), 2);
        let waiter = thread::spawn({
            let locks = Arc::clone(&locks);
            move || locks.with(netns(1), || done.send(()).expect("the test waits"))
        });
        assert!(waited.recv_timeout(Duration::from_millis(50)).is_err(), "it does not wait");
        leave.send(()).expect("it waits");
        waited.recv_timeout(Duration::from_secs(60)).expect("its turn comes");
        worker.join().expect("no panic");
        waiter.join().expect("no panic");
        assert!(locks.0.lock().is_empty(), "what nobody holds takes no room");
    }
}
