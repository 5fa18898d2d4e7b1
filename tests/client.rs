// SPDX-License-Identifier: Apache-2.0
//! Tests the client library against the real service, over a socket, also across its death.

mod common;

use anion_client::{
    Access, Backing, BufferAllocator, Client, CpuAccess, Endpoint, Error, Format, HeapType, Image, Mapping,
    Phase, PressureLevel, PressureWatch, Refusal, Request, Settings, SyncType,
};
use common::anionctl::held;
use common::{CLIENT_HEAPS, Daemon, eventually};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn start() -> Daemon {
    Daemon::with_heaps(CLIENT_HEAPS)
}

fn settings(daemon: &Daemon) -> Settings {
    Settings {
        endpoint: Some(Endpoint::Socket(daemon.socket())),
        patience: common::DEADLINE,
        ..Settings::default()
    }
}

fn connect(daemon: &Daemon) -> Client {
    Client::with(settings(daemon)).expect("the daemon serves")
}

fn write(mapping: &Mapping, text: &[u8]) {
    let view = mapping.begin(CpuAccess::Write).expect("begun");
    view.write_at(0, text).expect("inside");
    view.end().expect("ended");
}

fn starts_with(mapping: &Mapping, text: &[u8]) -> bool {
    let mut found = vec![0; text.len()];
    mapping.begin(CpuAccess::Read).expect("begun").read_at(0, &mut found).expect("inside");
    found == text
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (Refusal, String) {
    match result.expect_err("refused") {
        Error::Refused { refusal, message } => (refusal, message),
        other => panic!("no refusal: {other}"),
    }
}

#[test]
fn a_batch_is_of_one_heap_zero_and_shared_by_its_mappings() {
    let daemon = start();
    let client = connect(&daemon);
    let buffers =
        client.allocate(&Request::new(MIB - 1).count(3).heap("system").name("frames")).expect("room");
    assert_eq!(buffers.len(), 3);
    for buffer in &buffers {
        assert_eq!((buffer.bytes(), buffer.heap(), buffer.heap_id()), (MIB, "system", 25));
        assert_eq!(buffer.backing(), Some(Backing::Memfd));
        let writer = buffer.map(Access::ReadWrite).expect("mapped");
        assert!(writer.begin(CpuAccess::Read).expect("begun").is_zero().expect("readable"));
        write(&writer, b"pixels");
        assert!(starts_with(&buffer.map(Access::ReadOnly).expect("mapped"), b"pixels"));
    }
    assert_eq!(held(&daemon), (3 << 20, 3));
    drop(buffers);
    eventually("nothing is held", || held(&daemon) == (0, 0));
}

#[test]
fn heaps_are_chosen_by_name_in_order_and_by_mask() {
    let daemon = start();
    let client = connect(&daemon);
    let heaps = client.heaps().expect("heaps");
    let camera = heaps.iter().find(|heap| heap.name == "camera").expect("a built-in heap");
    assert_eq!((camera.kind, camera.capacity), (Some(HeapType::Carveout), Some(64 * MIB)));
    assert!(camera.unavailable.is_none() && camera.is_zeroed && camera.is_cached && !camera.is_secure);
    assert!(heaps.iter().any(|heap| heap.answers_to("ion_system_heap") && heap.name == "system"));

    let heap_of = |request: Request| client.allocate_one(&request).map(|buffer| buffer.heap().to_owned());
    assert_eq!(heap_of(Request::new(1).heap("ion_system_heap")).expect("an alias"), "system");
    assert_eq!(heap_of(Request::new(1).heap_mask(1 << camera.id)).expect("in the mask"), "camera");
    assert_eq!(heap_of(Request::new(128 * MIB).heap("camera").heap("system")).expect("the next"), "system");
    assert_eq!(heap_of(Request::new(1)).expect("any"), heaps[0].name);
}

#[test]
fn a_heap_tells_how_rows_of_images_are_aligned_in_it() {
    let daemon = start();
    let client = connect(&daemon);
    let stride_of = |heap: &str| {
        let heaps = client.heaps().expect("heaps");
        let heap = heaps.iter().find(|other| other.answers_to(heap)).expect("a heap of the test");
        let image = Image::new(Format::Ycbcr420_888, 100, 2).stride_align(heap.stride_align);
        let layout = image.layout().expect("a layout");
        let buffer = client.allocate_one(&Request::for_image(&layout).heap(&heap.name)).expect("a buffer");
        assert!(buffer.bytes() >= layout.bytes);
        layout.planes().iter().map(|plane| plane.stride).collect::<Vec<_>>()
    };
    assert_eq!((stride_of("ion_system_heap"), stride_of("camera")), (vec![128, 128], vec![256, 256]));
}

#[test]
fn a_read_only_buffer_cannot_be_mapped_for_writing() {
    let daemon = start();
    let buffer = connect(&daemon).allocate_one(&Request::new(4096).access(Access::ReadOnly)).expect("room");
    assert!(buffer.map(Access::ReadOnly).is_ok());
    let error = buffer.map(Access::ReadWrite).expect_err("the kernel enforces it");
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn refusals_say_what_the_service_said() {
    let daemon = start();
    let client = connect(&daemon);
    let cases = [
        (Request::new(1).heap("nowhere"), Refusal::UnknownHeap, "nowhere"),
        (Request::new(0), Refusal::BadRequest, "size is 0"),
        (Request::new(u64::MAX), Refusal::NoMemory, "9223372036854775807"),
        (Request::new(1).count(65), Refusal::BadRequest, "count is 65"),
        (Request::new(1).name("a\nb"), Refusal::BadRequest, "name"),
        (Request::new(1).heap("system").dma_buf(), Refusal::Unsupported, "dma-buf"),
        (Request::new(300 * MIB).count(4).heap("system"), Refusal::QuotaExceeded, "1073741824"),
    ];
    for (request, refusal, text) in cases {
        let (found, message) = refused(client.allocate(&request));
        assert_eq!(found, refusal, "{message}");
        assert!(message.contains(text), "{message}");
    }
    assert_eq!(held(&daemon), (0, 0));
    assert_eq!(client.generation(), 1, "a refusal is no loss");
}

#[test]
fn the_next_call_finds_the_service_that_took_the_place_of_a_killed_one() {
    let mut daemon = start();
    let client = connect(&daemon);
    let kept = client.allocate_one(&Request::new(MIB).name("kept")).expect("room");
    let mapping = kept.map(Access::ReadWrite).expect("mapped");
    write(&mapping, b"before");

    daemon.kill();
    daemon.start_again();
    // It may not serve yet: the call waits.
    let fresh = client.allocate_one(&Request::new(MIB).name("fresh")).expect("served by the new one");
    assert_eq!(client.generation(), 2);
    assert_ne!(fresh.id(), kept.id(), "ids do not repeat");

    // Buffers of the old service are unchanged, and can be mapped again.
    assert!(starts_with(&mapping, b"before"));
    assert!(starts_with(&kept.map(Access::ReadOnly).expect("mapped"), b"before"));
    write(&kept.map(Access::ReadWrite).expect("mapped"), b"after!");
    assert!(starts_with(&mapping, b"after!"));
    // The client has presented it to the new service.
    let described = client.describe(&kept).expect("counted again");
    assert_eq!((described.id.cast_unsigned(), described.name.as_str()), (kept.id().0, "kept"));
    assert_eq!(client.describe(&fresh).expect("known").name, "fresh");
    assert_eq!(held(&daemon), (2 << 20, 2));
    drop(mapping);
    drop((kept, fresh));
    eventually("both are released", || held(&daemon) == (0, 0));
}

#[test]
fn a_killed_services_buffers_are_counted_by_the_next_one_while_their_client_keeps_them() {
    let mut daemon = Daemon::with_heaps_under(&[], CLIENT_HEAPS, &["--seccomp", "built-in"]);
    let client = connect(&daemon);
    let mut buffers = client.allocate(&Request::new(4096).count(64).heap("system")).expect("room");
    buffers.extend(client.allocate(&Request::new(MIB).count(2).heap("camera")).expect("room"));
    let before = held(&daemon);
    // Dropped before the restart, and passed on: neither is presented.
    drop(buffers.remove(0));
    let passed_on = buffers.remove(0).into_fd();
    daemon.kill();
    daemon.start_again();
    client.heaps().expect("served by the new one");
    assert_eq!(held(&daemon), (before.0 - 2 * 4096, 64));
    // The quota of the new service counts them.
    let heaps = client.call(|service| service.getStats()).expect("counters");
    assert_eq!(heaps.iter().map(|heap| heap.numOfAllocBytes).sum::<i64>(), before.0 - 2 * 4096);
    daemon.kill();
    daemon.start_again();
    client.heaps().expect("served by the new one");
    assert_eq!(held(&daemon), (before.0 - 2 * 4096, 64), "also by the one after it");
    drop((buffers, passed_on));
    eventually("all are released", || held(&daemon) == (0, 0));
}

#[test]
fn an_explanation_has_the_verdict_of_every_heap() {
    let daemon = start();
    let client = connect(&daemon);
    let answer = client.explain(&Request::new(128 * MIB).heap("camera").heap("system")).expect("an answer");
    assert!(answer.possible && answer.chosenHeap == "system" && answer.verdicts.len() == 2, "{answer:?}");
    assert_eq!(refused(client.explain(&Request::new(0))).0, Refusal::BadRequest);
    assert_eq!(held(&daemon), (0, 0));
}

#[test]
fn a_reservation_lasts_until_it_is_dropped_also_in_the_next_service() {
    let mut daemon = start();
    let client = connect(&daemon);
    let reserved = || client.call(|service| service.getUsage()).expect("usage")[0].reservedBytes;
    let reservation = client.reserve("system", MIB, 3).expect("room");
    eventually("they are ready", || reservation.ready().expect("it is there") == 3);
    assert_eq!(reserved(), 3 << 20);
    let drawn = client.allocate_one(&Request::new(MIB).heap("system")).expect("a reserved one");
    assert_eq!(reserved(), 2 << 20);
    drop(reservation);
    eventually("the rest went back", || reserved() == 0);
    assert_eq!(held(&daemon), (1 << 20, 1));
    drop(drawn);

    assert_eq!(refused(client.reserve("nowhere", MIB, 1)).0, Refusal::UnknownHeap);
    assert_eq!(refused(client.reserve("system", u64::MAX, u32::MAX)).0, Refusal::BadRequest);
    let kept = client.reserve("system", MIB, 1).expect("room");
    daemon.kill();
    daemon.start_again();
    assert!(matches!(kept.ready(), Err(Error::Unreachable(_))), "{:?}", kept.ready());
    // The next call makes it again.
    assert_eq!(reserved(), 1 << 20);
    eventually("it is ready", || kept.ready().expect("it is there") == 1);
    drop(kept);
    eventually("it went back", || reserved() == 0);
}

/// Waits until the descriptor is readable, and returns the next level.
fn told(watch: &PressureWatch) -> PressureLevel {
    let mut polled = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(common::DEADLINE).expect("it fits");
    assert_eq!(poll(&mut polled, timeout), Ok(1), "no level was told");
    watch.next().expect("of this process").expect("it was readable")
}

#[test]
fn a_pressure_watch_is_told_the_level_at_once_and_again_by_the_next_service() {
    let mut daemon = start();
    let client = connect(&daemon);
    let watch = client.watch_pressure().expect("registered");
    assert_eq!(told(&watch), client.pressure().expect("a level"));
    assert_eq!(watch.next().expect("of this process"), None);
    daemon.kill();
    daemon.start_again();
    assert_eq!(told(&watch), client.pressure().expect("a level"));

    // One uid may have four watches: after a drop there is room at once.
    let more: Vec<_> = (0..3).map(|_| client.watch_pressure().expect("room")).collect();
    assert_eq!(refused(client.watch_pressure()).0, Refusal::QuotaExceeded);
    drop((more, watch));
    eventually("there is room", || client.watch_pressure().is_ok());
}

#[test]
fn an_access_without_a_scope_is_refused_where_a_view_is() {
    let daemon = start();
    let buffer = connect(&daemon).allocate_one(&Request::new(4096)).expect("room");
    let mapping = buffer.map(Access::ReadOnly).expect("mapped");
    mapping.tell(CpuAccess::Read, Phase::Start).expect("begun");
    mapping.tell(CpuAccess::Read, Phase::End).expect("ended");
    let error = mapping.tell(CpuAccess::Write, Phase::Start).expect_err("read-only");
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn a_service_that_stays_away_is_named_and_found_when_it_is_back() {
    let mut daemon = start();
    let patience = Duration::from_millis(150);
    let client = Client::with(Settings { patience, ..settings(&daemon) }).expect("the daemon serves");
    daemon.kill();
    let error = client.heaps().expect_err("no service is there");
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    let place = daemon.socket();
    assert!(error.to_string().contains(place.to_str().expect("text")), "{error}");
    // Later calls try again, and succeed as soon as a service answers.
    daemon.start_again();
    let served = |client: &Client| client.heaps().is_ok();
    eventually("it is served", || served(&client));
    assert_eq!(client.generation(), 2);
}

#[test]
fn threads_that_share_a_client_all_find_the_new_service() {
    let mut daemon = start();
    let client = Client::with(Settings { connections: 4, ..settings(&daemon) }).expect("the daemon serves");
    let allocate = || client.allocate_one(&Request::new(4096)).map(|buffer| buffer.id());
    allocate().expect("room");
    daemon.kill();
    let ids: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(allocate)).collect();
        daemon.start_again();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(ids.iter().all(Result::is_ok), "{ids:?}");
    assert_eq!(client.generation(), 2, "one of them connected, for all");
}

#[test]
fn a_service_that_was_never_there_is_not_waited_for() {
    let endpoint = Some(Endpoint::Socket("/nowhere/socket".into()));
    let patience = Duration::from_secs(3600);
    let error =
        Client::with(Settings { endpoint, patience, connections: 1 }).expect_err("no service is there");
    assert!(error.to_string().contains("/nowhere/socket: there is no socket"), "{error}");
}

#[test]
fn code_for_libdmabufheap_works_line_by_line() {
    let daemon = start();
    let mut allocator = BufferAllocator::from(connect(&daemon));
    let names = allocator.get_dmabuf_heap_list().expect("heaps");
    assert!(["system", "ion_system_heap", "camera"].iter().all(|name| names.contains(*name)), "{names:?}");
    assert!(!allocator.check_ion_support().expect("heaps"));

    let buffers = [
        allocator.alloc("system", 100, 0).expect("room"),
        allocator.alloc_system(true, 100, 0).expect("room"),
        // No heap is uncached here; any heap is accepted.
        allocator.alloc_system(false, 100, 0).expect("room"),
    ];
    for fd in &buffers {
        for access in [SyncType::Read, SyncType::Write, SyncType::ReadWrite] {
            allocator.cpu_sync_start(fd, access).expect("a memfd needs none");
            allocator.cpu_sync_end(fd, access).expect("a memfd needs none");
        }
        let error = allocator.dmabuf_set_name(fd, "name").expect_err("no dma-buf");
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENOTTY));
        assert!(Mapping::new(fd, 4096, Access::ReadWrite).is_ok());
    }
    assert_eq!(held(&daemon).1, 3);

    assert_eq!(refused(allocator.alloc("vendor,preview", 100, 0)).0, Refusal::UnknownHeap);
    allocator.map_name_to_ion_heap("vendor,preview", "camera");
    allocator.alloc("vendor,preview", 100, 0).expect("mapped to the camera heap");
    assert_eq!(refused(allocator.alloc("system", 100, 1 << 30)).0, Refusal::Unsupported);
    allocator.dma_bufs_only();
    assert_eq!(refused(allocator.alloc("system", 100, 0)).0, Refusal::Unsupported);
    assert!(allocator.get_dmabuf_heap_list().expect("heaps").is_empty());
}
