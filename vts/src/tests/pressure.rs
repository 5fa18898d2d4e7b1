// SPDX-License-Identifier: Apache-2.0
//! Tests memory pressure: permissions to listen, the number of listeners, and listeners whose
//! process has ended. The suite does not control the pressure itself.

use crate::child::ChildProcess;
use crate::harness::{Fixture, RELEASE_DEADLINE};
use crate::listener::Listener;
use crate::outcome::{check_eq, expect_error, inapplicable, tests};
use crate::request::aidl::{ErrorCode, PressureLevel, interface};
use anion_ipc::Endpoint;
use anyhow::{Context, Result, ensure};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

tests![
    Shared pressure_is_one_of_its_levels,
    Quiet a_listener_is_told_the_level_at_once,
    Quiet registering_twice_is_registering_once,
    Quiet only_registered_listeners_can_be_unregistered,
    Quiet listeners_of_a_uid_are_bounded,
    Quiet listeners_of_a_killed_client_go_with_it,
    Quiet a_client_that_cannot_be_called_is_told_so,
    Quiet a_client_that_takes_no_calls_holds_up_no_other,
];

const MOST: usize = interface::MAX_PRESSURE_LISTENERS as usize;

fn is_level(level: PressureLevel) -> bool {
    [PressureLevel::NONE, PressureLevel::MODERATE, PressureLevel::CRITICAL].contains(&level)
}

fn expect_told(levels: &Receiver<PressureLevel>) -> Result<()> {
    let level = levels.recv_timeout(RELEASE_DEADLINE).context("the listener was not called")?;
    ensure!(is_level(level), "told of {level:?}, which PressureLevel does not define");
    Ok(())
}

fn pressure_is_one_of_its_levels(fixture: &Fixture) -> Result<()> {
    let level = fixture.service.getPressure()?;
    ensure!(is_level(level), "{level:?}, which PressureLevel does not define");
    Ok(())
}

fn a_listener_is_told_the_level_at_once(fixture: &Fixture) -> Result<()> {
    let connection = fixture.connect_for_callbacks()?;
    let (listener, levels) = Listener::pair();
    connection.service.registerPressureListener(&listener)?;
    expect_told(&levels)?;
    connection.service.unregisterPressureListener(&listener)?;
    Ok(())
}

fn registering_twice_is_registering_once(fixture: &Fixture) -> Result<()> {
    let connection = fixture.connect_for_callbacks()?;
    let (listener, levels) = Listener::pair();
    for _ in 0..=MOST {
        connection.service.registerPressureListener(&listener)?;
    }
    expect_told(&levels)?;
    connection.service.unregisterPressureListener(&listener)?;
    expect_error(connection.service.unregisterPressureListener(&listener), &[ErrorCode::BAD_REQUEST])?;
    Ok(())
}

fn only_registered_listeners_can_be_unregistered(fixture: &Fixture) -> Result<()> {
    let connection = fixture.connect_for_callbacks()?;
    let ((registered, _levels), (stranger, _)) = (Listener::pair(), Listener::pair());
    connection.service.registerPressureListener(&registered)?;
    expect_error(connection.service.unregisterPressureListener(&stranger), &[ErrorCode::BAD_REQUEST])?;
    connection.service.unregisterPressureListener(&registered)?;
    Ok(())
}

fn listeners_of_a_uid_are_bounded(fixture: &Fixture) -> Result<()> {
    let connection = fixture.connect_for_callbacks()?;
    let service = &connection.service;
    let mut listeners: Vec<_> = (0..=MOST).map(|_| Listener::pair()).collect();
    let (last, levels) = listeners.pop().context("at least one")?;
    for (listener, _) in &listeners {
        service.registerPressureListener(listener)?;
    }
    let refusal = expect_error(service.registerPressureListener(&last), &[ErrorCode::QUOTA_EXCEEDED])?;
    ensure!(refusal.message.contains(&MOST.to_string()), "the message does not name the limit: {refusal}");
    service.unregisterPressureListener(&listeners[0].0)?;
    service.registerPressureListener(&last)?;
    expect_told(&levels)?;
    for (listener, _) in listeners.iter().skip(1) {
        service.unregisterPressureListener(listener)?;
    }
    service.unregisterPressureListener(&last)?;
    Ok(())
}

/// Returns a child that has registered the maximum of listeners for its uid.
fn crowd(fixture: &Fixture) -> Result<ChildProcess> {
    ChildProcess::start("listen", &[&fixture.target.to_string(), &MOST.to_string()], None)
}

fn listeners_of_a_killed_client_go_with_it(fixture: &Fixture) -> Result<()> {
    let connection = fixture.connect_for_callbacks()?;
    let child = crowd(fixture)?;
    let (listener, levels) = Listener::pair();
    expect_error(connection.service.registerPressureListener(&listener), &[ErrorCode::QUOTA_EXCEEDED])?;
    child.kill()?;
    let start = Instant::now();
    while connection.service.registerPressureListener(&listener).is_err() {
        ensure!(start.elapsed() < RELEASE_DEADLINE, "the listeners of a dead client still count");
        std::thread::sleep(Duration::from_millis(5));
    }
    expect_told(&levels)?;
    connection.service.unregisterPressureListener(&listener)?;
    Ok(())
}

fn a_client_that_cannot_be_called_is_told_so(fixture: &Fixture) -> Result<()> {
    if matches!(fixture.target.endpoint, Endpoint::Binder(_)) {
        return inapplicable("kernel binder can call every client");
    }
    let (listener, _levels) = Listener::pair();
    let refusal = fixture.connect()?.service.registerPressureListener(&listener);
    let message = expect_error(refusal, &[ErrorCode::UNSUPPORTED])?.message;
    ensure!(
        message.contains("incoming connection"),
        "the message does not name the missing connection: {message}"
    );
    Ok(())
}

fn a_client_that_takes_no_calls_holds_up_no_other(fixture: &Fixture) -> Result<()> {
    let connection = fixture.connect_for_callbacks()?;
    let (listener, levels) = Listener::pair();
    let child = ChildProcess::start("listen", &[&fixture.target.to_string(), &(MOST - 1).to_string()], None)?;
    child.suspend()?;
    connection.service.registerPressureListener(&listener)?;
    expect_told(&levels)?;
    check_eq!(fixture.service.listHeaps()?.len(), fixture.heaps.len(), "heaps listed meanwhile");
    connection.service.unregisterPressureListener(&listener)?;
    Ok(())
}
