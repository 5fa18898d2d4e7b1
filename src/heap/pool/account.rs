// SPDX-License-Identifier: Apache-2.0
//! A heap's account, behind its pool's lock.

use super::memory::Poolable;
use super::{HeapAccount, Inner, MutexGuard};
use std::ops::{Deref, DerefMut};

/// A heap's account while its pool is locked.
pub struct AccountGuard<'a, M: Poolable>(pub(super) MutexGuard<'a, Inner<M>>);

impl<M: Poolable> Deref for AccountGuard<'_, M> {
    type Target = HeapAccount;

    fn deref(&self) -> &HeapAccount {
        &self.0.account
    }
}

impl<M: Poolable> DerefMut for AccountGuard<'_, M> {
    fn deref_mut(&mut self) -> &mut HeapAccount {
        &mut self.0.account
    }
}
