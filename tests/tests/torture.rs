//! A short form of `cargo xtask torture`: some of the kills, and some rounds of random operations. `little-memory` is
//! left to the long form, since not every machine lets control groups be made.

use shaper_tests::{
    needs,
    torture::{self, Extent},
    tracer::Calls,
};

/// Runs a scenario, in which nothing may be found.
fn torture(name: &str) {
    let extent = Extent { calls: Calls::Lasting, kills: 30, rounds: 3, seed: 1 };
    let outcome = torture::run(name, extent).expect("the scenario can be run");
    assert!(outcome.is_clean(), "{outcome:#?}");
}

#[test]
fn a_daemon_killed_while_it_shapes_leaves_nothing() {
    needs!(Root);
    torture("kill-first-set");
}

#[test]
fn a_daemon_killed_while_it_sets_up_a_schedule_leaves_nothing() {
    needs!(Root);
    torture("kill-first-set-of-schedule");
}

#[test]
fn a_daemon_killed_in_a_change_has_made_it_or_not() {
    needs!(Root);
    torture("kill-change");
}

#[test]
fn a_daemon_killed_while_a_schedule_replaces_a_policy_has_done_so_or_not() {
    needs!(Root);
    torture("kill-change-to-schedule");
}

#[test]
fn a_daemon_killed_while_one_schedule_replaces_another_has_done_so_or_not() {
    needs!(Root);
    torture("kill-change-of-schedule");
}

#[test]
fn a_daemon_killed_while_it_clears_leaves_nothing() {
    needs!(Root);
    torture("kill-clear");
}

#[test]
fn a_daemon_killed_while_it_clears_a_schedule_leaves_nothing() {
    needs!(Root);
    torture("kill-clear-of-schedule");
}

#[test]
fn a_daemon_killed_while_it_follows_a_target_loses_none() {
    needs!(Root);
    torture("kill-retarget");
}

#[test]
fn a_daemon_killed_while_it_adopts_leaves_all_to_the_next() {
    needs!(Root);
    torture("kill-adoption");
}

#[test]
fn random_operations_and_kills_leave_nothing() {
    needs!(Root);
    torture("random");
}

#[test]
fn containers_that_come_and_go_leave_nothing() {
    needs!(Root);
    torture("churn");
}

#[test]
fn a_daemon_with_few_descriptors_leaves_nothing() {
    needs!(Root);
    torture("few-descriptors");
}

#[test]
fn a_daemon_whose_log_is_full_leaves_nothing() {
    needs!(Root);
    torture("full-log");
}

#[test]
fn a_daemon_whose_docker_is_dead_leaves_nothing() {
    needs!(Root);
    torture("dead-docker");
}

#[test]
fn a_daemon_whose_name_server_is_silent_leaves_nothing() {
    needs!(Root);
    torture("silent-resolver");
}

#[test]
fn names_that_mean_harm_do_none() {
    needs!(Root);
    torture("hostile-names");
}

#[test]
fn users_who_attack_the_daemons_directories_do_no_harm() {
    needs!(Root);
    torture("attackers");
}
