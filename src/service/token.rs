// SPDX-License-Identifier: Apache-2.0
//! The object that stands for buffers whose release the kernel does not tell: the transport drops it with the client's
//! last reference, and the buffers are given up.

use super::{convert, status};
use crate::allocator::BufferToken;
use anion_ipc::{Result, Strong, impl_interface, new_binder};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IBufferToken::{BnBufferToken, IBufferToken};

pub(super) struct TokenService(BufferToken);

impl TokenService {
    pub(super) fn binder(token: BufferToken) -> Strong<dyn IBufferToken> {
        new_binder!(BnBufferToken, Self(token))
    }
}

impl_interface!(TokenService);

impl IBufferToken for TokenService {
    fn release(&self, ids: &[i64]) -> Result<()> {
        let ids = convert::buffer_ids(ids).map_err(status::bad_request)?;
        self.0.release(&ids).map_err(status::bad_request)
    }
}
