//! Says in sentences what effects do.

use crate::model::{
    Bottleneck, Bounds, Chance, Corruption, Delay, Effects, Jitter, LossModel, Losses, Reordering, Slot,
    SlotTime, show_time,
};

impl Effects {
    /// Sentences on what they do to packets, one for each effect.
    pub fn sentences(&self) -> Vec<String> {
        let duplicate = self.duplicate.map(|chance| format!("{} are sent twice.", packets(chance)));
        let all = [
            self.loss.map(losses),
            duplicate,
            self.corrupt.map(corruption),
            self.bottleneck.as_ref().map(|bottleneck| bottleneck_and(bottleneck, &self.queue, &self.mark)),
            self.delay.as_ref().map(delay),
            self.reorder.map(reordering),
            self.slot.as_ref().map(slot),
            self.seed.map(|seed| {
                format!("Random numbers are drawn from the seed {seed}: the same packets have the same fates again.")
            }),
        ];
        let sentences: Vec<_> = all.into_iter().flatten().collect();
        if sentences.is_empty() { vec!["All packets are left alone.".to_owned()] } else { sentences }
    }
}

fn packets(Chance { probability, correlation }: Chance) -> String {
    match correlation.is_zero() {
        true => format!("{probability} of packets, each by chance,"),
        false => format!(
            "{probability} of packets, each as the one before it with a probability of {correlation} and else by chance,"
        ),
    }
}

fn delay(Delay { time: mean, jitter }: &Delay) -> String {
    let Some(Jitter { spread, correlation, distribution, reorders }) = jitter else {
        return format!("Each packet is delayed by {}.", show_time(*mean));
    };
    let spread = match distribution.name() {
        "uniform" => format!("at most {} more or less, all of that alike often", show_time(*spread)),
        name => {
            format!("with a standard deviation of {} in a distribution called {name}", show_time(*spread))
        }
    };
    let like_before = match correlation.is_zero() {
        true => String::new(),
        false => format!("; it is that of the draw before with a probability of {correlation}"),
    };
    let order = match reorders {
        true => "Packets draw their delays by themselves, and may overtake one another.",
        false => "Packets keep their order: the delay varies in time, not from packet to packet.",
    };
    format!("Each packet is delayed by {} in the mean, {spread}{like_before}. {order}", show_time(*mean))
}

fn losses(Losses { model, ecn }: Losses) -> String {
    let said = match model {
        LossModel::Random(chance) => format!("{} are lost", packets(chance)),
        LossModel::Gemodel([p, r, in_bad, in_good]) => {
            let spell = 100.0 / r.as_f64().max(f64::MIN_POSITIVE);
            let good = match in_good.is_zero() {
                true => "none between them".to_owned(),
                false => format!("{in_good} between them"),
            };
            format!(
                "Packets are lost in bad spells (Gilbert-Elliott): one begins after a packet with a probability of {p} and ends \
                 with {r}, so it lasts {} packets in the mean; {in_bad} of the packets in it are lost, and {good}. That is \
                 {} of all packets",
                rounded(spell),
                share(model.mean_percent()),
            )
        }
        LossModel::State(_) => format!(
            "Packets are lost as a model of four states says, in bursts and between them: {} of all packets",
            share(model.mean_percent())
        ),
        LossModel::Every(number) => format!("Every packet whose number {number} divides is lost"),
    };
    match ecn {
        true => format!("{said}; those of senders that use ECN are marked instead."),
        false => format!("{said}."),
    }
}

fn share(percent: f64) -> String {
    format!("{}%", rounded(percent))
}

/// A number with three figures, without zeros that say nothing.
fn rounded(number: f64) -> String {
    let decimals = if number >= 100.0 {
        0
    } else if number >= 10.0 {
        1
    } else if number >= 1.0 {
        2
    } else {
        3
    };
    let text = format!("{number:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn corruption(Corruption { chance, fixed }: Corruption) -> String {
    let receiver = match fixed {
        true => "checksums are corrected, so that the receiver cannot tell",
        false => "the receiver's checksums tell, and it drops them",
    };
    format!("In {} one bit is flipped: {receiver}.", packets(chance))
}

fn reordering(Reordering { chance, gap }: Reordering) -> String {
    match gap {
        1 => format!("{} are not delayed, and overtake those that wait.", packets(chance)),
        _ => format!(
            "Of every {gap} packets, the last is not delayed with a probability of {}, and overtakes those that wait.",
            chance.probability
        ),
    }
}

fn bottleneck_and(bottleneck: &Bottleneck, queue: &Bounds, mark: &Bounds) -> String {
    let carries = match bottleneck {
        Bottleneck::Rate { rate, overhead, cell_bytes, .. } => {
            let overhead = match overhead {
                0 => String::new(),
                bytes => format!(", each of which counts as {bytes:+} bytes"),
            };
            let cells = match cell_bytes {
                0 => String::new(),
                bytes => format!(", in cells of {bytes} bytes"),
            };
            format!("Packets pass a bottleneck that carries {rate}{overhead}{cells}")
        }
        Bottleneck::Trace(trace) => format!(
            "Packets pass a bottleneck that carries them when the trace {} says, {} kbit/s in the mean",
            trace.name,
            trace.mean_rate() / 1_000
        ),
    };
    let drops = match bounds(queue) {
        Some(bounds) => format!("what finds {bounds} before it is dropped"),
        None => "nothing is dropped".to_owned(),
    };
    match bounds(mark) {
        Some(bounds) => {
            format!("{carries}; {drops}, and what finds {bounds} is marked (ECN), if its sender takes marks.")
        }
        None => format!("{carries}; {drops}."),
    }
}

/// The length of a queue.
fn bounds(Bounds { time: most, bytes, packets }: &Bounds) -> Option<String> {
    let all = [
        most.map(|most| format!("a wait of more than {}", show_time(most))),
        bytes.map(|bytes| format!("{bytes} bytes")),
        packets.map(|packets| format!("{packets} packets")),
    ];
    let all: Vec<_> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(" or "))
}

fn slot(Slot { opens, packets, bytes }: &Slot) -> String {
    let opens = match opens {
        SlotTime::Between(from, to) if from == to => format!("every {}", show_time(*from)),
        SlotTime::Between(from, to) => {
            format!("{} to {} after the one before", show_time(*from), show_time(*to))
        }
        SlotTime::About { mean, spread, .. } => {
            format!(
                "{} after the one before in the mean, with a spread of {}",
                show_time(*mean),
                show_time(*spread)
            )
        }
    };
    let takes = match (packets, bytes) {
        (0, 0) => String::new(),
        (packets, 0) => format!(" It takes {packets} packets."),
        (0, bytes) => format!(" It takes {bytes} bytes."),
        (packets, bytes) => format!(" It takes {packets} packets, and {bytes} bytes."),
    };
    format!("Packets leave in bursts, when a slot opens: {opens}.{takes}")
}

#[cfg(test)]
mod tests {
    use crate::samples::effects;

    #[test]
    fn each_effect_has_its_sentence() {
        for (words, said) in [
            ("", "All packets are left alone."),
            ("delay 100ms", "Each packet is delayed by 100ms."),
            (
                "delay 100ms 20ms",
                "at most 20ms more or less, all of that alike often. Packets keep their order",
            ),
            (
                "delay 100ms 20ms 25% distribution normal reordering",
                "with a standard deviation of 20ms in a distribution called normal; it is that of the draw before with a \
                 probability of 25%. Packets draw their delays by themselves",
            ),
            ("loss 1%", "1% of packets, each by chance, are lost."),
            (
                "loss 1% 25%",
                "each as the one before it with a probability of 25% and else by chance, are lost.",
            ),
            (
                "loss gemodel 1% 10%",
                "so it lasts 10 packets in the mean; 100% of the packets in it are lost, and none between them. That is 9.09% \
                 of all packets.",
            ),
            ("loss state 1%", "of four states"),
            ("loss every 4", "Every packet whose number 4 divides is lost."),
            ("loss 1% ecn", "those of senders that use ECN are marked instead."),
            ("duplicate 1%", "1% of packets, each by chance, are sent twice."),
            (
                "corrupt 1%",
                "In 1% of packets, each by chance, one bit is flipped: the receiver's checksums tell",
            ),
            ("delay 10ms reorder 25%", "25% of packets, each by chance, are not delayed, and overtake"),
            (
                "delay 10ms reorder 25% gap 5",
                "Of every 5 packets, the last is not delayed with a probability of 25%",
            ),
            ("rate 1mbit", "Packets pass a bottleneck that carries 1Mbit; nothing is dropped."),
            (
                "rate 1mbit queue 100ms mark 20ms",
                "what finds a wait of more than 100ms before it is dropped, and what",
            ),
            ("slot 10ms", "when a slot opens: every 10ms."),
            ("slot 10ms 20ms packets 5", "10ms to 20ms after the one before. It takes 5 packets."),
            ("loss 1% seed 7", "from the seed 7"),
        ] {
            let all = effects(words).sentences().join(" ");
            assert!(all.contains(said), "{words}: {all}");
        }
    }
}
