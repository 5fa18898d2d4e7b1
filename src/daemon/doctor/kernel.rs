// SPDX-License-Identifier: Apache-2.0
//! Checks the kernel and its memory: version, available memory, huge pages, stalls.

use super::finding::{Finding, State};
use super::report::size_of;
use super::root::Root;
use crate::sys::memory::HugePages;
use std::io;

/// Divisor of the total memory: if less than this part is available, little is left for pools.
const SCARCE: u64 = 10;

/// Returns the line for the running kernel.
pub(crate) fn version(root: &Root, page_bytes: u64) -> Finding {
    let release = root.text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned());
    let found = format!("{release}, pages of {}", size_of(page_bytes));
    Finding::ok("kernel", found, "sizes are rounded up to pages, or to a larger unit of the heap")
}

/// Returns the line for the available memory.
pub(crate) fn available(root: &Root) -> Finding {
    const WHAT: &str = "memory";
    let text = root.text("/proc/meminfo").unwrap_or_default();
    let [total, available] = ["MemTotal", "MemAvailable"].map(|name| kibibytes(&text, name));
    let (Some(total), Some(available)) = (total, available) else {
        return Finding::limited(
            WHAT,
            "/proc/meminfo cannot be read",
            "the service reads the available memory of the machine's nodes in /sys, else the free memory",
        )
        .change("mount -t proc proc /proc, or ProcSubset=all in the unit");
    };
    let found = format!("{} of {} available", size_of(available), size_of(total));
    if available < total / SCARCE {
        return Finding::limited(
            WHAT,
            found,
            "released memory will soon go back to the kernel instead of the pool",
        )
        .change("anionctl trim, which returns pooled memory at once");
    }
    Finding::ok(WHAT, found, "carveout and chunk heaps take up to fifteen sixteenths of it at the start")
}

/// Returns the line for the huge pages that the administrator set aside.
pub(crate) fn huge_pages(root: &Root) -> Finding {
    const WHAT: &str = "huge pages";
    const CHANGE: &str = "echo 64 > /proc/sys/vm/nr_hugepages";
    const WITHOUT: &str =
        "heaps with device = \"hugetlb\" or \"udmabuf-hugetlb\" and of type system-contig are unavailable";
    let meminfo = root.text("/proc/meminfo").unwrap_or_default();
    let overcommit = root.text("/proc/sys/vm/nr_overcommit_hugepages").unwrap_or_default();
    if meminfo.is_empty() {
        return Finding::missing(WHAT, "/proc/meminfo cannot be read", WITHOUT)
            .change("mount -t proc proc /proc, or ProcSubset=all in the unit");
    }
    let Some(pages) = HugePages::parse(&meminfo, &overcommit) else {
        return Finding::missing(WHAT, "this kernel has none", WITHOUT)
            .change("a kernel with CONFIG_HUGETLBFS=y");
    };
    let HugePages { bytes, total, free, overcommit } = pages;
    let found = format!("{free} of {total} free, {overcommit} more on demand, {} each", size_of(bytes));
    if !pages.are_on() {
        return Finding::missing(WHAT, found, WITHOUT).change(CHANGE);
    }
    if free == 0 {
        let means = "requests for them fail until some are released";
        return Finding::limited(WHAT, found, means).change(CHANGE);
    }
    Finding::ok(
        WHAT,
        found,
        "device = \"hugetlb\", \"udmabuf-hugetlb\" and system-contig have memory (the first and the last need leases of it: not on Linux 7)",
    )
}

/// Returns the line for the kernel's policy of large pages for shared memory.
pub(crate) fn shared_huge_policy(root: &Root) -> Finding {
    const WHAT: &str = "shmem huge pages";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let text = root.text(FILE).unwrap_or_default();
    let Some(policy) = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')) else {
        return Finding::missing(
            WHAT,
            format!("no {FILE}"),
            "memfds have ordinary pages, which take longer to map",
        )
        .change("a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y");
    };
    let found = policy.0.to_owned();
    match policy.0 {
        "never" | "deny" => Finding::limited(
            WHAT,
            found,
            "memfds have ordinary pages: large ones take longer to make and to map",
        )
        .change(format!("echo advise > {FILE}")),
        _ => Finding::ok(WHAT, found, "preallocated memory has huge pages if the kernel has free ones"),
    }
}

/// Returns the line for whether the kernel reports tasks that wait for memory. `watch` requests
/// such reports, as the service does.
pub(crate) fn stalls(root: &Root, watch: impl FnOnce() -> io::Result<()>) -> Finding {
    const WHAT: &str = "memory pressure";
    const FILE: &str = "/proc/pressure/memory";
    const WITHOUT: &str = "pools shrink later: the service sees memory pressure only by the available memory";
    if root.text(FILE).is_none() {
        return Finding::missing(WHAT, format!("no {FILE}"), WITHOUT).change(
            "the kernel's command line with psi=1, a kernel with CONFIG_PSI=y, or a whole /proc \
             (ProcSubset=all in the unit)",
        );
    }
    match watch() {
        Ok(()) => Finding::ok(WHAT, FILE, "pools shrink when tasks wait for memory"),
        Err(error) => {
            let found = format!("{FILE} takes no trigger: {error}");
            Finding { state: State::Limited, ..Finding::missing(WHAT, found, WITHOUT) }
                .change("run the service as root, or on a kernel from 6.5 on")
        }
    }
}

/// Returns the value of a line of /proc/meminfo, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::Fake;
    use super::*;

    fn meminfo(text: &str) -> Fake {
        Fake::new(&[("/proc/meminfo", text), ("/proc/sys/vm/nr_overcommit_hugepages", "0\n")])
    }

    #[test]
    fn available_memory_is_compared_with_the_total() {
        let plenty = available(&meminfo("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n").root);
        assert_eq!((plenty.state, plenty.found.as_str()), (State::Ok, "4.0 GiB of 8.0 GiB available"));
        let scarce = available(&meminfo("MemTotal: 8388608 kB\nMemAvailable: 4096 kB\n").root);
        assert_eq!(scarce.state, State::Limited);
        assert_eq!(available(&Fake::new(&[]).root).state, State::Limited);
    }

    #[test]
    fn huge_pages_are_free_used_up_off_or_unknown() {
        let state = |text: &str| huge_pages(&meminfo(text).root);
        let free = state("HugePages_Total: 8\nHugePages_Free: 3\nHugepagesize: 2048 kB\n");
        assert_eq!(free.state, State::Ok);
        assert_eq!(free.found, "3 of 8 free, 0 more on demand, 2.0 MiB each");
        assert_eq!(
            state("HugePages_Total: 8\nHugePages_Free: 0\nHugepagesize: 2048 kB\n").state,
            State::Limited
        );
        let off = state("HugePages_Total: 0\nHugePages_Free: 0\nHugepagesize: 2048 kB\n");
        assert_eq!(
            (off.state, off.change.as_deref()),
            (State::Missing, Some("echo 64 > /proc/sys/vm/nr_hugepages"))
        );
        assert_eq!(state("MemTotal: 1 kB\n").change.as_deref(), Some("a kernel with CONFIG_HUGETLBFS=y"));
    }

    #[test]
    fn the_chosen_policy_is_the_one_in_brackets() {
        let file = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
        let policy = |text: &str| shared_huge_policy(&Fake::new(&[(file, text)]).root);
        let never = policy("always within_size advise [never] deny force\n");
        assert_eq!((never.state, never.found.as_str()), (State::Limited, "never"));
        assert_eq!(never.change, Some(format!("echo advise > {file}")));
        let advise = policy("always within_size [advise] never deny force\n");
        assert_eq!((advise.state, advise.found.as_str()), (State::Ok, "advise"));
        assert_eq!(policy("garbage").state, State::Missing);
    }

    #[test]
    fn pressure_needs_the_file_and_a_trigger() {
        let fake = Fake::new(&[("/proc/pressure/memory", "some avg10=0.00\n")]);
        assert_eq!(stalls(&fake.root, || Ok(())).state, State::Ok);
        let refused = stalls(&fake.root, || Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.state, State::Limited);
        let absent = stalls(&Fake::new(&[]).root, || panic!("there is nothing to watch"));
        assert_eq!(absent.state, State::Missing);
    }

    #[test]
    fn the_version_is_the_kernel_s_own() {
        let fake = Fake::new(&[("/proc/sys/kernel/osrelease", "6.12.41\n")]);
        assert_eq!(version(&fake.root, 16384).found, "6.12.41, pages of 16.0 KiB");
    }
}
