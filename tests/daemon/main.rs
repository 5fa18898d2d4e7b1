// SPDX-License-Identifier: Apache-2.0
//! The daemon as a process: who owns the socket, how it starts and stops, and what clients can make
//! it do.

mod clients;
mod hostile;
mod life;
mod path;
mod place;
mod reload;
mod surroundings;
mod watchdog;
mod wire;
