// SPDX-License-Identifier: Apache-2.0
//! Reports memory pressure to clients that register a listener.
//!
//! Each listener has a thread that waits for the next level and calls the listener, so a client
//! that does not take calls delays only that thread. The thread is made when the listener is
//! registered, since under memory pressure it may be impossible. A listener and its thread end when
//! the listener is unregistered or its process dies.
//!
//! # Locks
//! `entries` is a leaf lock. Entries are dropped after it is released, since dropping a link or an
//! object calls the client.

use super::convert;
use crate::allocator::{Allocator, PressureFeed, PressureSubscription};
use crate::units::Uid;
use anion_ipc::{DeathLink, Strong, caller_takes_calls, is_same_object};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    IHeapAllocator::MAX_PRESSURE_LISTENERS, IPressureListener::IPressureListener,
};

/// Most listeners of one uid, and in all.
const MAX_OF_UID: usize = MAX_PRESSURE_LISTENERS.unsigned_abs() as usize;
const MAX_LISTENERS: usize = 128;
/// Threads for each permitted listener: the thread of an unregistered one may still be in a call.
/// The limit stops a client from adding threads by registering and unregistering.
const THREADS_EACH: usize = 2;
/// Stack of a listener's thread, which makes one small call at a time.
const STACK_BYTES: usize = 256 << 10;

type Listener = Strong<dyn IPressureListener>;

/// Reason why a listener is not registered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the listener cannot be called: {0}")]
    Unreachable(String),
    #[error(
        "uid {uid} has {MAX_OF_UID} listeners already, which is the limit, or as many that are still in a call"
    )]
    TooManyOfUid { uid: Uid },
    #[error("there are {MAX_LISTENERS} listeners already, which is the limit")]
    TooMany,
    #[error("no thread for the listener: {0}")]
    NoThread(std::io::Error),
    #[error("uid {uid} has no such listener registered")]
    NotRegistered { uid: Uid },
}

/// All listeners.
#[derive(Default)]
pub(super) struct Listeners {
    entries: Arc<Entries>,
}

#[derive(Default)]
struct Entries(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    entries: Vec<Entry>,
    /// Uids of the listeners' threads, including threads that are about to end.
    threads: Vec<Uid>,
}

/// A thread's part of the limit of threads of its uid.
struct Seat {
    entries: Arc<Entries>,
    uid: Uid,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.entries.lock();
        if let Some(index) = inner.threads.iter().position(|uid| *uid == self.uid) {
            inner.threads.swap_remove(index);
        }
    }
}

struct Entry {
    key: Arc<()>,
    uid: Uid,
    listener: Listener,
    _subscription: PressureSubscription,
    /// Set once the entry is in the list.
    death: Option<DeathLink>,
}

impl Entries {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, is_meant: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let entries = &mut self.lock().entries;
        let index = entries.iter().position(is_meant)?;
        Some(entries.swap_remove(index))
    }
}

impl Listeners {
    /// Reports the level to `listener`, now and whenever it changes.
    ///
    /// # Errors
    /// If it cannot be called, or there are too many.
    pub(super) fn register(
        &self,
        allocator: &Allocator,
        uid: Uid,
        listener: &Listener,
    ) -> Result<(), Refusal> {
        if !caller_takes_calls() {
            let why = "the client's session has no incoming connection";
            return Err(Refusal::Unreachable(why.to_owned()));
        }
        let (subscription, feed) = allocator.subscribe_to_pressure();
        let key = Arc::new(());
        let entry = Entry {
            key: Arc::clone(&key),
            uid,
            listener: listener.clone(),
            _subscription: subscription,
            death: None,
        };
        let Some(seat) = self.enter(entry)? else { return Ok(()) };
        // The entry is inserted first, so that a later death finds it.
        self.watch(&key, listener).and_then(|()| start(listener.clone(), feed, seat)).inspect_err(|_| {
            drop(self.entries.remove(|entry| Arc::ptr_eq(&entry.key, &key)));
        })
    }

    /// Inserts the entry. Returns the seat of the thread to start; `None` if the listener is
    /// already registered.
    fn enter(&self, entry: Entry) -> Result<Option<Seat>, Refusal> {
        let mut inner = self.entries.lock();
        let uid = entry.uid;
        let of_uid = || inner.entries.iter().filter(|other| other.uid == uid);
        if of_uid().any(|other| is_same_object(&other.listener, &entry.listener)) {
            return Ok(None);
        }
        let threads = inner.threads.iter().filter(|other| **other == uid).count();
        if of_uid().count() >= MAX_OF_UID || threads >= THREADS_EACH * MAX_OF_UID {
            return Err(Refusal::TooManyOfUid { uid });
        }
        if inner.entries.len() >= MAX_LISTENERS || inner.threads.len() >= THREADS_EACH * MAX_LISTENERS {
            return Err(Refusal::TooMany);
        }
        inner.entries.push(entry);
        inner.threads.push(uid);
        Ok(Some(Seat { entries: Arc::clone(&self.entries), uid }))
    }

    fn watch(&self, key: &Arc<()>, listener: &Listener) -> Result<(), Refusal> {
        let (entries, dead) = (Arc::downgrade(&self.entries), Arc::downgrade(key));
        let on_death = move || {
            let (Some(entries), Some(dead)) = (entries.upgrade(), dead.upgrade()) else { return };
            drop(entries.remove(|entry| Arc::ptr_eq(&entry.key, &dead)));
        };
        let link =
            DeathLink::new(listener, on_death).map_err(|error| Refusal::Unreachable(error.to_string()))?;
        let mut inner = self.entries.lock();
        match inner.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.key, key)) {
            Some(entry) => entry.death = Some(link),
            None => {
                drop(inner);
                drop(link);
            }
        }
        Ok(())
    }

    /// Unregisters a listener.
    ///
    /// # Errors
    /// If `uid` has no such listener.
    pub(super) fn unregister(&self, uid: Uid, listener: &Listener) -> Result<(), Refusal> {
        let is_meant = |entry: &Entry| entry.uid == uid && is_same_object(&entry.listener, listener);
        self.entries.remove(is_meant).map(drop).ok_or(Refusal::NotRegistered { uid })
    }
}

/// Starts the listener's thread. It ends with the subscription.
fn start(listener: Listener, feed: PressureFeed, seat: Seat) -> Result<(), Refusal> {
    let tell = move || {
        let _seat = seat;
        let mut known = None;
        while let Some(level) = feed.next(known) {
            // Known even if the call failed: a dead client is removed by its death link, and a
            // client whose queue is full gets the next change.
            known = Some(level);
            if let Err(error) = listener.onPressure(convert::pressure_level(level)) {
                log::debug!("cannot report {level:?} to a pressure listener: {error}");
            }
        }
    };
    let thread = thread::Builder::new().name("anion-listener".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(tell).map(drop).map_err(Refusal::NoThread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::{PressureLevel, WatchedCgroup};
    use anion_ipc::{impl_interface, new_binder};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::time::Duration;
    use vendor_anion_allocator::aidl::vendor::anion::allocator::{
        IPressureListener::BnPressureListener, PressureLevel::PressureLevel as AidlLevel,
    };

    const PATIENCE: Duration = Duration::from_secs(120);

    /// Reports each level that it gets, then waits for permission to return.
    struct Slow(Sender<AidlLevel>, Mutex<Receiver<()>>);

    impl_interface!(Slow, |_listener, _writer, _args: &[String]| Ok(()));

    impl IPressureListener for Slow {
        fn onPressure(&self, level: AidlLevel) -> anion_ipc::Result<()> {
            self.0.send(level).expect("the test listens");
            // Ends with the test at the latest.
            let _ = self.1.lock().expect("no panic").recv();
            Ok(())
        }
    }

    fn slow() -> (Listener, Receiver<AidlLevel>, Sender<()>) {
        let ((told, levels), (leave, returns)) = (channel(), channel());
        (new_binder!(BnPressureListener, Slow(told, Mutex::new(returns))), levels, leave)
    }

    fn allocator() -> Arc<Allocator> {
        let page = crate::sys::memory::page_size().expect("known");
        Allocator::new(crate::config::embedded(page).config, &WatchedCgroup::None).expect("an allocator")
    }

    fn entry(subscription: PressureSubscription, uid: u32, listener: &Listener) -> Entry {
        Entry {
            key: Arc::new(()),
            uid: Uid(uid),
            listener: listener.clone(),
            _subscription: subscription,
            death: None,
        }
    }

    #[test]
    fn a_listener_that_takes_no_calls_holds_up_no_other() {
        let allocator = allocator();
        let ((stuck, stuck_levels, _kept), (quick, levels, leave)) = (slow(), slow());
        drop(leave);
        let subscriptions = [stuck, quick].map(|listener| {
            let (subscription, feed) = allocator.subscribe_to_pressure();
            let seat = Seat { entries: Arc::default(), uid: Uid(1) };
            start(listener, feed, seat).expect("a thread");
            subscription
        });
        stuck_levels.recv_timeout(PATIENCE).expect("told once");
        allocator.press(PressureLevel::Critical);
        // The machine that runs the test may have memory pressure itself.
        while levels.recv_timeout(PATIENCE).expect("told") != AidlLevel::CRITICAL {}
        assert!(stuck_levels.try_recv().is_err(), "it has not returned from its first call");
        drop(subscriptions);
        let ended = Err(RecvTimeoutError::Disconnected);
        assert_eq!(levels.recv_timeout(PATIENCE), ended, "its thread ends with the subscription");
    }

    #[test]
    fn listeners_are_bounded_for_a_uid_and_in_all() {
        let (listeners, allocator) = (Listeners::default(), allocator());
        let enter = |uid, listener: &Listener| {
            listeners.enter(entry(allocator.subscribe_to_pressure().0, uid, listener))
        };
        let (listener, ..) = slow();
        let mut seats = vec![enter(1, &listener).expect("room").expect("new")];
        assert!(enter(1, &listener).expect("there already").is_none());
        let mut take =
            |uid, listener: &Listener| seats.push(enter(uid, listener).expect("room").expect("new"));
        for _ in 1..MAX_OF_UID {
            take(1, &slow().0);
        }
        assert!(matches!(enter(1, &slow().0), Err(Refusal::TooManyOfUid { uid: Uid(1) })));
        let per_uid = u32::try_from(MAX_OF_UID).expect("small");
        for other in per_uid..u32::try_from(MAX_LISTENERS).expect("small") {
            take(other / per_uid + 1, &slow().0);
        }
        assert!(matches!(enter(999, &listener), Err(Refusal::TooMany)));
        assert!(matches!(
            listeners.unregister(Uid(2), &listener),
            Err(Refusal::NotRegistered { uid: Uid(2) })
        ));
        listeners.unregister(Uid(1), &listener).expect("registered");
        assert!(enter(999, &listener).expect("room again").is_some());
    }

    #[test]
    fn threads_of_former_listeners_count_until_they_end() {
        let (listeners, allocator) = (Listeners::default(), allocator());
        let (listener, ..) = slow();
        let enter = || listeners.enter(entry(allocator.subscribe_to_pressure().0, 1, &listener));
        let mut stuck = Vec::new();
        for _ in 0..THREADS_EACH * MAX_OF_UID {
            stuck.extend(enter().expect("room"));
            listeners.unregister(Uid(1), &listener).expect("registered");
        }
        assert!(matches!(enter(), Err(Refusal::TooManyOfUid { uid: Uid(1) })));
        stuck.pop();
        assert!(enter().expect("one has ended").is_some());
    }

    #[test]
    fn without_a_way_to_call_back_nothing_is_registered() {
        let (listeners, allocator) = (Listeners::default(), allocator());
        let refusal =
            listeners.register(&allocator, Uid(1), &slow().0).expect_err("no transaction is served");
        assert!(refusal.to_string().contains("incoming connection"), "{refusal}");
        let inner = listeners.entries.lock();
        assert!(inner.entries.is_empty() && inner.threads.is_empty());
    }
}
