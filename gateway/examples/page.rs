//! Serves the page with a made-up plant, for working on its look: `cargo run --example page [calm|trouble|empty|starting]`.

use forebay::access::Access;
use forebay::block::columns::{Encoder, Frame, JudgedReading};
use forebay::block::records::Severity;
use forebay::buffer::{Buffer, Commit, Ends, StoreOptions, Usage};
use forebay::clock::{Clock, Tick};
use forebay::config::desk::Desk;
use forebay::history::History;
use forebay::logs::LogRing;
use forebay::reading::{
    AnomalyScore, Detector, Epoch, Flags, NO_HASH, NoData, Note, PointId, Quality, Reason, Stream, TimeQuality, Value,
};
use forebay::site::Registry;
use forebay::status::{HasHealth, LaneBooks, PointLive, SinkStatus, SourceBooks, SourceStatus, State, Status, Trouble};
use forebay::system::System;
use forebay::web::{Tls, WebState, serve};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = r#"# The gateway of line 2.
[gateway]
id = "plant-7-line-2"
data_dir = "/var/lib/forebay"

[buffer]
disk_max = "2 GiB"

[[source]]
type = "mqtt"
name = "plant-broker"
url = "mqtt://127.0.0.1:1883"

[[source.subscribe]]
filter = "plant/+/+"
device = "{2}"
point = "{3}"
payload = { format = "json", value = "/value", time = "/ts" }

[[source]]
type = "modbus"
name = "boiler-bus"
url = "rtu:///dev/serial/by-id/usb-FTDI_USB-RS485_Cable_FT1234-if00-port0?baud=19200&parity=even"

[[sink]]
type = "http"
name = "cloud"
url = "https://ingest.example.com/v1/readings"
auth = { bearer_file = "cloud-token" }

[[device]]
id = "boiler-3"
tags = { site = "north", zone = "A", equipment = "boiler" }

[[check]]
points = "boiler-*/pressure"
range = { operating = [2.0, 8.0], possible = [0.0, 12.0] }

[[check]]
points = "boiler-*/supply_temp"
range = { operating = [55.0, 78.0], possible = [-40.0, 150.0] }
"#;

/// How far back the made-up history goes.
const HISTORY_S: i64 = 8 * 3_600;

/// Seconds between its readings.
const HISTORY_STEP_S: i64 = 2;

const MINUTE_US: i64 = 60_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mood = std::env::args().nth(1).unwrap_or_else(|| "trouble".to_owned());
    let clock = Clock::system();
    let now_us = clock.tick().wall_us;
    let trouble = mood == "trouble";
    let empty = mood == "empty" || mood == "starting";

    let registry = Arc::new(Registry::default());
    let mut status = Status::default();
    "plant-7-line-2".clone_into(&mut status.gateway);
    status.started_us = now_us - 5 * 24 * 60 * MINUTE_US;
    if !empty {
        status.set_sources(sources(trouble, now_us));
        status.set_sinks(sinks(trouble, now_us));
    }
    let status = Arc::new(status);
    if mood != "starting" {
        status.set_ready();
    }
    if trouble {
        troubles(&status, now_us);
    }
    if !empty {
        points(&registry, &status, trouble, now_us)?;
    }
    let usage = Usage {
        disk_bytes: if trouble { 816_043_786 } else { 41 << 20 },
        disk_bytes_max: 2 << 30,
        quarantine_bytes: 0,
        chunks: 52,
        free_bytes: 12 << 30,
        oldest_time_us: Some(now_us - 52 * MINUTE_US),
        ..Usage::default()
    };
    let (_usage, usage) = watch::channel(usage);
    let mut first = Ends::default();
    first[Stream::Readings.index()].next = 35_600_000;
    first[Stream::Readings.index()].oldest = 35_600_000 - 1_240_000;
    first[Stream::DeadLetters.index()].next = 3;
    let (ends_out, ends) = watch::channel(first);

    let directory = tempfile::tempdir()?;
    let history = history(directory.path(), &registry, &clock, if empty { 0 } else { HISTORY_S }).await?;
    let stop = CancellationToken::new();
    let listener = TcpListener::bind(("127.0.0.1", port())).await?;
    let state = WebState {
        status: status.clone(),
        registry,
        usage,
        ends,
        buffer: None,
        access: Access::open(directory.path(), clock.clone())?,
        desk: Desk::closed(CONFIG),
        clock: clock.clone(),
        version: env!("CARGO_PKG_VERSION"),
        tls: Tls::plain(),
        history,
        system: Arc::new(System::new(Path::new("."), Clock::system())),
        logs: LogRing::default(),
    };
    let life = async {
        if empty {
            return std::future::pending().await;
        }
        loop {
            live(&status, &ends_out, trouble, clock.tick().wall_us);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = serve(listener, state, stop) => {}
        () = life => {}
    }
    Ok(())
}

fn port() -> u16 {
    std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}

fn sources(trouble: bool, now_us: i64) -> Vec<Arc<SourceStatus>> {
    let source = |name: &str, kind, address: &str, accepted: u64, missed: u64, duplicate: u64| {
        let mut source = SourceStatus::default();
        name.clone_into(&mut source.name);
        address.clone_into(&mut source.address);
        source.kind = kind;
        let received = accepted + duplicate;
        source.set_books(SourceBooks { received, accepted, duplicate, rejected: 0, missed: 0 });
        source.missed.add(missed);
        source.set_state(State::Live, now_us - 300 * MINUTE_US);
        Arc::new(source)
    };
    let bus = source(
        "boiler-bus",
        "modbus",
        "rtu:///dev/serial/by-id/usb-FTDI_USB-RS485_Cable",
        9_100_000,
        if trouble { 360 } else { 0 },
        0,
    );
    if trouble {
        bus.set_error(
            State::Degraded,
            "unit 4: no reply within 500 ms (3 in a row); backing off to one poll in 30 s; check wiring and unit id",
            now_us - 6 * MINUTE_US,
        );
    }
    let broker = source("plant-broker", "mqtt", "mqtt://127.0.0.1:1883", 26_400_000, 0, if trouble { 12 } else { 0 });
    vec![broker, bus, source("probe", "serial", "/dev/ttyUSB0 · firmware 1.4", 120_000, 0, 0)]
}

fn sinks(trouble: bool, now_us: i64) -> Vec<Arc<SinkStatus>> {
    let sink = |name: &str, kind, address: &str, waiting: u64| {
        let mut sink = SinkStatus::default();
        name.clone_into(&mut sink.name);
        address.clone_into(&mut sink.address);
        sink.kind = kind;
        let books = LaneBooks {
            accepted: 35_600_000,
            delivered: 35_600_000 - waiting,
            undelivered: waiting,
            ..LaneBooks::default()
        };
        sink.set_lane(Stream::Readings, books);
        sink.set_state(State::Live, now_us - 300 * MINUTE_US);
        Arc::new(sink)
    };
    let cloud = sink("cloud", "http", "https://ingest.example.com/v1/readings", if trouble { 1_240_000 } else { 96 });
    let mut all = vec![sink("plant-kafka", "kafka", "10.0.0.5:9092", 40), cloud.clone()];
    if trouble {
        cloud.set_error(State::Degraded, "catching up after 503 service unavailable", now_us - 3 * MINUTE_US);
        let audit = sink("audit", "http", "https://audit.example.com/readings", 0);
        audit.set_error(State::Paused, "401 unauthorized: check token_file", now_us - 90 * MINUTE_US);
        audit
            .set_lane(Stream::Readings, LaneBooks { accepted: 35_600_002, refused: 2, ..audit.lane(Stream::Readings) });
        all.push(audit);
    }
    all
}

fn troubles(status: &Status, now_us: i64) {
    let raise = |subject: &str, what: &str, advice: &str, severity, minutes: i64| {
        let trouble = Trouble {
            subject: subject.to_owned(),
            what: what.to_owned(),
            advice: advice.to_owned(),
            severity,
            since_us: now_us - minutes * MINUTE_US,
        };
        status.raise(&format!("{subject}/{what}"), trouble);
    };
    let advice = "check its wiring and unit id";
    raise("boiler-bus", "unit 4 does not answer; the other 11 units keep their rate", advice, Severity::Warning, 6);
    let advice = "put a valid token into its token_file, then restart the gateway";
    raise("audit", "the endpoint refuses the credentials (401)", advice, Severity::Error, 90);
}

fn points(registry: &Registry, status: &Status, trouble: bool, now_us: i64) -> anyhow::Result<()> {
    let mut all = Vec::new();
    let mut add = |device: &str, point: &str, unit: &str, live: PointLive| -> anyhow::Result<()> {
        let id = registry.intern(device, point, unit, "boiler-bus")?;
        all.resize(all.len().max(id.0 as usize + 1), None);
        if let Some(place) = all.get_mut(id.0 as usize) {
            *place = Some(live);
        }
        Ok(())
    };
    let good = |middle: f32, swing: f32| live_point(middle, swing, now_us);
    add("boiler-3", "flow", "m³/h", good(18.4, 2.0))?;
    add("probe-1", "vibration", "mm/s", good(0.42, 0.1))?;
    let mut unusual = good(71.0, 0.4);
    if trouble {
        for (index, value) in unusual.sparkline.iter_mut().rev().take(12).enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a drawing")]
            let drop = 19.0 - index as f32 * 1.6;
            *value -= drop;
        }
        unusual.outcome = Ok(Value::Number(52.1));
        unusual.flags.insert(Flags::ANOMALY);
        unusual.quality = Quality::Uncertain;
        unusual.score = AnomalyScore(120);
        "19 °C below what this hour usually shows".clone_into(&mut unusual.note);
    }
    add("boiler-3", "supply_temp", "°C", unusual)?;
    let mut silent = good(64.0, 1.0);
    if trouble {
        silent.outcome = Err(NoData::Timeout);
        silent.quality = Quality::Bad;
        silent.flags.insert(Flags::NO_DATA);
    }
    add("boiler-4", "supply_temp", "°C", silent)?;
    let mut high = good(6.2, 0.5);
    if trouble {
        high.sparkline = (0..60_u8).map(|step| 6.2 + f32::from(step) * 0.0425).collect();
        high.outcome = Ok(Value::Number(8.71));
        high.flags.insert(Flags::OPERATING_RANGE);
        high.quality = Quality::Uncertain;
        "above its operating range of 2 to 8 bar".clone_into(&mut high.note);
    }
    add("boiler-3", "pressure", "bar", high)?;
    let mut tank = good(3.2, 0.0);
    tank.received_at_us -= if trouble { 34 * MINUTE_US } else { 0 };
    add("tank-1", "level", "m", tank)?;
    let mut mode = good(0.0, 0.0);
    mode.outcome = Ok(Value::Text("Heating, stage 2 of 3".into()));
    mode.sparkline.clear();
    add("boiler-3", "operating_mode", "", mode)?;
    let mut pump = good(0.0, 0.0);
    pump.outcome = Ok(Value::Boolean(true));
    pump.sparkline.clear();
    add("pump-2", "running", "", pump)?;
    for unit in 1..=240_u8 {
        add(&format!("meter-{unit:03}"), "active_power", "kW", good(40.0 + f32::from(unit), 6.0))?;
    }
    status.update_points(|points| *points = all);
    Ok(())
}

fn live_point(middle: f32, swing: f32, now_us: i64) -> PointLive {
    let sparkline: VecDeque<f32> = (0..60_u8).map(|step| wave(middle, swing, f32::from(step))).collect();
    PointLive {
        outcome: Ok(Value::Number(f64::from(middle))),
        received_at_us: now_us,
        usual_us: 1_000_000,
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore(1),
        note: String::new(),
        sparkline,
    }
}

fn wave(middle: f32, swing: f32, step: f32) -> f32 {
    middle + swing * ((step * 0.7).sin() * 0.5 + (step * 0.23).cos() * 0.3 + (step * 2.9).sin() * 0.2)
}

/// Some hours of the first points, with what goes wrong in a plant.
async fn history(directory: &Path, registry: &Arc<Registry>, clock: &Clock, seconds: i64) -> anyhow::Result<History> {
    let options = StoreOptions { keep_delivered_us: i64::MAX, ..StoreOptions::new(directory.join("data")) };
    let (buffer, opened) = Buffer::open(options, clock.clone()).await?;
    let start_us = clock.tick().wall_us - seconds * 1_000_000;
    let mut encoder = Encoder::new()?;
    let mut second = 0;
    while second < seconds {
        let until = (second + 500).min(seconds);
        let times = (second..until).step_by(usize::try_from(HISTORY_STEP_S)?);
        let readings: Vec<JudgedReading> =
            times.flat_map(|second| (0..8).filter_map(move |point| judged(point, second, seconds - second))).collect();
        second = until;
        let base = Tick { mono_us: 0, wall_us: start_us, quality: TimeQuality::Ntp };
        let mut drafts = Vec::new();
        encoder.encode(&readings, &[], &Frame { boot_id: 1, base, config_version: 1 }, &mut drafts)?;
        let points = registry.unsaved();
        if let Some((last, _)) = points.last() {
            registry.mark_saved(*last);
        }
        buffer.commit(Commit { drafts, points, ..Commit::default() }).await?;
    }
    let epoch = opened.epoch.unwrap_or(Epoch(0));
    Ok(History::new(buffer, registry.clone(), "plant-7-line-2", epoch))
}

/// A reading of a point, so many seconds after the start and before the end.
fn judged(point: u32, second: i64, left: i64) -> Option<JudgedReading> {
    #[expect(clippy::cast_precision_loss, reason = "a drawing")]
    let at = second as f64;
    let slow = (at / 5_400.0).sin();
    let noise = (at * 12.989_8 + f64::from(point) * 78.233).sin() * (at * 0.37).cos();
    let mut reading = JudgedReading {
        point: PointId(point),
        outcome: Ok(Value::Number(0.0)),
        observed_at_us: None,
        received_mono_us: (second * 1_000_000).unsigned_abs() + u64::from(point),
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        message_hash: NO_HASH,
        note: None,
    };
    let mut value = match point {
        0 => 18.4 + 1.6 * slow + 0.5 * noise,
        1 => 0.42 + 0.05 * slow + 0.03 * noise,
        2 => 71.0 + 1.2 * slow + 0.3 * noise,
        3 => 64.0 + 3.0 * slow + 0.4 * noise,
        4 => 6.2 + 0.5 * slow + 0.12 * noise,
        _ => 3.2 + 0.3 * slow,
    };
    let note = |detector, reason, expected| Some(Note { detector, reason, expected });
    match point {
        // The bus was unplugged for a quarter of an hour.
        2 | 3 if (7_200..8_100).contains(&left) => return None,
        2 if left < 1_200 => {
            #[expect(clippy::cast_precision_loss, reason = "a drawing")]
            let fallen = (1_200 - left) as f64;
            value -= 19.0 * (fallen / 900.0).min(1.0);
            if (300..330).contains(&(left - 700)) || left < 40 {
                (reading.flags, reading.quality) = (Flags::ANOMALY, Quality::Uncertain);
                reading.note = note(Detector::Residual, Reason::Below, 71.2);
            }
        }
        3 if left % 1_700 < 30 => {
            reading.outcome = Err(NoData::Timeout);
            (reading.flags, reading.quality) = (Flags::NO_DATA, Quality::Bad);
            return Some(reading);
        }
        4 if (2_000..2_300).contains(&left) => {
            value += 2.3;
            (reading.flags, reading.quality) = (Flags::OPERATING_RANGE, Quality::Uncertain);
            reading.note = note(Detector::Range, Reason::Above, 8.0);
        }
        6 => {
            let stage = second / 1_500 % 3 + 1;
            reading.outcome = Ok(Value::Text(format!("Heating, stage {stage} of 3").into()));
            return Some(reading);
        }
        7 => {
            reading.outcome = Ok(Value::Boolean(second / 700 % 3 != 0));
            return Some(reading);
        }
        _ => {}
    }
    reading.outcome = Ok(Value::Number((value * 100.0).round() / 100.0));
    Some(reading)
}

/// Half a second of the plant's life.
fn live(status: &Status, ends: &watch::Sender<Ends>, trouble: bool, now_us: i64) {
    for (source, half_a_second) in status.sources().iter().zip([155, 48, 3]) {
        let books = source.books();
        let (received, accepted) = (books.received + half_a_second, books.accepted + half_a_second);
        source.set_books(SourceBooks { received, accepted, ..books });
    }
    ends.send_modify(|ends| ends[Stream::Readings.index()].next += 206);
    for (index, sink) in status.sinks().iter().enumerate() {
        if sink.health().state == State::Paused {
            continue;
        }
        let mut books = sink.lane(Stream::Readings);
        let taken = if index == 1 && trouble { 15_500.min(books.undelivered) } else { 206 };
        books.accepted += 206;
        books.delivered += taken;
        books.undelivered += 206;
        books.undelivered -= taken.min(books.undelivered);
        sink.set_lane(Stream::Readings, books);
    }
    status.flagged.add(u64::from(trouble));
    status.ingest_turns.add(1);
    status.commits.add(2);
    status.last_commit_us.set(3_400);
    status.update_points(|points| {
        if let Some(Some(flow)) = points.first_mut() {
            flow.sparkline.rotate_left(1);
            flow.received_at_us = now_us;
            flow.outcome = Ok(Value::Number(flow.sparkline.back().copied().unwrap_or_default().into()));
        }
    });
}
