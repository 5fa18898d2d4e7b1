// SPDX-License-Identifier: Apache-2.0
//! Reads the configuration again, on SIGHUP.

use super::configuration;
use super::transport::Serving;
use crate::allocator::Allocator;
use crate::config::spec::GraphicsRule;
use std::path::PathBuf;

/// Reads the configuration in `files` again and applies the settings that can change while the
/// service runs: the limits and privileges of clients. It also looks again for missing devices.
/// Other settings stay, and are logged; if the configuration cannot be read, all settings stay.
/// `rules` are those of the graphics allocator.
pub(crate) fn reload(files: &[PathBuf], allocator: &Allocator, serving: &Serving, rules: &[GraphicsRule]) {
    let (config, origin) = match configuration::load(files) {
        Ok(loaded) => loaded,
        Err(error) => {
            log::error!("SIGHUP: the configuration stays as it was: {error:#}");
            return;
        }
    };
    let mut kept: Vec<String> = allocator.reconfigure(&config).iter().map(ToString::to_string).collect();
    kept.extend((config.graphics != rules).then(|| "the graphics node has other rules".to_owned()));
    for kept in kept {
        log::warn!("SIGHUP: {kept}; that takes effect at the next start of the service");
    }
    serving.set_policy(&config.policy);
    allocator.retry_devices();
    log::info!("SIGHUP: the limits of clients now come from the configuration ({origin})");
}
