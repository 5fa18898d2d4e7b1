// SPDX-License-Identifier: Apache-2.0
//! `anionctl alloc`: allocates buffers, checks them against the interface, then keeps them or
//! passes them to a command.

use crate::Service;
use crate::args::AllocArgs;
use crate::check::Probe;
use crate::exec::{self, Held};
use crate::failure::Failure;
use crate::image::ImageRow;
use crate::interrupt::Interrupt;
use crate::output::{self, Output, Report};
use crate::table::{Side, Table};
use crate::words;
use anion_client::Access;
use anion_ipc::Strong;
use serde::Serialize;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use vendor_anion_allocator::aidl::vendor::anion::allocator::Allocation::Allocation;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Buffer::Buffer;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapFlags::HeapFlags;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// The allocation and the results of the checks.
#[derive(Debug, Serialize)]
struct AllocReport {
    buffers: Vec<CheckedRow>,
    /// The planes of the image in each buffer, if the request was for an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageRow>,
    total_bytes: i64,
    allocate_us: u64,
    check_us: u64,
}

/// One allocated buffer.
#[derive(Debug, Serialize)]
struct CheckedRow {
    index: usize,
    id: i64,
    heap_id: i32,
    heap: String,
    size: i64,
    backing: String,
    inode: u64,
    /// None if the CPU cannot map the buffer.
    zeroed: Option<bool>,
    /// Whether it held the bytes that were written to it; none if it cannot be written.
    verified: Option<bool>,
}

/// Carries out the command. With `--exec` it returns only if the command could not be started.
pub(crate) fn run(args: &AllocArgs, service: Service, output: &Output) -> Result<(), Failure> {
    let image = args.request.image.image(&args.request, service.interface())?;
    let request = args.request.request(image.as_ref());
    let started = Instant::now();
    let allocation = service.interface().allocate(&request)?;
    let allocate_time = started.elapsed();

    check_reply(&allocation, request.count, request.size)?;
    let access = if args.request.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let mappable = !is_secure(service.interface(), &allocation)?;
    // Held to the end: if it is dropped, the service releases buffers whose release the kernel does
    // not report.
    let token = allocation.token;
    if token.is_some() && !args.exec.is_empty() {
        return Err(Failure::Usage(
            "--exec cannot pass on buffers of this heap: they belong to this process and are released when it ends"
                .to_owned(),
        ));
    }
    let (mut rows, held) = accept(allocation.buffers)?;
    let started = Instant::now();
    if mappable {
        check_contents(&mut rows, &held, access)?;
    }
    let report = AllocReport {
        total_bytes: rows.iter().map(|row| row.size).fold(0, i64::saturating_add),
        buffers: rows,
        image,
        allocate_us: microseconds(allocate_time),
        check_us: microseconds(started.elapsed()),
    };

    if !args.exec.is_empty() {
        // The command uses standard output.
        output.on_stderr().show(&report)?;
        report.verdict()?;
        // Closes the connection, whose descriptor number the command could take for a buffer.
        drop(service);
        return Err(exec::replace_process(&args.exec, held));
    }
    // The handler is installed before the report, because the reader may send a signal at once.
    let interrupt = args.hold.map(|_| Interrupt::new()).transpose()?;
    output.show(&report)?;
    report.verdict()?;
    if let (Some(time), Some(mut interrupt)) = (args.hold, interrupt) {
        interrupt.wait(time)?;
    }
    drop(token);
    Ok(())
}

/// Checks that the reply has as many buffers as requested, none smaller than requested.
fn check_reply(allocation: &Allocation, count: i32, size: i64) -> Result<(), Failure> {
    let buffers = &allocation.buffers;
    if usize::try_from(count).ok() != Some(buffers.len()) {
        return Err(Failure::Check(format!(
            "the request has {count} buffers, but the reply has {}",
            buffers.len()
        )));
    }
    match buffers.iter().find(|buffer| buffer.size < size) {
        Some(small) => Err(Failure::Check(format!(
            "buffer {} has {} bytes, but the request has {size}",
            small.id, small.size
        ))),
        None => Ok(()),
    }
}

/// Returns whether the buffers come from a heap that the CPU can never map.
fn is_secure(service: &Strong<dyn IHeapAllocator>, allocation: &Allocation) -> Result<bool, Failure> {
    let Some(first) = allocation.buffers.first() else { return Ok(false) };
    let heaps = service.listHeaps()?;
    Ok(heaps.iter().any(|heap| heap.id == first.heapId && heap.flags & HeapFlags::SECURE.0 != 0))
}

/// Takes ownership of the buffers, and records the answers of the service and the kernel on them.
fn accept(buffers: Vec<Buffer>) -> Result<(Vec<CheckedRow>, Vec<Held>), Failure> {
    let mut rows = Vec::with_capacity(buffers.len());
    let mut held = Vec::with_capacity(buffers.len());
    for (index, buffer) in buffers.into_iter().enumerate() {
        let fd =
            buffer.fd.ok_or_else(|| Failure::Check(format!("buffer {} has no descriptor", buffer.id)))?;
        let file = File::from(OwnedFd::from(fd));
        let inode = file.metadata().map_err(|error| Failure::local("cannot stat a buffer", &error))?.ino();
        rows.push(CheckedRow {
            index,
            id: buffer.id,
            heap_id: buffer.heapId,
            heap: buffer.heapName,
            size: buffer.size,
            backing: words::backing(buffer.backing),
            inode,
            zeroed: None,
            verified: None,
        });
        held.push(Held { file, id: buffer.id, size: buffer.size });
    }
    Ok((rows, held))
}

/// Maps all buffers at once. Checks that they are zero, and that each keeps its own pattern after
/// all are written. Leaves the buffers zero.
fn check_contents(rows: &mut [CheckedRow], held: &[Held], access: Access) -> Result<(), Failure> {
    let probes = held
        .iter()
        .map(|buffer| Probe::new(buffer.file.as_fd(), buffer.size, buffer.id, access))
        .collect::<Result<Vec<_>, _>>()?;
    let mapped = |error| Failure::local("cannot access a mapped buffer", &error);
    for (row, probe) in rows.iter_mut().zip(&probes) {
        row.zeroed = Some(probe.is_zero().map_err(mapped)?);
    }
    if access == Access::ReadOnly {
        return Ok(());
    }
    for probe in &probes {
        probe.write_pattern().map_err(mapped)?;
    }
    for (row, probe) in rows.iter_mut().zip(&probes) {
        row.verified = Some(probe.holds_pattern().map_err(mapped)?);
    }
    for probe in &probes {
        probe.clear().map_err(mapped)?;
    }
    Ok(())
}

/// Returns a time in whole microseconds.
fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl AllocReport {
    /// Checks that no buffer has a fault.
    ///
    /// # Errors
    /// [`Failure::Check`] with the name of every buffer that has a fault.
    fn verdict(&self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        for row in &self.buffers {
            if row.zeroed == Some(false) {
                faults.push(format!("buffer {} was not zero", row.id));
            }
            if row.verified == Some(false) {
                faults.push(format!("buffer {} lost data that was written to it", row.id));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Failure::Check(faults.join("; "))) }
    }
}

impl Report for AllocReport {
    fn text(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("#", Side::Right, 0),
            ("ID", Side::Right, 0),
            ("HEAP", Side::Left, 0),
            ("SIZE", Side::Right, 0),
            ("BACKING", Side::Left, 2),
            ("INODE", Side::Right, 3),
            ("ZEROED", Side::Left, 1),
            ("WRITTEN", Side::Left, 1),
        ]);
        for row in &self.buffers {
            table.add_row([
                row.index.to_string(),
                row.id.to_string(),
                row.heap.clone(),
                output::size(row.size),
                row.backing.clone(),
                row.inode.to_string(),
                outcome(row.zeroed),
                outcome(row.verified),
            ]);
        }
        let image = self.image.as_ref().map_or(String::new(), |image| format!("{}\n", image.text(width)));
        format!(
            "{image}{}\n{} in {}; allocated in {}, checked in {}",
            table.text(width),
            output::size(self.total_bytes),
            plural(self.buffers.len()),
            time(self.allocate_us),
            time(self.check_us)
        )
    }
}

/// Returns the outcome of a check; a dash if it could not be made.
fn outcome(passed: Option<bool>) -> String {
    match passed {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    }
    .to_owned()
}

/// Returns a number with the word "buffer" or "buffers".
fn plural(count: usize) -> String {
    if count == 1 { "1 buffer".to_owned() } else { format!("{count} buffers") }
}

/// Returns a short time with a suitable unit.
fn time(microseconds: u64) -> String {
    format!("{:.1?}", Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(zeroed: Option<bool>, verified: Option<bool>) -> CheckedRow {
        CheckedRow {
            index: 0,
            id: 7,
            heap_id: 1,
            heap: "system".to_owned(),
            size: 8 << 20,
            backing: "memfd".to_owned(),
            inode: 42,
            zeroed,
            verified,
        }
    }

    fn report(row: CheckedRow) -> AllocReport {
        let (total_bytes, buffers) = (row.size, vec![row]);
        AllocReport { total_bytes, buffers, image: None, allocate_us: 120, check_us: 3_500 }
    }

    #[test]
    fn a_failed_check_is_named_and_has_its_own_exit_code() {
        let failure = report(row(Some(false), Some(false))).verdict().expect_err("both failed");
        assert_eq!(failure.exit_code(), 4);
        let message = failure.message().expect("a message");
        assert!(message.contains("buffer 7 was not zero"), "{message}");
        assert!(message.contains("lost data that was written to it"), "{message}");
    }

    #[test]
    fn checks_that_could_not_be_made_do_not_fail() {
        assert!(report(row(None, None)).verdict().is_ok());
        assert!(report(row(Some(true), None)).verdict().is_ok());
    }

    #[test]
    fn the_table_ends_with_the_total() {
        let text = report(row(Some(true), None)).text(None);
        assert!(text.ends_with("8.0 MiB in 1 buffer; allocated in 120.0µs, checked in 3.5ms"), "{text}");
    }

    #[test]
    fn fewer_buffers_than_asked_for_break_the_contract() {
        let failure = check_reply(&Allocation::default(), 1, 1).expect_err("none came");
        assert_eq!(failure.exit_code(), 4);
    }
}
