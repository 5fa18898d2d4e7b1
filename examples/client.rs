// SPDX-License-Identifier: Apache-2.0
//! The client library in one page: what a program does that needs shared buffers.
//!
//! Run it with a service at hand: `cargo run --release --example client`. It looks for the service
//! as `anionctl` does.

#![forbid(unsafe_code)]

use anion_client::{Access, BufferAllocator, Client, CpuAccess, Error, Refusal, Request, SyncType};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect()?;
    println!("service {}", client.endpoint());

    // Two frames, of whichever heap has room first. They are zero.
    let frames = client.allocate(&Request::new(1920 * 1080 * 3 / 2).count(2).name("frames"))?;
    for frame in &frames {
        let mapping = frame.map(Access::ReadWrite)?;
        // Bracketed as dma-bufs need it; memfds are told nothing.
        let view = mapping.begin(CpuAccess::ReadWrite)?;
        assert!(view.is_zero()?, "the service gives nothing away");
        view.write_at(0, b"pixels")?;
        view.end()?;
        println!("buffer {}: {} bytes of heap {}", frame.id(), frame.bytes(), frame.heap());
    }

    // A refusal has a code for programs and a text for people.
    match client.allocate(&Request::new(1 << 50).heap("system")) {
        Err(Error::Refused { refusal: Refusal::NoMemory | Refusal::QuotaExceeded, message }) => {
            println!("a petabyte: {message}");
        }
        other => return Err(format!("a petabyte was not refused: {other:?}").into()),
    }

    // Code that was written for libdmabufheap.
    let allocator = BufferAllocator::from(client);
    println!("heaps {:?}", allocator.get_dmabuf_heap_list()?);
    let fd = allocator.alloc_system(true, 64 << 10, 0)?;
    allocator.cpu_sync_start(&fd, SyncType::Write)?;
    allocator.cpu_sync_end(&fd, SyncType::Write)?;
    Ok(())
}
