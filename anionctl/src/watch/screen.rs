// SPDX-License-Identifier: Apache-2.0
//! `anionctl watch` on a terminal: a full screen, until q or a signal. The terminal is always
//! restored; ratatui does so after a panic, too.

mod draw;

use super::{Changes, Look, Watched};
use crate::Service;
use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, Waited};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

/// Reports that are kept of each heap: more than the width of any terminal.
const HISTORY: usize = 512;
/// Time to wait for keys before signals are checked.
const KEYS: Duration = Duration::from_millis(100);
/// Shortest wait, for a signal that is already pending.
const AT_ONCE: Duration = Duration::from_micros(1);

/// The sort key of heaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// The order in which the service tries them.
    Id,
    Name,
    Held,
    Allocations,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Id => Self::Name,
            Self::Name => Self::Held,
            Self::Held => Self::Allocations,
            Self::Allocations => Self::Id,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Held => "held",
            Self::Allocations => "allocations/s",
        }
    }
}

/// The table that the arrow keys move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Focus {
    Heaps,
    Users,
}

/// The contents of the screen.
struct State {
    changes: Option<Changes>,
    /// Bytes that clients held of each heap at each report, the latest last.
    history: BTreeMap<i32, VecDeque<u64>>,
    sort: Sort,
    focus: Focus,
    /// Rows scrolled in each table.
    offsets: [usize; 2],
    /// The cause, while no service answers.
    gone: Option<String>,
}

/// The action of a key.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Stop,
    Draw,
}

/// Shows the service until the user ends it, a signal comes or the count is reached.
///
/// # Errors
/// The service's refusals; [`Failure::Local`] if the terminal cannot be used.
pub(super) fn run(args: &WatchArgs, connect: impl Fn() -> Result<Service, Failure>) -> Result<(), Failure> {
    let mut watched = Some(Watched::by(&connect)?);
    let mut interrupt = Interrupt::new()?;
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::local("cannot take over the terminal", &error))?;
    let shown = show(args, &mut terminal, &mut watched, &connect, &mut interrupt);
    ratatui::restore();
    shown
}

fn show(
    args: &WatchArgs,
    terminal: &mut DefaultTerminal,
    watched: &mut Option<Watched>,
    connect: &impl Fn() -> Result<Service, Failure>,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::local("cannot use the terminal", &error);
    let (started, mut before, mut number) = (Instant::now(), None::<Look>, 0);
    let mut state = State::new();
    loop {
        number += 1;
        match look(watched, connect) {
            Ok((look, service)) => {
                state.add(Changes::between(before.as_ref(), &look, number, started, service));
                before = Some(look);
            }
            Err(gone @ Failure::Unreachable(_)) => {
                *watched = None;
                before = None;
                state.gone = gone.message();
            }
            Err(failure) => return Err(failure),
        }
        if args.count.is_some_and(|count| number > count) {
            return Ok(());
        }
        let next = Instant::now() + args.interval;
        loop {
            terminal.draw(|frame| state.draw(frame)).map_err(failed)?;
            let left = next.saturating_duration_since(Instant::now());
            if interrupt.wait(AT_ONCE)? == Waited::Interrupted {
                return Ok(());
            }
            if left.is_zero() {
                break;
            }
            if event::poll(left.min(KEYS)).map_err(failed)?
                && let Event::Key(key) = event::read().map_err(failed)?
                && state.press(key) == Asked::Stop
            {
                return Ok(());
            }
        }
    }
}

/// Queries the service, and connects to it first if it was gone.
fn look<'a>(
    watched: &'a mut Option<Watched>,
    connect: &impl Fn() -> Result<Service, Failure>,
) -> Result<(Look, &'a Service), Failure> {
    let watched = match watched {
        Some(watched) => watched,
        gone @ None => gone.insert(Watched::by(connect)?),
    };
    Ok((Look::take(&watched.service, &watched.pressure)?, &watched.service))
}

impl State {
    fn new() -> Self {
        let (changes, history, gone) = (None, BTreeMap::new(), None);
        Self { changes, history, sort: Sort::Id, focus: Focus::Heaps, offsets: [0; 2], gone }
    }

    /// Stores a report.
    fn add(&mut self, changes: Changes) {
        for heap in &changes.heaps {
            let history = self.history.entry(heap.stats.heap_id).or_default();
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(u64::try_from(heap.stats.live_bytes).unwrap_or(0));
        }
        self.changes = Some(changes);
        self.gone = None;
    }

    /// Performs the action of a key.
    fn press(&mut self, key: KeyEvent) -> Asked {
        if key.kind == KeyEventKind::Release {
            return Asked::Draw;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Asked::Stop,
            KeyCode::Char('c') if is_control => return Asked::Stop,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Tab => {
                self.focus = if self.focus == Focus::Heaps { Focus::Users } else { Focus::Heaps };
            }
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::PageUp => self.scroll(-10),
            KeyCode::PageDown => self.scroll(10),
            _ => {}
        }
        Asked::Draw
    }

    /// Scrolls the table with the focus; its last row stays visible.
    fn scroll(&mut self, rows: isize) {
        let all = self.changes.as_ref().map_or(0, |changes| match self.focus {
            Focus::Heaps => changes.heaps.len(),
            Focus::Users => changes.usage.len(),
        });
        let offset = &mut self.offsets[self.focus as usize];
        *offset = offset.saturating_add_signed(rows).min(all.saturating_sub(1));
    }
}
