// SPDX-License-Identifier: Apache-2.0
//! `libdmabufheap` and `libion` for programs that were written for them: the same functions, over
//! the service's heaps. docs/porting.md says what becomes of each call.
//!
//! They are linked from the same archive as libanion, and each exports what its `.map` lists.

pub mod dmabufheap;
pub mod ion;

use crate::error::Failure;
use ::anion_client::Client;
use std::sync::OnceLock;

/// Returns the client of this process, connected when it is first needed: neither library has a
/// function that could say where the service is, or that there is none.
///
/// # Errors
/// As [`Client::connect`]. The next call tries again.
fn client() -> Result<&'static Client, Failure> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    // Of threads that meet here, one keeps its connection. No lock is held meanwhile, which a child
    // of fork would find locked.
    let connected = Client::connect()?;
    Ok(CLIENT.get_or_init(|| connected))
}
