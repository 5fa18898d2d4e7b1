// SPDX-License-Identifier: Apache-2.0
//! Resources that fail for the rest of a round: limits of the service's process, full heaps, scarce
//! memory, devices. `RLIMIT_AS` is not among them: Rust ends a process that has no memory for a
//! small object. Limits of threads fail for the same calls.

use crate::common::{Daemon, eventually};
use crate::heaps::Heaps;
use crate::hog::{self, Hog};
use crate::surroundings::Surroundings;
use anion_client::{Access, Buffer, Client, CpuAccess, Error, PressureLevel, Refusal, Request};
use fastrand::Rng;
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, prlimit};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

/// A resource that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The service can open few more descriptors (`RLIMIT_NOFILE`).
    Descriptors,
    /// The service can make only small files (`RLIMIT_FSIZE`).
    FileSizes,
    /// The service can start few more threads (`pids.max`).
    Threads,
    /// A client holds all that a heap with a size can give.
    FullHeap,
    /// /proc/meminfo, as the service reads it, shows little available memory.
    MeminfoIsLow,
    /// The service's cgroup is above its `memory.high`.
    GroupIsFull,
    /// A process takes nearly all memory of the machine.
    MachineIsFull,
    /// udmabuf refuses to make dma-bufs.
    Udmabuf,
    /// The nodes of the devices are missing; the service may start again meanwhile.
    Nodes,
}

/// The largest udmabuf in MiB, which root can change at any time.
const UDMABUF_LIMIT: &str = "/sys/module/udmabuf/parameters/size_limit_mb";
/// Bytes of the limit on file sizes. A log of the service stays below it between two generations.
const FILE_BYTES: u64 = 512 << 10;
/// Buffers that a heap must serve at once when nothing fails.
const MANY: u32 = 64;
/// Parts of the machine's memory that are available: pressure that is moderate, and critical.
const LITTLE: [u64; 2] = [40, 80];

impl Failure {
    /// Returns the name in the summary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "limits of descriptors",
            Self::FileSizes => "limits of file sizes",
            Self::Threads => "limits of threads",
            Self::FullHeap => "full heaps",
            Self::MeminfoIsLow => "reports of little memory",
            Self::GroupIsFull => "full cgroups",
            Self::MachineIsFull => "full machines",
            Self::Udmabuf => "failing udmabufs",
            Self::Nodes => "missing devices",
        }
    }

    /// Returns whether it causes memory pressure, during which nothing is preallocated and, at the
    /// highest level, nothing is pooled. A level lasts for ten seconds.
    fn is_pressure(self) -> bool {
        matches!(self, Self::MeminfoIsLow | Self::GroupIsFull | Self::MachineIsFull)
    }

    /// Returns the failures that this machine and these heaps permit, and the others.
    pub(crate) fn possible(around: &Surroundings, heaps: &Heaps) -> (Vec<Self>, Vec<Self>) {
        let has = |device: &str| heaps.devices.contains(&Path::new(device));
        let all = [
            (Self::Descriptors, true),
            (Self::FileSizes, true),
            (Self::Threads, around.threads.is_some()),
            (Self::FullHeap, true),
            (Self::MeminfoIsLow, around.meminfo.is_some()),
            (Self::GroupIsFull, around.memory.is_some()),
            (Self::MachineIsFull, around.is_own_machine),
            (Self::Udmabuf, around.is_own_machine && has("/dev/udmabuf")),
            (Self::Nodes, around.is_own_machine && !heaps.devices.is_empty()),
        ];
        let of = |is_possible: bool| all.iter().filter(move |(_, is)| *is == is_possible);
        (of(true).map(|(failure, _)| *failure).collect(), of(false).map(|(failure, _)| *failure).collect())
    }
}

/// The failures of the next rounds: each possible one once, then again and again in random orders.
/// Those that cause memory pressure are rare after that, so that pools are used.
pub(crate) struct Deck {
    possible: Vec<Failure>,
    next: Vec<Failure>,
}

/// Times that each other failure is in a deck.
const OTHERS: usize = 8;

impl Deck {
    pub(crate) fn new(possible: &[Failure], rng: &mut Rng) -> Self {
        let (possible, mut next) = (possible.to_vec(), possible.to_vec());
        rng.shuffle(&mut next);
        Self { possible, next }
    }

    pub(crate) fn draw(&mut self, rng: &mut Rng) -> Failure {
        if self.next.is_empty() {
            let times = |failure: &Failure| if failure.is_pressure() { 1 } else { OTHERS };
            let of = |failure: &Failure| vec![*failure; times(failure)];
            self.next = self.possible.iter().flat_map(of).collect();
            rng.shuffle(&mut self.next);
        }
        self.next.pop().expect("some failure is always possible")
    }
}

/// A failure in effect, with what takes it back.
pub(crate) enum Failing {
    Limit(Pid, Resource, Rlimit),
    Threads,
    Heap { _full: Vec<Buffer> },
    Meminfo,
    Group,
    Machine { hog: Hog },
    Udmabuf(String),
    Nodes { away: BTreeMap<&'static Path, PathBuf>, has_restarted: bool },
}

/// Waits until the service reports memory pressure. Between two checks `cause` causes some more.
fn await_pressure(observer: &Client, what: &str, cause: impl Fn()) {
    eventually(what, || {
        cause();
        observer.pressure().is_ok_and(|level| level != PressureLevel::None)
    });
}

/// Starts a failure, for a service whose only client with this uid may be `observer`.
pub(crate) fn begin(
    failure: Failure,
    daemon: &mut Daemon,
    observer: &Client,
    (around, heaps, test): (&Surroundings, &Heaps, &str),
    rng: &mut Rng,
) -> Failing {
    let (some, is_worse) = (rng.u64(0..12), rng.bool());
    // A service that has just been started accepts connections before it has its threads.
    eventually("the service answers", || observer.pressure().is_ok());
    match failure {
        Failure::Descriptors => {
            let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs").count();
            limit(daemon.pid(), Resource::Nofile, open as u64 + some)
        }
        Failure::FileSizes => limit(daemon.pid(), Resource::Fsize, FILE_BYTES),
        Failure::Threads => {
            let group = around.threads.as_ref().expect("possible");
            group.limit(&(group.number("pids.current") + some / 4).to_string());
            Failing::Threads
        }
        Failure::FullHeap => {
            let sized = heaps.sized();
            let (heap, bytes) = sized[rng.usize(..sized.len())];
            Failing::Heap { _full: fill(observer, heap, bytes) }
        }
        Failure::MeminfoIsLow => {
            around.meminfo.as_ref().expect("possible").write(LITTLE[usize::from(is_worse)]);
            Failing::Meminfo
        }
        Failure::GroupIsFull => {
            // Much less would stop the service for seconds in each call: memory that is set aside
            // stays.
            around.memory.as_ref().expect("possible").fill();
            Failing::Group
        }
        Failure::MachineIsFull => {
            let parts = LITTLE[usize::from(is_worse)];
            let hog = Hog::start(test, hog::kib_of("MemTotal") / 1024 / parts);
            Failing::Machine { hog }
        }
        Failure::Udmabuf => {
            let before = fs::read_to_string(UDMABUF_LIMIT).expect("the module is there");
            fs::write(UDMABUF_LIMIT, "0").expect("root may change it");
            Failing::Udmabuf(before)
        }
        Failure::Nodes => {
            let aside =
                |device: &&'static Path| (*device, PathBuf::from(format!("{}.away", device.display())));
            let away: BTreeMap<_, _> = heaps.devices.iter().map(aside).collect();
            for (device, away) in &away {
                fs::rename(device, away).expect("root may move it");
            }
            if is_worse {
                restart(daemon, Duration::ZERO);
            }
            Failing::Nodes { away, has_restarted: is_worse }
        }
    }
}

fn limit(pid: Pid, resource: Resource, most: u64) -> Failing {
    let rlimit = |rlimit| prlimit(rustix::process::Pid::from_raw(pid.as_raw()), resource, rlimit);
    // The service has inherited the hard limit of this process, and keeps it.
    let maximum = rustix::process::getrlimit(resource).maximum;
    let was = rlimit(Rlimit { current: Some(most), maximum }).expect("our child");
    Failing::Limit(pid, resource, was)
}

/// Holds all that a heap can give to this process.
fn fill(observer: &Client, heap: &str, bytes: u64) -> Vec<Buffer> {
    let mut held: Vec<Buffer> = Vec::new();
    for size in [1 << 20, 64 << 10] {
        let request = Request::new(size).heap(heap);
        let error = loop {
            let given: u64 = held.iter().map(Buffer::bytes).sum();
            assert!(given <= bytes, "heap {heap} of {bytes} bytes has given {given}");
            match observer.allocate_one(&request) {
                Ok(buffer) => held.push(buffer),
                Err(error) => break error,
            }
        };
        let is_full = matches!(error.refusal(), Some(Refusal::NoMemory | Refusal::QuotaExceeded));
        assert!(is_full, "a full heap answered: {error}");
    }
    held
}

/// Kills the service, starts it again after a pause, and waits until it serves.
pub(crate) fn restart(daemon: &mut Daemon, pause: Duration) {
    daemon.kill();
    thread::sleep(pause);
    daemon.start_again();
    let socket = daemon.socket();
    eventually("the next service serves", || UnixStream::connect(&socket).is_ok());
}

impl Failing {
    /// Takes the failure back. Failures that cause memory pressure last until the service has
    /// detected it.
    pub(crate) fn end(self, daemon: &mut Daemon, observer: &Client, around: &Surroundings) {
        match self {
            Self::Limit(pid, resource, was) if pid == daemon.pid() => {
                prlimit(rustix::process::Pid::from_raw(pid.as_raw()), resource, was).expect("our child");
            }
            // The service that it was for has ended.
            Self::Limit(..) => {}
            Self::Threads => around.threads.as_ref().expect("possible").limit("max"),
            Self::Heap { .. } => {}
            Self::Meminfo => {
                await_pressure(observer, "the service reads that memory is scarce", || pool_some(observer));
                around.meminfo.as_ref().expect("possible").write(1);
            }
            Self::Group => {
                let group = around.memory.as_ref().expect("possible");
                await_pressure(observer, "the service detects that its cgroup is full", || {
                    // A service that was started again may use less.
                    group.fill();
                    group.use_memory();
                });
                group.limit("max");
                restart_without_heaps(daemon, observer);
            }
            // The kernel may have ended it before the service detected anything.
            Self::Machine { hog } => {
                drop(hog);
                restart_without_heaps(daemon, observer);
            }
            Self::Udmabuf(before) => fs::write(UDMABUF_LIMIT, before).expect("root may change it"),
            Self::Nodes { away, has_restarted } => {
                for (device, away) in away {
                    fs::rename(away, device).expect("root may move it");
                }
                eventually("every heap uses its device again", || {
                    observer.heaps().is_ok_and(|heaps| heaps.iter().all(|heap| heap.unavailable.is_none()))
                });
                if has_restarted {
                    // The thread that waited for the devices lasts as long as the service.
                    restart(daemon, Duration::ZERO);
                }
            }
        }
    }
}

/// Starts a service again that was started while memory was scarce and could not set the memory of
/// all its heaps aside.
fn restart_without_heaps(daemon: &mut Daemon, observer: &Client) {
    let mut heaps = Vec::new();
    eventually("the service lists its heaps", || observer.heaps().map(|listed| heaps = listed).is_ok());
    if heaps.iter().any(|heap| heap.unavailable.is_some()) {
        restart(daemon, Duration::ZERO);
    }
}

/// Leaves some memory in the pool: the service reads how much is available only then. It pools
/// only memory that was written.
fn pool_some(observer: &Client) {
    if let Ok(buffer) = observer.allocate_one(&Request::new(64 << 10).heap("system")) {
        let mapping = buffer.map(Access::ReadWrite).expect("address space is left");
        mapping.begin(CpuAccess::Write).and_then(|view| view.fill(1)).expect("writable");
    }
}

/// Returns why a heap does not serve although nothing fails; `None` if it does.
pub(crate) fn why_not_served(observer: &Client, heaps: &Heaps) -> Vec<String> {
    let is_full = |heap: &str, error: &Error| {
        let has_size = heaps.sized().iter().any(|(name, _)| *name == heap);
        match error.refusal() {
            Some(Refusal::QuotaExceeded) => true,
            Some(Refusal::NoMemory) => has_size,
            _ => false,
        }
    };
    let ask = |heap: &&str| {
        // More descriptors than clients have released since a limit was set.
        let error = observer.allocate(&Request::new(4096).heap(heap).count(MANY)).err()?;
        (!is_full(heap, &error)).then(|| format!("heap {heap} answers: {error}"))
    };
    heaps.names.iter().filter_map(ask).collect()
}
