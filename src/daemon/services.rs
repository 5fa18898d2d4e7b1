// SPDX-License-Identifier: Apache-2.0
//! The binder objects of the service, for all transports.

#[cfg(soong)]
use super::{accounts, configuration};
use crate::allocator::Allocator;
#[cfg(soong)]
use crate::allocator::WatchedCgroup;
use crate::config::spec::GraphicsRule;
use crate::config::usage_words;
use crate::graphics::GraphicsAllocatorService;
use crate::service::HeapAllocatorService;
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::IAllocator::IAllocator;
use anion_ipc::Strong;
use std::sync::Arc;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// The served objects.
pub(crate) struct Services {
    /// Anion's own interface.
    pub(crate) heaps: Strong<dyn IHeapAllocator>,
    /// Android's graphics allocator with the name of its instance; `None` unless an option requests
    /// it.
    pub(crate) graphics: Option<(String, Strong<dyn IAllocator>)>,
}

impl Services {
    /// Makes the objects. `origin` names the source of the configuration. `graphics` names the
    /// instance of the graphics allocator, whose rules are logged.
    pub(crate) fn new(
        allocator: &Arc<Allocator>,
        origin: String,
        instance: Option<&String>,
        rules: &[GraphicsRule],
    ) -> Self {
        let heaps = HeapAllocatorService::binder(Arc::clone(allocator), origin);
        let Some(instance) = instance else { return Self { heaps, graphics: None } };
        if rules.is_empty() {
            log::warn!("graphics allocator {instance}: no heap serves images (graphics node, system heaps)");
        }
        for rule in rules {
            log::info!("graphics allocator {instance}: {}", describe(rule));
        }
        let graphics = GraphicsAllocatorService::binder(Arc::clone(allocator), rules.to_vec());
        Self { heaps, graphics: Some((instance.clone(), graphics)) }
    }
}

/// Returns the service over the default heaps, for AOSP's fuzzer of services.
///
/// # Errors
/// If the heaps cannot be made.
#[cfg(soong)]
pub fn fuzzed_service() -> anyhow::Result<Strong<dyn IHeapAllocator>> {
    let (config, origin) = configuration::load(&[], &accounts::look_up)?;
    Ok(HeapAllocatorService::binder(Allocator::new(config, &WatchedCgroup::None)?, origin))
}

/// Returns a rule in one line.
pub(super) fn describe(rule: &GraphicsRule) -> String {
    let heaps = rule.heaps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let kind = if rule.dma_bufs_only { ", dma-bufs only" } else { "" };
    format!("{} from {heaps}{kind} (rule {})", usage_words(rule.usages), rule.name)
}
