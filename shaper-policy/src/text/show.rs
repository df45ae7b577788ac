//! Effects in words that `tc` and we can read.

use std::fmt;

use crate::model::{
    Bottleneck, Bounds, Chance, Corruption, Delay, Distribution, Effects, Jitter, LossModel, Losses, Percent,
    Reordering, Slot, SlotTime, show_size, show_time,
};

impl fmt::Display for Effects {
    /// Writes them as `tc qdisc show` has netem's part, with the distribution that it leaves out, in a form that it
    /// takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chance = |word: &str, chance: &Chance| format!("{word} {chance}");
        let clauses = [
            self.queue.packets.map(|packets| format!("limit {packets}")),
            self.delay.as_ref().map(Delay::to_string),
            self.loss.as_ref().map(Losses::to_string),
            self.duplicate.as_ref().map(|duplicate| chance("duplicate", duplicate)),
            self.reorder.as_ref().map(Reordering::to_string),
            self.corrupt.as_ref().map(Corruption::to_string),
            self.seed.map(|seed| format!("seed {seed}")),
            self.bottleneck.as_ref().map(Bottleneck::to_string),
            Bounds { packets: None, ..self.queue }.shown("queue"),
            self.mark.shown("mark"),
            self.slot.as_ref().map(Slot::to_string),
        ];
        f.pad(&clauses.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delay {}", show_time(self.time))?;
        let Some(Jitter { spread, correlation, distribution, reorders }) = &self.jitter else {
            return Ok(());
        };
        write!(f, " {}", show_time(*spread))?;
        if !correlation.is_zero() {
            write!(f, " {correlation}")?;
        }
        if *distribution != Distribution::Uniform {
            write!(f, " distribution {}", distribution.name())?;
        }
        if *reorders { f.write_str(" reordering") } else { Ok(()) }
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { probability, correlation } = self;
        if correlation.is_zero() {
            write!(f, "{probability}")
        } else {
            write!(f, "{probability} {correlation}")
        }
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            LossModel::Random(chance) => write!(f, "loss {chance}"),
            LossModel::Gemodel(values) => {
                write!(f, "loss gemodel{}", values_but_defaults(values, &LossModel::gemodel(values[0])))
            }
            LossModel::State(values) => {
                write!(f, "loss state{}", values_but_defaults(values, &LossModel::state(values[0])))
            }
            LossModel::Every(number) => write!(f, "loss every {number}"),
        }?;
        if self.ecn { f.write_str(" ecn") } else { Ok(()) }
    }
}

/// ` 1% 10%`: the first value, and as many more as are needed.
fn values_but_defaults(values: &[Percent], defaults: &[Percent]) -> String {
    let differ = values.iter().zip(defaults).rposition(|(value, default)| value != default);
    values[..=differ.unwrap_or(0)].iter().map(|value| format!(" {value}")).collect()
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corrupt {}{}", self.chance, if self.fixed { " fixed" } else { "" })
    }
}

impl fmt::Display for Reordering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reorder {}", self.chance)?;
        if self.gap > 1 { write!(f, " gap {}", self.gap) } else { Ok(()) }
    }
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, overhead, cell_bytes, cell_overhead) = match self {
            Self::Trace(trace) => return write!(f, "trace {}", trace.name),
            Self::Rate { rate, overhead, cell_bytes, cell_overhead } => {
                (rate, *overhead, *cell_bytes, *cell_overhead)
            }
        };
        write!(f, "rate {rate}")?;
        match (overhead, cell_bytes, cell_overhead) {
            (0, 0, 0) => Ok(()),
            (_, 0, 0) => write!(f, " {overhead}"),
            (_, _, 0) => write!(f, " {overhead} {cell_bytes}"),
            _ => write!(f, " {overhead} {cell_bytes} {cell_overhead}"),
        }
    }
}

impl Bounds {
    /// `queue 100ms 64kb`, if there are any.
    fn shown(&self, word: &str) -> Option<String> {
        let bounds = [
            self.time.map(show_time),
            self.bytes.map(show_size),
            self.packets.map(|packets| format!("{packets}packets")),
        ];
        let bounds: String = bounds.into_iter().flatten().map(|bound| format!(" {bound}")).collect();
        (!bounds.is_empty()).then(|| format!("{word}{bounds}"))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.opens {
            SlotTime::Between(least, most) => write!(f, "slot {} {}", show_time(*least), show_time(*most)),
            SlotTime::About { distribution, mean, spread } => {
                let (name, mean, spread) = (distribution.name(), show_time(*mean), show_time(*spread));
                write!(f, "slot distribution {name} {mean} {spread}")
            }
        }?;
        if self.packets > 0 {
            write!(f, " packets {}", self.packets)?;
        }
        if self.bytes > 0 { write!(f, " bytes {}", self.bytes) } else { Ok(()) }
    }
}
