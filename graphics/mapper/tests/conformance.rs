// SPDX-License-Identifier: Apache-2.0
//! The conformance suite against this mapper, in a process that gets its handles from another.

mod maker;
#[path = "../../../vts/src/mapper/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the suite over a service uses the rest")]
mod mapper;

use anion_handle::{Handle, Request};
use anion_layout::{Format, STRIDE_ALIGN, Usage};
use anion_memory::{Access, BufferId};
use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};
use mapper::source::{Allocated, Source, Wanted, serve};
use mapper::{Outcome, Suite};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// First argument of the process that makes buffers: no test can have this name.
const MAKER: &str = "--as-maker";
/// Handles that are forged, each with a write to metadata; anion-handle's own test has more
/// numbers.
const FORGED: usize = 200_000;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(MAKER) {
        let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("the inherited socket");
        serve(&UnixStream::from(socket), make).expect("the suite closes its end");
        return ExitCode::SUCCESS;
    }
    run(&Arguments::from_args()).exit_code()
}

/// Runs all bodies, with a maker that ends when this process closes its socket.
fn run(arguments: &Arguments) -> Conclusion {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut maker = Command::new(std::env::current_exe().expect("this program"));
    let mut maker = maker.arg(MAKER).stdin(OwnedFd::from(theirs)).spawn().expect("the maker starts");
    let suite = Arc::new(Suite::new(&library(), Source::new(ours), FORGED).expect("a mapper"));
    let trial = |(name, body): (&str, fn(&Suite) -> Result<Outcome>)| {
        let suite = Arc::clone(&suite);
        Trial::ignorable_test(name, move || match body(&suite) {
            Ok(Outcome::Passed) => Ok(Completion::Completed),
            Ok(Outcome::Unsupported(reason)) => Ok(Completion::ignored_with(reason)),
            Err(error) => Err(Failed::from(format!("{error:#}"))),
        })
    };
    let conclusion = libtest_mimic::run(arguments, mapper::all().into_iter().map(trial).collect());
    drop(suite);
    assert!(maker.wait().expect("the maker").success(), "the maker failed");
    conclusion
}

/// Returns the mapper as cargo has built it for this test.
fn library() -> PathBuf {
    std::env::current_exe().expect("this program").with_file_name("libanion_mapper.so")
}

/// Makes a buffer; `None` if it is not for the CPU alone, or there is no such layout.
fn make(wanted: &Wanted) -> Result<Option<Allocated>> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let usage = Usage(wanted.usage.cast_unsigned());
    let is_for_the_cpu = !usage.has(!(Usage::CPU_READ | Usage::CPU_WRITE)) && usage.unknown(0) == 0;
    let Some(format) = Format::from_value(wanted.format).filter(|_| is_for_the_cpu) else { return Ok(None) };
    let request = Request {
        format,
        width: wanted.width.try_into()?,
        height: wanted.height.try_into()?,
        layers: wanted.layers.try_into()?,
        usage,
        stride_align: STRIDE_ALIGN,
        reserved_size: wanted.reserved.try_into()?,
    };
    let Ok((layout, needed)) = request.needed() else { return Ok(None) };
    let id = BufferId(NEXT.fetch_add(1, Ordering::Relaxed));
    let handle = Handle::new(id, request, needed.next_multiple_of(4096), Access::ReadWrite)?;
    let fds = maker::files(&handle, wanted.name.as_bytes())?.into();
    Ok(Some(Allocated { stride: layout.stride.try_into()?, fds, ints: handle.to_ints() }))
}
