//! The source against devices: the library's own TCP server, and RTU frames on a pseudo-terminal.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use super::tests::{register, unit};
use super::*;
use crate::reading::NoData;
use crate::reading::{Outcome, Value};
use crate::sources::Intake;
use crate::sources::testing::{FarEnd, start};
use crate::status::State;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What a device does with a request: unit, function, address, count.
type Answers = Arc<dyn Fn(u8, u8, u16, u16) -> Answer + Send + Sync>;

enum Answer {
    Words(Vec<u16>),
    Exception(u8),
    Silence,
    HangUp,
}

/// A Modbus TCP device, byte by byte (Modbus Messaging on TCP/IP Implementation Guide V1.0b, section 3.1).
async fn serve(listener: TcpListener, answers: Answers) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&answers)));
    }
}

async fn converse(mut stream: TcpStream, answers: Answers) -> Option<()> {
    loop {
        let mut request = [0; 12];
        stream.read_exact(&mut request).await.ok()?;
        let [t0, t1, _, _, _, _, unit, function, a0, a1, c0, c1] = request;
        let body = match answers(unit, function, u16::from_be_bytes([a0, a1]), u16::from_be_bytes([c0, c1])) {
            Answer::Words(words) => pdu(function, &words),
            Answer::Exception(code) => vec![function | 0x80, code],
            Answer::Silence => continue,
            Answer::HangUp => return None,
        };
        let length = u16::try_from(body.len() + 1).unwrap().to_be_bytes();
        let mut reply = vec![t0, t1, 0, 0, length[0], length[1], unit];
        reply.extend(body);
        stream.write_all(&reply).await.ok()?;
    }
}

fn pdu(function: u8, words: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut pdu = vec![function, u8::try_from(bytes.len()).unwrap()];
    pdu.extend(bytes);
    pdu
}

/// Words whose value is their address.
fn addresses(address: u16, count: u16) -> Answer {
    Answer::Words((address..address + count).collect())
}

async fn device(answers: impl Fn(u8, u8, u16, u16) -> Answer + Send + Sync + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(serve(listener, Arc::new(answers))))
}

fn options(url: &str, units: Vec<Unit>) -> ModbusOptions {
    ModbusOptions { name: "bus".into(), url: url.into(), timeout_ms: 100, quiet_ms: 0, unit: units }
}

fn holding(addresses: impl IntoIterator<Item = u16>) -> Vec<Register> {
    addresses.into_iter().map(|address| register(Table::Holding, address, Kind::U16)).collect()
}

/// The last outcome of each point of some intakes, by its name.
fn outcomes(far: &FarEnd, intake: &Intake) -> HashMap<String, Outcome> {
    let named = intake.samples.iter().map(|sample| {
        let key = far.registry.key(sample.point).unwrap();
        (format!("{}/{}", key.device, key.point), sample.outcome.clone())
    });
    named.collect()
}

#[tokio::test]
async fn neighbours_are_read_at_once_and_an_exception_is_no_data_with_its_code() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&requests);
    let (url, _device) = device(move |unit, function, address, count| {
        log.lock().unwrap().push((unit, function, address, count));
        if address == 100 { Answer::Exception(4) } else { addresses(address, count) }
    })
    .await;
    let unit = unit(1, 50, holding([10, 11, 13, 100]));
    let (mut far, _task) = start(ModbusSource::new(options(&url, vec![unit])), 4);
    let intake = far.intake().await;
    let outcomes = outcomes(&far, &intake);
    assert_eq!(outcomes["unit-1/Holding-13"], Ok(Value::Integer(13)));
    assert_eq!(outcomes["unit-1/Holding-100"], Err(NoData::Exception(4)));
    assert_eq!(requests.lock().unwrap()[..2], [(1, 3, 10, 4), (1, 3, 100, 1)]);
    far.until_state(State::Live).await;
}

#[tokio::test]
async fn a_device_that_refuses_addresses_between_is_read_register_by_register_from_then_on() {
    let counts = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&counts);
    let (url, _device) = device(move |_, _, address, count| {
        log.lock().unwrap().push(count);
        if count > 1 { Answer::Exception(2) } else { addresses(address, count) }
    })
    .await;
    let (mut far, _task) = start(ModbusSource::new(options(&url, vec![unit(1, 20, holding([10, 12]))])), 4);
    for _ in 0..2 {
        let intake = far.intake().await;
        assert_eq!(outcomes(&far, &intake)["unit-1/Holding-12"], Ok(Value::Integer(12)));
    }
    assert_eq!(counts.lock().unwrap()[..5], [3, 1, 1, 1, 1]);
}

#[tokio::test]
async fn a_silent_unit_is_told_and_backed_off_while_the_others_keep_their_rate() {
    let (url, _device) =
        device(|unit, _, address, count| if unit == 4 { Answer::Silence } else { addresses(address, count) }).await;
    let units = vec![unit(1, 20, holding([1])), unit(4, 20, holding([1]))];
    let (mut far, _task) = start(ModbusSource::new(options(&url, units)), 64);
    let (mut answers, mut timeouts) = (0, 0);
    while answers < 40 {
        let intake = far.intake().await;
        let outcomes = outcomes(&far, &intake);
        answers += usize::from(outcomes.get("unit-1/Holding-1") == Some(&Ok(Value::Integer(1))));
        timeouts += usize::from(outcomes.get("unit-4/Holding-1") == Some(&Err(NoData::Timeout)));
    }
    assert!((3..10).contains(&timeouts), "{timeouts} timeouts");
    far.until_trouble("Unit 4 does not answer").await;
    far.until_state(State::Degraded).await;
    assert!(far.status.missed.get() > 0, "the polls that the timeouts held up are counted");
}

#[tokio::test]
async fn a_lost_device_is_said_once_for_every_point_and_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_up = Arc::clone(&up);
    let answers: Answers = Arc::new(move |_, _, address, count| {
        if is_up.load(std::sync::atomic::Ordering::SeqCst) { addresses(address, count) } else { Answer::HangUp }
    });
    let first = tokio::spawn(serve(listener, Arc::clone(&answers)));
    let url = format!("tcp://{address}");
    let (mut far, _task) = start(ModbusSource::new(options(&url, vec![unit(1, 20, holding([1, 50]))])), 64);
    far.intake().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    up.store(false, std::sync::atomic::Ordering::SeqCst);
    far.until_state(State::Down).await;
    let mut absent = 0;
    while let Ok(intake) = far.intakes.try_recv() {
        absent += usize::from(outcomes(&far, &intake).values().all(|outcome| *outcome == Err(NoData::NotConnected)));
    }
    assert_eq!(absent, 1);
    far.until_trouble("cannot be reached").await;
    assert!(far.intakes.try_recv().is_err(), "it is said once, not with each attempt");

    up.store(true, std::sync::atomic::Ordering::SeqCst);
    let _second = tokio::spawn(serve(TcpListener::bind(address).await.unwrap(), answers));
    let intake = far.intake().await;
    assert_eq!(outcomes(&far, &intake)["unit-1/Holding-50"], Ok(Value::Integer(50)));
    assert_eq!(far.status.reconnects.get(), 1);
    assert_eq!(far.all.troubles(), []);
}

#[tokio::test]
async fn a_device_that_closes_idle_connections_is_simply_opened_again() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let (url, _device) = device(move |_, _, address, count| {
        // Every second request finds the connection closed.
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if call % 2 == 1 { Answer::HangUp } else { addresses(address, count) }
    })
    .await;
    let (mut far, _task) = start(ModbusSource::new(options(&url, vec![unit(1, 20, holding([1]))])), 64);
    for _ in 0..5 {
        let intake = far.intake().await;
        assert_eq!(outcomes(&far, &intake)["unit-1/Holding-1"], Ok(Value::Integer(1)));
    }
    assert_eq!(far.status.errors.get(), 0);
}

#[tokio::test]
async fn polls_that_find_no_room_are_missed_and_told_and_never_queued() {
    let (url, _device) = device(|_, _, address, count| addresses(address, count)).await;
    let (mut far, _task) = start(ModbusSource::new(options(&url, vec![unit(1, 10, holding([1]))])), 1);
    far.until("missed polls", |far| far.status.missed.get() >= 10).await;
    let mut told = 0;
    for _ in 0..2 {
        told += far.intake().await.missed.iter().map(|missed| missed.count).sum::<u64>();
    }
    assert!(told >= 10, "{told}");
    assert!(far.intakes.try_recv().is_err());
}

/// An RTU unit on the far end of a line: answers function 3 with the addresses, whatever the unit.
async fn serve_rtu(mut line: crate::sources::line::Line) -> Option<()> {
    loop {
        let mut request = [0; 8];
        if line.read_exact(&mut request).await.is_err() {
            // Nobody has opened the port yet.
            sleep(Duration::from_millis(5)).await;
            continue;
        }
        let [unit, function, a0, a1, c0, c1, ..] = request;
        let Answer::Words(words) = addresses(u16::from_be_bytes([a0, a1]), u16::from_be_bytes([c0, c1])) else {
            return None;
        };
        let mut reply = vec![unit];
        reply.extend(pdu(function, &words));
        let crc = reply.iter().fold(0xffff_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
        });
        reply.extend(crc.to_le_bytes());
        line.write_all(&reply).await.ok()?;
    }
}

#[tokio::test]
async fn a_serial_bus_is_read_and_found_again_after_it_was_unplugged() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("bus");
    let plug = || {
        let (far_end, path) = crate::sources::line::tests::pseudo_terminal();
        drop(std::fs::remove_file(&link));
        std::os::unix::fs::symlink(path, &link).unwrap();
        tokio::spawn(serve_rtu(far_end))
    };
    let first = plug();
    let url = format!("rtu://{}?baud=115200&parity=none", link.display());
    let (mut far, _task) = start(ModbusSource::new(options(&url, vec![unit(7, 20, holding([3, 40]))])), 64);
    let intake = far.intake().await;
    assert_eq!(outcomes(&far, &intake)["unit-7/Holding-40"], Ok(Value::Integer(40)));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    std::fs::remove_file(&link).unwrap();
    far.until_state(State::Down).await;
    let _second = plug();
    far.until_state(State::Live).await;
    while let Ok(intake) = far.intakes.try_recv() {
        drop(intake);
    }
    let intake = far.intake().await;
    assert_eq!(outcomes(&far, &intake)["unit-7/Holding-3"], Ok(Value::Integer(3)));
}
