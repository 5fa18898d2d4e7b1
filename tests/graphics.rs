// SPDX-License-Identifier: Apache-2.0
//! Tests the graphics allocator of a real service, over its socket.

mod common;

use android_hardware_graphics_allocator::aidl::android::hardware::{
    common::NativeHandle::NativeHandle,
    graphics::{
        allocator::{
            AllocationError::AllocationError, AllocationResult::AllocationResult,
            BufferDescriptorInfo::BufferDescriptorInfo, IAllocator::IAllocator,
        },
        common::{ExtendableType::ExtendableType, PixelFormat::PixelFormat},
    },
};
use anion_handle::{File, Handle, Kind, metadata};
use anion_ipc::{Connection, Endpoint, ServiceError, Status, connect};
use common::anionctl::{ANIONCTL, json, text};
use common::{Daemon, eventually};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::fstat;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    HeapStats::HeapStats, IHeapAllocator::IHeapAllocator,
};

const CPU: i64 = 0x33;
const CAMERA: i64 = 1 << 17;
const GPU: i64 = 1 << 8;
const PROTECTED: i64 = 1 << 14;
/// Metadata without a reserved region, in whole pages.
const METADATA: i64 = 4096;
/// 64 by 64 pixels of four bytes.
const IMAGE: i64 = 64 * 64 * 4;

const HEAPS: &str = r#"/dts-v1/;
/ { anion { compatible = "anion,heaps-v1";
    system { type = "system"; heap-id = <25>; device = "memfd"; };
    rows { type = "carveout"; heap-id = <20>; size = <0x100000>; device = "memfd"; stride-align = <1024>; };
    wall { type = "carveout"; heap-id = <19>; size = <0x100000>; device = "memfd"; allow-uids = <4242>; };
    clients { max-bytes = <0x15000>; max-buffers = <40>; };
    graphics {
        plain { reg = <0>; usages = "cpu"; heaps = "system"; };
        camera { usages = "cpu", "camera"; heaps = "rows", "system"; };
        display { usages = "composer-overlay"; vendor-usages = <0x80000000>; heaps = "system"; dma-bufs-only; };
        gpu { usages = "gpu-texture"; heaps = "wall"; };
    };
}; };"#;

/// A service with its two interfaces.
struct Service {
    daemon: Daemon,
    graphics: Connection<dyn IAllocator>,
    heaps: Connection<dyn IHeapAllocator>,
}

impl Service {
    fn start(arguments: &[&str]) -> Self {
        let daemon = Daemon::start(&[arguments, &["--graphics"]].concat());
        let graphics = at(&daemon, "graphics.sock");
        let heaps = connect(&Endpoint::Socket(daemon.socket()), "", 1).expect("the heaps are served");
        Self { daemon, graphics, heaps }
    }

    /// Starts a service with [`HEAPS`].
    fn with_rules() -> Self {
        let heaps = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(heaps.path(), HEAPS).expect("written");
        Self::start(&["--config", heaps.path().to_str().expect("text")])
    }

    fn allocate(&self, descriptor: &BufferDescriptorInfo, count: i32) -> Result<AllocationResult, Status> {
        self.graphics.service.allocate2(descriptor, count)
    }

    fn is_supported(&self, descriptor: &BufferDescriptorInfo) -> bool {
        self.graphics.service.isSupported(descriptor).expect("it never fails")
    }

    /// Returns the bytes and the buffers that are charged to this user.
    fn charged(&self) -> (i64, i64) {
        let usage = self.heaps.service.getUsage().expect("answered");
        let own = usage.iter().find(|row| row.uid.cast_unsigned() == nix::unistd::geteuid().as_raw());
        own.map_or((0, 0), |row| (row.bytes, row.buffers))
    }

    fn stats(&self, heap: &str) -> HeapStats {
        let stats = self.heaps.service.getStats().expect("answered");
        stats.into_iter().find(|row| row.heapName == heap).expect("a heap")
    }
}

fn at(daemon: &Daemon, name: &str) -> Connection<dyn IAllocator> {
    served_at(&daemon.socket().with_file_name(name))
}

/// Connects as soon as it is served: its socket is created after the other one.
fn served_at(socket: &Path) -> Connection<dyn IAllocator> {
    let endpoint = Endpoint::Socket(socket.to_owned());
    let mut connection = None;
    eventually("the graphics allocator is served", || {
        connection = connect(&endpoint, "", 1).ok();
        connection.is_some()
    });
    connection.expect("it is served")
}

fn image(format: PixelFormat, usage: i64) -> BufferDescriptorInfo {
    let mut descriptor = BufferDescriptorInfo { width: 64, height: 64, layerCount: 1, ..Default::default() };
    descriptor.name[..8].copy_from_slice(b"viewport");
    descriptor.format = format;
    descriptor.usage.0 = usage;
    descriptor
}

fn rgba(usage: i64) -> BufferDescriptorInfo {
    image(PixelFormat::RGBA_8888, usage)
}

fn refused(result: Result<AllocationResult, Status>) -> (i32, String) {
    let status = result.expect_err("refused");
    let error = ServiceError::of(&status).unwrap_or_else(|| panic!("not service-specific: {status}"));
    (error.code, error.message)
}

/// Returns the descriptors of a handle: that of the pixels and that of the metadata.
fn files(handle: NativeHandle) -> [OwnedFd; 2] {
    let fds: Vec<OwnedFd> = handle.fds.into_iter().map(OwnedFd::from).collect();
    fds.try_into().expect("two descriptors")
}

fn file(fd: &OwnedFd) -> File {
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS).expect("a memfd");
    let bytes = u64::try_from(fstat(fd).expect("open").st_size).expect("positive");
    File { bytes, kind: Kind::Sealed(seals), is_writable: true }
}

#[test]
fn a_buffer_is_what_its_handle_says_and_its_metadata_begin_as_asked() {
    let service = Service::start(&[]);
    let option =
        ExtendableType { name: "android.hardware.graphics.common.Dataspace".to_owned(), value: 0x0881_0000 };
    let descriptor =
        BufferDescriptorInfo { reservedSize: 100, additionalOptions: vec![option], ..rgba(CPU | CAMERA) };
    let AllocationResult { stride, buffers } = service.allocate(&descriptor, 2).expect("served");
    assert_eq!((stride, buffers.len()), (64, 2));
    let mut ids = Vec::new();
    for buffer in buffers {
        let handle = Handle::parse(&buffer.ints).expect("well formed");
        ids.push(handle.id());
        let asked = handle.request();
        assert_eq!((asked.width, asked.height, asked.layers, asked.reserved_size), (64, 64, 1, 100));
        assert_eq!(asked.usage.0, (CPU | CAMERA).cast_unsigned());
        assert_eq!(handle.size(), IMAGE.cast_unsigned());
        let [pixels, beside] = files(buffer);
        handle.check(&file(&pixels), &file(&beside)).expect("the files fit");
        assert_eq!(
            fcntl(&beside, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)),
            Err(nix::errno::Errno::EPERM),
            "nobody can keep others from writing"
        );
        let expected = metadata::initial(b"viewport", 0x0881_0000);
        let mut found = vec![0; expected.len()];
        fs::File::from(beside).read_exact_at(&mut found, 0).expect("read");
        assert_eq!(found, expected);
        let mut bytes = vec![1; 4096];
        fs::File::from(pixels).read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(bytes, vec![0; 4096]);
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn every_format_that_is_supported_can_be_had_and_every_other_cannot() {
    let service = Service::start(&[]);
    for value in (0..=0x40).chain([0x100, 0x1ff, 0x2020_3859, 0x2036_3159, 0x3231_5659, -1]) {
        let blob = BufferDescriptorInfo { height: 1, ..image(PixelFormat(value), CPU) };
        let descriptor = if value == 0x21 { blob } else { image(PixelFormat(value), CPU) };
        let is_known = anion_layout::Format::from_value(value).is_some();
        assert_eq!(service.is_supported(&descriptor), is_known, "{value:#x}");
        match service.allocate(&descriptor, 1) {
            Ok(result) => assert!(is_known && result.stride >= 64, "{value:#x}: {}", result.stride),
            error => assert_eq!((refused(error).0, is_known), (2, false), "{value:#x}"),
        }
    }
}

#[test]
fn a_client_that_keeps_either_file_keeps_the_charge_of_both() {
    let service = Service::start(&[]);
    let mut result = service.allocate(&rgba(CPU), 1).expect("served");
    assert_eq!(service.charged(), (IMAGE + METADATA, 1));
    let [pixels, beside] = files(result.buffers.remove(0));
    drop(pixels);
    // The event was queued before close() returned.
    assert_eq!(service.charged(), (IMAGE + METADATA, 1));
    drop(beside);
    eventually("the buffer is released", || service.charged() == (0, 0));

    let [pixels, beside] = files(service.allocate(&rgba(CPU), 1).expect("served").buffers.remove(0));
    drop(beside);
    assert_eq!(service.charged(), (IMAGE + METADATA, 1));
    drop(pixels);
    eventually("the buffer is released", || service.charged() == (0, 0));
}

#[test]
fn a_buffer_lives_as_long_as_another_process_has_it() {
    let mut service = Service::start(&[]);
    let [pixels, beside] = files(service.allocate(&rgba(CPU), 1).expect("served").buffers.remove(0));
    let mut other =
        Command::new("cat").stdin(Stdio::piped()).stdout(pixels).stderr(beside).spawn().expect("cat");
    // For the service, the allocating process has ended.
    service.graphics = at(&service.daemon, "graphics.sock");
    assert_eq!(service.charged(), (IMAGE + METADATA, 1));
    drop(other.stdin.take());
    other.wait().expect("a child");
    eventually("the buffer is released", || service.charged() == (0, 0));
}

#[test]
fn dump_and_describe_show_what_image_a_buffer_is_for() {
    let service = Service::start(&[]);
    let [pixels, _beside] = files(service.allocate(&rgba(CPU), 1).expect("served").buffers.remove(0));
    let image = "RGBA_8888 64x64, usage 0x33, 4096 bytes of metadata";
    let dump = text(&service.daemon, &["dump"]);
    assert!(dump.lines().any(|line| line.contains("viewport") && line.ends_with(image)), "{dump}");
    let dump = json(&service.daemon, &["dump"]);
    assert_eq!(dump["buffers"][0]["image"]["width"], 64);
    let described = |json: &[&str]| {
        let mut describe = Command::new(ANIONCTL);
        describe.arg("--socket").arg(service.daemon.socket()).args(json).args(["describe", "--fd", "0"]);
        let output = describe.stdin(pixels.try_clone().expect("a copy")).output().expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(described(&[]).contains(image), "{}", described(&[]));
    let row: serde_json::Value = serde_json::from_str(&described(&["--json"])).expect("JSON");
    let (row, image) = (&row["buffers"][0], &row["buffers"][0]["image"]);
    assert_eq!((&row["name"], &image["format"]), (&"viewport".into(), &"RGBA_8888".into()));
    assert_eq!((&image["height"], &image["usage"]), (&64.into(), &0x33.into()));
    assert_eq!(image["metadata_bytes"], METADATA);
}

#[test]
fn buffers_come_all_or_none_within_the_quota() {
    let service = Service::with_rules();
    // 84 KiB: four buffers of 20 KiB and one page.
    let (code, message) = refused(service.allocate(&rgba(CPU), 5));
    assert_eq!(code, AllocationError::NO_RESOURCES.0, "{message}");
    assert!(message.contains("system (25): quota of uid"), "{message}");
    assert_eq!(service.charged(), (0, 0));
    let held = service.allocate(&rgba(CPU), 4).expect("within the quota");
    assert_eq!(service.charged(), (4 * (IMAGE + METADATA), 4));
    assert_eq!(refused(service.allocate(&rgba(CPU), 1)).0, AllocationError::NO_RESOURCES.0);
    assert!(service.is_supported(&rgba(CPU)), "it is there again once the others are released");
    drop(held);
    service.allocate(&rgba(CPU), 4).expect("what was closed is no reason to refuse");
}

#[test]
fn a_request_that_can_never_be_served_is_unsupported() {
    let service = Service::with_rules();
    let larger = BufferDescriptorInfo { height: 512, ..rgba(CPU) };
    let too_large = [larger, BufferDescriptorInfo { width: 32768, height: 32768, ..rgba(CPU) }];
    let wrong = [
        rgba(GPU),
        rgba(CPU | GPU),
        rgba(PROTECTED),
        rgba(CPU | 1 << 33),
        rgba(CPU | 1 << 28),
        // The heaps of its rule give no dma-bufs.
        rgba(1 << 11),
        rgba(1 << 11 | 0x8000_0000),
        BufferDescriptorInfo { width: 0, ..rgba(CPU) },
        BufferDescriptorInfo { height: -1, ..rgba(CPU) },
        BufferDescriptorInfo { layerCount: 2, ..rgba(CPU) },
        BufferDescriptorInfo { reservedSize: -1, ..rgba(CPU) },
        BufferDescriptorInfo { reservedSize: i64::MAX, ..rgba(CPU) },
        BufferDescriptorInfo { height: 2, ..image(PixelFormat::BLOB, CPU) },
        BufferDescriptorInfo {
            additionalOptions: vec![ExtendableType { name: "com.example".to_owned(), value: 1 }],
            ..rgba(CPU)
        },
    ];
    for descriptor in too_large.iter().chain(&wrong) {
        assert!(!service.is_supported(descriptor), "{descriptor:?}");
        let (code, message) = refused(service.allocate(descriptor, 1));
        assert_eq!(code, AllocationError::UNSUPPORTED.0, "{descriptor:?}: {message}");
    }
    for count in [0, -1, 33, i32::MAX, i32::MIN] {
        let (code, message) = refused(service.allocate(&rgba(CPU), count));
        assert_eq!((code, message), (2, format!("count is {count}, but it must be 1 to 32")));
    }
    assert_eq!(service.charged(), (0, 0));
}

#[test]
#[expect(deprecated, reason = "that nothing comes of it is what is tested")]
fn descriptors_of_older_mappers_are_not_read() {
    let service = Service::start(&[]);
    let (code, message) = refused(service.graphics.service.allocate(&[0; 64], 1));
    assert_eq!(code, AllocationError::UNSUPPORTED.0);
    assert!(message.contains("allocate2"), "{message}");
}

#[test]
fn the_verdicts_of_the_heaps_are_in_the_message() {
    let service = Service::with_rules();
    let (_, message) = refused(service.allocate(&rgba(1 << 11), 1));
    assert!(message.contains("system (25): its buffers are not dma-bufs, or not all: memfd"), "{message}");
    let (_, message) = refused(service.allocate(&rgba(GPU), 1));
    assert!(message.contains("wall (19): uid") && message.contains("may not use this heap"), "{message}");
}

#[test]
fn usages_lead_to_their_heaps_in_order_and_rows_are_aligned_as_the_heap_says() {
    let service = Service::with_rules();
    let plain = service.allocate(&rgba(CPU), 1).expect("served");
    assert_eq!((plain.stride, service.stats("system").numOfBuffers), (64, 1));
    drop(plain);
    let camera = service.allocate(&rgba(CPU | CAMERA), 1).expect("served");
    assert_eq!((camera.stride, service.stats("rows").numOfBuffers), (256, 1));
    let handle = Handle::parse(&camera.buffers[0].ints).expect("well formed");
    assert_eq!((handle.layout().planes()[0].stride, handle.request().stride_align), (1024, 1024));
    // 64 rows of 1 KiB: while they are held, neither the rest of the heap nor the quota permits
    // another.
    let tall = BufferDescriptorInfo { height: 60, ..rgba(CPU | CAMERA) };
    let (code, message) = refused(service.allocate(&tall, 1));
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("rows (20): ") && message.contains("; no heap can serve"), "{message}");
}

#[test]
fn a_message_carries_as_many_buffers_as_one_call_may_ask_for() {
    let service = Service::start(&[]);
    let result = service.allocate(&rgba(CPU), 32).expect("served");
    assert_eq!((result.buffers.len(), service.charged().1), (32, 32));
    let mut handles: Vec<_> =
        result.buffers.iter().map(|buffer| Handle::parse(&buffer.ints).expect("well formed").id()).collect();
    handles.sort_unstable();
    handles.dedup();
    assert_eq!(handles.len(), 32);
    drop(result);
    eventually("all are released", || service.charged() == (0, 0));
}

#[test]
fn it_is_the_platforms_interface_and_names_the_mapper() {
    let service = Service::start(&[]);
    let graphics = &service.graphics.service;
    assert_eq!(graphics.getIMapperLibrarySuffix().expect("answered"), "anion");
    assert_eq!(graphics.getInterfaceVersion().expect("answered"), 2);
    assert_eq!(graphics.getInterfaceHash().expect("answered"), "9499fec09c544e9de5be3c87125721600f8ade66");
    let log = service.daemon.log();
    assert!(log.contains("graphics allocator default: cpu camera"), "{log}");
}

#[test]
fn nothing_of_it_is_served_unless_asked_for() {
    let daemon = Daemon::start(&[]);
    assert!(!daemon.socket().with_file_name("graphics.sock").exists());
    let root: Connection<dyn IAllocator> = served_at(&daemon.socket());
    assert!(root.service.getIMapperLibrarySuffix().is_err(), "the root object is another");
    let path = daemon.directory().join("own.sock");
    let other = Daemon::start(&["--graphics=test", "--graphics-socket", path.to_str().expect("text")]);
    let served = served_at(&path);
    served.service.getIMapperLibrarySuffix().expect("answered");
    other.stop();
    assert!(!path.exists(), "it is removed with the service");
    assert!(!served.answers());
}

#[test]
fn the_rules_of_the_documentation_are_understood_and_shown() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gralloc.md")).expect("the page");
    let tree = page.split_once("```dts\n").and_then(|(_, rest)| rest.split_once("```")).expect("a tree").0;
    let file = tempfile::NamedTempFile::with_suffix(".dts").expect("a temporary file");
    fs::write(file.path(), tree).expect("written");
    let mut aniond = assert_cmd::Command::new(env!("CARGO_BIN_EXE_aniond"));
    let shown = aniond.arg("--check-config").arg(file.path()).timeout(common::DEADLINE).assert().success();
    let shown = String::from_utf8(shown.get_output().stdout.clone()).expect("text");
    let rows: Vec<_> = shown.lines().filter(|line| line.contains(" cpu ")).collect();
    let [plain, camera, display] = rows[..] else { panic!("{shown}") };
    assert!(plain.contains("plain") && camera.contains("camera, system"), "{shown}");
    assert!(display.contains("dma-bufs only") && display.contains("composer"), "{shown}");
    assert!(shown.contains("rows of images at 256 B") && shown.contains("0 errors, 0 warnings"), "{shown}");
}
