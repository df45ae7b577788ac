//! Kills of the daemon in changes that need a queue.

use shaper_tests::{
    needs,
    torture::{self, Extent},
    tracer::Calls,
};

/// Runs a scenario, in which nothing may be found.
fn torture(name: &str) {
    let extent = Extent { calls: Calls::Lasting, kills: 5, rounds: 1, seed: 1 };
    let outcome = torture::run(name, extent).expect("the scenario can be run");
    assert!(outcome.is_clean(), "{outcome:#?}");
}

#[test]
fn a_daemon_killed_while_it_moves_has_done_so_or_not() {
    needs!(Root, Fq);
    torture("kill-move");
}

#[test]
fn a_daemon_killed_while_it_makes_a_detour_leaves_nothing() {
    needs!(Root, Fq);
    torture("kill-detour");
}

#[test]
fn a_daemon_killed_while_it_removes_a_detour_leaves_nothing() {
    needs!(Root, Fq);
    torture("kill-clear-of-detour");
}
