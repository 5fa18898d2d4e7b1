// SPDX-License-Identifier: Apache-2.0
//! Which configuration is served.

use anion::config::spec::{Config, Device, HeapSpec, Policy};
use anion::units::{HeapId, HeapName, HeapType, PageSize};
use anyhow::{Context, bail};
use std::path::Path;

/// The configuration in `file`, or the built-in one; and where it came from.
///
/// # Errors
/// If the file cannot be read or is not a configuration.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<(Config, String)> {
    if let Some(file) = file {
        bail!("{}: configuration files are not read yet", file.display());
    }
    Ok((built_in()?, "built in".to_owned()))
}

/// A system heap and a camera heap of 128 MiB.
fn built_in() -> anyhow::Result<Config> {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.context("no page size")?;
    let page = PageSize::new(u64::try_from(page)?)?;
    let heap = |id, name: &str, kind, size| -> anyhow::Result<HeapSpec> {
        Ok(HeapSpec {
            id: HeapId::new(id)?,
            name: HeapName::new(name)?,
            aliases: Vec::new(),
            kind,
            device: Device::Auto,
            size,
            alignment: page.bytes(),
            chunk_size: None,
            cached: true,
            deferred_free: false,
            pool_orders: Vec::new(),
            pool_limit: None,
            secure: false,
            allow_uids: None,
            unavailable: None,
            node: format!("/heaps/{name}"),
        })
    };
    let heaps = vec![
        heap(25, "system", HeapType::System, None)?,
        heap(8, "camera", HeapType::Carveout, Some(128 << 20))?,
    ];
    Ok(Config { heaps, policy: Policy::default() })
}
