//! Writes many entries of a map with one system call, which aya does not offer.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Pod,
    maps::{MapData, MapError},
    sys::SyscallError,
};
use nix::libc;

/// `BPF_MAP_UPDATE_BATCH` of `enum bpf_cmd`; for arrays since Linux 5.6, for LPM tries since 5.13.
const UPDATE_BATCH: libc::c_int = 26;

/// The part of `union bpf_attr` that is about batches.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Writes `values` at the `keys` of the same positions.
///
/// # Errors
///
/// When the kernel has no memory or no room for all of them; the first ones are there then. When the map has keys or
/// values of another size.
pub(super) fn update<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> Result<(), MapError> {
    let info = map.info()?;
    let (key_size, value_size) = (info.key_size() as usize, info.value_size() as usize);
    if key_size != size_of::<K>() {
        return Err(MapError::InvalidKeySize { size: size_of::<K>(), expected: key_size });
    }
    if value_size != size_of::<V>() {
        return Err(MapError::InvalidValueSize { size: size_of::<V>(), expected: value_size });
    }
    update_at_once(map, keys, values)
        .map_err(|io_error| SyscallError { call: "bpf_map_update_batch", io_error }.into())
}

fn update_at_once<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> io::Result<()> {
    let count = keys.len().min(values.len());
    if count == 0 {
        return Ok(());
    }
    let mut batch = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    #[expect(unsafe_code, reason = "neither aya nor nix has this command")]
    // SAFETY: the kernel reads `count` keys and values of the map's sizes, which the caller has compared with those of `K`
    // and `V`, from slices that are at least as long, and writes to `batch.count` only.
    let done = unsafe { libc::syscall(libc::SYS_bpf, UPDATE_BATCH, &raw mut batch, size_of::<Batch>()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writes `values` into an array, from the entry `first` on.
///
/// # Errors
///
/// As [`update`].
pub(super) fn update_array<V: Pod>(map: &MapData, first: u32, values: &[V]) -> Result<(), MapError> {
    let keys: Vec<u32> = (first..).take(values.len()).collect();
    update(map, &keys, values)
}
