// SPDX-License-Identifier: Apache-2.0
//! The fixture of every test: a connected service, the heaps that it offers to this uid, and
//! functions for calls and expectations.

use crate::Options;
use crate::outcome::{Lock, Test, check_eq, code_name, expect_error, inapplicable};
use crate::request::aidl::{
    AllocationRequest, Backing, ClientUsage, ErrorCode, HeapFlags, HeapInfo, ReleaseMechanism, interface,
};
use crate::request::{Held, from_heap, held};
use crate::target::Target;
use anion_ipc::{Connection, Endpoint, ServiceError, Strong};
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The service's interface.
pub(crate) type Service = Strong<dyn interface::IHeapAllocator>;

/// A socket connection answers one call at a time, so a fixture opens several.
const CONNECTIONS: u32 = 4;
/// Time limit for the service to detect a release, or to make a buffer in the background. It is
/// long: guests can be a hundred times slower, and their machine busy.
pub(crate) const RELEASE_DEADLINE: Duration = Duration::from_secs(120);
/// How long a test checks that a buffer stays accounted.
const STAYS_HELD: Duration = Duration::from_millis(200);
/// Below this quota, tests of one process that run at the same time could exhaust it.
const AMPLE_BYTES: i64 = 512 << 20;
/// As [`AMPLE_BYTES`], for the number of buffers.
const AMPLE_BUFFERS: i64 = 4096;

/// A connected target, with the heaps that it offers to this uid.
pub(crate) struct Fixture {
    pub(crate) target: Target,
    pub(crate) service: Service,
    /// The uid of this process, as the transport verifies it.
    pub(crate) uid: u32,
    /// The service's uid, if it is known.
    pub(crate) service_uid: Option<u32>,
    /// Every configured heap.
    pub(crate) heaps: Vec<HeapInfo>,
    /// Whether the uid's quota is too small for tests to run at the same time.
    pub(crate) is_tight: bool,
    /// Uids that children may use.
    pub(crate) uids: Option<[u32; 2]>,
    /// Number of allocations and closes in tests of accounts.
    pub(crate) rounds: usize,
    /// The endpoint of its graphics allocator.
    pub(crate) graphics: Option<Endpoint>,
    usable: Vec<i32>,
    _connection: Connection<dyn interface::IHeapAllocator>,
}

/// Locked for writing by tests that need a uid without other buffers. All endpoints share it,
/// because they may lead to the same service.
static UID_IN_USE: RwLock<()> = RwLock::new(());

impl Fixture {
    /// Connects, and determines which heaps this uid can use.
    ///
    /// # Errors
    /// If no service answers there, or a call fails that every test needs.
    pub(crate) fn new(target: &Target, options: &Options) -> Result<Self> {
        let connection = target.connect::<dyn interface::IHeapAllocator>(CONNECTIONS)?;
        let service = connection.service.clone();
        let heaps = service.listHeaps().context("listHeaps")?;
        let mut fixture = Self {
            target: target.clone(),
            service,
            uid: geteuid().as_raw(),
            service_uid: peer_uid(&target.endpoint),
            heaps,
            is_tight: false,
            uids: options.uids,
            rounds: options.rounds,
            graphics: options.graphics.clone(),
            usable: Vec::new(),
            _connection: connection,
        };
        fixture.find_usable_heaps()?;
        let usage = fixture.usage()?;
        fixture.is_tight =
            (1..AMPLE_BYTES).contains(&usage.quotaBytes) || (1..AMPLE_BUFFERS).contains(&usage.quotaBuffers);
        Ok(fixture)
    }

    /// Tries one small buffer of every available heap: the configuration may forbid a heap to this
    /// uid.
    fn find_usable_heaps(&mut self) -> Result<()> {
        for heap in self.heaps.iter().filter(|heap| heap.available) {
            match self.service.allocate(&from_heap(heap.id, 1)) {
                Ok(allocation) => {
                    self.usable.push(heap.id);
                    if self.service_uid.is_none() && heap.backing == Backing::MEMFD {
                        self.service_uid = held(allocation)?.first().map(file_owner).transpose()?;
                    }
                }
                Err(status) => match ServiceError::of(&status) {
                    Some(error) if error.code == ErrorCode::NOT_PERMITTED.0 => {}
                    Some(error) => bail!("heap {} is listed as available, but: {error}", heap.name),
                    None => bail!("cannot allocate from heap {}: {status}", heap.name),
                },
            }
        }
        Ok(())
    }

    /// Creates another connection to the same endpoint, with one socket.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub(crate) fn connect(&self) -> Result<Connection<dyn interface::IHeapAllocator>> {
        Ok(self.target.connect(1)?)
    }

    /// Creates another connection, over which the service can call this process.
    ///
    /// # Errors
    /// As [`Target::connect_for_callbacks`].
    pub(crate) fn connect_for_callbacks(&self) -> Result<Connection<dyn interface::IHeapAllocator>> {
        Ok(self.target.connect_for_callbacks()?)
    }

    /// Returns the heaps that served this uid, by descending id.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &HeapInfo> {
        self.heaps.iter().filter(|heap| self.usable.contains(&heap.id))
    }

    /// Returns the usable heaps whose buffers the CPU can map.
    ///
    /// # Errors
    /// [`Inapplicable`](crate::outcome::Inapplicable) if there is none.
    pub(crate) fn mappable(&self) -> Result<Vec<&HeapInfo>> {
        let heaps: Vec<_> = self.usable().filter(|heap| heap.flags & HeapFlags::SECURE.0 == 0).collect();
        if heaps.is_empty() {
            inapplicable("no heap here gives this uid buffers that can be mapped")
        } else {
            Ok(heaps)
        }
    }

    /// Returns the usable heaps whose releases the kernel reports: any holder keeps their buffers
    /// accounted, not only the owner's token.
    pub(crate) fn reported(&self) -> impl Iterator<Item = &HeapInfo> {
        self.usable().filter(|heap| is_reported(heap))
    }

    /// Returns the usable heaps that give read-only buffers, which the CPU can map.
    ///
    /// # Errors
    /// [`Inapplicable`](crate::outcome::Inapplicable) if there is none.
    pub(crate) fn with_read_only(&self) -> Result<Vec<&HeapInfo>> {
        let mut heaps = self.mappable()?;
        heaps.retain(|heap| heap.flags & HeapFlags::READ_ONLY.0 != 0);
        if heaps.is_empty() { inapplicable("no heap here gives read-only buffers") } else { Ok(heaps) }
    }

    /// Returns a mappable heap with a small allocation granularity and room for tests with many
    /// buffers.
    ///
    /// # Errors
    /// [`Inapplicable`](crate::outcome::Inapplicable) if there is none.
    pub(crate) fn roomy(&self) -> Result<&HeapInfo> {
        let fits =
            |heap: &&&HeapInfo| heap.granule <= 64 << 10 && (heap.capacity == 0 || heap.capacity >= 64 << 20);
        // Prefers a heap without a limit of its own: other clients may fill a limited one.
        let mappable = self.mappable()?;
        let best = mappable.iter().filter(fits).min_by_key(|heap| heap.capacity);
        best.copied().map_or_else(
            || inapplicable("no usable heap has a granularity up to 64 KiB and room for 64 MiB"),
            Ok,
        )
    }

    /// Returns the bytes of the largest buffer that `heap` could give this uid now, from explain.
    ///
    /// # Errors
    /// The errors of the call.
    pub(crate) fn fits(&self, heap: &HeapInfo) -> Result<i64> {
        let explanation = self.service.explain(&from_heap(heap.id, 1)).context("explain")?;
        Ok(explanation.verdicts.first().context("the reply has no verdict on the requested heap")?.fitsBytes)
    }

    /// Checks that the uid's quota permits this much at once.
    ///
    /// # Errors
    /// [`Inapplicable`](crate::outcome::Inapplicable) if it does not.
    pub(crate) fn require_quota(&self, buffers: i64, bytes: i64) -> Result<()> {
        let usage = self.usage()?;
        if usage.quotaBytes != 0 && usage.quotaBytes < bytes {
            return inapplicable(format!("needs {bytes} bytes at once; the quota is {}", usage.quotaBytes));
        }
        if usage.quotaBuffers != 0 && usage.quotaBuffers < buffers {
            return inapplicable(format!(
                "needs {buffers} buffers at once; the quota is {}",
                usage.quotaBuffers
            ));
        }
        Ok(())
    }

    /// Allocates, and checks that the reply is what was requested.
    ///
    /// # Errors
    /// The errors of the service or the transport; [`Inapplicable`](crate::outcome::Inapplicable)
    /// if the request alone exceeds the uid's quota.
    pub(crate) fn allocate(&self, request: &AllocationRequest) -> Result<Vec<Held>> {
        let start = Instant::now();
        let allocation = loop {
            let error = match self.service.allocate(request) {
                Ok(allocation) => break allocation,
                Err(status) => ServiceError::of(&status).ok_or_else(|| anyhow!("transport: {status}"))?,
            };
            if error.code == ErrorCode::QUOTA_EXCEEDED.0 {
                let count = i64::from(request.count);
                self.require_quota(count, request.size.saturating_mul(count))?;
            }
            // A limited heap may be full of buffers of other tests and other uids for a moment.
            let is_full =
                error.code == ErrorCode::NO_MEMORY.0 && self.heaps.iter().any(|heap| heap.capacity > 0);
            if !is_full || start.elapsed() > RELEASE_DEADLINE {
                bail!("{request:?}: {}: {error}", code_name(error.code));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let buffers = held(allocation)?;
        check_eq!(i32::try_from(buffers.len())?, request.count, "buffers in the reply");
        for buffer in &buffers {
            ensure!(
                i64::try_from(buffer.size)? >= request.size,
                "asked {}, got {}",
                request.size,
                buffer.size
            );
        }
        Ok(buffers)
    }

    /// Allocates one buffer.
    ///
    /// # Errors
    /// As [`Fixture::allocate`].
    pub(crate) fn allocate_one(&self, request: &AllocationRequest) -> Result<Held> {
        self.allocate(request)?.pop().context("an empty reply")
    }

    /// Expects `allocate` to refuse with one of `codes`.
    ///
    /// # Errors
    /// If it succeeds, or fails in another way.
    pub(crate) fn refused(&self, request: &AllocationRequest, codes: &[ErrorCode]) -> Result<ServiceError> {
        expect_error(self.service.allocate(request), codes).with_context(|| format!("{request:?}"))
    }

    /// Returns this uid's row of getUsage; zeros if it has none.
    ///
    /// # Errors
    /// The errors of the call.
    pub(crate) fn usage(&self) -> Result<ClientUsage> {
        let rows = self.service.getUsage().context("getUsage")?;
        Ok(rows.into_iter().find(|row| u32::try_from(row.uid) == Ok(self.uid)).unwrap_or_default())
    }

    /// Returns the bytes and buffers that this uid holds.
    ///
    /// # Errors
    /// The errors of the call.
    pub(crate) fn holding(&self) -> Result<(i64, i64)> {
        let usage = self.usage()?;
        Ok((usage.bytes, usage.buffers))
    }

    /// Waits until the uid holds exactly this much.
    ///
    /// # Errors
    /// If it does not within [`RELEASE_DEADLINE`].
    pub(crate) fn await_holding(&self, bytes: i64, buffers: i64) -> Result<()> {
        let start = Instant::now();
        loop {
            let now = self.holding()?;
            if now == (bytes, buffers) {
                return Ok(());
            }
            ensure!(
                start.elapsed() < RELEASE_DEADLINE,
                "uid {} should hold {bytes} bytes in {buffers} buffers, but after {RELEASE_DEADLINE:?} the ledger has \
                 {} in {}",
                self.uid,
                now.0,
                now.1
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Checks for a while that the uid holds at least this much, and then that it holds exactly
    /// this. On a busy machine, the service may still answer a call of a process that an earlier
    /// test has killed, whose buffers count for a moment.
    ///
    /// # Errors
    /// If the ledger has less at any time, or does not have exactly this within
    /// [`RELEASE_DEADLINE`].
    pub(crate) fn stays_holding(&self, bytes: i64, buffers: i64, why: &str) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < STAYS_HELD {
            let now = self.holding()?;
            ensure!(
                now.0 >= bytes && now.1 >= buffers,
                "{} bytes in {} buffers are accounted instead of {bytes} in {buffers} while {why}",
                now.0,
                now.1
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.await_holding(bytes, buffers)
    }

    /// Returns whether this caller is privileged. If the interface leaves that to the service's
    /// configuration, the answer of trim decides.
    ///
    /// # Errors
    /// The errors of the calls.
    pub(crate) fn is_privileged(&self) -> Result<bool> {
        if self.uid == 0 || self.service_uid == Some(self.uid) {
            return Ok(true);
        }
        if self.service_uid.is_some() && self.usage()?.policy == "default" {
            return Ok(false);
        }
        let codes = [ErrorCode::NOT_PERMITTED, ErrorCode::UNKNOWN_HEAP];
        let refusal = expect_error(self.service.trim("no-such-heap", 0), &codes)?;
        Ok(refusal.code == ErrorCode::UNKNOWN_HEAP.0)
    }

    /// Runs a test under its lock.
    ///
    /// # Errors
    /// The errors of the test; for a quiet test also if the uid does not become quiet.
    pub(crate) fn run(&self, test: &Test) -> Result<()> {
        if test.lock == Lock::Shared && !self.is_tight {
            let _beside_others = UID_IN_USE.read().unwrap_or_else(PoisonError::into_inner);
            return (test.run)(self);
        }
        let _alone = UID_IN_USE.write().unwrap_or_else(PoisonError::into_inner);
        self.await_holding(0, 0).context(
            "waiting for the uid to be quiet: a leak of an earlier test, or another program of this uid is a client",
        )?;
        (test.run)(self)
    }
}

/// Runs code that allocates buffers of this uid and releases them all. It runs beside tests that do
/// the same, unless the quota `is_tight`.
pub(crate) fn beside_others<T>(is_tight: bool, run: impl FnOnce() -> T) -> T {
    if is_tight {
        let _alone = UID_IN_USE.write().unwrap_or_else(PoisonError::into_inner);
        return run();
    }
    let _beside_others = UID_IN_USE.read().unwrap_or_else(PoisonError::into_inner);
    run()
}

/// Returns whether the kernel reports releases of the heap's buffers.
pub(crate) fn is_reported(heap: &HeapInfo) -> bool {
    heap.releaseMechanism != ReleaseMechanism::TOKEN
}

/// Returns the uid of the process that listens at a socket endpoint.
fn peer_uid(endpoint: &Endpoint) -> Option<u32> {
    let Endpoint::Socket(path) = endpoint else { return None };
    let stream = UnixStream::connect(path).ok()?;
    getsockopt(&stream, sockopt::PeerCredentials).ok().map(|peer| peer.uid())
}

/// Returns the uid of a buffer's file, which is that of the service.
fn file_owner(buffer: &Held) -> Result<u32> {
    Ok(std::fs::File::from(buffer.fd.try_clone()?).metadata()?.uid())
}
