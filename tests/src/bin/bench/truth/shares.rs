//! Shares of packets that overtake, come twice or are marked.

use std::time::Duration;

use anyhow::Result;
use shaper_tests::{
    frame::{CE, ECT, NOT_ECT},
    ms,
    statistics::{binomial_bound, float, mean},
    traffic::{Arrival, Datagrams},
};

use super::prober::{Prober, steadily};
use crate::table::Table;

const SENT: u32 = 20_000;
/// The delay of packets that overtake others is below this, and that of others above.
const OVERTOOK_MS: u64 = 5;
/// The number of standard deviations within which 99.9 % of a normal distribution lie.
const DEVIATIONS: f64 = 3.29;

/// An effect, and the share of packets that it is to have.
struct Case {
    words: &'static str,
    counted: Counted,
    ecn: u8,
    asked: f64,
    /// The standard deviation, of that of independent draws: the root of (1 + c) / (1 - c) with a correlation c.
    spread: f64,
}

/// The packets that are counted.
#[derive(Clone, Copy)]
enum Counted {
    Overtook,
    CameTwice,
    Marked,
    Lost,
}

impl Counted {
    const fn name(self) -> &'static str {
        match self {
            Self::Overtook => "overtook",
            Self::CameTwice => "came twice",
            Self::Marked => "marked",
            Self::Lost => "lost",
        }
    }

    fn count(self, arrivals: &[Arrival]) -> u64 {
        let those =
            |is_one: fn(&Arrival) -> bool| arrivals.iter().filter(|arrival| is_one(arrival)).count() as u64;
        match self {
            Self::Overtook => those(|arrival| arrival.took() < ms(OVERTOOK_MS)),
            Self::CameTwice => (arrivals.len() as u64).saturating_sub(SENT.into()),
            Self::Marked => those(|arrival| arrival.tos & CE == CE),
            Self::Lost => u64::from(SENT).saturating_sub(arrivals.len() as u64),
        }
    }
}

const fn case(words: &'static str, counted: Counted, asked: f64) -> Case {
    Case { words, counted, ecn: NOT_ECT, asked, spread: 1.0 }
}

/// The table of shares.
pub(super) fn shares(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Shares of packets that overtake, come twice or are marked",
        "20,000 datagrams (UDP, 100 bytes), one each 200 µs. A packet that took less than 5 of the 10 ms overtook \
         others. Senders that use ECN are told apart by their traffic class. The interval is that of 99.9 % of true \
         samples.",
        &["effect", "sender", "counted", "asked", "netem", "shaper", "99.9 % interval"],
    );
    let correlated = 3.0_f64.sqrt();
    let cases = [
        case("delay 10ms reorder 1%", Counted::Overtook, 0.01),
        case("delay 10ms reorder 25%", Counted::Overtook, 0.25),
        Case { spread: correlated, ..case("delay 10ms reorder 25% 50%", Counted::Overtook, 0.25) },
        Case { spread: 0.0, ..case("delay 10ms reorder 100% gap 5", Counted::Overtook, 0.2) },
        case("duplicate 1%", Counted::CameTwice, 0.01),
        case("duplicate 10%", Counted::CameTwice, 0.1),
        Case { spread: correlated, ..case("duplicate 10% 50%", Counted::CameTwice, 0.1) },
        Case { ecn: ECT, ..case("loss 10% ecn", Counted::Marked, 0.1) },
        Case { ecn: ECT, ..case("loss 10% ecn", Counted::Lost, 0.0) },
        case("loss 10% ecn", Counted::Lost, 0.1),
    ];
    for Case { words, counted, ecn, asked, spread } in cases {
        let sent = Datagrams { tos: ecn.into(), ..steadily(SENT, Duration::from_micros(200)) };
        let [netem, ours] = prober
            .alike(words, "", |container| Ok(float(counted.count(&prober.arrivals(container, sent)?))))?;
        let expected = f64::from(SENT) * asked;
        let slack = binomial_bound(SENT.into(), asked, DEVIATIONS * spread);
        let sender = if ecn == ECT { "with ECN" } else { "without ECN" };
        let percent = |count: f64| format!("{:.3} %", count / f64::from(SENT) * 100.0);
        table.row(vec![
            words.to_owned(),
            sender.to_owned(),
            counted.name().to_owned(),
            percent(expected),
            percent(netem),
            percent(ours),
            format!("{} .. {}", percent((expected - slack).max(0.0)), percent(expected + slack)),
        ]);
        let what = format!("{words}, {sender}, {}, from {expected}", counted.name());
        table.at_most(&what, (ours - expected).abs(), slack);
    }
    Ok(table)
}

/// The table of the delays of packets that overtake.
pub(super) fn overtakers(prober: &Prober<'_>) -> Result<Table> {
    let mut table = Table::new(
        "Delay of packets that overtake, in ms",
        "2,000 datagrams (UDP, 100 bytes) of one socket at each rate, through `delay 100ms reorder 100% gap 5`: every \
         fifth is not delayed. Mean and maximum of these; less what a packet takes through a bare veth.",
        &["packets/s", "netem mean", "max", "shaper mean", "max"],
    );
    for rate in [35, 137, 1_370] {
        let sent = steadily(2_000, Duration::from_secs(1) / rate);
        let measured = prober.alike("delay 100ms reorder 100% gap 5", "", |container| {
            let delays = prober.delays_ms(&prober.arrivals(container, sent)?);
            let overtakers: Vec<_> = delays.into_iter().skip(4).step_by(5).collect();
            Ok([mean(&overtakers), overtakers.into_iter().fold(0.0, f64::max)])
        })?;
        let mut row = vec![rate.to_string()];
        row.extend(measured.iter().flatten().map(|ms| format!("{ms:.3}")));
        table.row(row);
        // The tests' slack for a packet on its way.
        table.at_most(&format!("overtaking, {rate} packets/s, mean, ms"), measured[1][0], 0.1);
        table.at_most(&format!("overtaking, {rate} packets/s, maximum, ms"), measured[1][1], 1.0);
    }
    Ok(table)
}
