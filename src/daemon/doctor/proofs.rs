// SPDX-License-Identifier: Apache-2.0
//! Tests the release mechanisms of this machine with buffers of this process.

use super::devices::IonAnswer;
use super::finding::Finding;
use crate::sys::dma_heap::{self, DmaHeap};
use crate::sys::fd::DescriptorDirectory;
use crate::sys::inotify::CloseWatcher;
use crate::sys::ion::Ion;
use crate::sys::lease::is_only_holder;
use crate::sys::memfd::MemfdFactory;
use crate::sys::pressure::{MACHINE, PressureTrigger, Stall};
use crate::sys::references::ReferenceCounts;
use crate::sys::udmabuf::Udmabuf;
use crate::units::{Access, PageSize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Makes a dma-buf of one page.
type Maker = fn(PageSize) -> io::Result<OwnedFd>;

/// Queries the properties of `/dev/ion`.
pub(crate) fn ask_ion() -> io::Result<IonAnswer> {
    let ion = Ion::open()?;
    Ok(IonAnswer { interface: ion.interface(), heaps: ion.heaps() })
}

/// Requests reports of tasks that wait for memory, and cancels the request at once.
pub(crate) fn watch_stalls() -> io::Result<()> {
    PressureTrigger::new(Path::new(MACHINE), Stall::Some).map(drop)
}

/// Returns whether the last close of a memfd is reported, and whether a lease detects another
/// process that has one open.
pub(crate) fn memfd_release(page: PageSize) -> Finding {
    const WHAT: &str = "release of memfds";
    match prove_memfd(page) {
        Ok(None) => Finding::ok(WHAT, "close events and leases work", "detected at once, exactly"),
        Ok(Some(why)) => {
            let found = format!("leases work, close events do not: {why}");
            Finding::limited(WHAT, found, "detected within 50 to 400 ms")
                .change("sysctl fs.inotify.max_user_watches=65536 fs.inotify.max_user_instances=512")
        }
        Err(error) => Finding::missing(WHAT, error.to_string(), "the service does not start")
            .change("sysctl fs.leases-enable=1; and mount -t proc proc /proc"),
    }
    .required()
}

/// Returns why the close was not reported, if only leases detect a release.
fn prove_memfd(page: PageSize) -> io::Result<Option<String>> {
    let directory = DescriptorDirectory::open()?;
    let first = MemfdFactory::probe()?.create("anion-doctor", page.bytes())?;
    // The kernel does not count the description that memfd_create returns.
    let own = directory.reopen(&first, Access::ReadWrite)?;
    drop(first);
    let watcher = CloseWatcher::new();
    let watched = watcher.watch(&own);
    let client = directory.reopen(&own, Access::ReadOnly)?;
    let is_seen = !is_only_holder(&own)?;
    drop(client);
    if !is_seen || !is_only_holder(&own)? {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a lease does not report the holders of a memfd",
        ));
    }
    Ok(match watched {
        Ok(watch) if watcher.closes()?.watches.contains(&watch) => None,
        Ok(_) => Some("the kernel did not report the last close".to_owned()),
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Some(watcher.shortage()),
        Err(error) => Some(error.to_string()),
    })
}

/// Returns whether the kernel counts the references of a dma-buf, tested with the first device that
/// makes one.
pub(crate) fn dma_buf_release(page: PageSize) -> Finding {
    const WHAT: &str = "release of dma-bufs";
    let makers: [(&str, Maker); 3] = [("udmabuf", of_udmabuf), ("dma-heap", of_dma_heap), ("ion", of_ion)];
    let made = makers.into_iter().find_map(|(name, make)| make(page).ok().map(|fd| (name, fd)));
    let Some((name, fd)) = made else {
        return Finding::missing(
            WHAT,
            "no device here gives a dma-buf to this user",
            "no heap can hand out dma-bufs",
        )
        .change("the changes in the lines of the devices");
    };
    match counts(&fd) {
        Ok(true) => {
            let found = format!("references are counted (tried with {name})");
            Finding::ok(WHAT, found, "detected within 50 to 400 ms")
        }
        counted => {
            let why =
                counted.err().map_or_else(|| "the count is wrong".to_owned(), |error| error.to_string());
            let found = format!("{why} (tried with {name})");
            Finding::missing(WHAT, found, "no heap can hand out dma-bufs").change("a kernel from 5.3 on")
        }
    }
}

fn counts(own: &OwnedFd) -> io::Result<bool> {
    let counts = ReferenceCounts::open()?;
    let client = own.try_clone()?;
    let both = counts.of(own)?;
    drop(client);
    Ok((both, counts.of(own)?) == (2, 1))
}

fn of_udmabuf(page: PageSize) -> io::Result<OwnedFd> {
    let memfd = MemfdFactory::probe()?.create("anion-doctor", page.bytes())?;
    let whole = 0..page.bytes();
    Udmabuf::open()?.create(&memfd, std::slice::from_ref(&whole))
}

fn of_dma_heap(page: PageSize) -> io::Result<OwnedFd> {
    let directory = Path::new(dma_heap::DIRECTORY);
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for name in dma_heap::names(directory)? {
        outcome =
            DmaHeap::open(directory, &name).and_then(|heap| heap.allocate(page.bytes(), Access::ReadWrite));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn of_ion(page: PageSize) -> io::Result<OwnedFd> {
    let ion = Ion::open()?;
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for heap in ion.heaps()? {
        outcome = ion.allocate(page.bytes(), heap.id, 0);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::sys::memory::page_size;

    #[test]
    fn this_machine_proves_its_releases_as_the_service_needs_them() {
        let page = page_size().expect("sysconf");
        let finding = memfd_release(page);
        assert!(finding.required && finding.state != State::Missing, "{finding:?}");
    }

    #[test]
    fn counting_references_fails_for_a_file_that_is_no_dma_buf() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        assert_eq!(counts(&fd).expect_err("no dma-buf").kind(), io::ErrorKind::InvalidData);
    }
}
