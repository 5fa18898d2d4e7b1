// SPDX-License-Identifier: Apache-2.0
//! Generates the stubs of the interfaces with AOSP's own compiler, as one crate for each package,
//! like Soong.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};

use super::aidl::{Aidl, Answer, PACKAGE};
use super::api::Api;
use crate::process::workspace_root;

/// A module of stubs.
pub(super) struct Stubs {
    /// Its name in Android.bp.
    pub(super) module: &'static str,
    pub(super) crate_name: &'static str,
    /// The folder of its package, below the workspace's root.
    sources: &'static str,
    /// The package as a path.
    package: &'static str,
    /// Crates whose types it uses.
    pub(super) imports: &'static [&'static str],
}

/// The platform's interfaces, whose files are copied into this project.
const PLATFORM: &str = "aidl/platform";

/// All stubs that modules of Android.bp use: Anion's own, and the platform's.
pub(super) const STUBS: [Stubs; 4] = [
    Stubs {
        module: "vendor.anion.allocator-V2-rust",
        crate_name: "vendor_anion_allocator",
        sources: "aidl",
        package: PACKAGE,
        imports: &[],
    },
    Stubs {
        module: "android.hardware.common-V2-rust",
        crate_name: "android_hardware_common",
        sources: PLATFORM,
        package: "android/hardware/common",
        imports: &[],
    },
    Stubs {
        module: "android.hardware.graphics.common-V5-rust",
        crate_name: "android_hardware_graphics_common",
        sources: PLATFORM,
        package: "android/hardware/graphics/common",
        imports: &[],
    },
    Stubs {
        module: "android.hardware.graphics.allocator-V2-rust",
        crate_name: "android_hardware_graphics_allocator",
        sources: PLATFORM,
        package: "android/hardware/graphics/allocator",
        imports: &["android_hardware_common", "android_hardware_graphics_common"],
    },
];

impl Stubs {
    /// Compiles the interfaces, and writes the crate's root below `to`.
    ///
    /// # Errors
    /// If the compiler is unavailable or refuses them.
    pub(super) fn write(&self, to: &Path) -> Result<()> {
        let generated = to.join("generated");
        let aidl = Aidl::find()?;
        let answer = if self.sources == PLATFORM {
            // The values of the platform's own module.
            Answer { version: 2, hash: "9499fec09c544e9de5be3c87125721600f8ade66".to_owned() }
        } else {
            Api { root: workspace_root(), aidl: &aidl }.answer()?
        };
        let sources = workspace_root().join(self.sources);
        aidl.compile("rust", &answer, (&sources, self.package), &generated)?;
        let names = names(&generated.join(self.package))?;
        fs::create_dir_all(to.join("src")).with_context(|| to.display().to_string())?;
        let root = to.join("src/lib.rs");
        fs::write(&root, self.root(&generated, &names)).with_context(|| root.display().to_string())
    }

    /// Returns the crate's root: its modules at the package's path, and every type under its
    /// mangled name, including imported types.
    fn root(&self, generated: &Path, names: &[String]) -> String {
        let package = generated.join(self.package);
        let file = |name: &String| package.join(format!("{name}.rs")).display().to_string();
        let mut modules: String =
            names.iter().map(|name| format!("#[path = \"{}\"] pub mod {name};\n", file(name))).collect();
        for part in self.package.split('/').rev() {
            modules = format!("pub mod {part} {{ {modules} }}");
        }
        let path = self.package.replace('/', "::");
        let own = names.iter().map(|name| format!("pub use super::aidl::{path}::{name}::mangled::*;\n"));
        let others = self.imports.iter().map(|import| format!("pub use {import}::mangled::*;\n"));
        let mangled: String = own.chain(others).collect();
        format!("pub mod aidl {{ {modules} }}\npub mod mangled {{\n{mangled}}}\n")
    }
}

/// Returns the names of the generated files.
fn names(package: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(package).with_context(|| package.display().to_string())? {
        let name = entry?
            .file_name()
            .into_string()
            .map_err(|name| anyhow!("the file name {name:?} is not UTF-8"))?;
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    ensure!(!names.is_empty(), "the AIDL compiler made no Rust file in {}", package.display());
    Ok(names)
}
