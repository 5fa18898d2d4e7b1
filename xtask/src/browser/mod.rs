// SPDX-License-Identifier: Apache-2.0
//! Renders the page of `anionctl report`, after a run of the camera pipeline, with Chromium. A test
//! measures the drawn elements; `cargo xtask screenshots` writes the pictures of docs/.

mod chromium;
mod scene;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use self::chromium::{Chromium, Drawn};
use self::scene::{HEAP, SOCKET};
use crate::needs::{BROWSER, LINKER};
use crate::process::workspace_root;
use crate::tally::Tally;
use crate::tools::ensure_tools;

/// The screenshot of the page, below the root of the checkout.
const PICTURE: &str = "docs/report.png";

/// Largest size of the screenshot in bytes, because every copy of the repository contains it.
const MAX_BYTES: u64 = 150_000;

/// Runs `cargo xtask screenshots`.
///
/// # Errors
/// As [`check`], and if the screenshot is too large for documents.
pub(crate) fn write() -> Result<()> {
    ensure_tools(&[LINKER, BROWSER].concat())?;
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let page = scene::report(scratch.path())?;
    name_installed_socket(&page, scratch.path())?;
    let chromium = Chromium { scratch: scratch.path() };
    let drawn = chromium.measure(&page)?;
    judge(&drawn, &mut Tally::default())?;
    let place = workspace_root().join(PICTURE);
    chromium.take_picture(&page, drawn.height, &place)?;
    let bytes = fs::metadata(&place).with_context(|| format!("cannot read {}", place.display()))?.len();
    ensure!(bytes <= MAX_BYTES, "{PICTURE} has {bytes} bytes, {MAX_BYTES} at most");
    println!("{PICTURE}: {bytes} bytes");
    Ok(())
}

/// Replaces the socket in the page with that of an installed service: documents contain no
/// directories of one machine.
fn name_installed_socket(page: &Path, scratch: &Path) -> Result<()> {
    let text = fs::read_to_string(page).context("cannot read the page")?;
    let used = scratch.join(SOCKET).display().to_string();
    ensure!(text.contains(&used), "the page does not name the service's socket, {used}");
    fs::write(page, text.replace(&used, "/run/anion/allocator.sock")).context("cannot write the page")
}

/// Checks that all parts of the page are drawn and visible, and that all texts are readable.
///
/// # Errors
/// If not, or if the page cannot be written or rendered.
pub(crate) fn check(tally: &mut Tally) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let page = scene::report(scratch.path())?;
    judge(&Chromium { scratch: scratch.path() }.measure(&page)?, tally)
}

/// Checks the drawn elements for [`check`].
fn judge(drawn: &Drawn, tally: &mut Tally) -> Result<()> {
    let mut faults = drawn.faults();
    // Class of the chart, class or name of the element, the least number, and the least width and
    // height in pixels of the largest one.
    for (picture, element, least, [width, height]) in [
        ("steps", "line", 1, [500.0, 50.0]),
        ("steps", "area", 1, [500.0, 50.0]),
        ("steps", "refused", 1, [0.0, 50.0]),
        ("bars", "bar", 2, [5.0, 50.0]),
        ("parts", "hit", 1, [20.0, 10.0]),
        ("parts", "miss", 1, [20.0, 10.0]),
        ("map", "held", 4, [100.0, 5.0]),
        ("map", "pooled", 1, [5.0, 5.0]),
        ("map", "free", 2, [100.0, 5.0]),
    ] {
        let boxes = drawn.boxes(HEAP, picture, element);
        let is_drawn =
            boxes.len() >= least && boxes.iter().any(|found| found.width >= width && found.height >= height);
        println!(
            "{picture}, {element}: {} elements: {}",
            boxes.len(),
            if is_drawn { "drawn" } else { "NOT DRAWN" }
        );
        *tally += Tally::one(is_drawn);
        if !is_drawn {
            faults.push(format!(
                "{picture} needs {least} {element}, one of {width}x{height} pixels at least: {boxes:?}"
            ));
        }
    }
    *tally += Tally::one(faults.is_empty());
    ensure!(faults.is_empty(), "the drawn report has faults:\n{}", faults.join("\n"));
    Ok(())
}
