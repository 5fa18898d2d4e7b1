// SPDX-License-Identifier: Apache-2.0
//! The client library in one page: a program that needs shared buffers.
//!
//! It needs a running service: `cargo run --release --example client`. It connects to the same
//! service as `anionctl`.

#![forbid(unsafe_code)]

use anion_client::{Access, BufferAllocator, Client, CpuAccess, Error, Refusal, Request, SyncType};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect()?;
    println!("service {}", client.endpoint());

    // Two frames, of the first heap with room. They are zero.
    let frames = client.allocate(&Request::new(1920 * 1080 * 3 / 2).count(2).name("frames"))?;
    for frame in &frames {
        let mapping = frame.map(Access::ReadWrite)?;
        // dma-bufs need these calls around an access; for memfds they cost nothing.
        let view = mapping.begin(CpuAccess::ReadWrite)?;
        assert!(view.is_zero()?, "the buffer is zero");
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

    // Code for libdmabufheap's interface.
    let allocator = BufferAllocator::from(client);
    println!("heaps {:?}", allocator.get_dmabuf_heap_list()?);
    let fd = allocator.alloc_system(true, 64 << 10, 0)?;
    allocator.cpu_sync_start(&fd, SyncType::Write)?;
    allocator.cpu_sync_end(&fd, SyncType::Write)?;
    Ok(())
}
