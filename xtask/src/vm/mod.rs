// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask vm`: runs the service and its conformance suite over kernel binder, in guests with
//! different kernels.

mod args;
mod boot;
mod chaos;
mod foreign;
mod guest;
mod initramfs;
pub(crate) mod kernel;
mod machine;
pub(crate) mod observe;
mod pictures;
mod progress;
mod selinux;
mod systemd;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

pub(crate) use self::args::{VmArgs, chaos_kernels};
use self::boot::boot;
pub(crate) use self::chaos::ChaosRun;
use self::initramfs::Initramfs;
use self::kernel::{Entry, KERNELS, Kernel};
use self::machine::Programs;
use self::progress::Progress;
use self::systemd::Release;
use crate::needs::{self, ARCHIVE, GUEST, LINKER};
use crate::process::{find_program, run as run_program};
use crate::tally::Tally;
use crate::tools::{Tool, cache_dir, ensure_tools};

/// Whether the guests must end.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);
/// Maximal time that a guest runs after that.
const TICK: Duration = Duration::from_millis(500);

/// Ends all guests, including those that have not begun. The build that is running still finishes.
pub(crate) fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
}

/// Checks that the guests are still wanted.
///
/// # Errors
/// If they must end.
fn check_wanted() -> Result<()> {
    ensure!(!GIVEN_UP.load(Ordering::Relaxed), "the guests were ended because another step failed");
    Ok(())
}

/// The packages of Debian that all guests together need.
pub(crate) const TOOLS: &[&[Tool]] = &[
    LINKER,
    ARCHIVE,
    GUEST,
    needs::PC,
    needs::ARM64,
    needs::KERNEL,
    needs::DEVICE_TREE,
    needs::PICTURES,
    needs::SEPOLICY,
    needs::SYSTEMD,
    needs::DIST,
];

/// The packages that each guest needs.
const EVERY_GUEST: [&[Tool]; 3] = [LINKER, ARCHIVE, GUEST];

/// Returns the downloads and builds for all guests, without those in the cache.
pub(crate) fn unfetched(cache: &Path) -> Vec<String> {
    let kernels = KERNELS.iter().flat_map(|entry| entry.unfetched(cache));
    let machines = KERNELS.iter().flat_map(|entry| entry.machine.unfetched(cache));
    let systemd = systemd::RELEASES[0].unfetched(cache);
    kernels.chain(machines).chain(foreign::STACK.unfetched(cache)).chain(systemd).collect()
}

/// Runs the guests and adds the tests they ran to `tally`.
///
/// # Errors
/// A missing requirement, or all failures of the guests.
pub(crate) fn run(args: &VmArgs, tally: &mut Tally) -> Result<()> {
    if args.list {
        for entry in &KERNELS {
            println!("{:<12} {}\n{:<12} runs {}", entry.name, entry.about(), "", entry.course);
        }
        return Ok(());
    }
    ensure!(
        cfg!(target_arch = "x86_64"),
        "guests need an x86-64 machine: their programs are built for this machine"
    );
    ensure!(
        find_program("apt-get").is_some() && find_program("apt-cache").is_some(),
        "guest kernels come from Debian's package manager, but apt-get and apt-cache are not in PATH"
    );
    let entries: Vec<&Entry> = KERNELS.iter().filter(|entry| args.wants(entry)).collect();
    ensure!(
        args.without_rule.is_none() || has_policy(args, &entries),
        "--without-rule needs the kernel that enforces the policy: --kernel selinux"
    );
    let release = systemd::wanted(args);
    ensure_tools(&tools(args, &entries, release))?;
    let cache = cache_dir()?;
    // First, since a kernel is the requirement that is most likely to be missing.
    let obtain = |entry: &&Entry| check_wanted().and_then(|()| entry.obtain(&cache));
    let kernels: Vec<Result<Kernel>> = entries.iter().map(obtain).collect();
    let programs = programs(args, &entries)?;

    let mut jobs: Vec<Job<'_>> =
        entries.iter().zip(&kernels).map(|(entry, kernel)| Job::Kernel(entry, kernel)).collect();
    // Not as the last one, beside which no other guest would run.
    jobs.splice(jobs.len().min(1)..jobs.len().min(1), release.map(Job::Systemd));
    let guests = Guests { args, programs: &programs, of: jobs.len(), preparing: Mutex::default() };
    let mut failures = Vec::new();
    for (job, (ran, result)) in jobs.iter().zip(guests.run_all(&jobs)) {
        *tally += ran;
        if let Err(error) = result {
            failures.push(error.context(format!("guest {}", job.name())));
        }
    }
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        count => {
            let all = failures.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>();
            bail!("{count} guests failed:\n{}", all.join("\n"))
        }
    }
}

/// Returns the packages that the requested guests need.
fn tools(args: &VmArgs, entries: &[&Entry], release: Option<&Release>) -> Vec<Tool> {
    let own = entries.iter().flat_map(|entry| entry.tools());
    let pictures = if has_pictures(args, entries) { needs::PICTURES } else { &[] };
    let policy = if has_policy(args, entries) { needs::SEPOLICY } else { &[] };
    let systemd = release.map(Release::tools).unwrap_or_default();
    EVERY_GUEST.concat().into_iter().chain(own).chain([pictures, policy].concat()).chain(systemd).collect()
}

fn has_pictures(args: &VmArgs, entries: &[&Entry]) -> bool {
    entries.iter().any(|entry| pictures::are_in(args.course(entry)))
}

fn has_policy(args: &VmArgs, entries: &[&Entry]) -> bool {
    entries.iter().any(|entry| selinux::is_in(args.course(entry)))
}

/// Returns the programs of each kind of machine, by its name. Builds them if they are out of date.
fn programs(args: &VmArgs, entries: &[&Entry]) -> Result<BTreeMap<&'static str, Programs>> {
    let mut programs = BTreeMap::new();
    for machine in entries.iter().map(|entry| entry.machine) {
        if !programs.contains_key(machine.name) {
            check_wanted()?;
            let mut those = machine.programs(args.bench)?;
            let here = entries.iter().filter(|entry| entry.machine.name == machine.name);
            let here: Vec<_> = here.copied().collect();
            if has_pictures(args, &here) {
                those.files.extend(pictures::programs()?);
            }
            if here.iter().any(|entry| chaos::is_in(args.course(entry))) {
                those.files.extend(chaos::programs()?);
            }
            if has_policy(args, &here) {
                those.files.extend(selinux::programs()?);
            }
            if args.observe {
                those.files.extend(observe::programs()?);
            }
            programs.insert(machine.name, those);
        }
    }
    Ok(programs)
}

/// A guest that is to be run.
enum Job<'a> {
    /// A kernel without a distribution.
    Kernel(&'a Entry, &'a Result<Kernel>),
    /// A Debian with systemd.
    Systemd(&'static Release),
}

impl Job<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Kernel(entry, _) => entry.name,
            Self::Systemd(_) => "systemd",
        }
    }
}

/// The tests of one guest, and its result.
type Outcome = (Tally, Result<()>);

/// The state that all guests of a run share.
struct Guests<'a> {
    args: &'a VmArgs,
    /// By the name of the machine that they run on.
    programs: &'a BTreeMap<&'static str, Programs>,
    /// The number of guests.
    of: usize,
    /// Locked while a guest's files are created, because they come from one cache.
    preparing: Mutex<()>,
}

impl Guests<'_> {
    /// Runs the guests, as many at a time as requested. The outcomes are in the order of the jobs.
    fn run_all(&self, jobs: &[Job<'_>]) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let (sender, outcomes) = mpsc::channel();
        let work = || {
            while let index = next.fetch_add(1, Ordering::Relaxed)
                && let Some(job) = jobs.get(index)
            {
                let mut tally = Tally::default();
                let result = match job {
                    Job::Kernel(entry, Ok(kernel)) => self.run(entry, kernel, &mut tally),
                    Job::Kernel(_, Err(error)) => Err(anyhow!("{error:#}")),
                    Job::Systemd(release) => {
                        systemd::run(release, self.args, self.log_of(job.name()), &mut tally)
                    }
                };
                if let Err(error) = &result {
                    println!("{}: {error:#}", job.name());
                }
                // The receiver outlives the senders.
                let _ = sender.send((index, (tally, result)));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.args.at_once {
                scope.spawn(work);
            }
        });
        drop(sender);
        let mut outcomes: Vec<_> = outcomes.iter().collect();
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Returns the path of a guest's log.
    fn log_of(&self, guest: &str) -> Option<PathBuf> {
        self.args.log_of(guest, self.of)
    }

    /// Runs one guest.
    fn run(&self, entry: &Entry, kernel: &Kernel, tally: &mut Tally) -> Result<()> {
        let course = self.args.course(entry);
        println!("{}: {}", entry.name, kernel.title);
        let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
        let emulator = self.prepare(entry, kernel, scratch.path())?;
        let mut log = self.log_of(entry.name).as_deref().map(create_log).transpose()?;
        let timeout = Duration::from_secs(self.args.timeout);
        let begin = || {
            let mut progress = Progress::of(course);
            if self.args.observe {
                observe::spare(&mut progress);
            }
            progress
        };
        boot(entry.name, emulator, log.as_mut(), timeout, begin, tally)
    }

    /// Creates the guest's files in `scratch`. Returns a function that returns the command which
    /// boots it.
    fn prepare<'a>(
        &self,
        entry: &'a Entry,
        kernel: &'a Kernel,
        scratch: &Path,
    ) -> Result<impl Fn() -> Command + use<'a>> {
        let _alone = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let course = self.args.course(entry);
        let initrd = scratch.join("initramfs.gz");
        let mut root = Initramfs::default();
        guest::furnish(&mut root, entry, course);
        // The parts that the benchmark measures.
        root.file("/etc/guest/bench", 0o644, self.args.part.join("\n") + "\n");
        if course.includes("foreign") {
            foreign::furnish(&mut root, &cache_dir()?)?;
        }
        if pictures::are_in(course) {
            root.modules("/pictures", &kernel.picture_modules)?;
            pictures::furnish(&mut root, self.args.pictures);
        }
        if chaos::is_in(course) {
            chaos::furnish(&mut root, self.args.chaos.as_ref());
        }
        if selinux::is_in(course) {
            selinux::furnish(&mut root, self.args.without_rule.as_deref(), !self.args.wants_all())?;
        }
        if self.args.observe {
            observe::furnish(&mut root, Progress::of(course));
        }
        write_initramfs(&initrd, root, &self.programs[entry.machine.name], kernel)?;
        let blob = entry.takes_device_tree.then(|| compile_device_tree(scratch)).transpose()?;
        Ok(move || {
            let mut emulator = entry.machine.boot(&kernel.image, &initrd, entry.append);
            if let Some(blob) = &blob {
                emulator.arg("-dtb").arg(blob);
            }
            emulator
        })
    }
}

/// Returns the heaps' device tree as a blob in `scratch`.
fn compile_device_tree(scratch: &Path) -> Result<PathBuf> {
    let (text, blob) = (scratch.join("heaps.dts"), scratch.join("heaps.dtb"));
    fs::write(&text, guest::HEAPS).context("cannot write the device tree")?;
    run_program(Command::new("dtc").args(["-q", "-O", "dtb", "-o"]).args([&blob, &text]))?;
    Ok(blob)
}

/// Creates the file for a guest's serial log.
fn create_log(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot create {}", path.display()))
}

/// Adds programs and modules to `root` and writes it.
fn write_initramfs(path: &Path, mut root: Initramfs, programs: &Programs, kernel: &Kernel) -> Result<()> {
    root.programs(programs)?;
    root.modules("/modules", &kernel.modules)?;
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    root.write_to(file).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_of_each_guest_are_among_the_tools_of_all_guests() {
        let of_kernels = KERNELS.iter().flat_map(|entry| entry.tools());
        let of_releases = systemd::RELEASES.iter().flat_map(|release| release.tools());
        for tool in of_kernels.chain(of_releases).chain(EVERY_GUEST.concat()) {
            assert!(TOOLS.concat().contains(&tool), "{tool:?}");
        }
    }
}
