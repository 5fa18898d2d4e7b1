// SPDX-License-Identifier: Apache-2.0
//! Checks the limits of this user: leases, inotify watches, descriptors.

use super::finding::Finding;
use super::root::Root;

/// With fewer watches a busy service can run out of them.
const AMPLE_WATCHES: u64 = 65_536;
/// With fewer descriptors a busy service can run out of them.
const AMPLE_DESCRIPTORS: u64 = 65_536;

/// The line of the report that decides if the kernel's settings cannot be read.
const SEE_PROOF: &str = "the line \"release of memfds\" has the proof";

/// Returns the line for whether files can be leased.
pub(crate) fn leases(root: &Root) -> Finding {
    const WHAT: &str = "leases";
    const FILE: &str = "/proc/sys/fs/leases-enable";
    match root.number(FILE) {
        Some(0) => {
            Finding::missing(WHAT, "fs.leases-enable is 0", "the service cannot detect who holds a buffer")
                .change("sysctl fs.leases-enable=1")
        }
        Some(_) => {
            Finding::ok(WHAT, "fs.leases-enable is 1", "a lease proves that no other process holds a buffer")
        }
        // A /proc that shows only processes has no such file.
        None => Finding::limited(WHAT, format!("unknown: no {FILE}"), SEE_PROOF)
            .change("nothing if that is ok; else a kernel with CONFIG_FILE_LOCKING=y, and /proc"),
    }
    .required()
}

/// Returns the line for how many files this user can watch.
pub(crate) fn inotify(root: &Root) -> Finding {
    const WHAT: &str = "inotify";
    const DIRECTORY: &str = "/proc/sys/fs/inotify";
    let number = |name: &str| root.number(&format!("{DIRECTORY}/{name}"));
    let (Some(watches), Some(instances)) = (number("max_user_watches"), number("max_user_instances")) else {
        return Finding::limited(WHAT, format!("unknown: no {DIRECTORY}"), SEE_PROOF)
            .change("nothing if that is ok; else a kernel with CONFIG_INOTIFY_USER=y, and /proc")
            .required();
    };
    let found = format!("{watches} watches and {instances} queues for each user");
    if watches == 0 || instances == 0 {
        return Finding::limited(WHAT, found, "buffers are checked every 50 to 400 ms instead")
            .change(format!(
                "sysctl fs.inotify.max_user_watches={AMPLE_WATCHES} fs.inotify.max_user_instances=128"
            ))
            .required();
    }
    if watches < AMPLE_WATCHES {
        let means = format!("of more than {watches} buffers, some are checked every 50 to 400 ms instead");
        return Finding::limited(WHAT, found, means)
            .change(format!("sysctl fs.inotify.max_user_watches={AMPLE_WATCHES}"))
            .required();
    }
    Finding::ok(WHAT, found, "every buffer's last close is reported at once").required()
}

/// Returns the line for how many descriptors a process of this user can have, at its hard limit.
pub(crate) fn descriptors(root: &Root) -> Finding {
    const WHAT: &str = "descriptors";
    let limits = root.text("/proc/self/limits").unwrap_or_default();
    let Some(hard) = hard_limit(&limits, "Max open files") else {
        return Finding::missing(
            WHAT,
            "/proc/self/limits cannot be read",
            "nothing, as long as the limit is high enough",
        )
        .change("mount -t proc proc /proc");
    };
    let found = match hard {
        u64::MAX => "without a limit".to_owned(),
        hard => format!("up to {hard} for a process"),
    };
    let means = "the service keeps one for each buffer, two for a udmabuf";
    if hard < AMPLE_DESCRIPTORS {
        return Finding::limited(WHAT, found, means).change(format!(
            "LimitNOFILE={AMPLE_DESCRIPTORS} in the unit, or ulimit -Hn {AMPLE_DESCRIPTORS}"
        ));
    }
    Finding::ok(WHAT, found, means)
}

/// Returns the second number of a line of /proc/self/limits; the maximum of the type for
/// `unlimited`.
fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let numbers = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match numbers.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::super::root::tests::Fake;
    use super::*;

    #[test]
    fn leases_that_are_off_are_required_and_missing() {
        let file = "/proc/sys/fs/leases-enable";
        let off = leases(&Fake::new(&[(file, "0\n")]).root);
        assert_eq!((off.state, off.required), (State::Missing, true));
        assert_eq!(off.change.as_deref(), Some("sysctl fs.leases-enable=1"));
        assert_eq!(leases(&Fake::new(&[(file, "1\n")]).root).state, State::Ok);
        assert_eq!(leases(&Fake::new(&[]).root).state, State::Limited, "the proof decides");
    }

    #[test]
    fn few_watches_or_none_limit_the_service() {
        let inotify = |watches: &str, instances: &str| {
            let fake = Fake::new(&[
                ("/proc/sys/fs/inotify/max_user_watches", watches),
                ("/proc/sys/fs/inotify/max_user_instances", instances),
            ]);
            super::inotify(&fake.root)
        };
        assert_eq!(inotify("524288\n", "128\n").state, State::Ok);
        let few = inotify("8192\n", "128\n");
        assert_eq!(few.state, State::Limited);
        assert_eq!(few.change.as_deref(), Some("sysctl fs.inotify.max_user_watches=65536"));
        assert_eq!(inotify("8192\n", "0\n").state, State::Limited);
        assert_eq!(inotify("many\n", "128\n").state, State::Limited);
    }

    #[test]
    fn the_hard_limit_counts_since_the_service_raises_itself_to_it() {
        let of = |line: &str| descriptors(&Fake::new(&[("/proc/self/limits", line)]).root);
        let few = of("Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n");
        assert_eq!((few.state, few.found.as_str()), (State::Limited, "up to 4096 for a process"));
        assert_eq!(
            of("Max open files            1024                 524288               files").state,
            State::Ok
        );
        assert_eq!(
            of("Max open files            1024                 unlimited            files").state,
            State::Ok
        );
        assert_eq!(of("").state, State::Missing);
    }
}
