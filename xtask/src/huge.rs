// SPDX-License-Identifier: Apache-2.0
//! Reserves huge pages of this machine during a test run.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::steps::{nextest, run_tests};
use crate::tally::Tally;
use crate::tools::is_root;

/// Pages that the tests need, with a reserve for the tests of a service that run at the same time.
const HUGE_PAGES: u64 = 16;

/// Runs the tests of huge pages, only as root.
///
/// # Errors
/// If a test fails, or the kernel does not find enough memory.
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    if !is_root() {
        println!("not run: only root can reserve huge pages");
        return Ok(());
    }
    let Some(_aside) = SetAside::new(HUGE_PAGES)? else {
        println!("not run: this kernel does not support huge pages");
        return Ok(());
    };
    run_tests(nextest()?.args(["--workspace", "--run-ignored", "only", "-E", "binary(huge_pages)"]), tally)
}

/// The kernel's file for the number of huge pages.
const FILE: &str = "/proc/sys/vm/nr_hugepages";

/// How long the request is repeated: the kernel may have to compact memory.
const PATIENCE: Duration = Duration::from_secs(60);

/// Huge pages that are returned when this is dropped. Pages that another run has reserved since
/// stay.
#[derive(Debug)]
pub(crate) struct SetAside {
    pages: u64,
}

impl SetAside {
    /// Reserves `pages` more huge pages; `None` if the kernel does not support them.
    ///
    /// # Errors
    /// If the kernel does not find as many within a minute, because memory may be too fragmented.
    /// Only root may reserve them.
    pub(crate) fn new(pages: u64) -> Result<Option<Self>> {
        if !fs::exists(FILE).with_context(|| format!("cannot check whether {FILE} exists"))? {
            return Ok(None);
        }
        let (before, start) = (read()?, Instant::now());
        let wanted = before + pages;
        let mut aside = Self { pages: 0 };
        while aside.pages < pages {
            write(wanted)?;
            aside.pages = read()?.saturating_sub(before);
            let got = aside.pages;
            ensure!(
                got >= pages || start.elapsed() < PATIENCE,
                "the tests need {pages} huge pages, but the kernel found memory for {got}"
            );
            thread::sleep(Duration::from_millis(10));
        }
        aside.pages = pages;
        Ok(Some(aside))
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        let back = read().and_then(|now| write(now.saturating_sub(self.pages)));
        if let Err(error) = back {
            println!("{} huge pages stay reserved in {FILE}: {error:#}", self.pages);
        }
    }
}

fn read() -> Result<u64> {
    let text = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    text.trim().parse().with_context(|| format!("{FILE} contains {text:?}, which is no number"))
}

fn write(pages: u64) -> Result<()> {
    fs::write(FILE, pages.to_string()).with_context(|| format!("cannot write {pages} to {FILE}"))
}
