// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask sepolicy-real`: compiles Anion's policy against a checkout of Android's
//! `system/sepolicy`, with the files and in the order of Soong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::policy::te_files;
use super::{own, read};
use crate::needs::SEPOLICY;
use crate::process::{output_of, quietly, workspace_root};
use crate::tools::ensure_tools;

/// Compile the SELinux policy against a checkout of Android's system/sepolicy, as Soong does
#[derive(Debug, Args)]
pub(crate) struct RealArgs {
    /// Directory of the checkout, with the folders public, private and reqd_mask
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,

    /// API level of the board: a higher level permits vendors more parts of newer public policies
    #[arg(long, value_name = "LEVEL", default_value_t = 202_404)]
    board_api_level: u32,
}

/// The files before types and rules, and after them, in checkpolicy's order.
const BEFORE: [&str; 12] = [
    "security_classes",
    "initial_sids",
    "access_vectors",
    "global_macros",
    "neverallow_macros",
    "mls_macros",
    "mls_decl",
    "mls",
    "policy_capabilities",
    "te_macros",
    "ioctl_defines",
    "ioctl_macros",
];
const AFTER: [&str; 7] =
    ["roles_decl", "roles", "users", "initial_sid_contexts", "fs_use", "genfs_contexts", "port_contexts"];

/// The definitions that Soong passes to m4 for a device, beside its build variant and API level.
const DEFINITIONS: [&str; 13] = [
    "mls_num_sens=1",
    "mls_num_cats=1024",
    "target_arch=arm64",
    "target_with_asan=false",
    "target_with_dexpreopt=false",
    "target_with_native_coverage=false",
    "target_full_treble=true",
    "target_compatible_property=true",
    "target_treble_sysprop_neverallow=true",
    "target_enforce_sysprop_owner=true",
    "target_exclude_build_test=false",
    "target_requires_insecure_execmem_for_swiftshader=false",
    "target_enforce_debugfs_restriction=true",
];

/// An API level for which all parts are visible, for the platform's own policy.
const EVERY_API_LEVEL: u32 = 1_000_000;

/// Compiles the vendor's policy over the public one, and the whole policy with its neverallows.
/// Does so for both build variants, with the base only and with everything for the tree's release,
/// and as the graphics allocator.
///
/// # Errors
/// If the folder is no checkout of system/sepolicy; the first error of a compiler.
pub(crate) fn compile(args: &RealArgs) -> Result<()> {
    ensure_tools(SEPOLICY)?;
    let tree = Tree::at(&args.tree)?;
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    println!(
        "{}: the folders and switches for its release are {}",
        tree.path.display(),
        tree.switches().join(", ")
    );
    for build in ["user", "userdebug"] {
        for (switches, graphics) in [(false, false), (true, false), (true, true)] {
            let product = Product { build, switches, graphics, level: args.board_api_level };
            tree.compile(&product, scratch.path()).with_context(|| product.about())?;
            println!("{}: compiles", product.about());
        }
    }
    Ok(())
}

/// The choices of a product in the tree.
struct Product {
    build: &'static str,
    switches: bool,
    graphics: bool,
    level: u32,
}

impl Product {
    fn about(&self) -> String {
        let switches = if self.switches { "with the release's rules" } else { "the base alone" };
        let graphics = if self.graphics { ", as the graphics allocator" } else { "" };
        format!("{}, {switches}{graphics}", self.build)
    }
}

/// A checkout, and its facts that matter to Anion.
struct Tree {
    path: PathBuf,
    has_udmabuf: bool,
    has_ion: bool,
    has_memfd_class: bool,
}

impl Tree {
    fn at(path: &Path) -> Result<Self> {
        for folder in ["public", "private", "reqd_mask"] {
            ensure!(path.join(folder).is_dir(), "{} has no folder {folder}", path.display());
        }
        let says = |file: &str, word: &str| read(&path.join(file)).map(|text| text.contains(word));
        Ok(Self {
            path: path.to_owned(),
            has_udmabuf: says("private/file_contexts", "udmabuf_device")?,
            has_ion: says("public/device.te", "type ion_device")?,
            has_memfd_class: says("private/security_classes", "class memfd_file")?,
        })
    }

    fn switches(&self) -> Vec<&'static str> {
        let udmabuf = if self.has_udmabuf { "udmabuf-from-16-qpr2" } else { "udmabuf-until-16-qpr1" };
        let ion = self.has_ion.then_some("ion-until-17");
        let memfd = self.has_memfd_class.then_some("anion_memfd_from_17=true");
        [udmabuf].into_iter().chain(ion).chain(memfd).collect()
    }

    /// Returns the folders of the vendor's policy, and of system_ext's public and private ones.
    fn folders(&self, product: &Product) -> [Vec<PathBuf>; 3] {
        let anion = workspace_root().join("sepolicy");
        let mut vendor = vec![self.path.join("vendor"), anion.clone()];
        let [mut public, mut private] = [Vec::new(), Vec::new()];
        if product.switches && self.has_udmabuf {
            let folder = anion.join("udmabuf-from-16-qpr2");
            public.push(folder.join("public"));
            private.push(folder.join("private"));
            vendor.push(folder.join("vendor"));
        } else if product.switches {
            vendor.push(anion.join("udmabuf-until-16-qpr1"));
        }
        if product.switches && self.has_ion {
            vendor.push(anion.join("ion-until-17"));
        }
        if product.graphics {
            vendor.push(anion.join("graphics"));
        }
        [vendor, public, private]
    }

    fn compile(&self, product: &Product, scratch: &Path) -> Result<()> {
        let [vendor, public, private] = self.folders(product);
        let of_platform = |names: &[&str]| names.iter().map(|name| self.path.join(name)).collect::<Vec<_>>();
        let seen = [of_platform(&["flagging", "public"]), public.clone(), of_platform(&["reqd_mask"])];
        let text = self.expand(&[seen.concat(), vendor.clone()].concat(), product, product.level, scratch)?;
        let cil = scratch.join("vendor.cil");
        quietly(Command::new("checkpolicy").args(["-M", "-C", "-c30", "-o"]).args([&cil, &text]))?;
        let all = [of_platform(&["flagging", "public", "private"]), public, private, vendor].concat();
        let text = self.expand(&all, product, EVERY_API_LEVEL, scratch)?;
        let binary = scratch.join("policy.bin");
        quietly(Command::new("checkpolicy").args(["-M", "-c30", "-o"]).args([&binary, &text])).map(drop)
    }

    /// Writes the files of these folders as one text, in checkpolicy's order, with a product's own
    /// clients.
    fn expand(&self, folders: &[PathBuf], product: &Product, level: u32, scratch: &Path) -> Result<PathBuf> {
        let named = |names: &[&str]| -> Vec<PathBuf> {
            let of = |name: &&str| folders.iter().map(|folder| folder.join(name)).collect::<Vec<_>>();
            names.iter().flat_map(of).filter(|file| file.is_file()).collect()
        };
        let mut files = named(&BEFORE);
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            files.extend(Some(folder.join("attributes")).filter(|file| file.is_file()));
            files.extend(te_files(folder)?);
        }
        files.push(own("real-product.te"));
        files.extend(named(&AFTER));
        let memfd = product.switches && self.has_memfd_class;
        let mut m4 = Command::new("m4");
        m4.arg("--fatal-warnings").args(DEFINITIONS.iter().flat_map(|definition| ["-D", *definition]));
        m4.arg(format!("-Dtarget_build_variant={}", product.build));
        m4.arg(format!("-Dtarget_board_api_level={level}"));
        m4.args(["-Dtarget_recovery=false".to_owned(), format!("-Danion_memfd_from_17={memfd}")]);
        m4.arg(format!("-Danion_graphics={}", product.graphics)).arg("-s").args(files);
        let text = scratch.join("policy.conf");
        fs::write(&text, output_of(&mut m4)?).context("cannot write the policy")?;
        Ok(text)
    }
}
