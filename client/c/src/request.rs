// SPDX-License-Identifier: Apache-2.0
//! Requests, and explanations of them.

use crate::connection::{anion_client, client_of};
use crate::error::{Failure, anion_error, make};
use crate::heaps::number;
use crate::record::Record;
use crate::sys::{self, RequestIn, Text, Texts};
use ::anion_client::{Access, Request};
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapVerdict::HeapVerdict;

/// Skips heaps that the CPU maps uncached.
pub const ANION_CACHED: u32 = 1;
/// Buffers may contain data of clients of the caller's own trust domain: for callers that overwrite
/// every byte.
pub const ANION_UNZEROED: u32 = 2;
/// Skips heaps whose buffers are not dma-bufs.
pub const ANION_DMA_BUF: u32 = 4;

/// Descriptors and mappings permit reading and writing.
pub const ANION_READ_WRITE: u32 = 0;
/// Descriptors and mappings permit only reading; the kernel enforces it.
pub const ANION_READ_ONLY: u32 = 1;

/// A request for equal buffers of one heap. Zero is the default of every field but `struct_size`
/// and `bytes`.
#[repr(C)]
#[derive(Default)]
pub struct anion_request<'a> {
    /// The sizeof of this structure.
    pub struct_size: usize,
    /// Bytes of one buffer, more than 0. The service rounds them up to the heap's granule.
    pub bytes: u64,
    /// Names or aliases of heaps, which the service tries in this order, with NULL after the last
    /// one. NULL selects the heaps of `heap_mask`.
    pub heaps: Texts<'a>,
    /// Bit n admits the heap with id n; the service tries higher ids first. 0 admits all.
    pub heap_mask: u32,
    /// Number of buffers, at most 64: all of them, or none. 0 is 1.
    pub count: u32,
    /// ANION_CACHED, ANION_UNZEROED and ANION_DMA_BUF.
    pub flags: u32,
    /// ANION_READ_WRITE or ANION_READ_ONLY.
    pub access: u32,
    /// Alignment: physical pieces of at least this many bytes, at multiples of it. A power of two;
    /// 0 for the heap's own.
    pub alignment: u64,
    /// A label for dumps: at most 31 bytes of printable ASCII. NULL: none.
    pub label: Text<'a>,
}

impl anion_request<'_> {
    /// Returns the number of buffers.
    pub(crate) fn count(&self) -> u32 {
        self.count.max(1)
    }

    /// Converts it for the client library.
    ///
    /// # Errors
    /// If it has values that are unknown to this library. The service checks the rest.
    pub(crate) fn to_rust(&self) -> Result<Request, Failure> {
        let refuse = |what: String| Err(Failure::Argument(what));
        let known = ANION_CACHED | ANION_UNZEROED | ANION_DMA_BUF;
        if self.flags & !known != 0 {
            return refuse(format!("flags is {:#x}, but the flags are {known:#x}", self.flags));
        }
        let mut request = Request::new(self.bytes).count(self.count()).alignment(self.alignment);
        request = request.access(access_of(self.access)?);
        if self.heap_mask != 0 {
            request = request.heap_mask(self.heap_mask);
        }
        for heap in self.heaps.get("heaps")? {
            request = request.heap(heap);
        }
        if let Some(label) = self.label.get("label")? {
            request = request.name(label);
        }
        let has = |flag| self.flags & flag != 0;
        let request = if has(ANION_CACHED) { request.cached() } else { request };
        let request = if has(ANION_UNZEROED) { request.unzeroed() } else { request };
        Ok(if has(ANION_DMA_BUF) { request.dma_buf() } else { request })
    }
}

/// Returns the access mode for `access`.
///
/// # Errors
/// If it is neither of the two.
pub(crate) fn access_of(access: u32) -> Result<Access, Failure> {
    match access {
        ANION_READ_WRITE => Ok(Access::ReadWrite),
        ANION_READ_ONLY => Ok(Access::ReadOnly),
        _ => Err(Failure::Argument(format!(
            "access is {access}, but it must be ANION_READ_WRITE (0) or ANION_READ_ONLY (1)"
        ))),
    }
}

/// It would serve the request now.
pub const ANION_WOULD_SERVE: u32 = 0;
/// No configured heap has this id or name.
pub const ANION_NO_SUCH_HEAP: u32 = 1;
/// It is configured, but unavailable on this machine.
pub const ANION_UNAVAILABLE: u32 = 2;
/// The caller's uid may not use it.
pub const ANION_CLOSED: u32 = 3;
/// It cannot give this kind of buffer.
pub const ANION_CANNOT: u32 = 4;
/// It has no room now, or the size exceeds its capacity.
pub const ANION_NO_ROOM: u32 = 5;
/// It has room, but the caller's quota does not permit the request.
pub const ANION_OVER_QUOTA: u32 = 6;

/// Answer of one heap to a request.
#[repr(C)]
#[derive(Default)]
pub struct anion_verdict {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// Its id; -1 if no heap has the name.
    pub heap_id: i32,
    /// ANION_WOULD_SERVE to ANION_OVER_QUOTA; newer ones may appear.
    pub verdict: u32,
    /// Its name, or the name that no heap has.
    pub heap: *const c_char,
    /// The verdict in words, with the value in the request and the limit.
    pub reason: *const c_char,
    /// Largest size in bytes of a buffer that it could give the caller now, for the requested
    /// count; 0 if none.
    pub fits_bytes: u64,
}

/// Result of a dry run. Another caller may take the memory before the real call.
#[repr(C)]
#[derive(Default)]
pub struct anion_explanation {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// 1 if it would succeed, else 0.
    pub possible: c_int,
    /// The refusal that it would fail with; 0 if it would succeed.
    pub refusal: i32,
    /// The heap that would serve it; empty if none.
    pub heap: *const c_char,
    /// The whole answer as text, the same as that of a failing anion_allocate().
    pub summary: *const c_char,
    /// Elements of `verdicts`.
    pub count: usize,
    /// Every heap that the request selects, in the order in which the service tries them.
    pub verdicts: *const *const anion_verdict,
}

/// Explains what anion_allocate() would do, heap by heap, without changing memory or counters.
///
/// Fails for a request that the service refuses as malformed. It is no failure if no heap can serve
/// the request.
#[unsafe(no_mangle)]
pub extern "C" fn anion_explain(
    client: Option<&anion_client>,
    request: RequestIn<'_>,
    explanation: Option<&mut MaybeUninit<*mut anion_explanation>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(explanation, "explanation", error, || {
        let client = client_of(client)?;
        let answer = client.explain(&request.read()?.to_rust()?)?;
        let mut record = Record::<anion_explanation>::default();
        let verdicts: Vec<_> =
            answer.verdicts.iter().map(|verdict| verdict_of(&mut record, verdict)).collect();
        record.head = anion_explanation {
            struct_size: size_of::<anion_explanation>(),
            possible: answer.possible.into(),
            refusal: answer.error,
            heap: record.text(&answer.chosenHeap),
            summary: record.text(&answer.summary),
            count: verdicts.len(),
            verdicts: record.pointers(verdicts),
        };
        Ok(record.into_c())
    })
}

/// Frees an explanation.
#[unsafe(no_mangle)]
pub extern "C" fn anion_explanation_free(explanation: *mut anion_explanation) {
    sys::free_record(explanation);
}

fn verdict_of(record: &mut Record<anion_explanation>, verdict: &HeapVerdict) -> anion_verdict {
    anion_verdict {
        struct_size: size_of::<anion_verdict>(),
        heap_id: verdict.heapId,
        verdict: verdict.verdict.0.cast_unsigned(),
        heap: record.text(&verdict.heapName),
        reason: record.text(&verdict.reason),
        fits_bytes: number(verdict.fitsBytes),
    }
}
