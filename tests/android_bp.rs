// SPDX-License-Identifier: Apache-2.0
//! Checks that Android.bp agrees with the tree, with Cargo.toml and with the documentation, also
//! where Soong could not detect a fault.

#[path = "../xtask/src/android/blueprint.rs"]
mod blueprint;
#[path = "../xtask/src/android/crates.rs"]
mod crates;
#[path = "android_bp/properties.rs"]
mod properties;

use blueprint::{Module, Value};
use crates::{LIBRARIES, Origin, library};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The module of the interface.
const INTERFACE: &str = "vendor.anion.allocator";

/// Libraries of the platform that modules use, except crates of registries.
const PLATFORMS: [&str; 5] = [
    "android.hardware.common-V2-rust",
    "android.hardware.graphics.allocator-V2-rust",
    "libbinder_random_parcel_rs",
    "libbinder_rs",
    "librustutils",
];

/// Crates that only cargo's builds of a package use, with the reason why Android's do not.
const CARGO_ONLY: &[(&str, &str, &str)] = &[
    ("anion", "clap_complete", "completions are for a machine's own shell"),
    ("anion", "clap_mangen", "manual pages are not installed on devices"),
    ("anion", "env_logger", "the service logs to Android's log"),
    ("anion", "crc32fast", "checks the state that systemd stores; a device has no systemd"),
    ("anion", "flate2", "a device's init loads its modules, by no advice of ours"),
    ("anion", "loom", "runs under the model checker alone"),
    ("anion", "sd-notify", "init asks for no reports and passes no sockets"),
    ("anion", "seccompiler", "the service confines itself on Linux alone"),
    ("anion", "winnow", "reads device-tree text; devices have blobs"),
    ("anion", "rustix", "the socket's lock and the width of terminals are for Linux alone"),
    ("anion-ipc", "rsbinder", "AOSP's binder takes its place"),
    ("anion-ipc", "nix", "the owner of a socket is named on Linux alone"),
    ("anion-ipc", "rustix", "the socket's transport is for Linux alone"),
    ("anionctl", "clap_complete", "completions are for a machine's own shell"),
    ("anionctl", "clap_mangen", "manual pages are not installed on devices"),
    ("anionctl", "anion-nodes", "programs are run as they are on Linux alone"),
    ("anionctl", "ratatui", "the full screen is for a machine's own terminals"),
    ("anionctl", "object", "programs are run as they are on Linux alone"),
    ("anionctl", "rustix", "trapped calls and the width of terminals are for Linux alone"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn modules() -> Vec<Module> {
    blueprint::parse(&read("Android.bp")).expect("Android.bp is sound")
}

/// Returns every module with its defaults applied, without the defaults modules.
fn resolved() -> Vec<Module> {
    let all = modules();
    let built = all.iter().filter(|module| !module.kind.ends_with("_defaults"));
    built.map(|module| module.resolved(&all).expect("its defaults are here")).collect()
}

fn named<'m>(modules: &'m [Module], name: &str) -> &'m Module {
    modules.iter().find(|module| module.name() == name).unwrap_or_else(|| panic!("no module {name}"))
}

/// Returns the names of files with this ending in a folder.
fn files(folder: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(end)).map(|name| format!("{folder}/{name}")).collect()
}

#[test]
fn every_name_is_there_and_there_once() {
    let modules = modules();
    let names: Vec<_> = modules.iter().map(Module::name).filter(|name| !name.is_empty()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    let mut referred = 0;
    for module in &modules {
        let mut wanted: Vec<&str> = Vec::new();
        wanted.extend(module.list("defaults").iter().map(String::as_str));
        wanted.extend(module.list("required").iter().map(String::as_str));
        wanted.extend(module.list("whole_static_libs").iter().map(String::as_str));
        wanted.extend(module.list("vintf_fragment_modules").iter().map(String::as_str));
        wanted.extend(module.text("src").and_then(|text| text.strip_prefix(':')));
        wanted.extend(module.list("default_applicable_licenses").iter().map(String::as_str));
        for name in wanted {
            assert!(names.contains(&name), "{} wants {name}", module.name());
            referred += 1;
        }
        for name in module.list("rustlibs") {
            let is_ours = names.contains(&name.as_str()) || name == &format!("{INTERFACE}-V2-rust");
            let is_platforms = PLATFORMS.contains(&name.as_str());
            assert!(is_ours || is_platforms || library(name).is_some(), "{} wants {name}", module.name());
        }
    }
    assert!(referred >= 10, "only {referred} references were seen");
}

fn is_rust_library(module: &Module) -> bool {
    ["rust_ffi_static", "rust_library"].contains(&module.kind.as_str())
}

/// Soong requires that a library's file name begins with the name of its crate.
#[test]
fn libraries_are_named_after_their_crates() {
    let own = resolved().into_iter().filter(is_rust_library);
    let own = own.map(|module| {
        let crate_name = module.text("crate_name").expect("a library has one").to_owned();
        (module.name().to_owned(), crate_name)
    });
    let others =
        LIBRARIES.iter().map(|library| (library.module.to_owned(), library.package.replace('-', "_")));
    for (module, crate_name) in own.chain(others) {
        assert!(module.starts_with(&format!("lib{crate_name}")), "{module} has the crate {crate_name}");
    }
}

#[test]
fn every_file_is_there_and_none_is_forgotten() {
    let mut mentioned = BTreeSet::new();
    for module in modules() {
        for property in ["srcs", "init_rc", "license_text"] {
            mentioned.extend(module.list(property).iter().cloned());
        }
        for property in ["src", "test_config", "version_script"] {
            mentioned.extend(module.text(property).map(str::to_owned));
        }
    }
    let is_file = |path: &&String| !path.starts_with(':') && !path.contains('*');
    for path in mentioned.iter().filter(is_file) {
        assert!(root().join(path).is_file(), "Android.bp names {path}, which is not there");
    }
    assert!(mentioned.contains("aidl/vendor/anion/allocator/*.aidl"), "{mentioned:?}");
    for (folder, end) in [
        ("client/c", ".map"),
        ("fuzz", ".rs"),
        ("graphics/mapper", ".map"),
        ("init", ".rc"),
        ("seccomp", ".policy"),
        ("vintf", ".xml"),
    ] {
        for file in files(folder, end) {
            assert!(mentioned.contains(&file), "{file} is in no module of Android.bp");
        }
    }
}

/// Returns the packages of this workspace with their dependencies in cargo, by name.
fn cargo_dependencies() -> BTreeMap<String, Vec<(String, bool)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let dependencies = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("a list").iter();
        let one = |entry: &serde_json::Value| {
            (entry["name"].as_str().expect("a name").to_owned(), entry["kind"].as_str() == Some("dev"))
        };
        all.map(one).collect()
    };
    packages
        .iter()
        .map(|package| (package["name"].as_str().expect("a name").to_owned(), dependencies(package)))
        .collect()
}

#[test]
fn crates_agree_with_cargo() {
    let modules = resolved();
    let cargo = cargo_dependencies();
    let own = |package: &str| {
        let stubs = ["android-hardware-graphics-allocator", "vendor-anion-allocator"];
        package.starts_with("anion") || stubs.contains(&package) || package == "rustutils"
    };
    for (package, names) in [
        ("anion-ipc", &["libanion_ipc"][..]),
        ("anion-vts", &["VtsAnionAllocatorTargetTest"]),
        ("anion-memory", &["libanion_memory"]),
        ("anion-layout", &["libanion_layout"]),
        ("anion-handle", &["libanion_handle"]),
        ("anion-mapper", &["libanion_mapper"]),
        ("anion-client", &["libanion_client"]),
        ("anionctl", &["libanionctl"]),
        ("anion-nodes", &["libanion_nodes"]),
        ("anion-c", &["libanion_c"]),
        ("anion", &["libanion_service", "vendor.anion.allocator-service", "anionctl", "anion_unit_test"]),
    ] {
        let dependencies = &cargo[package];
        let mut used = BTreeSet::new();
        for name in names {
            for library in named(&modules, name).list("rustlibs").iter().filter_map(|name| library(name)) {
                let known = dependencies.iter().any(|(dependency, _)| dependency == library.package);
                assert!(known, "{name} uses {}, which {package} does not depend on", library.package);
                used.insert(library.package);
            }
        }
        for (dependency, _) in dependencies.iter().filter(|(dependency, is_dev)| !is_dev && !own(dependency))
        {
            let reason = CARGO_ONLY.iter().find(|(user, name, _)| user == &package && name == dependency);
            assert!(
                used.contains(dependency.as_str()) != reason.is_some(),
                "{package} depends on {dependency}: it must be in Android.bp or have a reason not to, not both"
            );
        }
    }
    for (package, name, _) in CARGO_ONLY {
        let uses = cargo[*package].iter().any(|(dependency, _)| dependency == name);
        assert!(uses, "{package} does not use {name}");
    }
    let used: BTreeSet<_> = modules.iter().flat_map(|module| module.list("rustlibs")).collect();
    for library in LIBRARIES {
        assert!(used.contains(&library.module.to_owned()), "no module uses {}", library.module);
    }
}

#[test]
fn crates_to_import_are_documented() {
    let page = read("docs/android.md");
    for library in LIBRARIES {
        let features = library.features.join(", ");
        let row =
            format!("| `{}` | {} | {} | {features} |", library.module, library.package, library.version);
        assert_eq!(page.contains(&row), library.origin == Origin::Imported, "docs/android.md: {row}");
    }
}

#[test]
fn the_interface_is_whole_and_stable() {
    let modules = modules();
    let interface = named(&modules, INTERFACE);
    assert_eq!(interface.kind, "aidl_interface");
    assert_eq!(interface.text("stability"), Some("vintf"));
    let sources = files("aidl/vendor/anion/allocator", ".aidl");
    assert!(sources.len() > 15, "only {sources:?}");
    for source in sources {
        assert!(read(&source).contains("@VintfStability"), "{source} is not stable");
    }
    let Some(Value::Map(backends)) = interface.properties.get("backend") else { panic!("no backends") };
    let is_enabled = |backend: &&String| match &backends[*backend] {
        Value::Map(properties) => properties.get("enabled") == Some(&Value::Bool(true)),
        _ => false,
    };
    let enabled: Vec<_> = backends.keys().filter(is_enabled).map(String::as_str).collect();
    assert_eq!(enabled, ["cpp", "java", "ndk", "rust"]);
    let name = anion_ipc::INTERFACE_NAME;
    assert_eq!(name, format!("{INTERFACE}.IHeapAllocator"));
    assert_eq!(anion_ipc::SERVICE_NAME, format!("{name}/default"));
}

/// Returns the frozen versions in `aidl_api/`.
fn frozen_versions() -> Vec<u32> {
    let folder = root().join("aidl_api").join(INTERFACE);
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut versions: Vec<u32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    versions
}

#[test]
fn frozen_versions_are_listed_and_unchanged() {
    let modules = modules();
    let interface = named(&modules, INTERFACE);
    let listed = match interface.properties.get("versions_with_info") {
        Some(Value::Maps(versions)) => versions.iter().map(|version| version["version"].clone()).collect(),
        _ => Vec::new(),
    };
    let expected: Vec<_> = frozen_versions().iter().map(|number| Value::Text(number.to_string())).collect();
    assert_eq!(listed, expected, "versions_with_info of Android.bp and the folders of aidl_api");
    let is_frozen = interface.properties["frozen"] == Value::Bool(true);
    assert!(!is_frozen || !expected.is_empty(), "Android.bp says frozen, but aidl_api has no version");
    for version in frozen_versions() {
        let folder = root().join("aidl_api").join(INTERFACE).join(version.to_string());
        let word = if version == 1 { "latest-version".to_owned() } else { (version - 1).to_string() };
        // The platform's own rule, verbatim.
        let script = format!(
            "{{ find ./ -name '*.aidl' -print0 | LC_ALL=C sort -z | xargs -0 sha1sum && echo {word}; }} | sha1sum"
        );
        let output = Command::new("sh").args(["-c", &script]).current_dir(&folder).output().expect("sh runs");
        let hash = String::from_utf8_lossy(&output.stdout);
        let written = fs::read_to_string(folder.join(".hash")).expect("a frozen version has a hash");
        assert_eq!(hash.split_whitespace().next(), Some(written.trim()), "version {version} was changed");
    }
}

#[test]
fn both_builds_answer_the_same_version_and_hash() {
    use vendor_anion_allocator::aidl::vendor::anion::allocator::{
        IBufferToken, IHeapAllocator, IPressureListener, IReservation,
    };
    let versions = frozen_versions();
    let last = versions.last().copied().unwrap_or(0);
    let modules = modules();
    let is_frozen = named(&modules, INTERFACE).properties["frozen"] == Value::Bool(true);
    let (version, hash) = if is_frozen {
        (last, read(&format!("aidl_api/{INTERFACE}/{last}/.hash")).trim().to_owned())
    } else {
        (last + 1, "notfrozen".to_owned())
    };
    for (answered, answer) in [
        (IHeapAllocator::VERSION, IHeapAllocator::HASH),
        (IPressureListener::VERSION, IPressureListener::HASH),
        (IReservation::VERSION, IReservation::HASH),
        (IBufferToken::VERSION, IBufferToken::HASH),
    ] {
        assert_eq!((u32::try_from(answered), answer), (Ok(version), hash.as_str()));
    }
}

#[test]
fn no_module_is_of_the_vendor_partition_and_available_to_it() {
    for module in resolved() {
        let says = |property: &str| module.properties.get(property) == Some(&Value::Bool(true));
        assert!(!(says("vendor") && says("vendor_available")), "{}: Soong takes one alone", module.name());
    }
}

#[test]
fn the_conformance_suite_is_run_by_its_own_name() {
    let modules = resolved();
    let suites: Vec<_> = modules.iter().filter(|module| module.kind == "rust_test").collect();
    let [suite] = suites.as_slice() else { panic!("{} suites", suites.len()) };
    let configuration = read(suite.text("test_config").expect("a configuration"));
    let name = suite.name();
    for wanted in [
        format!("name=\"module-name\" value=\"{name}\""),
        format!("name=\"push\" value=\"{name}->/data/local/tmp/{name}\""),
        "com.android.tradefed.testtype.rust.RustBinaryTest".to_owned(),
        "name=\"test-options\" value=\"--uids 2900,2901\"".to_owned(),
    ] {
        assert!(configuration.contains(&wanted), "vts/AndroidTest.xml lacks {wanted}");
    }
    assert_eq!(suite.list("test_suites"), ["general-tests", "vts"]);
    assert_eq!(suite.properties["test_harness"], Value::Bool(false));
}

#[test]
fn the_service_is_installed_where_its_configuration_is_sought() {
    let modules = resolved();
    let service = named(&modules, "vendor.anion.allocator-service");
    assert_eq!(service.text("relative_install_path"), Some("hw"));
    let heaps = named(&modules, "anion_heaps.dtb");
    let parts = ["sub_dir", "filename"].map(|property| heaps.text(property).expect("given"));
    let path: PathBuf = ["/vendor/etc"].into_iter().chain(parts).collect();
    assert!(read("src/config/mod.rs").contains(&format!("{:?}", path.display().to_string())), "{path:?}");
    assert_eq!(heaps.properties["vendor"], Value::Bool(true));
}

/// The type-check runs on Linux, where nix has these functions; for Android it lacks them.
#[test]
fn the_code_uses_no_function_that_nix_lacks_for_android() {
    let linux_only =
        ["FallocateFlags", "fcntl::fallocate", " fallocate}", "SeekData", "SeekHole", "unistd::dup3"];
    let mut folders: Vec<PathBuf> = [
        "anionctl/src",
        "client/c/src",
        "client/nodes/src",
        "client/src",
        "ipc/src/aosp",
        "memory/src",
        "src",
        "vts/src",
    ]
    .map(|folder| root().join(folder))
    .into();
    let mut checked = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).expect("readable").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("readable");
            let named = linux_only.iter().find(|name| text.contains(**name));
            assert!(named.is_none(), "{} uses {named:?}, which nix lacks for Android", path.display());
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} files were seen");
}
