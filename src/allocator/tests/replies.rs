// SPDX-License-Identifier: Apache-2.0
//! A released buffer frees its room at once, even while a thread of the service has not closed its
//! copy yet.

use super::*;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;

/// Returns an allocator that waits without a practical limit, and for every reply: the test may
/// have to wait for a processor.
fn patient() -> Arc<Allocator> {
    let mut allocator = still(config());
    let replies = &mut Arc::get_mut(&mut allocator).expect("the only one").replies;
    (replies.patience, replies.young) = (PATIENCE, PATIENCE);
    allocator
}

/// Returns a request for the whole quota.
fn everything() -> Request {
    request(1, 1, 8 * MIB)
}

#[test]
fn a_copy_that_is_about_to_be_closed_is_waited_for() {
    let allocator = patient();
    let (is_asked, has_reply) = (AtomicBool::new(false), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sent = allocator.allocate(&caller(1), &everything()).expect("room");
            // The client gets and releases it before this thread closes its copy.
            has_reply.wait();
            while !is_asked.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            for _ in 0..1_000_000 {
                std::hint::spin_loop();
            }
            drop(sent);
        });
        has_reply.wait();
        is_asked.store(true, Ordering::Relaxed);
        allocator.allocate(&caller(1), &everything()).expect("the client has released them");
    });
}

#[test]
fn the_allocator_does_not_wait_for_buffers_that_the_client_holds() {
    let allocator = patient();
    let held = allocator.allocate(&caller(1), &everything()).expect("room");
    assert!(!allocator.replies.await_sent(&caller(1)), "sent by this very thread");
    // The thread that sent it sleeps now and waits for the other: it has closed all its copies.
    let waiting = Arc::clone(&allocator);
    let elsewhere = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        waiting.replies.await_sent(&caller(1))
    });
    elsewhere.join().expect("no panic");
    allocator.allocate(&caller(1), &everything()).expect_err("it is held");
    drop(held);
    allocator.allocate(&caller(1), &everything()).expect("it is released");
}

#[test]
fn the_allocator_does_not_wait_for_replies_to_other_clients() {
    let allocator = patient();
    let go_on = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let (allocator, go_on) = (&allocator, &go_on);
        scope.spawn(move || {
            let sent = allocator.allocate(&caller(2), &everything()).expect("room");
            tell.send(()).expect("received");
            while go_on.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            drop(sent);
        });
        told.recv().expect("sent");
        let waited = allocator.replies.await_sent(&caller(1));
        go_on.store(false, Ordering::Relaxed);
        assert!(!waited);
    });
}
