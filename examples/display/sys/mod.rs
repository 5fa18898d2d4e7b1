// SPDX-License-Identifier: Apache-2.0
//! Makes a commit with a fence that signals when the picture has been read back
//! (`Documentation/gpu/drm-kms.rst`, "Explicit Fencing Properties").

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use drm::control::atomic::AtomicModeReq;
use drm::control::{AtomicCommitFlags, Device, connector, property};

/// Makes a commit that reads back the shown picture. `fence` is the property
/// `WRITEBACK_OUT_FENCE_PTR` of the connector. Returns the fence, which polls readable after the
/// whole picture was written.
///
/// # Errors
/// As the request `DRM_IOCTL_MODE_ATOMIC`; `ENOENT` if the kernel created no fence.
pub(super) fn commit(
    card: &impl Device,
    mut request: AtomicModeReq,
    writeback: connector::Handle,
    fence: property::Handle,
) -> io::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    let place = (&raw mut fd).expose_provenance();
    request.add_raw_property(writeback.into(), fence, place as u64);
    card.atomic_commit(AtomicCommitFlags::ALLOW_MODESET, request)?;
    // SAFETY: the integer lives on this stack. The kernel wrote it during the request, if at all,
    // and not later. The read is volatile because the compiler does not know of the write.
    let fd = unsafe { (&raw const fd).read_volatile() };
    if fd < 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: the kernel has just created this descriptor for this request (`setup_out_fence` in
    // drivers/gpu/drm/drm_atomic_uapi.c), so that no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
