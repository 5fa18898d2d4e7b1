// SPDX-License-Identifier: Apache-2.0
//! Tests the daemon as a process: its socket, its start and stop, and the effects of clients.

mod carry;
mod clients;
mod hostile;
mod life;
mod message;
mod path;
mod place;
mod reload;
mod surroundings;
mod watchdog;
mod wire;
