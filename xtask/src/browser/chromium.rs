// SPDX-License-Identifier: Apache-2.0
//! Runs Chromium without a window, and measures the page that it draws.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::quietly;

/// Width of the window, in pixels.
const WIDTH: f64 = 1080.0;

/// The smallest height of readable text, in pixels.
const LEGIBLE: f64 = 9.0;

/// A script that reports the positions of charts' elements. It is appended to a copy of the page,
/// since the page itself has no script.
const SCRIPT: &str = r#"<script>
const drawn = {height: document.documentElement.scrollHeight, width: document.documentElement.scrollWidth, boxes: []};
for (const picture of document.querySelectorAll("section svg"))
    for (const element of picture.querySelectorAll("path, rect, line, text")) {
        const {left, top, width, height} = element.getBoundingClientRect();
        drawn.boxes.push([picture.closest("section").id, picture.classList[0],
            element.classList[0] || element.tagName, left, top, width, height]);
    }
const result = document.createElement("pre");
result.id = "drawn";
result.textContent = JSON.stringify(drawn);
document.body.append(result);
</script>"#;

/// Chromium, with a directory for its output.
pub(super) struct Chromium<'a> {
    pub(super) scratch: &'a Path,
}

/// The position of an element, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extent {
    left: f64,
    top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Extent {
    /// Returns whether two boxes overlap, with a tolerance for the empty space around letters.
    fn overlaps(&self, other: &Self) -> bool {
        let common = |begin: f64, length: f64, other: f64, others: f64| {
            (begin + length).min(other + others) - begin.max(other) > 2.0
        };
        common(self.left, self.width, other.left, other.width)
            && common(self.top, self.height, other.top, other.height)
    }
}

/// The drawn elements.
#[derive(Debug)]
pub(super) struct Drawn {
    /// Of the page, in pixels.
    pub(super) height: f64,
    width: f64,
    /// By section, chart, and the element's class or name.
    boxes: BTreeMap<[String; 3], Vec<Extent>>,
}

impl Chromium<'_> {
    /// Returns the positions of the elements in the page's charts.
    ///
    /// # Errors
    /// If Chromium cannot be started or does not run the page's script.
    pub(super) fn measure(&self, page: &Path) -> Result<Drawn> {
        let text = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
        let measured = self.scratch.join("measured.html");
        fs::write(&measured, text.replace("</body>", &format!("{SCRIPT}</body>")))
            .context("cannot write the page with the script")?;
        let document = quietly(self.start(800.0).arg("--dump-dom").arg(address(&measured)))?;
        let result =
            document.split_once("<pre id=\"drawn\">").and_then(|(_, rest)| rest.split_once("</pre>"));
        let (json, _) = result.context("Chromium did not run the script of the page")?;
        parse(json)
    }

    /// Writes a screenshot of the whole page.
    ///
    /// # Errors
    /// If Chromium cannot be started or does not write the file.
    pub(super) fn take_picture(&self, page: &Path, height: f64, place: &Path) -> Result<()> {
        let mut option = OsString::from("--screenshot=");
        option.push(place);
        quietly(self.start(height).arg(option).arg(address(page)))?;
        ensure!(place.is_file(), "Chromium wrote no {}", place.display());
        Ok(())
    }

    /// Returns Chromium with a window of this height. It needs no sandbox: the page and its script
    /// are this project's own.
    fn start(&self, height: f64) -> Command {
        let mut command = Command::new("chromium-headless-shell");
        command.args([
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
        ]);
        command.arg(format!("--window-size={WIDTH},{height:.0}"));
        let mut profile = OsString::from("--user-data-dir=");
        profile.push(self.scratch.join("profile"));
        command.arg(profile).env("HOME", self.scratch);
        command
    }
}

/// Returns the address of a page whose path begins at the root.
fn address(page: &Path) -> OsString {
    let mut address = OsString::from("file://");
    address.push(page);
    address
}

/// Parses the script's output.
fn parse(json: &str) -> Result<Drawn> {
    let value: Value = serde_json::from_str(json).context("the output of the page's script is not JSON")?;
    let number = |value: &Value| value.as_f64().context("the output of the script lacks a number");
    let mut boxes: BTreeMap<[String; 3], Vec<Extent>> = BTreeMap::new();
    for row in value["boxes"].as_array().context("the output of the script lacks the list `boxes`")? {
        let word =
            |at: usize| row[at].as_str().map(str::to_owned).context("the output of the script lacks a name");
        let [left, top, width, height] = [3, 4, 5, 6].map(|at| number(&row[at]));
        let found = Extent { left: left?, top: top?, width: width?, height: height? };
        boxes.entry([word(0)?, word(1)?, word(2)?]).or_default().push(found);
    }
    Ok(Drawn { height: number(&value["height"])?, width: number(&value["width"])?, boxes })
}

impl Drawn {
    /// Returns the elements of this class, or of this name without a class, in a section's chart.
    pub(super) fn boxes(&self, section: &str, picture: &str, element: &str) -> &[Extent] {
        self.boxes.get(&[section, picture, element].map(str::to_owned)).map_or(&[], Vec::as_slice)
    }

    /// Returns the faults: text that is too small, overlaps other text or is outside the page, and
    /// a page that is wider than the window.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.width > WIDTH {
            faults.push(format!("the page is {} pixels wide, but the window has {WIDTH}", self.width));
        }
        for ([section, picture, _], texts) in self.boxes.iter().filter(|([_, _, name], _)| name == "text") {
            let place = format!("{section}, {picture}");
            for (at, text) in texts.iter().enumerate() {
                if text.height < LEGIBLE {
                    faults
                        .push(format!("{place}: a text is {} pixels high, {LEGIBLE} at least", text.height));
                }
                if text.left < 0.0 || text.left + text.width > WIDTH {
                    faults.push(format!("{place}: a text is outside the page: {text:?}"));
                }
                if let Some(other) = texts[at + 1..].iter().find(|other| text.overlaps(other)) {
                    faults.push(format!("{place}: two texts overlap: {text:?}, {other:?}"));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_cannot_be_read_are_found() {
        let drawn =
            |boxes: &str| parse(&format!(r#"{{"height":9,"width":1000,"boxes":[{boxes}]}}"#)).expect("JSON");
        let good = r#"["camera","bars","text",10,10,50,14],["camera","bars","text",70,10,50,14]"#;
        assert!(drawn(good).faults().is_empty());
        assert_eq!(drawn(good).boxes("camera", "bars", "text").len(), 2);
        assert!(drawn(good).boxes("system", "bars", "text").is_empty());
        for (bad, complaint) in [
            (r#"["camera","bars","text",40,12,50,14]"#, "overlap"),
            (r#"["camera","bars","text",300,10,50,4]"#, "4 pixels high"),
            (r#"["camera","bars","text",1070,10,50,14]"#, "outside the page"),
        ] {
            let faults = drawn(&format!("{good},{bad}")).faults();
            assert!(faults.iter().any(|fault| fault.contains(complaint)), "{bad}: {faults:?}");
        }
        assert_eq!(parse(r#"{"height":9,"width":2000,"boxes":[]}"#).expect("JSON").faults().len(), 1);
    }
}
