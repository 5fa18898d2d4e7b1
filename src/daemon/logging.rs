// SPDX-License-Identifier: Apache-2.0
//! Writes log messages to standard error, through it to the journal, or to Android's log.

#[cfg(not(any(soong, target_os = "android")))]
mod front;
#[cfg(not(any(soong, target_os = "android")))]
mod output;

pub(crate) use backend::Output;
use log::LevelFilter;

/// Sets the level on a device, where the command line cannot be changed.
const LEVEL_PROPERTY: &str = "persist.vendor.anion.log_level";

/// Starts logging at `requested`, else at the level of the device's property, else at info. Returns
/// the output of the lines. Keep it as long as messages are logged.
pub(crate) fn init(requested: Option<LevelFilter>) -> Output {
    let property = rustutils::system_properties::read(LEVEL_PROPERTY);
    let configured = property.as_ref().ok().and_then(Option::as_deref);
    let level = requested.or_else(|| configured?.parse().ok()).unwrap_or(LevelFilter::Info);
    let output = backend::init(level);
    match property {
        Err(error) => log::warn!("{:#}", anyhow::Error::new(error)),
        Ok(Some(word)) if word.parse::<LevelFilter>().is_err() => {
            log::warn!("{LEVEL_PROPERTY} is {word:?}, which is not a log level");
        }
        Ok(_) => {}
    }
    output
}

/// Returns the lowest logged severity of each module of the binder library. Its RPC code logs
/// several lines for every malformed message of a client, so these are logged only at the level of
/// debugging.
fn library_levels(level: LevelFilter) -> [(&'static str, LevelFilter); 2] {
    if level >= LevelFilter::Debug {
        return [("rsbinder", level), ("rsbinder::rpc", level)];
    }
    [("rsbinder", level.min(LevelFilter::Warn)), ("rsbinder::rpc", LevelFilter::Off)]
}

#[cfg(any(soong, target_os = "android"))]
mod backend {
    use android_logger::{Config, FilterBuilder};
    use log::LevelFilter;

    /// Writes lines to the system's logger, which drops lines when it is full.
    pub(crate) struct Output;

    impl Output {
        /// Does nothing: writing to the system's logger never waits.
        pub(crate) fn never_wait(&self) {}

        /// Returns a function that does nothing: the system's logger already has all lines.
        pub(crate) fn last_words(&self) -> impl Fn() + Send + 'static {
            || {}
        }
    }

    pub(super) fn init(level: LevelFilter) -> Output {
        let mut filter = FilterBuilder::new();
        filter.filter_level(level);
        for (module, level) in super::library_levels(level) {
            filter.filter_module(module, level);
        }
        let config = Config::default().with_tag("anion").with_max_level(level);
        android_logger::init_once(config.with_filter(filter.build()));
        Output
    }
}

#[cfg(not(any(soong, target_os = "android")))]
mod backend {
    use super::front::Front;
    pub(crate) use super::output::Output;
    use env_logger::{Builder, Target, WriteStyle};
    use log::{Level, LevelFilter};
    use nix::sys::stat::fstat;
    use std::io::{IsTerminal, Write, stderr};

    pub(super) fn init(level: LevelFilter) -> Output {
        let mut builder = Builder::new();
        builder.filter_level(level);
        for (module, level) in super::library_levels(level) {
            builder.filter_module(module, level);
        }
        if stderr_is_the_journal() {
            builder.write_style(WriteStyle::Never).format(|out, record| {
                // A priority applies to one line; the journal adds time, unit and process.
                let text = record.args().to_string();
                text.lines().try_for_each(|line| writeln!(out, "<{}>{line}", priority(record.level())))
            });
        } else {
            let has_colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.write_style(if has_colours { WriteStyle::Always } else { WriteStyle::Never });
            builder.format_target(false);
        }
        let (output, lines) = Output::new();
        let logger = builder.target(Target::Pipe(Box::new(lines))).build();
        log::set_max_level(logger.filter());
        // Fails only if a logger is already set, which the program does not do.
        let _ = log::set_boxed_logger(Box::new(Front::new(logger, level)));
        output
    }

    /// Returns whether standard error is still connected to systemd's journal.
    fn stderr_is_the_journal() -> bool {
        let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
        fstat(std::io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    }

    /// Returns the syslog priority of a level.
    fn priority(level: Level) -> u8 {
        match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        }
    }
}
