// SPDX-License-Identifier: Apache-2.0
//! A checked configuration.

use crate::units::{HeapId, HeapName, HeapType, Uid};
use anion_layout::Usage;
use std::fmt;

/// Heaps and client policy.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// By descending id; ids, names and aliases are unique.
    pub heaps: Vec<HeapSpec>,
    /// Quotas and privileges of clients.
    pub policy: Policy,
    /// Rules for heaps of images. The first rule that covers a usage applies; a usage without a
    /// rule is not supported.
    pub graphics: Vec<GraphicsRule>,
}

/// Rule that names the heaps for images with some usages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphicsRule {
    /// Node name.
    pub name: String,
    /// Bits of Android's `BufferUsage` that its heaps support in any combination.
    pub usages: u64,
    /// Names of heaps, in the order in which they are tried; at least one, without duplicates.
    pub heaps: Vec<HeapName>,
    /// Whether buffers must be dma-bufs.
    pub dma_bufs_only: bool,
}

impl GraphicsRule {
    /// Returns whether its heaps serve a buffer for all of `usage`. A rule for protected memory
    /// covers only protected buffers.
    pub fn covers(&self, usage: Usage) -> bool {
        let is_protected = |bits: u64| bits & Usage::PROTECTED != 0;
        let needed = usage.0 & !Usage::REMOVED;
        needed & !self.usages == 0 && is_protected(self.usages) == is_protected(needed)
    }
}

/// One heap as configured.
#[derive(Debug, Clone)]
pub struct HeapSpec {
    /// Bit in heap masks; also the priority.
    pub id: HeapId,
    /// Unique name.
    pub name: HeapName,
    /// Other names of the heap, unique among all names.
    pub aliases: Vec<HeapName>,
    /// ION's kind.
    pub kind: HeapType,
    /// Its source. Custom heaps have `devices` instead.
    pub device: Device,
    /// Fallbacks of `device`: the first that works when the service starts is used. No duplicates,
    /// and not `device`; empty for custom heaps.
    pub fallbacks: Vec<Device>,
    /// Sources of a custom heap, in the order in which they are tried: no `Auto`, no duplicates, at
    /// least one unless it is `unavailable`. Empty for other kinds.
    pub devices: Vec<Device>,
    /// Most bytes that it holds at once (page multiple); `None` for no limit of its own. Always set
    /// for carveout and chunk heaps that are not `unavailable`, which set this size aside.
    pub size: Option<u64>,
    /// Alignment in bytes of every buffer's size, and of its offset in memory that is set aside. A
    /// power of two, at least a page.
    pub alignment: u64,
    /// Bytes of one chunk. Set only for chunk heaps, and always unless they are `unavailable`: a
    /// power of two that divides `size`.
    pub chunk_size: Option<u64>,
    /// Alignment in bytes of the rows of images in its buffers, as the reading devices require. A
    /// power of two, at most 4096.
    pub stride_align: u32,
    /// Whether CPU mappings are cached.
    pub cached: bool,
    /// ION_HEAP_FLAG_DEFER_FREE.
    pub deferred_free: bool,
    /// Page orders of the heap's pools, largest first; empty for no order pools.
    pub pool_orders: Vec<u32>,
    /// Most bytes kept in pools; `None` for the default.
    pub pool_limit: Option<u64>,
    /// Whether the CPU must never map its buffers.
    pub secure: bool,
    /// Whether released memory of the kernel's own heaps is cleaned and kept for its owner's next
    /// request, as the service's own memory is, instead of returning to the kernel. Has no effect
    /// on other sources.
    pub recycle: bool,
    /// Whether clients may add seals to its memfds.
    pub client_seals: bool,
    /// Uids that may allocate from it; `None` if all may.
    pub allow_uids: Option<Vec<Uid>>,
    /// Reason why pooled memory may move to another trust domain; `None` if it may not. Not empty.
    pub shared: Option<String>,
    /// Reason why no machine can serve the heap with this configuration, if so.
    pub unavailable: Option<String>,
    /// First address of the memory that the tree reserves for it; `None` if the tree names none.
    pub base: Option<u64>,
    /// Whether it is the pool that devices without one of their own share (`linux,cma-default`).
    pub is_default_pool: bool,
    /// Names of the same heap in the kernel, in the order in which they are tried. For a system or
    /// CMA heap with `Auto`, they come before the names that all kernels have.
    pub kernel_names: Vec<HeapName>,
    /// Path of the node that describes it.
    pub node: String,
}

impl HeapSpec {
    /// Returns the keys whose values differ from those of `other`, which has the same name. Ignores
    /// the paths of their nodes.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let Self {
            id,
            name: _,
            aliases,
            kind,
            device,
            fallbacks,
            devices,
            size,
            alignment,
            chunk_size,
            stride_align,
            cached,
            deferred_free,
            pool_orders,
            pool_limit,
            secure,
            recycle,
            client_seals,
            allow_uids,
            shared,
            unavailable,
            base,
            is_default_pool,
            kernel_names,
            node: _,
        } = self;
        let sources = (device, fallbacks, devices, kernel_names);
        let others = (&other.device, &other.fallbacks, &other.devices, &other.kernel_names);
        let same = [
            ("heap-id", *id == other.id),
            ("aliases", *aliases == other.aliases),
            ("type", *kind == other.kind),
            ("device", sources == others),
            ("size", *size == other.size),
            ("alignment", *alignment == other.alignment),
            ("chunk-size", *chunk_size == other.chunk_size),
            ("stride-align", *stride_align == other.stride_align),
            ("cached", *cached == other.cached),
            ("deferred-free", *deferred_free == other.deferred_free),
            ("pool-orders", *pool_orders == other.pool_orders),
            ("pool-limit", *pool_limit == other.pool_limit),
            ("secure", *secure == other.secure),
            ("recycle", *recycle == other.recycle),
            ("client-seals", *client_seals == other.client_seals),
            ("allow-uids", *allow_uids == other.allow_uids),
            ("share-across-domains", *shared == other.shared),
            ("status", *unavailable == other.unavailable),
            ("reg", *base == other.base),
            ("linux,cma-default", *is_default_pool == other.is_default_pool),
        ];
        same.into_iter().filter_map(|(key, is_same)| (!is_same).then_some(key)).collect()
    }
}

/// The source of a heap's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// The default source of the kind of heap: for system heaps, the first that works of the
    /// kernel's dma-heap, ION, udmabuf and memfds.
    Auto,
    /// Sealed memfds.
    Memfd,
    /// Sealed memfds of huge pages.
    Hugetlb,
    /// The ashmem device.
    Ashmem,
    /// dma-bufs of the service's own memory.
    Udmabuf,
    /// dma-bufs of the service's own huge pages.
    UdmabufHugetlb,
    /// The kernel dma-heap of this name.
    DmaHeap(HeapName),
    /// The kernel ION heap of this name.
    Ion(HeapName),
}

/// The word in a configuration.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Memfd => f.write_str("memfd"),
            Self::Hugetlb => f.write_str("hugetlb"),
            Self::Ashmem => f.write_str("ashmem"),
            Self::Udmabuf => f.write_str("udmabuf"),
            Self::UdmabufHugetlb => f.write_str("udmabuf-hugetlb"),
            Self::DmaHeap(name) => write!(f, "dma-heap:{name}"),
            Self::Ion(name) => write!(f, "ion:{name}"),
        }
    }
}

/// Limits of clients.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// For uids without a client policy.
    pub default: Quota,
    /// By node name; a uid appears in at most one.
    pub clients: Vec<ClientPolicy>,
}

impl Policy {
    /// Returns the uids that are privileged or have reserves.
    pub fn favoured(&self) -> impl Iterator<Item = Uid> {
        let clients = self.clients.iter().filter(|client| client.privileged || !client.reserves.is_empty());
        clients.flat_map(|client| client.uids.iter().copied())
    }
}

/// Limits of one uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Most bytes held at once; `None` for unlimited.
    pub max_bytes: Option<u64>,
    /// Most buffers held at once; `None` for unlimited.
    pub max_buffers: Option<u64>,
}

/// Policy of some uids. The quota and the reserves apply to each uid separately.
#[derive(Debug, Clone)]
pub struct ClientPolicy {
    /// Node name.
    pub name: String,
    /// The uids to which it applies.
    pub uids: Vec<Uid>,
    /// Their limits.
    pub quota: Quota,
    /// Whether it may see every client's usage and trim heaps.
    pub privileged: bool,
    /// Bytes of a heap that other uids cannot take, whether or not they are in use.
    pub reserves: Vec<Reserve>,
}

/// Bytes of a heap kept for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// Name of a heap that has a `size`.
    pub heap: HeapName,
    /// Page multiple. All reserves of a heap together do not exceed its size.
    pub bytes: u64,
}

#[cfg(test)]
impl HeapSpec {
    /// Returns a heap for tests with default values: cached, open to all uids, no granularity of
    /// its own.
    pub(crate) fn plain(id: u32, name: &str, kind: HeapType, size: Option<u64>) -> Self {
        Self {
            id: HeapId::new(id).expect("valid"),
            name: HeapName::new(name).expect("valid"),
            aliases: vec![],
            kind,
            device: Device::Auto,
            fallbacks: vec![],
            devices: vec![],
            size,
            alignment: 1,
            chunk_size: None,
            stride_align: anion_layout::STRIDE_ALIGN,
            cached: true,
            deferred_free: false,
            pool_orders: vec![],
            pool_limit: None,
            secure: false,
            recycle: false,
            client_seals: false,
            allow_uids: None,
            shared: None,
            unavailable: None,
            base: None,
            is_default_pool: false,
            kernel_names: vec![],
            node: format!("/anion/{name}"),
        }
    }
}
