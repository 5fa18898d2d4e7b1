// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask trees`: has the service read a folder of device trees, and reports the results by
//! vendor and by message. The test command does so with the trees of Debian's kernels for ARM, and
//! compares each with the result of libfdt.

mod debian;
mod findings;
mod pools;
mod reader;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::findings::Summary;
use self::reader::{Reader, Tree};
use crate::process::workspace_root;
use crate::release;
use crate::steps::{nextest, run_tests};
use crate::tally::Tally;
use crate::tools::cache_dir;

pub(crate) use self::debian::unfetched;

/// Read every device tree of a folder, and report the results by vendor and by message
///
/// Reads the blobs (.dtb, .dtbo) and sources (.dts, .dtso) of the folder and its subfolders. The
/// vendor is the name of the folder that contains the tree. Preprocess sources that include other
/// files with cpp first. If a folder has the blob and the source of a tree, the two are compared.
#[derive(Debug, Args)]
pub(crate) struct TreesArgs {
    /// Folder of the device trees
    dir: PathBuf,

    /// Also compare each blob with the source that dtc generates from it, and its pools with those
    /// that fdtget reports
    #[arg(long)]
    check: bool,

    /// Path of the aniond that reads the trees; without it, aniond is built
    #[arg(long, value_name = "FILE")]
    service: Option<PathBuf>,
}

/// Reads the folder.
///
/// # Errors
/// If it cannot be listed, the reader crashed, or two forms of a tree differ. Errors in trees are
/// no failure.
pub(crate) fn run(args: &TreesArgs) -> Result<()> {
    let aniond = match &args.service {
        Some(service) => service.clone(),
        None => release::build()?.aniond,
    };
    survey(&args.dir, &Reader { aniond, check: args.check }, &mut Tally::default())
}

/// Runs the step of the test command: the trees of Debian's kernels for 64-bit and 32-bit ARM.
///
/// # Errors
/// If they are unavailable, the reader crashed, two forms of a tree differ, or its pools are not
/// those of libfdt.
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    let trees = debian::obtain(&cache_dir()?)?;
    survey(&trees, &Reader { aniond: release::build()?.aniond, check: true }, tally)
}

/// Runs the step with boards that the project keeps outside its checkout, and with overlays.
///
/// # Errors
/// If a test fails.
pub(crate) fn boards(tally: &mut Tally) -> Result<()> {
    let trees = workspace_root().join("../shared/dts");
    let mut wanted = "test(of_fdtoverlay)".to_owned();
    if trees.is_dir() {
        wanted += " | binary(check_config)";
    } else {
        println!(
            "not run: the boards of {}, which does not exist; its device trees are not part of this project",
            trees.display()
        );
    }
    run_tests(nextest()?.args(["--workspace", "--run-ignored", "only", "-E", &wanted]), tally)
}

/// Files that one process reads, to share the cost of its start and to show progress.
const BATCH: usize = 32;

/// The interval of progress messages.
const PROGRESS: Duration = Duration::from_secs(5);

fn survey(dir: &Path, reader: &Reader, tally: &mut Tally) -> Result<()> {
    let files = trees_in(dir)?;
    ensure!(!files.is_empty(), "{} contains no device tree", dir.display());
    let trees = read_all(reader, &files)?;
    let mut summary = Summary::default();
    for tree in &trees {
        summary.add(dir, tree);
    }
    summary.compare_forms(&trees);
    print!("{summary}");
    *tally += summary.tally();
    ensure!(summary.faults.is_empty(), "{} of {} trees are read wrongly", summary.faults.len(), trees.len());
    Ok(())
}

/// Returns the device trees in a folder and its subfolders: overlays first, so that none follows a
/// tree to which it would be applied.
fn trees_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(dir) = ahead.pop() {
        let failed = || format!("cannot list {}", dir.display());
        for entry in fs::read_dir(&dir).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            if entry.file_type().with_context(failed)?.is_dir() {
                ahead.push(entry.path());
            } else if extension(&entry.path()).is_some() {
                found.push(entry.path());
            }
        }
    }
    found.sort_by_key(|path| (!extension(path).is_some_and(|form| form.ends_with('o')), path.clone()));
    Ok(found)
}

/// Returns the extension of the file's name, if it is that of a device tree.
fn extension(path: &Path) -> Option<&str> {
    let extension = path.extension()?.to_str()?;
    ["dtb", "dtbo", "dts", "dtso"].contains(&extension).then_some(extension)
}

/// Reads the files in as many threads as the machine has processors.
fn read_all(reader: &Reader, files: &[PathBuf]) -> Result<Vec<Tree>> {
    let batches: Vec<&[PathBuf]> = files.chunks(BATCH).collect();
    let (next, shown) = (AtomicUsize::new(0), Mutex::new(Instant::now()));
    let read: Mutex<Vec<Tree>> = Mutex::new(Vec::with_capacity(files.len()));
    let work = || -> Result<()> {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let trees = reader.read(batch)?;
            let mut read = read.lock().expect("no thread panics with it");
            read.extend(trees);
            let mut shown = shown.lock().expect("no thread panics with it");
            if shown.elapsed() >= PROGRESS {
                println!("read {} of {} trees", read.len(), files.len());
                *shown = Instant::now();
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    let mut trees = read.into_inner().expect("no thread panicked");
    trees.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(trees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_found_below_a_folder_with_overlays_first() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(dir.path().join("acme")).expect("created");
        for file in ["acme/board.dtb", "acme/camera.dtbo", "notes.txt", "a.dts"] {
            fs::write(dir.path().join(file), "").expect("written");
        }
        let found = trees_in(dir.path()).expect("listed");
        let expected = ["acme/camera.dtbo", "a.dts", "acme/board.dtb"].map(|file| dir.path().join(file));
        assert_eq!(found, expected);
    }
}
