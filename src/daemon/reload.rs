// SPDX-License-Identifier: Apache-2.0
//! Reads the configuration again, on SIGHUP.

use super::configuration;
use super::transport::Serving;
use crate::allocator::Allocator;
use crate::config::spec::GraphicsRule;
use std::path::PathBuf;

/// Reads the configuration in `files` again and applies what can change while the service runs: the
/// limits and privileges of clients. Looks again for devices that were missing, too. What cannot
/// change stays, and is logged; so does everything if the configuration cannot be read. `rules` are
/// those of the graphics allocator.
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
        log::warn!("SIGHUP: {kept}; that takes effect when the service starts again");
    }
    serving.set_policy(&config.policy);
    allocator.retry_devices();
    log::info!("SIGHUP: the limits of clients are those of the configuration ({origin}) from now on");
}
