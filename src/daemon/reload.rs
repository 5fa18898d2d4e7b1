// SPDX-License-Identifier: Apache-2.0
//! Reads the configuration again, on SIGHUP.

use super::configuration;
use super::transport::Serving;
use crate::allocator::Allocator;
use crate::config::LookUp;
use crate::config::spec::GraphicsRule;
use std::path::PathBuf;

/// Reads the configuration in `files` again and applies the values that can change while the
/// service runs: the limits and privileges of clients. Also retries missing devices. Other values
/// stay; their changes are logged. If the configuration cannot be read, everything stays. `rules`
/// are those of the graphics allocator; `look_up` resolves the names of users and groups.
pub(crate) fn reload(
    files: &[PathBuf],
    look_up: LookUp<'_>,
    allocator: &Allocator,
    serving: &Serving,
    rules: &[GraphicsRule],
) {
    let (config, origin) = match configuration::load(files, look_up) {
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
