// SPDX-License-Identifier: Apache-2.0
//! `anionctl holders`: shows every buffer with every process that holds it.
//!
//! /proc shows which processes hold which files. The service, if it answers, identifies the
//! buffers. So this command works without the service, and shows dma-bufs of other allocators, too.

mod processes;

use crate::Service;
use crate::args::HoldersArgs;
use crate::failure::Failure;
use crate::inspect::{self, LiveBuffer};
use crate::output::{self, Output, Report};
use crate::table::{Side, Table, wrap};
use crate::users;
use processes::{FileFacts, FileId, Found, Hold, Kind, scan};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Columns of the CSV output.
const CSV_HEADER: &str = "inode,kind,id,heap,size,name,references,pid,command,uid,user,descriptors,\
                          mappings,mapped_bytes";

/// A buffer and its holders.
#[derive(Debug, Serialize)]
struct BufferRow {
    inode: u64,
    kind: &'static str,
    /// The name of the file in /proc, or the service's name for it if the service answers.
    name: String,
    size: u64,
    /// None if the service does not know it or does not answer.
    id: Option<u64>,
    heap: Option<String>,
    owner_uid: Option<u32>,
    owner_pid: Option<i32>,
    exporter: Option<String>,
    references: Option<u64>,
    holders: Vec<HolderRow>,
}

/// A process that holds the buffer.
#[derive(Debug, Serialize)]
struct HolderRow {
    pid: i32,
    command: String,
    uid: u32,
    user: String,
    descriptors: u64,
    mappings: u64,
    mapped_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Holders {
    buffers: Vec<BufferRow>,
    /// Processes that this process may not inspect.
    unreadable_processes: u64,
    /// Whether the service identified the files.
    service: bool,
}

/// Shows the holders of buffers. Reads ids, heaps and labels from `service` if there is one.
///
/// # Errors
/// [`Failure::Local`] if /proc cannot be read, or no buffer has the requested inode or id.
pub(crate) fn run(
    args: &HoldersArgs,
    service: Result<Service, Failure>,
    output: &Output,
) -> Result<(), Failure> {
    let known = match service.and_then(|service| inspect::live_buffers(service.interface())) {
        Ok(known) => Some(known),
        Err(failure) => {
            log::warn!("using only /proc: {}", failure.message().unwrap_or_default());
            None
        }
    };
    let root = Path::new("/proc");
    let found = scan(root).map_err(|error| Failure::local("cannot read /proc", &error))?;
    let mut report = holders(found, known);
    if let Some(wanted) = args.buffer {
        report.buffers.retain(|buffer| buffer.inode == wanted || buffer.id == Some(wanted));
        if report.buffers.is_empty() {
            return Err(Failure::Local(format!(
                "no buffer has the inode or id {wanted}: looked at {}",
                if report.service { "the service's buffers and /proc" } else { "/proc; no service answers" }
            )));
        }
    }
    if args.csv { output.raw(report.csv().as_bytes()) } else { output.show(&report) }
}

/// Joins the facts of /proc and of the service.
fn holders(found: Found, known: Option<Vec<LiveBuffer>>) -> Holders {
    let Found { mut files, processes, closed } = found;
    let service = known.is_some();
    let known: BTreeMap<FileId, LiveBuffer> =
        known.unwrap_or_default().into_iter().map(|buffer| (file_of(&buffer), buffer)).collect();
    // Buffers that the service knows, but no process was seen with: in a message, a device, or a
    // process that cannot be inspected.
    for file in known.keys() {
        files.entry(*file).or_default();
    }
    let buffers = files.into_iter().map(|(file, facts)| row(file, facts, known.get(&file), &processes));
    Holders { buffers: buffers.collect(), unreadable_processes: closed, service }
}

/// Returns the file of a buffer of the service.
fn file_of(buffer: &LiveBuffer) -> FileId {
    let is_memory = ["memfd", "hugetlb", "ashmem"].contains(&buffer.backing.as_str());
    (if is_memory { Kind::Memfd } else { Kind::DmaBuf }, buffer.inode)
}

fn row(
    (kind, inode): FileId,
    facts: FileFacts,
    known: Option<&LiveBuffer>,
    processes: &BTreeMap<i32, processes::Process>,
) -> BufferRow {
    let mapped = facts.holds.values().map(|hold| hold.mapped_bytes).max().unwrap_or(0);
    let holder = |(pid, hold): (i32, Hold)| {
        let process = processes.get(&pid)?;
        Some(HolderRow {
            pid,
            command: process.command.clone(),
            uid: process.uid,
            user: users::name(process.uid),
            descriptors: hold.descriptors,
            mappings: hold.mappings,
            mapped_bytes: hold.mapped_bytes,
        })
    };
    BufferRow {
        inode,
        kind: kind.word(),
        // A reused memfd keeps the name of its first buffer.
        name: known.map_or(facts.name, |buffer| buffer.name.clone()),
        size: known.map_or(if facts.size > 0 { facts.size } else { mapped }, |buffer| buffer.size),
        id: known.map(|buffer| buffer.id),
        heap: known.map(|buffer| buffer.heap.clone()),
        owner_uid: known.map(|buffer| buffer.uid),
        owner_pid: known.map(|buffer| buffer.pid),
        exporter: facts.exporter,
        references: facts.references,
        holders: facts.holds.into_iter().filter_map(holder).collect(),
    }
}

impl Report for Holders {
    fn text(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("INODE", Side::Right, 0),
            ("KIND", Side::Left, 3),
            ("ID", Side::Right, 5),
            ("HEAP", Side::Left, 2),
            ("SIZE", Side::Right, 1),
            ("NAME", Side::Left, 1),
            ("REFS", Side::Right, 4),
            ("PID", Side::Right, 0),
            ("COMMAND", Side::Left, 0),
            ("USER", Side::Left, 2),
            ("FDS", Side::Right, 1),
            ("MAPS", Side::Right, 1),
            ("MAPPED", Side::Right, 4),
        ]);
        for buffer in &self.buffers {
            let none = [None];
            let holders = buffer.holders.iter().map(Some);
            for holder in holders.chain(none.into_iter().filter(|_| buffer.holders.is_empty())) {
                table.add_row(buffer.cells().into_iter().chain(holder_cells(holder)));
            }
        }
        let mut text = table.text(width);
        if self.unreadable_processes > 0 {
            text += &format!("\n{}", wrap(&self.closed(), width.unwrap_or(usize::MAX), 0));
        }
        text
    }
}

impl Holders {
    /// Returns how many processes could not be inspected, and how to inspect them.
    fn closed(&self) -> String {
        let (count, what) = match self.unreadable_processes {
            1 => (1, "process"),
            more => (more, "processes"),
        };
        format!(
            "{count} {what} of other users could not be read: run this as root, or with CAP_SYS_PTRACE, to \
             see what they hold"
        )
    }

    /// Returns a line for each process and buffer. All lines have the same columns; unknown values
    /// are empty.
    fn csv(&self) -> String {
        let mut text = format!("{CSV_HEADER}\n");
        for buffer in &self.buffers {
            let optional = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
            let of_buffer = [
                buffer.inode.to_string(),
                buffer.kind.to_owned(),
                optional(buffer.id),
                buffer.heap.clone().unwrap_or_default(),
                buffer.size.to_string(),
                quoted(&buffer.name),
                optional(buffer.references),
            ]
            .join(",");
            if buffer.holders.is_empty() {
                text += &format!("{of_buffer},,,,,,,\n");
            }
            for holder in &buffer.holders {
                text += &format!(
                    "{of_buffer},{},{},{},{},{},{},{}\n",
                    holder.pid,
                    quoted(&holder.command),
                    holder.uid,
                    quoted(&holder.user),
                    holder.descriptors,
                    holder.mappings,
                    holder.mapped_bytes
                );
            }
        }
        text
    }
}

impl BufferRow {
    fn cells(&self) -> [String; 7] {
        let dash = || "-".to_owned();
        [
            self.inode.to_string(),
            self.kind.to_owned(),
            self.id.map_or_else(dash, |id| id.to_string()),
            self.heap.clone().unwrap_or_else(dash),
            output::size_of(self.size),
            self.name.clone(),
            self.references.map_or_else(dash, |count| count.to_string()),
        ]
    }
}

/// Returns the cells of a process; dashes if no process was seen.
fn holder_cells(holder: Option<&HolderRow>) -> [String; 6] {
    match holder {
        None => [(); 6].map(|()| "-".to_owned()),
        Some(holder) => [
            holder.pid.to_string(),
            holder.command.clone(),
            holder.user.clone(),
            holder.descriptors.to_string(),
            holder.mappings.to_string(),
            output::size_of(holder.mapped_bytes),
        ],
    }
}

/// Returns a field of CSV (RFC 4180), in quotes if necessary.
fn quoted(field: &str) -> String {
    let needs_quotes = field.contains([',', '"', '\n', '\r']);
    if needs_quotes { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use processes::Process;

    fn found() -> Found {
        let hold = Hold { descriptors: 2, mappings: 1, mapped_bytes: 4096 };
        let facts = FileFacts {
            name: "a,b".to_owned(),
            size: 8192,
            holds: [(7, hold)].into(),
            ..FileFacts::default()
        };
        let process = Process { command: "ca\"t".to_owned(), uid: 0 };
        Found { files: [((Kind::DmaBuf, 5), facts)].into(), processes: [(7, process)].into(), closed: 2 }
    }

    #[test]
    fn a_buffer_without_a_known_process_is_shown_without_one() {
        let live = LiveBuffer {
            inode: 9,
            id: 70,
            size: 4096,
            heap: "camera".to_owned(),
            backing: "memfd".to_owned(),
            uid: 1000,
            pid: 3,
            name: "preview".to_owned(),
        };
        let report = holders(found(), Some(vec![live]));
        let [memfd, dma_buf] = report.buffers.as_slice() else { panic!("two: {report:?}") };
        assert_eq!((memfd.id, memfd.holders.len(), memfd.name.as_str()), (Some(70), 0, "preview"));
        assert_eq!((dma_buf.id, dma_buf.holders[0].descriptors), (None, 2));
        assert!(report.text(Some(60)).contains("2 processes of other users could not be read"));
    }

    #[test]
    fn fields_with_commas_and_quotes_stay_one_field() {
        let csv = holders(found(), None).csv();
        let line = csv.lines().nth(1).expect("a row");
        assert_eq!(line, "5,dma-buf,,,8192,\"a,b\",,7,\"ca\"\"t\",0,root,2,1,4096");
        let columns = CSV_HEADER.split(',').count();
        assert_eq!(columns, 14);
    }
}
