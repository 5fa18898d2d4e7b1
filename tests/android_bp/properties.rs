// SPDX-License-Identifier: Apache-2.0
//! Checks that Soong knows every property of Android.bp in its type of module.

use crate::blueprint::{self, Value};

/// The permitted properties of a module by type, from Soong's sources.
const PROPERTIES: &[(&str, &[&str])] = &[
    (
        "aidl_interface",
        &[
            "backend",
            "frozen",
            "host_supported",
            "local_include_dir",
            "name",
            "owner",
            "srcs",
            "stability",
            "vendor_available",
            "versions_with_info",
        ],
    ),
    ("cc_defaults", CC_PROPERTIES),
    ("cc_library_shared", CC_PROPERTIES),
    ("filegroup", &["name", "srcs"]),
    ("genrule", &["cmd", "name", "out", "srcs", "tools"]),
    ("license", &["license_kinds", "license_text", "name", "visibility"]),
    ("package", &["default_applicable_licenses"]),
    ("prebuilt_etc", &["filename", "name", "src", "sub_dir", "vendor"]),
    ("rust_binary", &["init_rc", "prefer_rlib", "relative_install_path", "vintf_fragment_modules"]),
    ("rust_defaults", &[]),
    ("rust_ffi_static", &["export_include_dirs", "vendor_available"]),
    ("rust_fuzz", &["fuzz_config"]),
    ("rust_library", &["vendor_available"]),
    ("rust_test", &["auto_gen_config", "test_config", "test_harness", "test_suites"]),
    ("rust_test_host", &["test_options", "test_suites"]),
    ("vintf_fragment", &["name", "src", "vendor"]),
];

/// The permitted properties of C modules, as far as this file uses them.
const CC_PROPERTIES: &[&str] = &[
    "compile_multilib",
    "defaults",
    "export_include_dirs",
    "host_supported",
    "ldflags",
    "name",
    "relative_install_path",
    "shared_libs",
    "vendor",
    "vendor_available",
    "version_script",
    "whole_static_libs",
];

/// Further permitted properties of all Rust modules.
const RUST_PROPERTIES: &[&str] = &[
    "cargo_env_compat",
    "cargo_pkg_version",
    "cfgs",
    "crate_name",
    "defaults",
    "edition",
    "host_supported",
    "name",
    "rustlibs",
    "srcs",
    "vendor",
];

/// The permitted properties inside a property that is a map.
const INNER_PROPERTIES: &[(&str, &[&str])] = &[
    ("backend", &["cpp", "java", "ndk", "rust"]),
    ("cpp", &["enabled"]),
    ("fuzz_config", &["fuzz_on_haiku_device", "fuzz_on_haiku_host"]),
    ("java", &["enabled", "sdk_version"]),
    ("ndk", &["enabled"]),
    ("rust", &["enabled"]),
    ("test_options", &["unit_test"]),
    ("versions_with_info", &["imports", "version"]),
];

/// Returns the properties that are not in `allowed`, including those inside maps.
fn strangers(properties: &blueprint::Properties, allowed: &[&str]) -> Vec<String> {
    let mut found: Vec<_> =
        properties.keys().filter(|name| !allowed.contains(&name.as_str())).cloned().collect();
    for (name, value) in properties {
        let inner = INNER_PROPERTIES.iter().find(|(map, _)| map == name).map_or(&[][..], |(_, inner)| inner);
        match value {
            Value::Map(map) => found.extend(strangers(map, inner)),
            Value::Maps(maps) => found.extend(maps.iter().flat_map(|map| strangers(map, inner))),
            Value::Bool(_) | Value::Text(_) | Value::List(_) => {}
        }
    }
    found
}

#[test]
fn every_property_is_one_that_its_module_takes() {
    for module in crate::modules() {
        let own = PROPERTIES.iter().find(|(kind, _)| *kind == module.kind);
        let (_, own) = own.unwrap_or_else(|| panic!("no properties are known for {}", module.kind));
        let common = if module.kind.starts_with("rust_") { RUST_PROPERTIES } else { &[] };
        let unknown = strangers(&module.properties, &[own, common].concat());
        assert!(unknown.is_empty(), "{} {}: {unknown:?}", module.kind, module.name());
    }
    let text =
        "rust_library { nam: \"x\", backend: { cpp: { on: true } }, versions_with_info: [{ hash: \"1\" }] }";
    let module = &blueprint::parse(text).expect("sound")[0];
    let unknown = strangers(&module.properties, &["backend", "versions_with_info"]);
    assert_eq!(unknown, ["nam", "on", "hash"], "what is wrong is found, at every depth");
}
