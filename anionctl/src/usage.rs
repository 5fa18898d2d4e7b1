// SPDX-License-Identifier: Apache-2.0
//! `anionctl usage`: shows how much is held, by user and by process.

use crate::args::UsageArgs;
use crate::failure::Failure;
use crate::inspect::{LiveBuffer, live_buffers};
use crate::output::{self, Output, Report};
use crate::rows::UsageRow;
use crate::table::{Side, Table};
use crate::users;
use anion_ipc::Strong;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Shows the bytes that clients hold: by user, or by the process that allocated them.
pub(crate) fn show(
    args: &UsageArgs,
    service: &Strong<dyn IHeapAllocator>,
    output: &Output,
) -> Result<(), Failure> {
    if args.processes {
        return output.show(&Processes::of(live_buffers(service)?));
    }
    output.show(&Usage { usage: fetch(service)? })
}

/// Returns the usage of clients that the caller may see.
pub(crate) fn fetch(service: &Strong<dyn IHeapAllocator>) -> Result<Vec<UsageRow>, Failure> {
    Ok(service.getUsage()?.into_iter().map(UsageRow::from).collect())
}

#[derive(Debug, Serialize)]
struct Usage {
    usage: Vec<UsageRow>,
}

impl Report for Usage {
    fn text(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("UID", Side::Right, 0),
            ("USER", Side::Left, 1),
            ("POLICY", Side::Left, 3),
            ("HELD", Side::Right, 0),
            ("BUFFERS", Side::Right, 1),
            ("RESERVED", Side::Right, 2),
            ("PEAK", Side::Right, 2),
            ("QUOTA", Side::Right, 1),
            ("BUFFER QUOTA", Side::Right, 4),
        ]);
        for client in &self.usage {
            table.add_row([
                client.uid.to_string(),
                client.user.clone(),
                client.policy.clone(),
                output::size(client.bytes),
                client.buffers.to_string(),
                output::size(client.reserved_bytes),
                output::size(client.peak_bytes),
                output::limit(client.quota_bytes, output::size),
                output::limit(client.quota_buffers, |buffers| buffers.to_string()),
            ]);
        }
        table.text(width)
    }
}

/// Live buffers by the process that allocated them.
#[derive(Debug, Serialize)]
struct Processes {
    processes: Vec<ProcessRow>,
}

/// The allocations of one process.
#[derive(Debug, Serialize)]
struct ProcessRow {
    uid: u32,
    user: String,
    pid: i32,
    /// None if the process has ended and others hold its buffers.
    command: Option<String>,
    bytes: u64,
    buffers: u64,
}

impl Processes {
    /// Returns the sums of the buffers, most bytes first.
    fn of(buffers: Vec<LiveBuffer>) -> Self {
        let mut sums: BTreeMap<(u32, i32), (u64, u64)> = BTreeMap::new();
        for buffer in buffers {
            let (bytes, count) = sums.entry((buffer.uid, buffer.pid)).or_default();
            *bytes += buffer.size;
            *count += 1;
        }
        let row = |((uid, pid), (bytes, buffers))| ProcessRow {
            uid,
            user: users::name(uid),
            pid,
            command: fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned()),
            bytes,
            buffers,
        };
        let mut processes: Vec<_> = sums.into_iter().map(row).collect();
        processes.sort_by_key(|row| std::cmp::Reverse(row.bytes));
        Self { processes }
    }
}

impl Report for Processes {
    fn text(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("PID", Side::Right, 0),
            ("COMMAND", Side::Left, 0),
            ("UID", Side::Right, 2),
            ("USER", Side::Left, 1),
            ("HELD", Side::Right, 0),
            ("BUFFERS", Side::Right, 1),
        ]);
        for process in &self.processes {
            table.add_row([
                process.pid.to_string(),
                process.command.clone().unwrap_or_else(|| "(ended)".to_owned()),
                process.uid.to_string(),
                process.user.clone(),
                output::size_of(process.bytes),
                process.buffers.to_string(),
            ]);
        }
        table.text(width)
    }
}
