// SPDX-License-Identifier: Apache-2.0
//! Checks the devices of kernel binder.

use super::build::{Built, option};
use super::devices::rule;
use super::finding::Finding;
use super::root::{Device, Mode, Root};

/// The context that the service uses.
const BINDER: &str = "binder";
/// Contexts that the service uses only if an option names them.
const OTHER_CONTEXTS: [&str; 2] = ["hwbinder", "vndbinder"];

/// Returns a line for the binder device of each context.
pub(crate) fn binder(root: &Root) -> Vec<Finding> {
    let mut findings = vec![binder_context(root, BINDER, true)];
    findings.extend(OTHER_CONTEXTS.iter().map(|context| binder_context(root, context, false)));
    findings
}

/// Returns the paths of the context's device: in binderfs, and where old kernels have it.
fn binder_paths(context: &str) -> [String; 2] {
    [format!("/dev/binderfs/{context}"), format!("/dev/{context}")]
}

/// Returns whether the default context's device can be opened.
pub(crate) fn has_binder(root: &Root) -> bool {
    binder_paths(BINDER).iter().any(|path| matches!(root.device(path, Mode::ReadWrite), Device::Open))
}

fn binder_context(root: &Root, context: &str, is_default: bool) -> Finding {
    let what = format!("{context} device");
    let paths = binder_paths(context);
    let mut closed: Option<Finding> = None;
    for path in &paths {
        match root.device(path, Mode::ReadWrite) {
            Device::Open => {
                let means = if is_default {
                    "kernel binder can be used, if a service manager answers"
                } else {
                    "only aniond --binder-device uses it"
                };
                return Finding::ok(&what, path, means);
            }
            Device::Closed(error) => {
                closed.get_or_insert_with(|| {
                    Finding::missing(&what, format!("{path}: {error}"), without_binder(is_default))
                        .change(rule(path))
                });
            }
            Device::Absent => {}
        }
    }
    closed.unwrap_or_else(|| {
        let found = format!("neither {} nor {}", paths[0], paths[1]);
        Finding::missing(&what, found, without_binder(is_default)).change(make_binder(root, is_default))
    })
}

fn without_binder(is_default: bool) -> &'static str {
    if is_default {
        "clients can connect only over the Unix socket"
    } else {
        "nothing, unless aniond --binder-device must name it"
    }
}

/// Returns the command that makes the binder devices. The driver makes all contexts when it starts;
/// they appear where binderfs is mounted.
fn make_binder(root: &Root, is_default: bool) -> String {
    const MOUNT: &str = "mkdir -p /dev/binderfs && mount -t binder binder /dev/binderfs";
    const CONTEXTS: &str = "the kernel's command line with binder.devices=binder,hwbinder,vndbinder";
    let known = root.text("/proc/filesystems").unwrap_or_default();
    let is_known = known.lines().any(|line| line.split_whitespace().next_back() == Some("binder"));
    let load = match option(root, "CONFIG_ANDROID_BINDER_IPC") {
        _ if is_known => None,
        Built::Without => {
            return "a kernel with CONFIG_ANDROID_BINDER_IPC and CONFIG_ANDROID_BINDERFS: this one was \
                                  built without; the socket needs neither"
                .to_owned();
        }
        Built::In => {
            return "a kernel with CONFIG_ANDROID_BINDERFS: this one has the driver without it".to_owned();
        }
        Built::Module => Some("modprobe binder_linux"),
        Built::Unknown => Some("modprobe binder_linux, if the kernel has it as a module"),
    };
    match (load, is_default) {
        (None, true) => MOUNT.to_owned(),
        (None, false) => CONTEXTS.to_owned(),
        (Some(load), true) => format!("{load}; then {MOUNT}"),
        (Some(load), false) => format!("{load}, with devices=binder,hwbinder,vndbinder; then mount binderfs"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::super::root::tests::Fake;
    use super::*;

    #[test]
    fn a_kernel_that_knows_binderfs_needs_no_module() {
        let fake = Fake::new(&[("/proc/filesystems", "nodev\tsysfs\nnodev\tbinder\n\text4\n")]);
        let [default, other, _] = binder(&fake.root).try_into().expect("three contexts");
        assert_eq!(
            default.change.as_deref(),
            Some("mkdir -p /dev/binderfs && mount -t binder binder /dev/binderfs")
        );
        assert!(other.change.expect("what brings it").contains("binder.devices="));
    }

    #[test]
    fn binder_is_found_in_both_places_and_a_file_is_no_device() {
        let fake = Fake::new(&[("/dev/binderfs/vndbinder", "")])
            .with_device("/dev/binder")
            .with_device("/dev/binderfs/hwbinder");
        let [binder, hwbinder, vndbinder] = binder(&fake.root).try_into().expect("three contexts");
        assert_eq!((binder.state, binder.found.as_str()), (State::Ok, "/dev/binder"));
        assert_eq!((hwbinder.state, hwbinder.found.as_str()), (State::Ok, "/dev/binderfs/hwbinder"));
        assert_eq!(vndbinder.state, State::Missing);
        assert_eq!(vndbinder.found, "/dev/binderfs/vndbinder: it is no character device");
        assert!(vndbinder.change.expect("a rule").contains("KERNEL==\"vndbinder\", GROUP=\"anion-devices\""));
        assert!(has_binder(&fake.root));
    }
}
