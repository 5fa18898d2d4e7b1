// SPDX-License-Identifier: Apache-2.0
//! Usage by uid.

use crate::connection::{anion_client, client_of};
use crate::error::{anion_error, make};
use crate::heaps::number;
use crate::record::Record;
use crate::sys;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;

/// Memory that one uid holds.
#[repr(C)]
#[derive(Default)]
pub struct anion_usage_row {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// The uid.
    pub uid: u32,
    /// The name of its policy in the configuration; "default" if none names the uid.
    pub policy: *const c_char,
    /// Bytes of its live buffers.
    pub bytes: u64,
    /// Number of its live buffers.
    pub buffers: u64,
    /// Bytes of its reserved buffers that are not drawn.
    pub reserved_bytes: u64,
    /// Highest value of `bytes` since the service started.
    pub peak_bytes: u64,
    /// Limit of bytes and reserved bytes together; 0 if unlimited.
    pub quota_bytes: u64,
    /// Limit of buffers, reserved ones included; 0 if unlimited.
    pub quota_buffers: u64,
}

/// Memory that uids hold.
#[repr(C)]
#[derive(Default)]
pub struct anion_usage {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// The number of rows.
    pub count: usize,
    /// One for each uid, most bytes first.
    pub rows: *const *const anion_usage_row,
}

/// Lists how much each uid holds. Privileged callers get every uid since the service started, at
/// most 1024; others only their own.
#[unsafe(no_mangle)]
pub extern "C" fn anion_get_usage(
    client: Option<&anion_client>,
    usage: Option<&mut MaybeUninit<*mut anion_usage>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(usage, "usage", error, || {
        let rows = client_of(client)?.call(|service| service.getUsage())?;
        let mut record = Record::<anion_usage>::default();
        let rows = rows.iter().map(|row| anion_usage_row {
            struct_size: size_of::<anion_usage_row>(),
            uid: row.uid.cast_unsigned(),
            policy: record.text(&row.policy),
            bytes: number(row.bytes),
            buffers: number(row.buffers),
            reserved_bytes: number(row.reservedBytes),
            peak_bytes: number(row.peakBytes),
            quota_bytes: number(row.quotaBytes),
            quota_buffers: number(row.quotaBuffers),
        });
        let rows: Vec<_> = rows.collect();
        let (count, rows) = (rows.len(), record.pointers(rows));
        record.head = anion_usage { struct_size: size_of::<anion_usage>(), count, rows };
        Ok(record.into_c())
    })
}

/// Frees a list of usage.
#[unsafe(no_mangle)]
pub extern "C" fn anion_usage_free(usage: *mut anion_usage) {
    sys::free_record(usage);
}
