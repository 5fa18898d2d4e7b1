// SPDX-License-Identifier: Apache-2.0
//! `libdmabufheap` and `libion` over the service's heaps, for programs that use these libraries.
//! docs/porting.md describes the behaviour of each call.
//!
//! They are linked from the same archive as libanion. Each exports the functions in its `.map`.

pub mod dmabufheap;
pub mod ion;

use crate::error::Failure;
use ::anion_client::Client;
use std::sync::OnceLock;

/// Returns the client of this process, and connects it at first use: no function of these libraries
/// takes an address of the service, or reports that there is none.
///
/// # Errors
/// As [`Client::connect`]. The next call tries again.
fn client() -> Result<&'static Client, Failure> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    // If several threads connect at once, one connection is kept. No lock is held meanwhile: a
    // child of fork could never acquire it.
    let connected = Client::connect()?;
    Ok(CLIENT.get_or_init(|| connected))
}
