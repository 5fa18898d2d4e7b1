// SPDX-License-Identifier: Apache-2.0
//! Type-checks the crates of Android.bp as Soong would build them: each with the `rustlibs`,
//! features, edition and cfgs of its module, against AOSP's own binder library and stubs from
//! AOSP's own AIDL compiler.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::blueprint::{self, Module};
use super::crates::{LIBRARIES, Origin, library};
use super::stubs::{STUBS, Stubs};
use crate::process::{cargo, output_of, run, workspace_root};
use crate::tally::Tally;

/// AOSP's library that calls a service with random parcels.
const GENERATOR: &str = "binder_random_parcel_rs";

/// AOSP's binder library in the registry, which is that of Android 13.
const BINDER: (&str, &str) = ("binder_ndk", "0.2.0");

/// Changes, by file, to the library for which today's stubs are generated: since Android 14 a dump
/// receives a writer, and a `ParcelFileDescriptor` holds a plain descriptor instead of a file.
const SINCE: &[(&str, &str, &str)] = &[
    ("binder.rs", "fn dump(&self, _file: &File,", "fn dump(&self, _writer: &mut dyn std::io::Write,"),
    ("binder.rs", "fn on_dump(&self, file: &File,", "fn on_dump(&self, file: &mut dyn std::io::Write,"),
    (
        "binder.rs",
        "fn on_dump(&self, file: &std::fs::File,",
        "fn on_dump(&self, file: &mut dyn std::io::Write,",
    ),
    ("native.rs", "fn on_dump(&self, _file: &File,", "fn on_dump(&self, _writer: &mut dyn std::io::Write,"),
    ("native.rs", "let file = ManuallyDrop::new(File", "let mut file = ManuallyDrop::new(File"),
    ("native.rs", "binder.on_dump(&file, &args)", "binder.on_dump(&mut *file, &args)"),
    (DESCRIPTOR, "use std::fs::File;", "use std::os::fd::{AsFd, BorrowedFd, OwnedFd};"),
    (DESCRIPTOR, "pub struct ParcelFileDescriptor(File);", "pub struct ParcelFileDescriptor(OwnedFd);"),
    (DESCRIPTOR, "new(file: File) -> Self {", "new<F: Into<OwnedFd>>(file: F) -> Self {"),
    (DESCRIPTOR, "        Self(file)\n    }\n", DUPLICATE),
    (
        DESCRIPTOR,
        "impl AsRef<File> for ParcelFileDescriptor {",
        "impl AsRef<OwnedFd> for ParcelFileDescriptor {",
    ),
    (DESCRIPTOR, "fn as_ref(&self) -> &File {", "fn as_ref(&self) -> &OwnedFd {"),
    (
        DESCRIPTOR,
        "impl From<ParcelFileDescriptor> for File {",
        "impl From<ParcelFileDescriptor> for OwnedFd {",
    ),
    (
        DESCRIPTOR,
        "fn from(file: ParcelFileDescriptor) -> File {",
        "fn from(file: ParcelFileDescriptor) -> OwnedFd {",
    ),
    (DESCRIPTOR, "                File::from_raw_fd(fd)", "                OwnedFd::from_raw_fd(fd)"),
    (DESCRIPTOR, "impl Eq for ParcelFileDescriptor {}\n", BORROW),
];

/// The file with the type of descriptors.
const DESCRIPTOR: &str = "parcel/file_descriptor.rs";

/// Since then, descriptors can be duplicated.
const DUPLICATE: &str = "        Self(file.into())
    }

    pub fn try_clone(&self) -> std::io::Result<Self> {
        self.0.try_clone().map(Self)
    }
";

/// Since then, they can be borrowed.
const BORROW: &str = "impl Eq for ParcelFileDescriptor {}

impl AsFd for ParcelFileDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
";

/// An image that modules are built for.
struct Variant {
    name: &'static str,
    /// The cfgs that Soong passes to the compiler for it.
    cfgs: &'static [&'static str],
    /// The same for C.
    defines: &'static str,
}

const VARIANTS: &[Variant] = &[
    Variant {
        name: "vendor",
        cfgs: &["android_vndk", "android_vendor"],
        defines: "-D__ANDROID_VNDK__ -D__ANDROID_VENDOR__",
    },
    // Also for the build machine: both have no cfgs.
    Variant { name: "core", cfgs: &[], defines: "" },
];

/// Checks every Rust module for each of its images.
///
/// # Errors
/// If a module does not type-check, or a dependency is unavailable.
pub(crate) fn run_check(tally: &mut Tally) -> Result<()> {
    let root = workspace_root();
    let text = fs::read_to_string(root.join("Android.bp")).context("Android.bp")?;
    let modules = blueprint::parse(&text).context("Android.bp")?;
    let resolved: Result<Vec<_>, _> = modules.iter().map(|module| module.resolved(&modules)).collect();
    let resolved = resolved.context("Android.bp")?;
    let place = root.join("target/android-check");
    let imported = LIBRARIES.iter().filter(|library| library.origin == Origin::Imported).count();
    println!(
        "{} crates are those of AOSP, {imported} are imported as docs/android.md describes",
        LIBRARIES.len() - imported
    );
    let binder = fetch_binder(&place)?;
    for variant in VARIANTS {
        let here = place.join(variant.name);
        let _ = fs::remove_dir_all(&here);
        write_binder(&binder, &here.join("binder"), variant)?;
        write_generator(&here.join(GENERATOR))?;
        let mut members = vec!["binder".to_owned(), GENERATOR.to_owned()];
        for stubs in &STUBS {
            write_stubs(stubs, &here.join(stubs.crate_name), variant)?;
            members.push(stubs.crate_name.to_owned());
        }
        let unchecked = members.len();
        for module in resolved.iter().filter(|module| is_checked(module, variant)) {
            write_package(module, &modules, &here.join(module.name()), variant)
                .with_context(|| format!("module {}", module.name()))?;
            members.push(module.name().to_owned());
        }
        write_workspace(&here, &members, variant)?;
        let check = |arguments: &[&str]| {
            let mut check = cargo();
            check.current_dir(&here).env("CARGO_TARGET_DIR", place.join("target"));
            run(check.args(["check", "--quiet", "-j2"]).args(arguments))
        };
        check(&["--workspace"])?;
        for module in resolved.iter().filter(|module| module.kind == "rust_test_host") {
            if is_checked(module, variant) {
                check(&["--lib", "--profile", "test", "--package", module.name()])?;
            }
        }
        for member in &members[unchecked..] {
            println!("{}: {member} type-checks", variant.name);
            *tally += Tally::one(true);
        }
    }
    Ok(())
}

/// Returns whether the module, with its defaults, is a crate that is built for the image.
fn is_checked(module: &Module, variant: &Variant) -> bool {
    let says = |property: &str| module.properties.get(property) == Some(&blueprint::Value::Bool(true));
    let is_rust = matches!(
        module.kind.as_str(),
        "rust_binary" | "rust_ffi_static" | "rust_fuzz" | "rust_library" | "rust_test" | "rust_test_host"
    );
    is_rust
        && if variant.name == "vendor" { says("vendor") || says("vendor_available") } else { !says("vendor") }
}

/// Downloads the binder library, and returns the directory of its sources.
fn fetch_binder(place: &Path) -> Result<PathBuf> {
    let probe = place.join("fetch");
    let (name, version) = BINDER;
    let manifest = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n\
         [dependencies]\n{name} = \"={version}\"\n"
    );
    write(&probe.join("Cargo.toml"), &manifest)?;
    write(&probe.join("lib.rs"), "")?;
    let metadata =
        output_of(cargo().current_dir(&probe).args(["metadata", "--format-version", "1", "--quiet"]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("the output of cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let found = packages.iter().find(|package| package["name"] == name);
    let path = found.and_then(|package| package["manifest_path"].as_str());
    let path = path.with_context(|| format!("cargo metadata has no manifest path of {name}"))?;
    Ok(Path::new(path).with_file_name("src"))
}

/// Writes a copy of the binder library with the changes of [`SINCE`].
fn write_binder(sources: &Path, to: &Path, variant: &Variant) -> Result<()> {
    copy_sources(sources, &to.join("src"))?;
    for (file, old, new) in SINCE {
        let path = to.join("src").join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(text.matches(old).count() == 1, "{} of {} must contain {old:?} exactly once", file, BINDER.0);
        write(&path, &text.replace(old, new))?;
    }
    let dependencies = "binder_ndk_sys = \"=0.2.0\"\ndowncast-rs = \"1.2\"\nlibc = \"0.2\"\n";
    write_manifest(to, "binder", "2021", "[lib]\nname = \"binder\"\n", dependencies, false)?;
    write_build_script(to, variant.cfgs.iter().copied())
}

/// Writes a crate with the function of AOSP's generator of parcels, which is in C++.
fn write_generator(to: &Path) -> Result<()> {
    let text = "pub fn fuzz_service(_: &mut binder::SpIBinder, _: &[u8]) {}\n";
    write(&to.join("src/lib.rs"), text)?;
    write_manifest(to, GENERATOR, "2021", "", "binder = { path = \"../binder\" }\n", false)?;
    write_build_script(to, std::iter::empty())
}

fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_sources(&entry.path(), &target)?;
        } else {
            write(&target, &fs::read_to_string(entry.path())?)?;
        }
    }
    Ok(())
}

/// Writes a package with the stubs of an interface.
fn write_stubs(stubs: &Stubs, to: &Path, variant: &Variant) -> Result<()> {
    stubs.write(to)?;
    let imports = stubs.imports.iter().map(|import| format!("{import} = {{ path = \"../{import}\" }}\n"));
    let mut dependencies = "binder = { path = \"../binder\" }\nasync-trait = \"0.1\"\n".to_owned();
    dependencies.extend(imports);
    // The published library's macros use the older edition.
    write_manifest(to, stubs.crate_name, "2018", "", &dependencies, false)?;
    write_build_script(to, variant.cfgs.iter().copied())
}

/// Writes a cargo package with the properties of a module.
fn write_package(module: &Module, modules: &[Module], to: &Path, variant: &Variant) -> Result<()> {
    let crate_name = module.text("crate_name").unwrap_or(module.name());
    let [source] = module.list("srcs") else { bail!("srcs must be one crate root") };
    let source = workspace_root().join(source);
    let kind = match module.kind.as_str() {
        "rust_ffi_static" | "rust_library" | "rust_test_host" => "[lib]",
        _ => "[[bin]]",
    };
    let target = format!("{kind}\nname = \"{crate_name}\"\npath = \"{}\"\n", source.display());
    let mut dependencies = String::new();
    for name in module.list("rustlibs") {
        dependencies += &dependency(name, modules)?;
    }
    if module.kind == "rust_fuzz" {
        // Soong links it into every fuzzer. Without the runtime, which is C++: this check links
        // nothing.
        dependencies += "libfuzzer-sys = { version = \"0.4\", default-features = false }\n";
    }
    let edition = module.text("edition").context("the module has no edition")?;
    // Package names of Soong may contain dots; those of cargo must not.
    write_manifest(to, &module.name().replace('.', "-"), edition, &target, &dependencies, true)?;
    let cfgs = module.list("cfgs").iter().map(String::as_str);
    write_build_script(to, cfgs.chain(variant.cfgs.iter().copied()))
}

/// Returns the line of Cargo.toml for a library that `rustlibs` names.
fn dependency(name: &str, modules: &[Module]) -> Result<String> {
    if let Some(own) = modules.iter().find(|module| module.name() == name) {
        let crate_name = own.resolved(modules)?;
        let crate_name =
            crate_name.text("crate_name").context("a library of this project has no crate_name")?;
        return Ok(format!("{crate_name} = {{ package = \"{name}\", path = \"../{name}\" }}\n"));
    }
    Ok(match name {
        "libbinder_rs" => "binder = { path = \"../binder\" }\n".to_owned(),
        "libbinder_random_parcel_rs" => format!("{GENERATOR} = {{ path = \"../{GENERATOR}\" }}\n"),
        "librustutils" => {
            // Without the parts that need a newer command-fds than AOSP's; no module of the device
            // uses them.
            let path = workspace_root().join("rustutils");
            format!("rustutils = {{ path = \"{}\", default-features = false }}\n", path.display())
        }
        _ => {
            if let Some(stubs) = STUBS.iter().find(|stubs| stubs.module == name) {
                return Ok(format!("{0} = {{ path = \"../{0}\" }}\n", stubs.crate_name));
            }
            let library = library(name)
                .with_context(|| format!("xtask/src/android/crates.rs lists no crate for {name}"))?;
            format!(
                "{} = {{ version = \"={}\", default-features = false, features = {:?} }}\n",
                library.package, library.version, library.features
            )
        }
    })
}

fn write_manifest(
    to: &Path,
    name: &str,
    edition: &str,
    target: &str,
    dependencies: &str,
    is_own: bool,
) -> Result<()> {
    let lints =
        if is_own { "warnings = \"deny\"\nunexpected_cfgs = \"allow\"" } else { "warnings = \"allow\"" };
    let text = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"{edition}\"\nbuild = \"build.rs\"\n\
         {target}[dependencies]\n{dependencies}[lints.rust]\n{lints}\n"
    );
    write(&to.join("Cargo.toml"), &text)
}

fn write_build_script<'c>(to: &Path, cfgs: impl Iterator<Item = &'c str>) -> Result<()> {
    let lines: String = cfgs.map(|cfg| format!("    println!(\"cargo:rustc-cfg={cfg}\");\n")).collect();
    write(&to.join("build.rs"), &format!("fn main() {{\n{lines}}}\n"))
}

fn write_workspace(to: &Path, members: &[String], variant: &Variant) -> Result<()> {
    write(&to.join("Cargo.toml"), &format!("[workspace]\nmembers = {members:?}\nresolver = \"2\"\n"))?;
    let defines = variant.defines;
    write(&to.join(".cargo/config.toml"), &format!("[env]\nBINDGEN_EXTRA_CLANG_ARGS = \"{defines}\"\n"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let attempt = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, text)
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}
