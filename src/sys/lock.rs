// SPDX-License-Identifier: Apache-2.0
//! The locks that allocations share: those of the standard library. With the feature `testing` they
//! record how long they are held.

#[cfg(not(feature = "testing"))]
pub use std::sync::{Mutex, MutexGuard};
#[cfg(feature = "testing")]
pub use timed::{Mutex, MutexGuard, measure};

#[cfg(feature = "testing")]
mod timed {
    use std::any::type_name;
    use std::collections::BTreeMap;
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{LockResult, PoisonError};
    use std::time::{Duration, Instant};

    static IS_MEASURING: AtomicBool = AtomicBool::new(false);
    /// Durations by the name of the locked type.
    static HELD: std::sync::Mutex<BTreeMap<&'static str, Vec<Duration>>> =
        std::sync::Mutex::new(BTreeMap::new());

    /// Runs `work` and returns each duration for which a lock was held meanwhile, by the name of
    /// the type in the lock. Supports one caller at a time.
    pub fn measure(work: impl FnOnce()) -> BTreeMap<&'static str, Vec<Duration>> {
        IS_MEASURING.store(true, Ordering::Relaxed);
        work();
        IS_MEASURING.store(false, Ordering::Relaxed);
        std::mem::take(&mut *HELD.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Behaves as the standard library's.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    /// Behaves as the standard library's. Takes the time before it releases the lock, and records
    /// it afterwards.
    pub struct MutexGuard<'a, T> {
        // Fields are dropped in this order.
        guard: std::sync::MutexGuard<'a, T>,
        time: Time,
    }

    /// The time at which a measured lock was taken; then the duration for which it was held.
    struct Time {
        of: &'static str,
        since: Option<Instant>,
        held: Option<Duration>,
    }

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let with_time = |guard| {
                let since = IS_MEASURING.load(Ordering::Relaxed).then(Instant::now);
                MutexGuard { guard, time: Time { of: type_name::<T>(), since, held: None } }
            };
            match self.0.lock() {
                Ok(guard) => Ok(with_time(guard)),
                Err(poisoned) => Err(PoisonError::new(with_time(poisoned.into_inner()))),
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.time.held = self.time.since.map(|since| since.elapsed());
        }
    }

    impl Drop for Time {
        fn drop(&mut self) {
            if let Some(held) = self.held {
                HELD.lock().unwrap_or_else(PoisonError::into_inner).entry(self.of).or_default().push(held);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        struct Locked;

        #[test]
        fn each_hold_is_noted_with_its_length() {
            let lock = Mutex::new(Locked);
            let pause = Duration::from_millis(3);
            let held = measure(|| {
                drop(lock.lock());
                let _held = lock.lock();
                std::thread::sleep(pause);
            });
            let own = &held[type_name::<Locked>()];
            assert_eq!(own.len(), 2);
            assert!(own[1] >= pause, "{own:?}");
            drop(lock.lock());
            assert!(!measure(|| ()).contains_key(type_name::<Locked>()), "only while it is measured");
        }
    }
}
