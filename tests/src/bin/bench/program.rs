//! The program alone, on this machine's own processor: `BPF_PROG_TEST_RUN`, beside a program that does nothing.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{Array, Map, MapData},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use nix::libc;
use shaper_common::{SHAPING_MAP, Shaping};
use shaper_tests::world::World;

use crate::table::{Table, median};

const REPEAT: u32 = 1_000_000;
const ROUNDS: usize = 11;

/// All tables of the program.
pub(crate) fn run() -> Result<Vec<Table>> {
    let mut table = Table::new(
        "The program alone: nanoseconds per packet",
        "BPF_PROG_TEST_RUN runs it a million times on a packet of 64 bytes that may wait as it is, without a copy of it; medians of eleven rounds, \
         interleaved. The kernel's own loop, which an empty program shows, is in all figures.",
        &["policy", "ns", "beside an empty program"],
    );
    let world = World::new()?;
    let container = world.container("web")?;
    let daemon = world.daemon()?;
    daemon.view("web");
    daemon.run("set web --loss 1%");
    let pins = world.pins_of(&container, "egress")?;
    let empty = empty_program(&world.pin_dir().join("empty"))?;
    let program = SchedClassifier::from_pin(pins.join("program"))?;
    let mut shaping: Array<_, Shaping> =
        Array::try_from(Map::Array(MapData::from_pin(pins.join(SHAPING_MAP))?))?;
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); POLICIES.len() + 1];
    for _ in 0..ROUNDS {
        figures[0].push(ns_per_run(&empty, &world)?);
        for ((_, asked), figures) in POLICIES.iter().zip(&mut figures[1..]) {
            shaping.set(0, *asked, 0)?;
            figures.push(ns_per_run(&program, &world)?);
        }
    }
    let figures: Vec<_> = figures.into_iter().map(median).collect();
    let names = std::iter::once("an empty program").chain(POLICIES.iter().map(|(name, _)| *name));
    for (name, ns) in names.zip(&figures) {
        table.row(vec![name.to_owned(), format!("{ns:.1}"), format!("{:+.1}", ns - figures[0])]);
    }
    Ok(vec![table])
}

const NOTHING: Shaping =
    Shaping { expires_at_ns: 0, delay_ns: 0, in_maps: 0, queueless: 0, loss: 0, orphan: 0 };
const LOSS: Shaping = Shaping { loss: 42_949_672, ..NOTHING };
const DELAY: Shaping = Shaping { delay_ns: 1_000_000, ..NOTHING };
const POLICIES: [(&str, Shaping); 6] = [
    ("nothing asked", NOTHING),
    ("loss 1 %", LOSS),
    ("loss 1 %, with a deadline", Shaping { expires_at_ns: u64::MAX, ..LOSS }),
    ("1 ms", DELAY),
    ("1 ms + loss 1 %", Shaping { loss: LOSS.loss, ..DELAY }),
    ("1 ms + loss 1 %, with a deadline", Shaping { expires_at_ns: u64::MAX, loss: LOSS.loss, ..DELAY }),
];

fn ns_per_run(program: &SchedClassifier, world: &World) -> Result<f64> {
    let (packet, mut packet_out, mut context_out) = ([0_u8; 64], [0_u8; 128], [0_u8; 192]);
    let run = world.host().enter(|| {
        program.test_run(TestRunOptions {
            data_in: Some(&packet),
            data_out: Some(&mut packet_out),
            ctx_in: Some(&[0; 192]),
            ctx_out: Some(&mut context_out),
            repeat: REPEAT,
            ..TestRunOptions::new()
        })
    })?;
    // The kernel says the time of one run, in whole nanoseconds.
    Ok(run.duration.as_nanos() as f64)
}

/// Loads a classifier that passes each packet, and pins it.
fn empty_program(pin: &Path) -> Result<SchedClassifier> {
    // `r0 = TC_ACT_UNSPEC` and `exit` (`include/uapi/linux/bpf.h`).
    let instructions: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
    let license = c"GPL";
    let mut load = [0_u64; 16];
    // `union bpf_attr` of BPF_PROG_LOAD: type and number of instructions, both of 32 bits, and the two addresses.
    load[0] = BPF_PROG_TYPE_SCHED_CLS | (instructions.len() as u64) << 32;
    load[1] = instructions.as_ptr() as u64;
    load[2] = license.as_ptr() as u64;
    let program = bpf(BPF_PROG_LOAD, &load).context("load an empty program")?;
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let pinned = bpf(BPF_OBJ_PIN, &[path.as_ptr() as u64, program.cast_unsigned()]);
    ensure!(nix::unistd::close(i32::try_from(program)?).is_ok(), "close the empty program");
    pinned.context("pin an empty program")?;
    Ok(SchedClassifier::from_pin(pin)?)
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_SCHED_CLS: u64 = 3;

/// bpf(2), which aya has only for programs from object files.
fn bpf(command: libc::c_long, attributes: &[u64]) -> io::Result<libc::c_long> {
    #[expect(unsafe_code, reason = "neither nix nor aya loads instructions that are not in an object file")]
    // SAFETY: the kernel reads the attributes, and what they point to, during the call only; all of it outlives it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
