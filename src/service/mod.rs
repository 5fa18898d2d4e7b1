// SPDX-License-Identifier: Apache-2.0
//! Floor 7: the AIDL interface. No lower floor has types generated from AIDL, status codes or
//! transports.
//!
//! Every method first gets the caller from the transport, then passes checked values to the
//! allocator. The thread that read the call answers it.

mod convert;
mod dump;
mod listeners;
mod reservation;
mod sink;
mod status;
mod token;

use crate::allocator::{Allocator, Caller};
use crate::sys::interrupt;
use crate::units::{BufferId, Uid};
use anion_ipc::{ParcelFileDescriptor, Result, Strong, calling_identity, impl_interface, new_binder};
use dump::{Arguments, ServiceRow};
use listeners::Listeners;
use reservation::ReservationService;
use sink::{Sinks, Writer};
use std::io;
use std::sync::Arc;
use token::TokenService;
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    Allocation::Allocation,
    AllocationRequest::AllocationRequest,
    BufferInfo::BufferInfo,
    ClientUsage::ClientUsage,
    Explanation::Explanation,
    HeapInfo::HeapInfo,
    HeapStats::HeapStats,
    IHeapAllocator::{BnHeapAllocator, IHeapAllocator, MAX_USAGE_ROWS},
    IPressureListener::IPressureListener,
    IReservation::IReservation,
    PressureLevel::PressureLevel,
    ReservationRequest::ReservationRequest,
};

/// The service: an [`Allocator`] with the AIDL interface.
pub struct HeapAllocatorService {
    allocator: Arc<Allocator>,
    /// Process and configuration of the service.
    row: ServiceRow,
    sinks: Sinks,
    listeners: Listeners,
}

impl HeapAllocatorService {
    /// Returns a binder object that any transport can publish. `configuration` names the
    /// configuration in dumps.
    pub fn binder(allocator: Arc<Allocator>, configuration: String) -> Strong<dyn IHeapAllocator> {
        if let Err(error) = interrupt::prepare() {
            log::warn!("cannot interrupt writes to terminals that no process reads: {error}");
        }
        new_binder!(
            BnHeapAllocator,
            Self {
                allocator,
                row: ServiceRow::new(configuration),
                sinks: Sinks::default(),
                listeners: Listeners::default()
            }
        )
    }

    /// Writes binder's own dump, for dumpsys. The service manager's policy limits who may call it;
    /// the contents are limited as for [`IHeapAllocator::dumpTo`].
    fn dump(&self, writer: &mut dyn io::Write, args: &[String]) -> io::Result<()> {
        let text = caller().map_err(|status| io::Error::other(status.to_string())).and_then(|caller| {
            let arguments = Arguments::parse(args).map_err(io::Error::other)?;
            dump::render(&self.allocator, &self.row, &caller, &arguments).map_err(io::Error::other)
        });
        match text {
            Ok(text) => writer.write_all(text.as_bytes()),
            // dumpsys shows the written text, not the returned status.
            Err(error) => writeln!(writer, "{error}"),
        }
    }
}

impl_interface!(HeapAllocatorService, |service, writer, args: &[String]| service.dump(writer, args));

/// Returns the caller that the transport identified.
fn caller() -> Result<Caller> {
    let identity = calling_identity().ok_or_else(status::unknown_caller)?;
    Ok(Caller { uid: Uid(identity.uid), pid: identity.pid, context: identity.context })
}

impl IHeapAllocator for HeapAllocatorService {
    fn listHeaps(&self) -> Result<Vec<HeapInfo>> {
        Ok(self.allocator.heaps().iter().enumerate().map(convert::heap_info).collect())
    }

    fn allocate(&self, request: &AllocationRequest) -> Result<Allocation> {
        let request = convert::request(request).map_err(status::bad_request)?;
        let grants = self.allocator.allocate(&caller()?, &request).map_err(status::allocation_failed)?;
        let token = self.allocator.token(&grants).map(TokenService::binder);
        Ok(Allocation { buffers: grants.into_iter().map(convert::buffer).collect(), token })
    }

    fn reserve(&self, request: &ReservationRequest) -> Result<Strong<dyn IReservation>> {
        let request = convert::reservation_request(request).map_err(status::bad_request)?;
        let reserved = self.allocator.reserve(&caller()?, &request).map_err(status::allocation_failed)?;
        Ok(ReservationService::binder(reserved))
    }

    fn explain(&self, request: &AllocationRequest) -> Result<Explanation> {
        let request = convert::request(request).map_err(status::bad_request)?;
        let explanation = self.allocator.explain(&caller()?, &request);
        let error = explanation.failure().map_or(0, |failure| status::code(failure).0);
        Ok(convert::explanation(&explanation, error))
    }

    fn describe(&self, buffer: &ParcelFileDescriptor) -> Result<BufferInfo> {
        let fd: &std::os::fd::OwnedFd = buffer.as_ref();
        let view = self.allocator.describe(fd).map_err(status::not_ours)?;
        Ok(convert::buffer_info(&view))
    }

    fn getStats(&self) -> Result<Vec<HeapStats>> {
        Ok(self.allocator.stats().iter().map(convert::heap_stats).collect())
    }

    fn getUsage(&self) -> Result<Vec<ClientUsage>> {
        let rows = self.allocator.usage(&caller()?);
        Ok(rows.into_iter().take(MAX_USAGE_ROWS.try_into().unwrap_or(0)).map(convert::client_usage).collect())
    }

    fn trim(&self, heap: &str, bytes: i64) -> Result<i64> {
        let bytes = convert::trim_bytes(bytes).map_err(status::bad_request)?;
        let heap = Some(heap).filter(|name| !name.is_empty());
        let freed = self.allocator.trim(&caller()?, heap, bytes).map_err(status::trim_failed)?;
        Ok(convert::long(freed))
    }

    fn getPressure(&self) -> Result<PressureLevel> {
        Ok(convert::pressure_level(self.allocator.pressure()))
    }

    fn registerPressureListener(&self, listener: &Strong<dyn IPressureListener>) -> Result<()> {
        self.listeners.register(&self.allocator, caller()?.uid, listener).map_err(status::listener_refused)
    }

    fn unregisterPressureListener(&self, listener: &Strong<dyn IPressureListener>) -> Result<()> {
        self.listeners.unregister(caller()?.uid, listener).map_err(status::listener_refused)
    }

    fn dumpTo(&self, output: &ParcelFileDescriptor, args: &[String]) -> Result<()> {
        let caller = caller()?;
        let arguments = Arguments::parse(args).map_err(status::bad_request)?;
        let text =
            dump::render(&self.allocator, &self.row, &caller, &arguments).map_err(status::dump_failed)?;
        let fd: &std::os::fd::OwnedFd = output.as_ref();
        let fd = fd.try_clone().map_err(status::writing_failed)?;
        let writer = Writer { uid: caller.uid, is_privileged: self.allocator.is_privileged(caller.uid) };
        self.sinks.write(writer, fd, text).map_err(status::writing_failed)
    }

    fn adopt(&self, buffer: &ParcelFileDescriptor, id: i64) -> Result<i64> {
        let fd: &std::os::fd::OwnedFd = buffer.as_ref();
        let id = BufferId(u64::from_ne_bytes(id.to_ne_bytes()));
        let adopted = self.allocator.adopt(&caller()?, fd, id).map_err(status::not_adopted)?;
        Ok(i64::from_ne_bytes(adopted.0.to_ne_bytes()))
    }
}
