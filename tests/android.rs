// SPDX-License-Identifier: Apache-2.0
//! Checks that a device's files for the service (init, VINTF, SELinux) agree with the service.

mod common;

use anion_ipc::SERVICE_NAME;
use roxmltree::{Document, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator;

const INIT: &str = "init/vendor.anion.allocator-service.rc";
/// The same service, for products whose graphics allocator it is.
const INIT_GRAPHICS: &str = "init/vendor.anion.graphics.rc";

/// The name of the graphics allocator that clients use.
const GRAPHICS: &str = "android.hardware.graphics.allocator.IAllocator/default";

/// The resource limits of a process, under init's names.
const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Android's task profiles that services use.
const PROFILES: [&str; 9] = [
    "HighEnergySaving",
    "HighPerformance",
    "MaxPerformance",
    "ProcessCapacityHigh",
    "ProcessCapacityLow",
    "ProcessCapacityMax",
    "ServiceCapacityLow",
    "ServiceCapacityRestricted",
    "ServicePerformance",
];

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file of this repository")
}

/// Returns the lines that are neither empty nor comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Returns package, interface and instance of the service's name.
fn name_parts() -> (&'static str, &'static str, &'static str) {
    let (descriptor, instance) = SERVICE_NAME.split_once('/').expect("an instance");
    let (package, interface) = descriptor.rsplit_once('.').expect("a package");
    (package, interface, instance)
}

/// Returns the text of the only child with the name `name`.
fn text_of<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    let mut found = node.children().filter(|child| child.has_tag_name(name));
    let one = found.next().unwrap_or_else(|| panic!("<{}> has no <{name}>", node.tag_name().name()));
    assert!(found.next().is_none(), "<{}> has more than one <{name}>", node.tag_name().name());
    one.text().expect("text").trim()
}

/// An element: its name, its permitted parents, its attributes.
type Element<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Checks that every element of the document is one of these.
fn assert_schema(document: &Document<'_>, elements: &[Element<'_>]) {
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        let (_, parents, attributes) = elements
            .iter()
            .find(|(known, _, _)| *known == name)
            .unwrap_or_else(|| panic!("what is <{name}>?"));
        let above = node.parent_element().map_or("", |above| above.tag_name().name());
        assert!(parents.contains(&above), "<{name}> in <{above}>");
        let found: Vec<_> = node.attributes().map(|one| (one.name(), one.value())).collect();
        assert_eq!(found, *attributes, "<{name}>");
    }
}

#[test]
fn the_manifest_declares_the_service_that_is_served() {
    let text = read("vintf/vendor.anion.allocator-service.xml");
    let document = Document::parse(&text).expect("well-formed");
    assert_schema(
        &document,
        &[
            ("manifest", &[""], &[("version", "1.0"), ("type", "device")]),
            ("hal", &["manifest"], &[("format", "aidl")]),
            ("name", &["hal"], &[]),
            ("version", &["hal"], &[]),
            ("fqname", &["hal"], &[]),
        ],
    );
    let (package, interface, instance) = name_parts();
    let hal = document.root_element().first_element_child().expect("a hal");
    assert_eq!(text_of(hal, "name"), package);
    assert_eq!(text_of(hal, "version"), IHeapAllocator::VERSION.to_string());
    assert_eq!(text_of(hal, "fqname"), format!("{interface}/{instance}"));
}

#[test]
fn the_matrix_takes_what_the_manifest_declares() {
    let text = read("vintf/framework_compatibility_matrix.xml");
    let document = Document::parse(&text).expect("well-formed");
    assert_schema(
        &document,
        &[
            ("compatibility-matrix", &[""], &[("version", "1.0"), ("type", "framework")]),
            ("hal", &["compatibility-matrix"], &[("format", "aidl"), ("optional", "true")]),
            ("name", &["hal", "interface"], &[]),
            ("version", &["hal"], &[]),
            ("interface", &["hal"], &[]),
            ("instance", &["interface"], &[]),
        ],
    );
    let (package, interface, instance) = name_parts();
    let hal = document.root_element().first_element_child().expect("a hal");
    assert_eq!(text_of(hal, "name"), package);
    // From version 1 on: each version accepts the calls of the one before.
    assert_eq!(text_of(hal, "version"), format!("1-{}", IHeapAllocator::VERSION));
    let declared = hal.children().find(|child| child.has_tag_name("interface")).expect("an interface");
    assert_eq!((text_of(declared, "name"), text_of(declared, "instance")), (interface, instance));
}

/// Returns the sections of an init file: the words of the first line, then the options.
fn sections(text: &str) -> Vec<(Vec<&str>, Vec<Vec<&str>>)> {
    let mut found: Vec<(Vec<&str>, Vec<Vec<&str>>)> = Vec::new();
    for line in lines(text) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if ["service", "on"].contains(&words[0]) {
            found.push((words, Vec::new()));
        } else {
            found.last_mut().expect("a section first").1.push(words);
        }
    }
    found
}

/// Returns whether init accepts this line in a service's section. Knows only the options that are
/// used here.
fn is_option(line: &[&str]) -> bool {
    let is_name = |word: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(plain)
    };
    let limit = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    match *line {
        ["capabilities" | "override"] => true,
        ["onrestart", "restart", service] => is_name(service),
        ["class" | "group", ref names @ ..] => !names.is_empty() && names.iter().all(|name| is_name(name)),
        ["interface", "aidl", name] => name.split_once('/').is_some_and(|(_, instance)| is_name(instance)),
        ["rlimit", name, soft, hard] => {
            LIMITS.contains(&name) && limit(soft).zip(limit(hard)).is_some_and(|(soft, hard)| soft <= hard)
        }
        ["task_profiles", ref names @ ..] => {
            !names.is_empty() && names.iter().all(|name| PROFILES.contains(name))
        }
        ["user", name] => is_name(name),
        _ => false,
    }
}

#[test]
fn lines_that_init_would_refuse_are_found() {
    let is = |line: &str| is_option(&line.split_whitespace().collect::<Vec<_>>());
    for good in
        ["capabilities", "class hal early_hal", "rlimit nofile 1 unlimited", "rlimit nice 40 40", "user a_1"]
    {
        assert!(is(good), "{good}");
    }
    for bad in [
        "capabilities SYS_NISE",
        "class",
        "group",
        "group vendor_anion,system",
        "interface aidl a.b.IC",
        "interface hidl a.b.IC/default",
        "rlimit nofil 1 1",
        "rlimit nofile x 1",
        "rlimit nofile 1",
        "rlimit nofile 2 1",
        "task_profiles Nonsense",
        "task_profiles",
        "user",
        "user 0abc",
        "user a b",
        "nonsense",
    ] {
        assert!(!is(bad), "{bad}");
    }
}

fn service_section(text: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let mut services = sections(text).into_iter().filter(|(first, _)| first[0] == "service");
    let only = services.next().expect("a service");
    assert!(services.next().is_none(), "one service alone");
    only
}

#[test]
fn a_product_whose_graphics_allocator_it_is_starts_the_same_service() {
    let (base, graphics) = (read(INIT), read(INIT_GRAPHICS));
    let ((base, base_options), (graphics, graphics_options)) =
        (service_section(&base), service_section(&graphics));
    assert_eq!([&base[..], &["--graphics"]].concat(), graphics);
    for option in &graphics_options {
        assert!(is_option(option), "{option:?}");
    }
    let added = graphics_options
        .iter()
        .filter(|option| !base_options.contains(option))
        .map(|option| option.join(" "));
    let expected = [
        "override".to_owned(),
        format!("interface aidl {GRAPHICS}"),
        "class hal animation".to_owned(),
        "onrestart restart surfaceflinger".to_owned(),
    ];
    assert_eq!(added.collect::<Vec<_>>(), expected);
    let dropped: Vec<_> = base_options.iter().filter(|option| !graphics_options.contains(option)).collect();
    assert_eq!(dropped, [&["class", "hal"]]);
    assert!(INIT < INIT_GRAPHICS, "of two definitions the later one that says override counts");
}

#[test]
fn the_graphics_manifest_declares_allocator_and_mapper() {
    let text = read("vintf/vendor.anion.graphics.xml");
    let document = Document::parse(&text).expect("well-formed");
    let mut hals = document.root_element().children().filter(|child| child.has_tag_name("hal"));
    let (allocator, mapper) = (hals.next().expect("two hals"), hals.next().expect("two hals"));
    assert_eq!(hals.next(), None);
    assert_eq!(allocator.attribute("format"), Some("aidl"));
    let name = format!("{}.{}", text_of(allocator, "name"), text_of(allocator, "fqname"));
    assert_eq!((name.as_str(), text_of(allocator, "version")), (GRAPHICS, "2"));
    assert_eq!(mapper.attribute("format"), Some("native"));
    assert_eq!((text_of(mapper, "name"), text_of(mapper, "version")), ("mapper", "5.0"));
    let interface = mapper.children().find(|child| child.has_tag_name("interface")).expect("an interface");
    // The answer of getIMapperLibrarySuffix.
    assert_eq!(text_of(interface, "instance"), "anion");
}

#[test]
fn init_starts_the_service_with_a_command_line_that_it_understands() {
    let text = read(INIT);
    let (first, _) = service_section(&text);
    let arguments = &first[3..];
    // Parses the whole command line, and then prints instead of serving.
    let check = |arguments: &[&str]| {
        let mut aniond = assert_cmd::Command::new(env!("CARGO_BIN_EXE_aniond"));
        aniond.args(arguments).args(["--check-config", "etc/anion/heaps.dts"]).timeout(common::DEADLINE);
        aniond.current_dir(env!("CARGO_MANIFEST_DIR")).assert()
    };
    check(arguments).success();
    check(&[arguments, &["--no-such-option"]].concat()).failure().code(2);
    let value = |option: &str| arguments.iter().skip_while(|word| **word != option).nth(1).copied();
    assert_eq!(value("--transport"), Some("binder"));
    assert_eq!(value("--config"), Some("/vendor/etc/anion/heaps.dtb"));
}

#[test]
fn init_gives_the_service_a_user_of_its_own_and_no_privileges() {
    let text = read(INIT);
    let (first, options) = service_section(&text);
    assert_eq!(first[2], "/vendor/bin/hw/vendor.anion.allocator-service");
    for option in &options {
        assert!(is_option(option), "{option:?}");
    }
    let of = |name: &str| -> Vec<&[&str]> {
        options.iter().filter(|option| option[0] == name).map(|option| &option[1..]).collect()
    };
    assert_eq!(of("interface"), [["aidl", SERVICE_NAME]]);
    assert_eq!(of("class"), [["hal"]]);
    assert_eq!(of("task_profiles"), [["ServiceCapacityLow"]]);
    assert_eq!(of("capabilities"), [[] as [&str; 0]], "an empty list drops them all");
    let user = of("user")[0][0];
    let declared = read("init/config.fs");
    assert!(declared.contains(&format!("[AID_{}]", user.to_uppercase())), "{user} is declared in config.fs");
    let number = lines(&declared).find_map(|line| line.strip_prefix("value:")).expect("a number");
    assert!((2900..3000).contains(&number.trim().parse::<u32>().expect("a number")), "{number}");
    let files = of("rlimit").into_iter().find(|limit| limit[0] == "nofile").expect("a limit of open files");
    assert_eq!(files[1], files[2], "soft and hard");
}

#[test]
fn init_writes_parameters_that_the_service_reads() {
    let text = read(INIT);
    let source = read("src/sys/udmabuf.rs");
    let all = sections(&text);
    let actions: Vec<_> =
        all.iter().filter(|(first, _)| first[0] == "on").flat_map(|(_, lines)| lines).collect();
    assert_eq!(actions.len(), 2);
    // At `boot` the platform's own action runs first, and starts the service.
    for (first, _) in all.iter().filter(|(first, _)| first[0] == "on") {
        assert_eq!(*first, ["on", "early-boot"]);
    }
    for action in actions {
        let (directory, name) = action[1].rsplit_once('/').expect("a path");
        assert_eq!(action[0], "write");
        assert!(
            source.contains(&format!("{directory:?}")) && source.contains(&format!("{name:?}")),
            "{action:?}"
        );
        action[2].parse::<u32>().expect("a number");
    }
}

#[test]
fn labels_are_those_of_the_names_that_the_service_uses() {
    let services = read("sepolicy/service_contexts");
    let labelled: BTreeSet<&str> =
        lines(&services).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(labelled, BTreeSet::from([SERVICE_NAME]));

    let properties = read("sepolicy/property_contexts");
    let known: BTreeMap<&str, &str> =
        lines(&properties).filter_map(|line| line.split_once(char::is_whitespace)).collect();
    assert!(!known.is_empty());
    let logging = read("src/daemon/logging.rs");
    for (name, rest) in known {
        assert!(logging.contains(&format!("{name:?}")), "no code reads {name}");
        assert!(rest.ends_with("exact enum off error warn info debug trace"), "{rest}");
    }
}

#[test]
fn each_folder_and_switch_of_the_policy_is_in_the_table_of_releases() {
    let page = read("docs/android.md");
    let start = page.find("### Policy by release").expect("a table");
    let table = page[start..].split("\n### ").next().expect("a section");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sepolicy");
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable"));
    let folders = names.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let mut releases = 0;
    for name in folders.filter_map(|name| name.into_string().ok()).filter(|name| name != "graphics") {
        assert!(table.contains(&format!("vendor/anion/sepolicy/{name}")), "{name} is not in the table");
        releases += 1;
    }
    assert!(releases > 2, "{releases} folders are for releases");
    let macros = read("sepolicy/te_macros");
    let switch = "anion_memfd_from_17";
    assert!(macros.contains(&format!("ifelse({switch}, ")) && table.contains(&format!("{switch}=true")));
}
