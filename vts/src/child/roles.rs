// SPDX-License-Identifier: Apache-2.0
//! Roles of children with several steps.

use super::{READY, ready_and_wait, say, service};
use crate::listener::Listener;
use crate::request::aidl::interface::IHeapAllocator;
use crate::request::{from_heap, held};
use crate::sys::Mapping;
use crate::target::Target;
use anion_ipc::Connection;
use anyhow::{Context, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, stdin};
use std::os::fd::OwnedFd;

/// The word that the child which pins pages writes to its own buffer, and then to the recycled one.
pub(crate) const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;
pub(crate) const AGAIN: u64 = 0xa6a1_a6a1_a6a1_a6a1;
/// Pages in each pipe: half of the capacity of the smallest pipe.
const PINNED_PAGES: usize = 8;

/// Fills a buffer, pins its pages in two pipes and releases it. Then, after a byte of its standard
/// input each time: prints the contents of the pages in the first pipe; allocates and fills a
/// buffer as before, and prints the contents of the pages in the second pipe.
pub(super) fn pin(target: &str, heap: &str, size: &str) -> Result<()> {
    let connection = service(target)?;
    let request = from_heap(heap.parse()?, size.parse()?);
    let page = sysconf(SysconfVar::PAGE_SIZE)?.context("no page size")?;
    let words = PINNED_PAGES * usize::try_from(page)? / size_of::<u64>();
    let (first, second) = (nix::unistd::pipe()?, nix::unistd::pipe()?);
    let buffer = held(connection.service.allocate(&request)?)?.pop().context("an empty reply")?;
    let mapping = Mapping::writable(&buffer.fd, buffer.size)?;
    mapping.fill(SECRET);
    mapping.pin(0..words, &first.1)?;
    mapping.pin(words..2 * words, &second.1)?;
    drop((mapping, buffer, first.1, second.1));
    say(READY)?;

    stdin().read_exact(&mut [0])?;
    say(&words_of(first.0, words)?)?;
    stdin().read_exact(&mut [0])?;
    let again = held(connection.service.allocate(&request)?)?.pop().context("an empty reply")?;
    let mapping = Mapping::writable(&again.fd, again.size)?;
    let dirty = mapping.first_other_than(0);
    ensure!(dirty.is_none(), "word {dirty:?} of the next buffer is not zero");
    mapping.fill(AGAIN);
    say(&words_of(second.0, words)?)
}

/// Returns the different words in a pipe without a writer, in hexadecimal.
fn words_of(pipe: OwnedFd, expected: usize) -> Result<String> {
    let mut bytes = Vec::new();
    File::from(pipe).read_to_end(&mut bytes)?;
    let (words, rest) = bytes.as_chunks();
    ensure!((words.len(), rest.len()) == (expected, 0), "{} bytes were pinned", bytes.len());
    let different: BTreeSet<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    Ok(different.iter().map(|word| format!("{word:x}")).collect::<Vec<_>>().join(" "))
}

/// Registers pressure listeners, and holds them.
pub(super) fn listen(target: &str, count: &str) -> Result<()> {
    let connection: Connection<dyn IHeapAllocator> = target.parse::<Target>()?.connect_for_callbacks()?;
    let listeners: Vec<_> = (0..count.parse::<usize>()?).map(|_| Listener::pair()).collect();
    for (listener, _) in &listeners {
        connection.service.registerPressureListener(listener)?;
    }
    ready_and_wait()
}
