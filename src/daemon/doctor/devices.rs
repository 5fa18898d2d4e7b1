// SPDX-License-Identifier: Apache-2.0
//! Checks the kernel's memory devices: ION, dma-heaps, udmabuf, ashmem.

use super::build::{Built, option};
use super::finding::Finding;
use super::root::{Device, Mode, Root};
use crate::sys::ion::{Interface, IonHeap};
use std::io;

/// Default limit of udmabuf for the size of one buffer, in MiB.
const USUAL_MEBIBYTES: u64 = 64;
/// Assumed limit of udmabuf's ranges if the module does not show one.
const USUAL_RANGES: u64 = 1024;

/// Properties of ION.
pub(crate) struct IonAnswer {
    /// Its interface.
    pub(crate) interface: Interface,
    /// Its heaps, or the error if it does not list them.
    pub(crate) heaps: io::Result<Vec<IonHeap>>,
}

/// Returns the line for ION's device. `ask` opens it and queries its properties; it is called only
/// for `/dev/ion`, and only if that can be opened.
pub(crate) fn ion(root: &Root, ask: impl FnOnce() -> io::Result<IonAnswer>) -> Finding {
    const WHAT: &str = "ion";
    const PATH: &str = "/dev/ion";
    const WITHOUT: &str = "heaps with device = \"ion:NAME\" are unavailable";
    let answer = match root.device(PATH, Mode::Read) {
        Device::Absent => {
            return Finding::missing(WHAT, format!("no {PATH}"), WITHOUT)
                .change("a kernel up to 5.10 with CONFIG_ION=y, or device = \"auto\"");
        }
        Device::Closed(error) => Err(error),
        Device::Open => ask(),
    };
    let IonAnswer { interface, heaps } = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return Finding::missing(WHAT, format!("{PATH}: {error}"), WITHOUT).change(rule(PATH));
        }
    };
    let interface = match interface {
        Interface::Descriptors => "modern interface (descriptors)",
        Interface::Handles => "legacy interface (handles)",
    };
    match heaps {
        Ok(heaps) => {
            let names: Vec<_> = heaps.iter().map(|heap| format!("{} ({})", heap.name, heap.id)).collect();
            let found = format!("{PATH}, {interface}, heaps {}", list(&names));
            Finding::ok(WHAT, found, "heaps can use its heaps with device = \"ion:NAME\"")
        }
        Err(error) => {
            let found = format!("{PATH}, {interface}; it does not name its heaps: {error}");
            Finding::missing(WHAT, found, WITHOUT)
                .change("a kernel whose ION answers ION_IOC_HEAP_QUERY (4.12 to 5.10, and some older)")
        }
    }
}

/// Returns a line for every dma-heap, or one line if there is none.
pub(crate) fn dma_heaps(root: &Root) -> Vec<Finding> {
    const DIRECTORY: &str = "/dev/dma_heap";
    const WITHOUT: &str = "heaps with device = \"dma-heap:NAME\" are unavailable";
    let kernel = || match option(root, "CONFIG_DMABUF_HEAPS_SYSTEM") {
        Built::Module => "modprobe system_heap",
        Built::In => "a /dev with the kernel's devices (devtmpfs): this kernel has dma-heaps built in",
        Built::Without | Built::Unknown => {
            "a kernel with CONFIG_DMABUF_HEAPS_SYSTEM=y and CONFIG_DMABUF_HEAPS_CMA=y, from 5.6 on"
        }
    };
    let names = match root.names(DIRECTORY) {
        Ok(names) => names,
        Err(error) => {
            return vec![
                Finding::missing("dma-heaps", format!("{DIRECTORY}: {error}"), WITHOUT)
                    .change(format!("chmod 0755 {DIRECTORY}")),
            ];
        }
    };
    if names.is_empty() {
        return vec![Finding::missing("dma-heaps", format!("none in {DIRECTORY}"), WITHOUT).change(kernel())];
    }
    let heap = |name: &String| {
        let (what, path) = (format!("dma-heap {name}"), format!("{DIRECTORY}/{name}"));
        match root.device(&path, Mode::Read) {
            Device::Open => {
                Finding::ok(&what, &path, format!("heaps can use it with device = \"dma-heap:{name}\""))
            }
            Device::Closed(error) => {
                let means = format!("device = \"dma-heap:{name}\" is unavailable");
                Finding::missing(&what, format!("{path}: {error}"), means).change(rule(&path))
            }
            Device::Absent => {
                Finding::missing(&what, format!("no {path}"), "it disappeared during the check")
            }
        }
    };
    names.iter().map(heap).collect()
}

/// Returns the line for udmabuf and its limits.
pub(crate) fn udmabuf(root: &Root) -> Finding {
    const WHAT: &str = "udmabuf";
    const PATH: &str = "/dev/udmabuf";
    const WITHOUT: &str = "heaps cannot make dma-bufs of the service's own memory (device = \"udmabuf\")";
    const SIZE_LIMIT: &str = "/sys/module/udmabuf/parameters/size_limit_mb";
    const LIST_LIMIT: &str = "/sys/module/udmabuf/parameters/list_limit";
    match root.device(PATH, Mode::ReadWrite) {
        Device::Absent => {
            let change = match option(root, "CONFIG_UDMABUF") {
                Built::Module => "modprobe udmabuf size_limit_mb=1024",
                Built::In => "a /dev with the kernel's devices (devtmpfs): this kernel has udmabuf built in",
                Built::Without => "a kernel with CONFIG_UDMABUF=y or =m: this one was built without it",
                Built::Unknown => {
                    "a kernel with CONFIG_UDMABUF; where it is a module, modprobe udmabuf size_limit_mb=1024"
                }
            };
            return Finding::missing(WHAT, format!("no {PATH}"), WITHOUT).change(change);
        }
        Device::Closed(error) => {
            return Finding::missing(WHAT, format!("{PATH}: {error}"), WITHOUT).change(rule(PATH));
        }
        Device::Open => {}
    }
    let mebibytes = root.number(SIZE_LIMIT);
    let ranges = root.number(LIST_LIMIT).unwrap_or(USUAL_RANGES);
    let limit = mebibytes.unwrap_or(USUAL_MEBIBYTES);
    let found = format!("{PATH}, buffers of up to {limit} MiB in {ranges} ranges");
    match mebibytes {
        Some(_) if ranges < USUAL_RANGES => {
            Finding::limited(WHAT, found, "buffers of more pieces are refused")
                .change(format!("echo 65536 > {LIST_LIMIT}"))
        }
        Some(mebibytes) if mebibytes > USUAL_MEBIBYTES => {
            Finding::ok(WHAT, found, "heaps can make dma-bufs of the service's own memory")
        }
        Some(_) => Finding::limited(
            WHAT,
            found,
            "larger buffers are refused, unless the service runs as root and raises it",
        )
        .change(format!("echo 1024 > {SIZE_LIMIT}")),
        None => {
            Finding::limited(WHAT, found, "larger buffers are refused; this kernel has the limit built in")
                .change("a kernel from 5.15 on")
        }
    }
}

/// Returns the line for ashmem. Android since 10 gives the device another name, which is tried too.
pub(crate) fn ashmem(root: &Root) -> Finding {
    const WHAT: &str = "ashmem";
    const PLAIN: &str = "/dev/ashmem";
    const WITHOUT: &str = "heaps with device = \"ashmem\" are unavailable; memfd does the same";
    let boot = root.text("/proc/sys/kernel/random/boot_id").map(|id| format!("{PLAIN}{id}"));
    let mut closed: Option<Finding> = None;
    for path in boot.as_deref().into_iter().chain([PLAIN]) {
        match root.device(path, Mode::ReadWrite) {
            Device::Open => return Finding::ok(WHAT, path, "heaps can be served with device = \"ashmem\""),
            Device::Closed(error) => {
                closed.get_or_insert_with(|| {
                    Finding::missing(WHAT, format!("{path}: {error}"), WITHOUT).change(rule(path))
                });
            }
            Device::Absent => {}
        }
    }
    closed.unwrap_or_else(|| {
        Finding::missing(WHAT, format!("no {PLAIN}"), WITHOUT)
            .change("a kernel up to 5.17 with CONFIG_ASHMEM=y, or device = \"memfd\"")
    })
}

/// Returns the udev rule that permits only the service to open a device, by a separate group.
/// Clients get buffers from the service, within their quotas; a client that may open the device has
/// no limits.
pub(super) fn rule(path: &str) -> String {
    let node = path.strip_prefix("/dev/").unwrap_or(path);
    let node = node.rsplit_once('/').map_or(node, |(_, name)| name);
    let key = if path.starts_with("/dev/dma_heap/") {
        "SUBSYSTEM==\"dma_heap\""
    } else {
        &format!("KERNEL==\"{node}\"")
    };
    format!(
        "run this as the user of the service, which needs the udev rule {key}, GROUP=\"anion-devices\", \
         MODE=\"0660\" and that group (SupplementaryGroups= of its unit); clients need neither"
    )
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::binder::{binder, has_binder};
    use super::super::finding::State;
    use super::super::root::tests::Fake;
    use super::*;

    fn no_ion() -> io::Result<IonAnswer> {
        panic!("there is none to ask")
    }

    #[test]
    fn a_bare_machine_lacks_every_device_and_says_what_brings_it() {
        let fake = Fake::new(&[]);
        let root = &fake.root;
        let mut findings = binder(root);
        findings.extend(dma_heaps(root));
        findings.extend([ion(root, no_ion), udmabuf(root), ashmem(root)]);
        assert!(findings.iter().all(|finding| finding.state == State::Missing), "{findings:?}");
        assert_eq!(findings.len(), 7);
        let change =
            |what: &str| findings.iter().find(|finding| finding.what == what).and_then(|f| f.change.clone());
        assert!(change("binder device").expect("a command").starts_with("modprobe binder_linux"));
        assert!(
            change("udmabuf")
                .expect("text")
                .starts_with("a kernel with CONFIG_UDMABUF; where it is a module")
        );
        assert!(findings.iter().all(|finding| finding.change.is_some()), "{findings:?}");
        assert!(!has_binder(root));
    }

    #[test]
    fn ion_is_asked_for_its_interface_and_heaps() {
        let fake = Fake::new(&[]).with_device("/dev/ion");
        let heaps = || vec![IonHeap { name: "reserved".to_owned(), kind: 4, id: 2 }];
        let answer = |interface, heaps| move || Ok(IonAnswer { interface, heaps });
        let modern = ion(&fake.root, answer(Interface::Descriptors, Ok(heaps())));
        assert_eq!(modern.state, State::Ok);
        assert_eq!(modern.found, "/dev/ion, modern interface (descriptors), heaps reserved (2)");
        let old = Err(io::Error::from_raw_os_error(nix::libc::ENOTTY));
        let legacy = ion(&fake.root, answer(Interface::Handles, old));
        assert_eq!(legacy.state, State::Missing);
        assert!(
            legacy.found.contains("legacy interface (handles); it does not name its heaps"),
            "{legacy:?}"
        );
        let refused = ion(&fake.root, || Err(io::ErrorKind::PermissionDenied.into()));
        assert!(refused.change.expect("a rule").contains("KERNEL==\"ion\""));
    }

    #[test]
    fn a_module_is_named_only_where_the_kernel_has_it() {
        let change = |value: &str| {
            let files = [
                ("/proc/sys/kernel/osrelease", "6.1.0\n"),
                ("/boot/config-6.1.0", &format!("CONFIG_X=y\n{value}\n")),
            ];
            let fake = Fake::new(&files);
            udmabuf(&fake.root).change.expect("text")
        };
        assert_eq!(change("CONFIG_UDMABUF=m"), "modprobe udmabuf size_limit_mb=1024");
        for other in ["CONFIG_UDMABUF=y", "# CONFIG_UDMABUF is not set"] {
            assert!(!change(other).contains("modprobe"), "{other}: {}", change(other));
        }
    }

    #[test]
    fn no_advice_opens_a_device_to_clients() {
        let paths = ["/dev/udmabuf", "/dev/ion", "/dev/ashmem", "/dev/dma_heap/system", "/dev/binder"];
        let fake = Fake::new(&paths.map(|path| (path, "")));
        let mut findings = binder(&fake.root);
        findings.extend(dma_heaps(&fake.root));
        findings.extend([ion(&fake.root, no_ion), udmabuf(&fake.root), ashmem(&fake.root)]);
        let closed = findings.iter().filter(|finding| finding.found.contains("no character device"));
        let advice: Vec<_> = closed.filter_map(|finding| finding.change.as_deref()).collect();
        assert_eq!(advice.len(), paths.len(), "{findings:?}");
        for change in advice {
            assert!(change.contains("0660") && change.ends_with("clients need neither"), "{change}");
            assert!(!change.contains("setfacl") && !change.contains("chmod"), "{change}");
        }
    }

    #[test]
    fn every_dma_heap_has_a_line() {
        let fake = Fake::new(&[("/dev/dma_heap/broken", "")]).with_device("/dev/dma_heap/system");
        let [broken, system] = dma_heaps(&fake.root).try_into().expect("two heaps");
        assert_eq!((broken.what.as_str(), broken.state), ("dma-heap broken", State::Missing));
        assert_eq!((system.what.as_str(), system.state), ("dma-heap system", State::Ok));
        assert!(system.means.contains("dma-heap:system"), "{system:?}");
    }

    #[test]
    fn udmabuf_s_limits_are_the_module_s_or_the_old_kernels() {
        let limits = |mebibytes: &str, ranges: &str| {
            Fake::new(&[
                ("/sys/module/udmabuf/parameters/size_limit_mb", mebibytes),
                ("/sys/module/udmabuf/parameters/list_limit", ranges),
            ])
            .with_device("/dev/udmabuf")
        };
        let raised = udmabuf(&limits("1024\n", "1024\n").root);
        assert_eq!(raised.state, State::Ok);
        assert_eq!(raised.found, "/dev/udmabuf, buffers of up to 1024 MiB in 1024 ranges");
        let few = udmabuf(&limits("1024\n", "16\n").root);
        assert_eq!(few.state, State::Limited);
        assert!(few.change.expect("a command").ends_with("/list_limit"));
        let usual = udmabuf(&limits("64\n", "1024\n").root);
        assert_eq!(usual.state, State::Limited);
        assert!(usual.change.expect("a command").starts_with("echo 1024 > /sys/module/udmabuf"));
        let old = udmabuf(&Fake::new(&[]).with_device("/dev/udmabuf").root);
        assert_eq!((old.state, old.change.as_deref()), (State::Limited, Some("a kernel from 5.15 on")));
        assert!(old.found.contains("64 MiB in 1024 ranges"), "{old:?}");
    }

    #[test]
    fn ashmem_is_found_under_its_name_of_this_boot() {
        let id = "0b7f8f4e-1111-2222-3333-444455556666";
        let fake = Fake::new(&[("/proc/sys/kernel/random/boot_id", &format!("{id}\n"))])
            .with_device(&format!("/dev/ashmem{id}"));
        let found = ashmem(&fake.root);
        assert_eq!((found.state, found.found), (State::Ok, format!("/dev/ashmem{id}")));
        assert_eq!(ashmem(&Fake::new(&[]).with_device("/dev/ashmem").root).state, State::Ok);
    }
}
