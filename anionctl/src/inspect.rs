// SPDX-License-Identifier: Apache-2.0
//! `anionctl describe`, `explain`, `dump` and `trim`.

use crate::args::{DescribeArgs, DumpArgs, RequestArgs, TrimArgs};
use crate::exec::FDS_VARIABLE;
use crate::failure::{Failure, refusal};
use crate::output::{self, Output, Report};
use crate::rows::{BufferRow, ExplanationRow, GraphicRow};
use crate::sys::duplicate;
use crate::table::{Side, Table};
use crate::{users, words};
use anion_ipc::{ParcelFileDescriptor, ServiceError, Strong};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;
use std::{env, thread};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// An inherited descriptor: its number, and a copy of it.
pub(crate) type Inherited = (RawFd, OwnedFd);

/// Duplicates the descriptors that the flags or the environment name.
///
/// # Errors
/// [`Failure::Usage`] if neither names a descriptor, or one is not open.
pub(crate) fn inherited(args: &DescribeArgs) -> Result<Vec<Inherited>, Failure> {
    let numbers = if args.fd.is_empty() { numbers_of_environment()? } else { args.fd.clone() };
    numbers
        .into_iter()
        .map(|fd| {
            duplicate(fd)
                .map(|copy| (fd, copy))
                .map_err(|error| Failure::Usage(format!("descriptor {fd}: {error}")))
        })
        .collect()
}

/// Returns the descriptor numbers in `ANION_FDS`.
fn numbers_of_environment() -> Result<Vec<RawFd>, Failure> {
    let text = env::var(FDS_VARIABLE).map_err(|_| {
        Failure::Usage(format!("no descriptor to describe: give --fd N, or set {FDS_VARIABLE} to numbers"))
    })?;
    text.split_ascii_whitespace()
        .map(|word| {
            word.parse()
                .map_err(|_| Failure::Usage(format!("{FDS_VARIABLE} has {word:?}, which is not a number")))
        })
        .collect()
}

/// Shows the service's information on each descriptor. Queries all before it returns the first
/// refusal.
pub(crate) fn describe(
    inherited: Vec<Inherited>,
    service: &Strong<dyn IHeapAllocator>,
    output: &Output,
) -> Result<(), Failure> {
    let mut report = Described { buffers: Vec::new(), refused: Vec::new() };
    for (fd, copy) in inherited {
        match service.describe(&ParcelFileDescriptor::new(copy)) {
            Ok(info) => report.buffers.push(BufferRow::new(fd, info)),
            Err(status) => match ServiceError::of(&status) {
                Some(error) => report.refused.push(RefusedRow {
                    fd,
                    error: words::error_code(error.code),
                    text: refusal(&error),
                    message: error.message,
                }),
                None => return Err(status.into()),
            },
        }
    }
    output.show(&report)?;
    if report.refused.is_empty() { Ok(()) } else { Err(Failure::RefusedAsShown) }
}

#[derive(Debug, Serialize)]
struct Described {
    buffers: Vec<BufferRow>,
    refused: Vec<RefusedRow>,
}

/// A descriptor that is unknown to the service.
#[derive(Debug, Serialize)]
struct RefusedRow {
    fd: RawFd,
    error: String,
    message: String,
    #[serde(skip)]
    text: String,
}

impl Report for Described {
    fn text(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("FD", Side::Right, 0),
            ("ID", Side::Right, 0),
            ("HEAP", Side::Left, 0),
            ("SIZE", Side::Right, 0),
            ("BACKING", Side::Left, 4),
            ("USER", Side::Left, 2),
            ("PID", Side::Right, 2),
            ("NAME", Side::Left, 1),
            ("INODE", Side::Right, 3),
            ("AGE", Side::Right, 3),
        ]);
        for buffer in &self.buffers {
            table.add_row([
                buffer.fd.to_string(),
                buffer.id.to_string(),
                buffer.heap.clone(),
                output::size(buffer.size),
                buffer.backing.clone(),
                users::name(buffer.owner_uid),
                buffer.owner_pid.to_string(),
                buffer.name.clone(),
                buffer.inode.to_string(),
                age(buffer.age_ms),
            ]);
        }
        let mut lines = Vec::new();
        if !self.buffers.is_empty() {
            lines.push(table.text(width));
        }
        for buffer in &self.buffers {
            if let Some(GraphicRow { format, width, height, usage, metadata_bytes }) = &buffer.image {
                lines.push(format!(
                    "descriptor {}: {format} {width}x{height}, usage {usage:#x}, {metadata_bytes} bytes of metadata",
                    buffer.fd
                ));
            }
        }
        lines.extend(
            self.refused.iter().map(|refused| format!("descriptor {}: {}", refused.fd, refused.text)),
        );
        lines.join("\n")
    }
}

/// Returns a buffer's age as text: in whole seconds from one second on.
fn age(milliseconds: i64) -> String {
    let age = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    let shown = if age.as_secs() == 0 { age } else { Duration::from_secs(age.as_secs()) };
    humantime::format_duration(shown).to_string()
}

/// Shows what `alloc` would do, and fails if `alloc` would.
pub(crate) fn explain(
    args: &RequestArgs,
    service: &Strong<dyn IHeapAllocator>,
    output: &Output,
) -> Result<(), Failure> {
    let image = args.image.image(args, service)?;
    let explanation = ExplanationRow::from(service.explain(&args.request(image.as_ref()))?);
    output.show(&explanation)?;
    if explanation.possible { Ok(()) } else { Err(Failure::RefusedAsShown) }
}

impl Report for ExplanationRow {
    fn text(&self, width: Option<usize>) -> String {
        let headline = match (&self.chosen_heap, &self.error) {
            (Some(heap), _) => format!("possible: {heap} would serve it"),
            (None, Some(error)) => format!("impossible: {error}"),
            (None, None) => self.summary.clone(),
        };
        let mut table = Table::new(&[
            ("ID", Side::Right, 2),
            ("HEAP", Side::Left, 0),
            ("VERDICT", Side::Left, 0),
            ("FITS", Side::Right, 1),
            ("REASON", Side::Text, 9),
        ]);
        for verdict in &self.verdicts {
            table.add_row([
                output::absent_if(verdict.heap_id, -1),
                verdict.heap.clone(),
                verdict.verdict.clone(),
                output::size(verdict.fits_bytes),
                verdict.reason.clone(),
            ]);
        }
        format!("{headline}\n{}", table.text(width))
    }
}

/// Prints the service's report.
pub(crate) fn dump(
    args: &DumpArgs,
    service: &Strong<dyn IHeapAllocator>,
    output: &Output,
) -> Result<(), Failure> {
    let (report, answer) = dumped(service, &dump_arguments(args, output.is_json()))?;
    output.raw(&report)?;
    answer
}

/// Returns the service's report for these arguments, and the service's answer after it wrote the
/// report. Reads the pipe at once: the service stops writing to a slow reader, such as a pager.
///
/// # Errors
/// [`Failure::Local`] if the pipe cannot be created.
fn dumped(
    service: &Strong<dyn IHeapAllocator>,
    arguments: &[String],
) -> Result<(Vec<u8>, Result<(), Failure>), Failure> {
    let (mut reader, writer) =
        io::pipe().map_err(|error| Failure::local("cannot make a pipe for the report", &error))?;
    let collected = thread::spawn(move || {
        let mut report = Vec::new();
        reader.read_to_end(&mut report).map(|_| report)
    });
    let writer = ParcelFileDescriptor::new(OwnedFd::from(writer));
    let answer = service.dumpTo(&writer, arguments);
    // The reader sees the end only when no writer is left.
    drop(writer);
    let report = match collected.join() {
        Ok(report) => report.map_err(|error| Failure::local("cannot read the report", &error))?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    Ok((report, answer.map_err(Failure::from)))
}

/// Returns the parsed report of the service for these arguments, which request JSON.
///
/// # Errors
/// The service's refusal; [`Failure::Local`] if the report is not the expected JSON.
pub(crate) fn dump_as<T: DeserializeOwned>(
    service: &Strong<dyn IHeapAllocator>,
    arguments: &[&str],
) -> Result<T, Failure> {
    let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let (report, answer) = dumped(service, &arguments)?;
    answer?;
    serde_json::from_slice(&report)
        .map_err(|error| Failure::Local(format!("cannot read the service's report: {error}")))
}

/// A live buffer in the service's report.
#[derive(Debug, Deserialize)]
pub(crate) struct LiveBuffer {
    pub(crate) inode: u64,
    pub(crate) id: u64,
    pub(crate) size: u64,
    pub(crate) heap: String,
    pub(crate) backing: String,
    pub(crate) uid: u32,
    pub(crate) pid: i32,
    pub(crate) name: String,
}

/// Returns the live buffers that this caller may see.
///
/// # Errors
/// As [`dump_as`].
pub(crate) fn live_buffers(service: &Strong<dyn IHeapAllocator>) -> Result<Vec<LiveBuffer>, Failure> {
    #[derive(Deserialize)]
    struct Dump {
        buffers: Vec<LiveBuffer>,
    }
    Ok(dump_as::<Dump>(service, &["--json"])?.buffers)
}

/// Returns the arguments in the form that the service reads.
fn dump_arguments(args: &DumpArgs, json: bool) -> Vec<String> {
    let mut arguments = Vec::new();
    if json {
        arguments.push("--json".to_owned());
    }
    if let Some(heap) = &args.heap {
        arguments.extend(["--heap".to_owned(), heap.clone()]);
    }
    if let Some(uid) = args.uid {
        arguments.extend(["--uid".to_owned(), uid.to_string()]);
    }
    arguments
}

/// Returns memory to the kernel, and prints how much.
pub(crate) fn trim(
    args: &TrimArgs,
    service: &Strong<dyn IHeapAllocator>,
    output: &Output,
) -> Result<(), Failure> {
    let trimmed_bytes =
        service.trim(args.heap.as_deref().unwrap_or_default(), args.bytes.unwrap_or_default())?;
    output.show(&Trimmed { trimmed_bytes })
}

#[derive(Debug, Serialize)]
struct Trimmed {
    trimmed_bytes: i64,
}

impl Report for Trimmed {
    fn text(&self, _: Option<usize>) -> String {
        format!("{} given back to the kernel", output::size(self.trimmed_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_exact_below_a_second_and_rounded_above() {
        assert_eq!(age(250), "250ms");
        assert_eq!(age(61_999), "1m 1s");
        assert_eq!(age(-1), "0s");
    }

    #[test]
    fn dump_filters_become_the_service_s_arguments() {
        let args = DumpArgs { heap: Some("camera".to_owned()), uid: Some(1000) };
        assert_eq!(dump_arguments(&args, true), ["--json", "--heap", "camera", "--uid", "1000"]);
        assert!(dump_arguments(&DumpArgs { heap: None, uid: None }, false).is_empty());
    }

    #[test]
    fn a_number_that_is_not_open_is_a_usage_error() {
        let failure = inherited(&DescribeArgs { fd: vec![999_999] }).expect_err("not open");
        assert_eq!(failure.exit_code(), 2);
    }
}
