//! Makes inputs out of others.

use fastrand::Rng;

/// The longest input that is mutated: longer ones are tried as they are.
pub(super) const LONGEST: usize = 1 << 16;
/// The longest input that repeating a part makes.
const LONGEST_REPEATED: usize = 1 << 20;
/// One mutation of so many repeats a part until it is as long as may be.
const RARELY: u32 = 500;

/// Inputs that have broken other programs.
const ODD: [&str; 36] = [
    "0",
    "-0",
    "1",
    "-1",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e309",
    "-1e308",
    "1e-320",
    "NaN",
    "inf",
    "-inf",
    "infinity",
    "0x7f",
    "99999999999999999999999999999999999999",
    "%",
    "%s%n",
    "100.0000001%",
    "\0",
    "\u{202e}",
    "\u{2066}",
    "\u{1b}[31m",
    "\u{feff}",
    "\u{10ffff}",
    "\"",
    "\\",
    "\r\n",
    "{[",
];

/// Words to put into inputs: odd ones, and those of other inputs.
pub(super) struct Dictionary(Vec<Vec<u8>>);

impl Dictionary {
    pub(super) fn of(inputs: &[Vec<u8>]) -> Self {
        let mut words: Vec<_> = inputs
            .iter()
            .filter(|input| input.len() <= LONGEST)
            .flat_map(|input| input.split(|byte| !(byte.is_ascii_alphanumeric() || b"-_.%:/".contains(byte))))
            .filter(|word| !word.is_empty() && word.len() < 40)
            .map(<[u8]>::to_vec)
            .collect();
        words.sort();
        words.dedup();
        words.extend(ODD.map(|word| word.as_bytes().to_vec()));
        Self(words)
    }
}

/// Changes `input` in a few places; parts may come from `other`.
pub(super) fn mutate(input: &mut Vec<u8>, other: &[u8], dictionary: &Dictionary, rng: &mut Rng) {
    input.truncate(LONGEST);
    for _ in 0..=rng.u32(0..4) {
        mutate_once(input, other, dictionary, rng);
    }
    if rng.u32(0..RARELY) == 0 {
        repeat(input, LONGEST_REPEATED, rng);
    }
}

fn mutate_once(input: &mut Vec<u8>, other: &[u8], Dictionary(words): &Dictionary, rng: &mut Rng) {
    let at = rng.usize(0..=input.len());
    let part = at..input.len().min(at + rng.usize(1..32));
    match rng.u32(0..10) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.u32(0..8)),
        1 => input.insert(at, rng.u8(..)),
        2 => drop(input.drain(part)),
        3 => input.truncate(at),
        4 => repeat(input, input.len().saturating_mul(2).min(LONGEST), rng),
        5 => drop(input.splice(at..at, other[rng.usize(0..=other.len())..].iter().copied().take(1000))),
        6 => drop(input.splice(at..at, words[rng.usize(..words.len())].clone())),
        7 => drop(input.splice(at.., other[rng.usize(0..=other.len())..].iter().copied().take(LONGEST))),
        _ => {
            let word = word_at(input, at);
            drop(input.splice(word, words[rng.usize(..words.len())].clone()));
        }
    }
}

/// Repeats a part until the input is about `length` long.
fn repeat(input: &mut Vec<u8>, length: usize, rng: &mut Rng) {
    let at = rng.usize(0..=input.len());
    let part = input[at..input.len().min(at + rng.usize(1..64))].to_vec();
    let times = length.saturating_sub(input.len()) / part.len().max(1);
    input.splice(at..at, part.repeat(times));
}

/// The letters and digits around a place.
fn word_at(input: &[u8], at: usize) -> std::ops::Range<usize> {
    let is_end = |byte: &u8| !byte.is_ascii_alphanumeric();
    let begin = input[..at].iter().rposition(is_end).map_or(0, |end| end + 1);
    let end = input[at..].iter().position(is_end).map_or(input.len(), |length| at + length);
    begin..end
}
