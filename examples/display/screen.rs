// SPDX-License-Identifier: Apache-2.0
//! A display with a connector that reads its picture back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use drm::ClientCapability::{Atomic, UniversalPlanes, WritebackConnectors};
use drm::buffer::{DrmFourcc, DrmModifier, Handle, PlanarBuffer};
use drm::control::atomic::AtomicModeReq;
use drm::control::connector::{Info, Interface, State};
use drm::control::property::{self, RawValue, Value};
use drm::control::{
    AtomicCommitFlags, Device, FbCmd2Flags, Mode, PlaneType, RawResourceHandle, ResourceHandle,
    ResourceHandles, connector, crtc, framebuffer, plane,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::card::Card;
use super::sys;

/// An object of the display with the names of its properties.
struct Object<H> {
    handle: H,
    properties: Vec<(String, property::Handle, RawValue)>,
}

impl<H: ResourceHandle> Object<H> {
    fn of(card: &Card, handle: H) -> Result<Self> {
        let mut properties = Vec::new();
        for (property, value) in card.get_properties(handle)? {
            let name = card.get_property(property)?.name().to_string_lossy().into_owned();
            properties.push((name, property, value));
        }
        Ok(Self { handle, properties })
    }

    fn property(&self, name: &str) -> Result<(property::Handle, RawValue)> {
        let found = self.properties.iter().find(|(other, ..)| other == name);
        let (_, property, value) = found.with_context(|| format!("the display has no property {name}"))?;
        Ok((*property, *value))
    }

    /// Adds values to a request.
    fn set(&self, request: &mut AtomicModeReq, values: &[(&str, RawValue)]) -> Result<()> {
        for (name, value) in values {
            request.add_raw_property(self.handle.into(), self.property(name)?.0, *value);
        }
        Ok(())
    }
}

/// The layout of a picture in a buffer.
pub(super) struct Layout {
    /// Columns and rows.
    pub(super) size: (u32, u32),
    pub(super) format: DrmFourcc,
    /// `None` lets the display select it.
    pub(super) modifier: Option<DrmModifier>,
    /// The offset and the bytes of a row, for each of up to four planes.
    pub(super) planes: Vec<(u32, u32)>,
}

/// The description of a buffer with a picture, for the kernel.
struct Picture<'a> {
    layout: &'a Layout,
    handle: Handle,
}

impl Picture<'_> {
    fn of_planes<T: Copy + Default>(&self, value: impl Fn((u32, u32)) -> T) -> [T; 4] {
        std::array::from_fn(|index| self.layout.planes.get(index).copied().map_or_else(T::default, &value))
    }
}

impl PlanarBuffer for Picture<'_> {
    fn size(&self) -> (u32, u32) {
        self.layout.size
    }

    fn format(&self) -> DrmFourcc {
        self.layout.format
    }

    fn modifier(&self) -> Option<DrmModifier> {
        self.layout.modifier
    }

    fn pitches(&self) -> [u32; 4] {
        self.of_planes(|(_, pitch)| pitch)
    }

    fn handles(&self) -> [Option<Handle>; 4] {
        self.of_planes(|_| Some(self.handle))
    }

    fn offsets(&self) -> [u32; 4] {
        self.of_planes(|(offset, _)| offset)
    }
}

/// A display, with the objects that show a picture and read it back.
pub(super) struct Screen {
    card: Card,
    crtc: Object<crtc::Handle>,
    plane: Object<plane::Handle>,
    connector: Object<connector::Handle>,
    writeback: Object<connector::Handle>,
    size: (u32, u32),
    /// The property value for the mode.
    mode: RawValue,
    /// The names of the connectors.
    pub(super) name: String,
}

impl Screen {
    /// Opens a display that has a mode of `size` pixels.
    ///
    /// # Errors
    /// If it cannot be opened, is no such display, or another program uses it. The message names
    /// what it lacks.
    pub(super) fn open(path: &Path, size: (u32, u32)) -> Result<Self> {
        let shown = path.display();
        let card = Card::open(path)?;
        for capability in [UniversalPlanes, Atomic, WritebackConnectors] {
            drm::Device::set_client_capability(&card, capability, true)
                .with_context(|| format!("{shown} is no display: it does not support {capability:?}"))?;
        }
        Self::find(card, size).with_context(|| format!("{shown} cannot show and read back"))
    }

    fn find(card: Card, size: (u32, u32)) -> Result<Self> {
        let resources = card.resource_handles()?;
        let connectors: Vec<Info> = resources
            .connectors()
            .iter()
            .map(|handle| card.get_connector(*handle, true))
            .collect::<io::Result<_>>()?;
        let is_writeback = |info: &&Info| info.interface() == Interface::Writeback;
        let writeback = connectors.iter().find(is_writeback).context("it has no writeback connector")?;
        let connector = connectors
            .iter()
            .find(|info| !is_writeback(info) && info.state() == State::Connected)
            .context("no other connector is connected")?;
        let readable = crtcs_of(&card, &resources, writeback)?;
        let crtc = crtcs_of(&card, &resources, connector)?
            .into_iter()
            .find(|crtc| readable.contains(crtc))
            .with_context(|| format!("{writeback} shares no CRTC with {connector}"))?;
        let mode = mode_of(connector, size)?;
        let Value::Blob(mode) = card.create_property_blob(&mode)? else {
            bail!("the kernel created no blob of the mode");
        };
        Ok(Self {
            name: format!("{connector}, read back by {writeback}"),
            plane: primary_plane(&card, &resources, crtc)?,
            crtc: Object::of(&card, crtc)?,
            connector: Object::of(&card, connector.handle())?,
            writeback: Object::of(&card, writeback.handle())?,
            card,
            size,
            mode,
        })
    }

    /// Imports a buffer as a picture of the display, which holds the buffer until the picture is
    /// discarded and no longer shown.
    ///
    /// # Errors
    /// If the display does not support the buffer, or the layout.
    pub(super) fn import(&self, buffer: BorrowedFd<'_>, layout: &Layout) -> Result<framebuffer::Handle> {
        let handle = self.card.prime_fd_to_buffer(buffer).context("the display refuses the buffer")?;
        let flags = layout.modifier.map_or(FbCmd2Flags::empty(), |_| FbCmd2Flags::MODIFIERS);
        let made = self.card.add_planar_framebuffer(&Picture { layout, handle }, flags);
        // The picture holds the buffer without the handle.
        self.card.close_buffer(handle).context("the display does not close a handle")?;
        made.context("the display cannot use the buffer as a picture")
    }

    /// Shows a picture, only on the connector.
    ///
    /// # Errors
    /// If the display refuses the commit.
    pub(super) fn show(&self, picture: framebuffer::Handle) -> Result<()> {
        let crtc = raw(self.crtc.handle);
        let (width, height) = (RawValue::from(self.size.0), RawValue::from(self.size.1));
        let mut request = AtomicModeReq::new();
        self.crtc.set(&mut request, &[("MODE_ID", self.mode), ("ACTIVE", 1)])?;
        self.connector.set(&mut request, &[("CRTC_ID", crtc)])?;
        self.writeback.set(&mut request, &[("CRTC_ID", 0)])?;
        self.plane.set(&mut request, &[("CRTC_ID", crtc), ("FB_ID", raw(picture))])?;
        self.plane
            .set(&mut request, &[("CRTC_X", 0), ("CRTC_Y", 0), ("CRTC_W", width), ("CRTC_H", height)])?;
        // In 65536ths of a pixel of the picture.
        self.plane.set(
            &mut request,
            &[("SRC_X", 0), ("SRC_Y", 0), ("SRC_W", width << 16), ("SRC_H", height << 16)],
        )?;
        self.card
            .atomic_commit(AtomicCommitFlags::ALLOW_MODESET, request)
            .context("the display does not show a picture")
    }

    /// Writes the shown picture into another one, within `patience`. The writeback connector
    /// replaces the other connector until the next picture is shown: few displays, and not vkms,
    /// support both at the same time.
    ///
    /// # Errors
    /// If the display refuses the commit, or takes longer.
    pub(super) fn read_back(&self, into: framebuffer::Handle, patience: Duration) -> Result<()> {
        let mut request = AtomicModeReq::new();
        self.connector.set(&mut request, &[("CRTC_ID", 0)])?;
        self.writeback
            .set(&mut request, &[("CRTC_ID", raw(self.crtc.handle)), ("WRITEBACK_FB_ID", raw(into))])?;
        let (fence, _) = self.writeback.property("WRITEBACK_OUT_FENCE_PTR")?;
        let fence = sys::commit(&self.card, request, self.writeback.handle, fence)
            .context("the display does not read back")?;
        wait(fence.as_fd(), patience).context("the picture was not read back")
    }

    /// Disables the display.
    ///
    /// # Errors
    /// If the display refuses the commit.
    pub(super) fn clear(&self) -> Result<()> {
        let mut request = AtomicModeReq::new();
        self.crtc.set(&mut request, &[("MODE_ID", 0), ("ACTIVE", 0)])?;
        self.connector.set(&mut request, &[("CRTC_ID", 0)])?;
        self.writeback.set(&mut request, &[("CRTC_ID", 0)])?;
        self.plane.set(&mut request, &[("CRTC_ID", 0), ("FB_ID", 0)])?;
        self.card
            .atomic_commit(AtomicCommitFlags::ALLOW_MODESET, request)
            .context("cannot disable the display")
    }

    /// Discards a picture that is not shown. Discarding a shown one would disable the display.
    ///
    /// # Errors
    /// If the display does not know it.
    pub(super) fn discard(&self, picture: framebuffer::Handle) -> Result<()> {
        self.card.destroy_framebuffer(picture).context("the display does not discard a picture")
    }
}

/// Returns the number of an object as the value of a property.
fn raw(handle: impl Into<RawResourceHandle>) -> RawValue {
    RawValue::from(handle.into().get())
}

/// Returns the CRTCs that can feed a connector.
fn crtcs_of(card: &Card, resources: &ResourceHandles, connector: &Info) -> Result<Vec<crtc::Handle>> {
    let mut crtcs = Vec::new();
    for encoder in connector.encoders() {
        crtcs.extend(resources.filter_crtcs(card.get_encoder(*encoder)?.possible_crtcs()));
    }
    Ok(crtcs)
}

/// Returns the connector's mode of this size.
fn mode_of(connector: &Info, (width, height): (u32, u32)) -> Result<Mode> {
    let size = |mode: &Mode| (u32::from(mode.size().0), u32::from(mode.size().1));
    let found = connector.modes().iter().find(|mode| size(mode) == (width, height));
    found.copied().with_context(|| {
        let others: Vec<String> =
            connector.modes().iter().map(size).map(|(width, height)| format!("{width}x{height}")).collect();
        format!("{connector} does not show {width}x{height}, but {}", others.join(", "))
    })
}

/// Returns the primary plane of a CRTC.
fn primary_plane(
    card: &Card,
    resources: &ResourceHandles,
    crtc: crtc::Handle,
) -> Result<Object<plane::Handle>> {
    for handle in card.plane_handles()? {
        let crtcs = resources.filter_crtcs(card.get_plane(handle)?.possible_crtcs());
        let plane = Object::of(card, handle)?;
        if crtcs.contains(&crtc) && plane.property("type")?.1 == RawValue::from(PlaneType::Primary as u32) {
            return Ok(plane);
        }
    }
    bail!("it has no primary plane")
}

/// Waits until a fence has signalled.
fn wait(fence: BorrowedFd<'_>, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fence, PollFlags::POLLIN)], timeout) {
            Ok(0) => ensure!(!left.is_zero(), "the fence did not signal within {patience:?}"),
            Err(Errno::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}
