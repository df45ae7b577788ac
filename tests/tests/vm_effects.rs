//! Jitter and reordering: what the program decides, against theory and iproute2's tables; and what becomes of real packets,
//! beside netem with the same words in the same boot.

use std::{fs, path::PathBuf, time::Duration};

use shaper_common::policy::DISTRIBUTION_SCALE;
use shaper_tests::{
    frame::Spec,
    ms, needs,
    statistics::{DEVIATIONS, assert_binomial, assert_distribution, autocorrelation, deviation, float, mean},
    subject::{Rig, list},
    traffic::{Arrival, Datagrams, out_of_order},
    world::Container,
};
use statrs::distribution::{ContinuousCDF as _, Normal};

/// The number of packets that the program is run on where a distribution is looked at.
const DRAWS: usize = 20_000;

const MS_NS: f64 = 1e6;

#[test]
fn jitter_is_distributed_as_theory_says() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let mut uniform = rig.waits("delay 100ms 20ms reordering seed 1", DRAWS);
    assert_distribution("uniform", &mut uniform, 0.0, |ns| ((ns / MS_NS - 80.0) / 40.0).clamp(0.0, 1.0));
    let mut normal = rig.waits("delay 100ms 20ms distribution normal reordering seed 2", DRAWS);
    let theory = Normal::new(100.0, 20.0).expect("it is positive");
    // The table has 4096 entries, so it is off by as much as one of them.
    assert_distribution("normal", &mut normal, 1.0 / 4_096.0, |ns| theory.cdf(ns / MS_NS));
    // Below nothing there is nothing.
    let mut cut = rig.waits("delay 1ms 5ms reordering seed 3", DRAWS);
    let cdf = |ns: f64| if ns < 0.0 { 0.0 } else { ((ns / MS_NS + 4.0) / 10.0).min(1.0) };
    assert_distribution("cut off", &mut cut, 0.0, cdf);
}

/// One of iproute2's tables.
fn iproute2(name: &str) -> Vec<f64> {
    let folders = ["/usr/lib/tc", "/usr/lib64/tc", "/usr/lib/x86_64-linux-gnu/tc"];
    let path = folders.map(|folder| PathBuf::from(folder).join(format!("{name}.dist")));
    let path = path.into_iter().find(|path| path.exists()).expect("iproute2 installs it");
    let text = fs::read_to_string(path).expect("it can be read");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).map(|word| word.parse().expect("a number")).collect()
}

/// Returns the cumulative distribution of a table, by delays in nanoseconds, of that mean and spread in milliseconds.
fn table_cdf(table: &[f64], mean_ms: f64, spread_ms: f64) -> impl Fn(f64) -> f64 {
    let mut table = table.to_vec();
    table.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "it is 8192")]
    let scale = DISTRIBUTION_SCALE as f64;
    move |ns| {
        // Half an entry's unit for what is rounded.
        let value = (ns / MS_NS - mean_ms) / spread_ms * scale + 0.5;
        float(table.partition_point(|entry| *entry <= value) as u64) / float(table.len() as u64)
    }
}

#[test]
fn jitter_is_distributed_as_iproute2s_tables_say() {
    needs!(Root, Fq);
    let rig = Rig::new();
    for name in ["normal", "pareto", "paretonormal"] {
        let table = iproute2(name);
        let mut waits = rig.waits(&format!("delay 100ms 10ms distribution {name} reordering seed 4"), DRAWS);
        // Entries of ours may be one less or more than iproute2's, which are up to three places in it.
        let tolerance = 4.0 / float(table.len() as u64);
        assert_distribution(name, &mut waits, tolerance, table_cdf(&table, 100.0, 10.0));
    }
}

#[test]
fn jitter_is_distributed_as_a_table_of_ones_own_says() {
    needs!(Root, Fq);
    let rig = Rig::new();
    // Two humps.
    let entries: Vec<i64> =
        (0..1_000).map(|number| if number < 300 { -8_000 - number } else { 4_000 + number }).collect();
    let shaping = |table: &str| {
        format!(
            "seed = 5\ndelay = \"100ms 10ms distribution mine reordering\"\n[distributions]\nmine = {table}\n"
        )
    };
    #[expect(clippy::cast_precision_loss, reason = "they are small")]
    let table: Vec<f64> = entries.iter().map(|entry| *entry as f64).collect();
    let text: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
    let _ = rig.file("mine.dist", &format!("# two humps\n{text}"));
    for source in [list(&entries), "\"mine.dist\"".to_owned()] {
        let subject = rig.subject_of_shaping(&shaping(&source));
        let waits = subject.waits_ns(&Spec::udp(100).build().bytes, DRAWS);
        let mut waits: Vec<_> =
            waits.into_iter().map(|wait| float(wait.expect("it is not dropped"))).collect();
        assert_distribution(&source[..10], &mut waits, 0.0, table_cdf(&table, 100.0, 10.0));
    }
}

#[test]
fn jitter_is_distributed_as_measured_times_are() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let samples: Vec<f64> = (0..1_000).map(|number| 5.0 + 40.0 * (float(number) / 1_000.0).powi(2)).collect();
    let text: String = samples.iter().map(|ms| format!("{ms}\n")).collect();
    let _ = rig.file("measured.txt", &text);
    let (mean, spread) = (mean(&samples), deviation(&samples) * (1_000.0_f64 / 999.0).sqrt());
    let subject = rig.subject_of_shaping(&format!(
        "seed = 7\ndelay = \"{mean:.6}ms {spread:.6}ms distribution measured reordering\"\n\
         [distributions]\nmeasured = \"measured.txt\"\n"
    ));
    let waits = subject.waits_ns(&Spec::udp(100).build().bytes, DRAWS);
    let mut waits: Vec<_> = waits.into_iter().map(|wait| float(wait.expect("it is not dropped"))).collect();
    let count = float(samples.len() as u64);
    let cdf = |ns: f64| float(samples.partition_point(|sample| *sample <= ns / MS_NS) as u64) / count;
    // The table is rounded, by less than one sample is from the next where they are sparse, and a few where they are dense.
    assert_distribution("measured", &mut waits, 8.0 / count, cdf);
}

#[test]
fn correlated_jitter_keeps_its_width() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let theory = Normal::new(50.0, 10.0).expect("it is positive");
    for percent in [25.0, 75.0] {
        let words = format!("delay 50ms 10ms {percent}% distribution normal reordering seed 6");
        let mut waits = rig.waits(&words, DRAWS);
        let (rho, found) = (percent / 100.0, autocorrelation(&waits));
        println!(
            "{percent} %: mean {} ns, deviation {} ns, correlation {found:.4}",
            mean(&waits),
            deviation(&waits)
        );
        // Each delay is the last one again with the probability rho: Bartlett's formula for such a chain.
        let count = float(waits.len() as u64);
        assert!((found - rho).abs() <= 2.0 * DEVIATIONS / count.sqrt(), "{found}");
        // So many different ones there are; the others repeat them.
        waits.dedup();
        assert_binomial("drawn anew", waits.len() as u64, DRAWS as u64, 1.0 - rho * (1.0 - 1.0 / 4_096.0));
        assert_distribution(&words, &mut waits, 2.0 / 4_096.0, |ns| theory.cdf(ns / MS_NS));
    }
}

#[test]
fn of_a_packet_and_its_duplicate_one_is_lost_as_through_netem() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let other = rig.world.container("other").expect("a container");
    for (loss, duplicate) in [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.3, 0.4)] {
        let words = format!("loss {}% duplicate {}%", loss * 100.0, duplicate * 100.0);
        rig.daemon.run("clear web");
        rig.netem(&words);
        other.qdisc(&format!("netem {words} limit 100000"));
        for (whose, container) in [("ours", &rig.web), ("netem's", &other)] {
            let count = 2_000;
            let arrivals = rig.send(container, Datagrams::at_once(count, 100));
            let mut copies = [0_u64; 3];
            let mut of = vec![0_usize; count as usize];
            arrivals.iter().for_each(|arrival| of[arrival.number as usize] += 1);
            of.iter().for_each(|of| copies[*of] += 1);
            // A packet that is both lost and to be duplicated arrives once; a duplicate may be lost as well.
            let none = loss * (1.0 - duplicate);
            let two = (1.0 - loss) * (1.0 - loss) * duplicate;
            assert_binomial(&format!("{whose}: {words}: none"), copies[0], count.into(), none);
            assert_binomial(&format!("{whose}: {words}: two"), copies[2], count.into(), two);
        }
    }
}

#[test]
fn jitter_keeps_the_order_unless_told_otherwise() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let kept = rig.waits("delay 4ms 4ms seed 7", 2_000);
    assert!(kept.is_sorted(), "no packet departs before the one before it");
    let other = rig.world.container("other").expect("a container");
    let disorder = |container: &Container| {
        let arrivals = rig.send(container, Datagrams { interval: ms(1), ..Datagrams::at_once(500, 100) });
        assert_eq!(arrivals.len(), 500, "none is lost");
        out_of_order(&arrivals.iter().map(|arrival| arrival.number).collect::<Vec<_>>())
    };
    rig.daemon.run("clear web");
    rig.netem("delay 4ms 4ms seed 8");
    let kept = disorder(&rig.web);
    rig.netem("delay 4ms 4ms reordering seed 8");
    let reordered = disorder(&rig.web);
    other.qdisc("netem delay 4ms 4ms limit 10000");
    let netems = disorder(&other);
    println!("out of order of 500: {kept}, {reordered} with `reordering`, {netems} through netem");
    assert_eq!(kept, 0);
    assert!(reordered > 0 && netems > 0);
}

#[test]
fn packets_are_reordered_as_often_and_as_correlated_as_was_asked() {
    needs!(Root, Fq);
    let rig = Rig::new();
    let reordered = |words: &str| {
        let subject = rig.subject(words);
        let waits = subject.waits_ns(&Spec::udp(100).build().bytes, DRAWS);
        let reordered: Vec<_> = waits.into_iter().map(|wait| wait == Some(0)).collect();
        let count = reordered.iter().filter(|reordered| **reordered).count() as u64;
        assert_eq!(subject.count().reordered.packets, count);
        (reordered, count)
    };
    let (_, count) = reordered("delay 10ms reorder 25% seed 9");
    assert_binomial("reordered", count, DRAWS as u64, 0.25);
    let (sequence, _) = reordered("delay 10ms reorder 25% 50% seed 10");
    let after = |one: bool| sequence.windows(2).filter(move |pair| pair[0] == one);
    let again = |one: bool| after(one).filter(|pair| pair[1]).count() as u64;
    assert_binomial("reordered after one that was", again(true), after(true).count() as u64, 0.625);
    assert_binomial("reordered after one that was not", again(false), after(false).count() as u64, 0.125);

    let (sequence, _) = reordered("delay 10ms reorder 100% gap 5");
    assert!((1..).zip(&sequence).all(|(number, reordered)| *reordered == (number % 5 == 0)), "every fifth");
    // Four are delayed for certain, and then as many as it takes.
    let (sequence, count) = reordered("delay 10ms reorder 50% gap 5 seed 11");
    let least = sequence.split(|reordered| *reordered).map(<[_]>::len).rev().skip(1).min();
    assert_eq!(least, Some(4));
    let others = DRAWS as u64 - count - 4 * count;
    assert_binomial("reordered after four", count, count + others, 0.5);
}

#[test]
fn real_packets_overtake_as_they_do_through_netem() {
    needs!(Root, Fq, Netem);
    let rig = Rig::new();
    let other = rig.world.container("other").expect("a container");
    rig.netem("delay 10ms reorder 100% gap 5");
    other.qdisc("netem delay 10ms reorder 100% gap 5 limit 10000");
    let order = |container: &Container| {
        let sent = Datagrams { interval: Duration::from_micros(1_500), ..Datagrams::at_once(60, 100) };
        let arrivals = rig.send(container, sent);
        arrivals.into_iter().map(|arrival| arrival.number).collect::<Vec<_>>()
    };
    let (ours, netems) = (order(&rig.web), order(&other));
    println!("{ours:?}");
    assert_eq!(ours.len(), 60);
    assert_eq!(ours, netems);
    assert!(out_of_order(&ours) > 0);
}

#[test]
fn a_packet_that_overtakes_others_waits_for_none_of_them() {
    needs!(Root, Fq);
    let rig = Rig::new();
    rig.netem("delay 100ms reorder 100% gap 5");
    for connected in [false, true] {
        let sent =
            Datagrams { interval: Duration::from_micros(7_300), connected, ..Datagrams::at_once(300, 100) };
        let arrivals = rig.send(&rig.web, sent);
        assert_eq!(arrivals.len(), 300);
        let (overtaking, others): (Vec<_>, Vec<_>) =
            arrivals.iter().map(Arrival::took).partition(|took| *took < ms(50));
        assert_eq!(overtaking.len(), 60, "each fifth");
        let longest = overtaking.into_iter().max().expect("some");
        assert!(longest < ms(1), "connected: {connected}: {longest:?}");
        assert!(others.into_iter().all(|took| took >= ms(100) && took < ms(101)));
    }
    // The same of packets that draw their delays independently.
    rig.netem("delay 100ms 50ms reordering");
    let sent = Datagrams { interval: Duration::from_micros(51_300), ..Datagrams::at_once(400, 100) };
    let mut took: Vec<_> =
        rig.send(&rig.web, sent).iter().map(|arrival| arrival.took().as_secs_f64()).collect();
    assert_distribution("20 packets/s", &mut took, 0.005, |s| ((s - 0.05) / 0.1).clamp(0.0, 1.0));
}
