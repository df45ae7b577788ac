//! `shaper explain`: says what effects do, without a daemon.

use std::{io::Write as _, time::Duration};

use anyhow::Result;
use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;

use super::{
    Streams, complete,
    effects::{self, Understood},
    print_json,
    text::wrapped,
};
use crate::shaping::{
    Direction, Effects, Named, Pace, PolicyError, Presets, Simulation, parse_duration, show_time,
};

/// The number of lines of the histogram.
const RANGES: u32 = 12;
/// The width of its longest line.
const WIDTH: u32 = 40;
/// The width of sentences.
const COLUMNS: usize = 80;

/// The arguments of `shaper explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It asks no daemon. The packets are simulated with the code that the kernel runs, and the same ones
have the same fates each time.

Examples:
  shaper explain 'delay 100ms 20ms loss gemodel 1% 10%'
  shaper explain rate 1mbit queue 100ms --interval 5ms
  shaper explain --preset 3g
  shaper explain 'loss 10% 25%' --json | jq .mean_burst")]
pub(super) struct Args {
    /// Effects in netem's words
    #[arg(value_name = "WORDS", required_unless_present = "preset")]
    words: Vec<String>,
    /// A shipped network by its name, in place of words
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "words",
        add = ArgValueCandidates::new(complete::shipped_presets)
    )]
    preset: Option<String>,
    /// The number of packets to simulate
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    packets: u32,
    /// The time from one packet to the next
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = interval)]
    interval: Duration,
    /// The length of each packet on the wire
    #[arg(long, value_name = "BYTES", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    bytes: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The explanation of effects.
#[derive(Debug, Serialize)]
struct Explanation {
    /// The direction that they are for, if they are a preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    /// All of them, in netem's words.
    netem: String,
    sentences: Vec<String>,
    packets: u32,
    lost: u32,
    /// The mean number of packets that were lost one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_burst: Option<f64>,
    longest_burst: u32,
    overflowed: u32,
    duplicated: u32,
    corrupted: u32,
    reordered: u32,
    delay: DelayStatistics,
    /// The number of packets by delay, in ranges alike wide.
    histogram: Vec<Range>,
}

/// The statistics of delays, in milliseconds.
#[derive(Debug, Serialize)]
struct DelayStatistics {
    mean_ms: f64,
    deviation_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

/// A range of delays.
#[derive(Debug, Serialize)]
struct Range {
    up_to_ms: f64,
    packets: u32,
}

pub(super) fn run(args: Args, streams: &mut Streams<'_>) -> Result<()> {
    let pace = Pace { packets: args.packets, interval: args.interval, bytes: args.bytes };
    let all = match &args.preset {
        Some(name) => of_preset(name)?,
        None => {
            let Understood { value, notes } = effects::netem(&args.words.join(" "))?;
            for note in notes {
                writeln!(streams.err, "{note}")?;
            }
            vec![(None, value)]
        }
    };
    let mut explained = Vec::new();
    for (direction, effects) in all {
        let simulation = effects.simulate(&pace, 0)?;
        explained.push((explanation(direction, &effects, &pace, &simulation), simulation));
    }
    if args.json {
        return match &explained[..] {
            [(one, _)] if args.preset.is_none() => print_json(one, streams),
            several => print_json(&several.iter().map(|(one, _)| one).collect::<Vec<_>>(), streams),
        };
    }
    for (index, (explanation, simulation)) in explained.iter().enumerate() {
        let between = if index == 0 { "" } else { "\n" };
        write!(streams.out, "{between}{}", text(explanation, simulation, &pace))?;
    }
    Ok(())
}

/// The effects of a shipped preset, in the directions in which it has any.
fn of_preset(name: &str) -> Result<Vec<(Option<Direction>, Effects)>, PolicyError> {
    let read = |words: &str| Effects::parse(words, &Named::default());
    let presets = Presets::shipped(|words| read(words).map(drop))?;
    let preset = presets.find(name)?;
    let directions = [Direction::Egress, Direction::Ingress].into_iter();
    let effects = directions.filter_map(|direction| Some((Some(direction), preset.effects(direction)?)));
    effects.map(|(direction, words)| Ok((direction, read(words)?))).collect()
}

fn explanation(
    direction: Option<Direction>,
    effects: &Effects,
    pace: &Pace,
    simulation: &Simulation,
) -> Explanation {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let bursts = (simulation.bursts > 0).then(|| f64::from(simulation.lost) / f64::from(simulation.bursts));
    let histogram = simulation.histogram(RANGES).into_iter();
    Explanation {
        direction,
        netem: effects.to_string(),
        sentences: effects.sentences(),
        packets: pace.packets,
        lost: simulation.lost,
        mean_burst: bursts,
        longest_burst: simulation.longest_burst,
        overflowed: simulation.overflowed,
        duplicated: simulation.duplicated,
        corrupted: simulation.corrupted,
        reordered: simulation.reordered,
        delay: DelayStatistics {
            mean_ms: ms(simulation.mean()),
            deviation_ms: ms(simulation.deviation()),
            median_ms: ms(simulation.per_mille(500)),
            p95_ms: ms(simulation.per_mille(950)),
            p99_ms: ms(simulation.per_mille(990)),
        },
        histogram: histogram.map(|(end, packets)| Range { up_to_ms: ms(end), packets }).collect(),
    }
}

/// The explanation for people.
fn text(explanation: &Explanation, simulation: &Simulation, pace: &Pace) -> String {
    let title = match explanation.direction {
        Some(direction) => format!("{direction}: {}", explanation.netem),
        None => explanation.netem.clone(),
    };
    let mut lines = vec![title, String::new()];
    lines.extend(explanation.sentences.iter().flat_map(|sentence| wrapped(sentence, COLUMNS)));
    let Pace { packets, interval, bytes } = pace;
    lines.push(String::new());
    lines.push(format!("{packets} packets of {bytes} bytes, one every {}:", show_time(*interval)));
    let share = |count: u32| format!("{:.2}%", f64::from(count) * 100.0 / f64::from(*packets));
    if let Some(burst) = explanation.mean_burst {
        let longest = explanation.longest_burst;
        let lost = share(explanation.lost);
        lines.push(format!(
            "  lost        {lost}, {burst:.1} one after the other in the mean, {longest} at most"
        ));
    }
    for (what, count) in [
        ("overflowed", explanation.overflowed),
        ("duplicated", explanation.duplicated),
        ("corrupted", explanation.corrupted),
        ("reordered", explanation.reordered),
    ] {
        if count > 0 {
            lines.push(format!("  {what:<11} {}", share(count)));
        }
    }
    if simulation.per_mille(1_000).is_zero() {
        return lines.join("\n") + "\n";
    }
    let shown = |time: Duration| show_time(rounded(time));
    lines.push(format!(
        "  delay       {} in the mean, standard deviation {}",
        shown(simulation.mean()),
        shown(simulation.deviation())
    ));
    lines.push(format!(
        "              half up to {}, 95% up to {}, 99% up to {}",
        shown(simulation.per_mille(500)),
        shown(simulation.per_mille(950)),
        shown(simulation.per_mille(990))
    ));
    if simulation.deviation() > Duration::from_micros(1) {
        let histogram = simulation.histogram(RANGES);
        let most = histogram.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        lines.extend(histogram.into_iter().map(|(end, count)| {
            let length = (u64::from(count) * u64::from(WIDTH)).div_ceil(u64::from(most));
            let bar = "#".repeat(usize::try_from(length).unwrap_or_default());
            format!("  up to {:>9}  {bar}", shown(end)).trim_end().to_owned()
        }));
    }
    lines.join("\n") + "\n"
}

/// A time with three figures or so, as people read it.
fn rounded(time: Duration) -> Duration {
    let mut unit = 1;
    while time.as_nanos() / unit >= 10_000 {
        unit *= 10;
    }
    let nanoseconds = (time.as_nanos() + unit / 2) / unit * unit;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

fn interval(text: &str) -> Result<Duration, PolicyError> {
    parse_duration(text, "interval")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(words: &str) -> String {
        let effects = effects::netem(words).expect("good words").value;
        let pace = Pace { packets: 10_000, interval: Duration::from_millis(20), bytes: 1_000 };
        let simulation = effects.simulate(&pace, 0).expect("it can be carried out");
        text(&explanation(None, &effects, &pace, &simulation), &simulation, &pace)
    }

    #[test]
    fn effects_are_explained_in_eighty_columns() {
        let texts: Vec<_> = [
            "delay 100ms 20ms loss gemodel 1% 10%",
            "rate 4mbit queue 100ms",
            "delay 20ms 5ms distribution normal reordering duplicate 1%",
            "loss 1%",
        ]
        .into_iter()
        .map(explained)
        .collect();
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        insta::assert_snapshot!(texts.join("\n----\n"));
    }

    #[test]
    fn a_preset_is_explained_in_each_direction() {
        let all = of_preset("3g").expect("a preset");
        assert!(all.iter().all(|(direction, effects)| direction.is_some() && !effects.is_empty()));
        assert!(of_preset("moon").expect_err("no preset").to_string().contains("moon"));
    }
}
