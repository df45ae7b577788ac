//! The picture of jitter in the documentation shows what the program does.

use std::{env, fmt::Write as _, fs, path::Path};

use shaper_common::{
    in_turn_ns,
    policy::{Effects, State},
    random::RandomStreams,
};

const MS: u64 = 1_000_000;
/// The time that a panel shows, and that between two packets.
const SHOWN: u64 = 2_400 * MS;
const INTERVAL: u64 = 4 * MS;
/// Pixels for a panel, and for a millisecond of delay.
const WIDTH: u64 = 480;
const HEIGHT: u64 = 200;

/// Draws `delay 100ms 75ms`: a point for each packet, by the time at which it was sent and its delay.
fn panel(picture: &mut String, title: &str, top: u64, effects: Effects) {
    let _ = writeln!(picture, r#"<g transform="translate(60 {top})">"#);
    let _ = writeln!(picture, r#"<text x="0" y="-8" font-weight="bold">{title}</text>"#);
    for ms in [0, 50, 100, 150, 200] {
        let y = HEIGHT - ms * HEIGHT / 200;
        let _ = writeln!(picture, r##"<path d="M0 {y}H{WIDTH}" stroke="#ddd"/>"##);
        let _ = writeln!(picture, r#"<text x="-6" y="{}" text-anchor="end">{ms} ms</text>"#, y + 4);
    }
    let (mut state, mut last_ns) = (State::default(), 0);
    let mut points = String::new();
    for number in 0..SHOWN / INTERVAL {
        let ready_ns = 3_600_000 * MS + number * INTERVAL;
        let delay_ns = effects.delay_ns(&mut state, ready_ns, RandomStreams::new(7, number), |_| 0);
        last_ns = if effects.unordered == 0 {
            in_turn_ns(ready_ns + delay_ns, last_ns, 0)
        } else {
            ready_ns + delay_ns
        };
        let (x, y) = (number * WIDTH * INTERVAL / SHOWN, HEIGHT - (last_ns - ready_ns) * HEIGHT / (200 * MS));
        let _ = write!(points, "M{x} {y}h2");
    }
    let _ = writeln!(picture, r##"<path d="{points}" stroke="#0868ac" stroke-width="2"/>"##);
    picture.push_str("</g>\n");
}

fn picture() -> String {
    let mut picture = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"560\" height=\"520\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"560\" height=\"520\" fill=\"#fff\"/>\n",
    );
    let effects = Effects { delay_ns: 100 * MS, jitter_ns: 75 * MS, ..Effects::default() };
    panel(&mut picture, "delay 100ms 75ms", 30, effects);
    panel(&mut picture, "delay 100ms 75ms reordering", 290, Effects { unordered: 1, ..effects });
    picture.push_str(
        "<text x=\"60\" y=\"512\">delay of each packet, one sent every 4 ms, over 2.4 s</text>\n</svg>\n",
    );
    picture
}

#[test]
fn the_picture_of_jitter_is_drawn_by_what_the_kernel_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/jitter.svg");
    if env::var_os("SHAPER_DRAW").is_some() {
        fs::write(&path, picture()).expect("the documentation is there");
    }
    let kept = fs::read_to_string(&path).expect("the documentation has the picture");
    assert_eq!(kept, picture(), "set SHAPER_DRAW=1 to draw it anew");
}
