// SPDX-License-Identifier: Apache-2.0

use super::*;

const ID: BufferId = BufferId(7);
const UID: Uid = Uid(1000);

#[test]
fn a_suspect_is_looked_at_ever_more_rarely_and_then_no_more() {
    let (mut pending, start) = (Pending::default(), Instant::now());
    let suspect = Suspect { looks: 1, next: start + FIRST_LOOK };
    pending.suspects.entry(UID).or_default().insert(ID, suspect);
    let (mut looks, mut now, mut pauses) = (0, start, Vec::new());
    while let Some(next) = pending.next_due() {
        pauses.push(next - now);
        now = next;
        assert_eq!(pending.take_due(now).buffers, [ID]);
        looks += 1;
    }
    assert_eq!(looks, MAX_LOOKS);
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(now - start > Duration::from_secs(30) && now - start < Duration::from_secs(120));
}

#[test]
fn failing_checks_are_logged_once_a_second_and_the_others_are_counted() {
    let (liveness, start) = (Liveness::new().expect("inotify"), Instant::now());
    let lines: Vec<_> =
        (0..100).filter_map(|look| liveness.unanswered(start + UNWATCHED_PAUSE * look)).collect();
    assert_eq!(lines, [0, 19, 19, 19, 19], "one a second, and the others are counted");
}

#[test]
fn a_released_buffer_wakes_no_thread() {
    let liveness = Liveness::new().expect("inotify");
    liveness.suspect(ID, UID, Instant::now());
    liveness.released(ID, UID);
    assert_eq!(liveness.pending().next_due(), None);
}

#[test]
fn unwatched_buffers_are_looked_at_until_they_are_gone() {
    let (liveness, start) = (Liveness::new().expect("inotify"), Instant::now());
    liveness.unwatched(UID, &[ID], 4096, start);
    let later = start + UNWATCHED_PAUSE;
    assert_eq!(liveness.due(start), Due::default());
    assert_eq!(liveness.due(later).buffers, [ID]);
    liveness.released(ID, UID);
    assert_eq!(liveness.due(later + UNWATCHED_PAUSE), Due::default());
    assert_eq!(liveness.pending().next_due(), None, "no wake-ups without unwatched buffers");
}

#[test]
fn a_look_that_takes_long_is_followed_by_a_long_rest() {
    let (mut pending, start) = (Pending::default(), Instant::now());
    pending.unwatched.entry(UID).or_default().ids.insert(ID);
    pending.look_soon(start);
    let began = start + UNWATCHED_PAUSE;
    assert_eq!(pending.take_due(began).buffers, [ID]);
    let ended = began + Duration::from_millis(600);
    pending.looked(ended - began, ended);
    assert_eq!(pending.take_due(ended).buffers, []);
    assert!(!pending.look_soon(ended), "what happens meanwhile does not shorten it");
    let rested = ended + Duration::from_millis(2400);
    assert_eq!(pending.next_due(), Some(rested));
    assert_eq!(pending.take_due(rested).buffers, [ID]);
    pending.looked(Duration::from_millis(1), rested + Duration::from_millis(1));
    assert_eq!(pending.next_due(), Some(rested + UNWATCHED_PAUSE), "a short one is followed as soon as ever");
}

#[test]
fn calls_look_at_more_the_more_they_allocate() {
    let (liveness, now) = (Liveness::new().expect("inotify"), Instant::now());
    assert_eq!(liveness.due_before(UID, LOOK_BYTES + 1), Look::default(), "there is none");
    let ids: Vec<_> = (1..=5).map(BufferId).collect();
    liveness.unwatched(UID, &ids, 1, now);
    let look = |ids: &[u64], is_all| Look { ids: ids.iter().copied().map(BufferId).collect(), is_all };
    assert_eq!(liveness.due_before(UID, 1), look(&[], false));
    assert_eq!(liveness.due_before(UID, LOOK_BYTES / 2), look(&[5, 1], false));
    assert_eq!(liveness.due_before(UID, LOOK_BYTES), look(&[5, 1, 4, 2, 3], true));
    assert_eq!(liveness.due_before(Uid(1), LOOK_BYTES), Look::default(), "another uid's");
    liveness.unwatched(UID, &[BufferId(6)], LOOK_BYTES, now);
    assert!(liveness.due_before(UID, 1).is_all);
    liveness.found(UID, false, LOOK_BYTES);
    assert_eq!(liveness.due_before(UID, 1), look(&[], false), "what was released counts no more");
    liveness.unwatched(UID, &[BufferId(7)], LOOK_BYTES, now);
    liveness.found(UID, true, 0);
    assert_eq!(liveness.due_before(UID, 1), look(&[], false), "all were looked at");
}

#[test]
fn only_a_look_that_comes_sooner_is_news() {
    let (mut pending, start) = (Pending::default(), Instant::now());
    assert!(pending.look_soon(start));
    assert!(!pending.look_soon(start) && !pending.look_soon(start + UNWATCHED_PAUSE));
    pending.unwatched.entry(UID).or_default().ids.insert(ID);
    while pending.unwatched_pause < CALM_PAUSE {
        pending.take_due(pending.next_unwatched.expect("planned"));
    }
    let last = pending.next_unwatched.expect("planned");
    pending.take_due(last);
    assert!(pending.look_soon(last), "it was planned for later");
}

#[test]
fn an_overflow_looks_at_everything_more_than_once() {
    let (liveness, start) = (Liveness::new().expect("inotify"), Instant::now());
    liveness.overflowed(start);
    assert!(liveness.due(start).everything);
    assert!(!liveness.due(start).everything);
    assert!(liveness.due(start + Duration::from_secs(2)).everything);
    assert_eq!(liveness.pending().next_due(), None);
}
