//! `/board/system`: how the board is: processor, memory, disk, heat, clock, addresses, versions, certificate.

use crate::certificate::Origin;
use crate::system::Board;
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::screens::board_card::percent;
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

/// From here on a processor is busy, in percent of all cores: answers come later.
const BUSY_PERCENT: f64 = 85.0;

/// From here on memory or disk is short, in percent used.
const SHORT_PERCENT: u64 = 90;

/// From here on a board is warm, in degrees Celsius: 10 below where a Raspberry Pi slows down (raspberrypi.com, frequency
/// management).
const WARM_CELSIUS: f64 = 70.0;

/// From here on it is hot: it slows itself down.
const HOT_CELSIUS: f64 = 80.0;

/// A thing that is measured, and whether it is fine.
struct Gauge {
    name: &'static str,
    said: String,
    percent: Option<u64>,
    tone: &'static str,
    word: &'static str,
    note: String,
}

#[derive(Template)]
#[template(path = "see/gauges.html")]
struct Gauges {
    l: Locale,
    tone: &'static str,
    headline: String,
    list: Vec<Gauge>,
}

#[derive(Template)]
#[template(path = "see/system.html")]
struct Page {
    frame: Frame,
    gauges: String,
    facts: Vec<(&'static str, String)>,
    addresses: Vec<(String, String)>,
    certificate: Option<Certificate>,
}

struct Certificate {
    own: bool,
    fingerprint: String,
    names: String,
    until: Moment,
}

/// The live parts.
pub(in crate::web) fn parts(shared: &Shared, l: Locale) -> askama::Result<Vec<Part>> {
    Ok(vec![("system", gauges(&shared.state.system.board(), l).render()?)])
}

/// `GET /board/system`.
pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let (l, board) = (visit.l, shared.state.system.board());
    let certificate = shared.state.tls.certificate().map(|info| Certificate {
        own: info.origin == Origin::Own,
        fingerprint: info.fingerprint,
        names: info.names.join(", "),
        until: Moment::new(info.not_after_us, board.at_us, l),
    });
    let address = |address: &crate::system::Address| {
        let interface = address.interface.clone().unwrap_or_default();
        let note = if address.link_local { format!("{interface} {}", l.t("this link only")) } else { interface };
        (address.address.to_string(), note)
    };
    let rendered = || -> askama::Result<String> {
        Page {
            frame: Frame::new(&shared, &visit, Nav::Board).tab("/board/system").live("system"),
            gauges: gauges(&board, l).render()?,
            facts: facts(&shared, &board, l),
            addresses: board.addresses.iter().map(address).collect(),
            certificate,
        }
        .render()
    };
    Ok(pages::html(StatusCode::OK, &visit, rendered()))
}

fn facts(shared: &Shared, board: &Board, l: Locale) -> Vec<(&'static str, String)> {
    let seconds = |seconds: u64| l.span(i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
    let known = [
        ("Forebay", Some(shared.state.version.to_owned())),
        ("Gateway", Some(shared.state.status.gateway.clone())),
        ("Board", board.model.clone()),
        ("Host", board.host.clone()),
        ("Operating system", board.system.clone()),
        ("Kernel", board.kernel.clone()),
        ("Architecture", Some(board.architecture.to_owned())),
        ("The machine runs for", board.uptime_seconds.map(seconds)),
        ("The gateway runs for", board.gateway_uptime_seconds.map(seconds)),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn gauges(board: &Board, l: Locale) -> Gauges {
    let found =
        [processor(board, l), memory(board, l), disk(board, l), heat(board, l), supply(board, l), Some(time(board, l))];
    let gauges: Vec<Gauge> = found.into_iter().flatten().collect();
    let tone = |tone: &str| gauges.iter().filter(|gauge| gauge.tone == tone).count();
    let tone = match (tone("bad"), tone("warn")) {
        (0, 0) => "good",
        (0, _) => "warn",
        _ => "bad",
    };
    // What is graver comes first.
    let asking = ["bad", "warn"].into_iter().flat_map(|tone| gauges.iter().filter(move |gauge| gauge.tone == tone));
    let asking: Vec<String> = asking.map(|gauge| format!("{}: {}", l.t(gauge.name), l.t(gauge.word))).collect();
    let headline = if asking.is_empty() { l.t("The board is well").to_owned() } else { asking.join(" · ") };
    Gauges { l, tone, headline, list: gauges }
}

fn processor(board: &Board, l: Locale) -> Option<Gauge> {
    let of = &board.processor;
    let load = of.load.map(|[one, five, quarter]| {
        let said = [one, five, quarter].map(|load| l.number(load)).join(" · ");
        l.f1("load {} over 1, 5 and 15 min", said)
    });
    let own = of.process_percent.map(|percent| l.f1("the gateway itself {} % of a core", l.number(percent)));
    let busy = of.machine_percent;
    let (tone, word) = match busy {
        Some(percent) if percent >= BUSY_PERCENT => ("warn", "busy"),
        _ => ("good", "fine"),
    };
    if busy.is_none() && load.is_none() {
        return None;
    }
    Some(Gauge {
        name: "Processor",
        said: match busy {
            Some(percent) => l.f2("{} % of {} cores", l.number(percent), of.cores),
            None => l.f1("{} cores", of.cores),
        },
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        percent: busy.map(|percent| percent.clamp(0.0, 100.0) as u64),
        tone,
        word,
        note: [load, own].into_iter().flatten().collect::<Vec<_>>().join(" · "),
    })
}

fn short(used: u64, all: u64) -> (&'static str, &'static str) {
    if percent(used, all) >= SHORT_PERCENT { ("warn", "short") } else { ("good", "fine") }
}

fn memory(board: &Board, l: Locale) -> Option<Gauge> {
    let (total, available) = board.memory.total_bytes.zip(board.memory.available_bytes)?;
    let used = total.saturating_sub(available);
    let (tone, word) = short(used, total);
    let own = board.memory.process_bytes.map(|bytes| l.f1("the gateway itself {}", l.bytes(bytes)));
    let peak = board.memory.process_peak_bytes.map(|bytes| l.f1("at most {} so far", l.bytes(bytes)));
    let swap =
        board.memory.swap_used_bytes.filter(|bytes| *bytes > 0).map(|bytes| l.f1("{} swapped out", l.bytes(bytes)));
    Some(Gauge {
        name: "Memory",
        said: l.bytes_of(used, total),
        percent: Some(percent(used, total)),
        tone,
        word,
        note: [own, peak, swap].into_iter().flatten().collect::<Vec<_>>().join(" · "),
    })
}

fn disk(board: &Board, l: Locale) -> Option<Gauge> {
    let (total, available) = board.disk.total_bytes.zip(board.disk.available_bytes)?;
    let used = total.saturating_sub(available);
    let (tone, word) = if board.disk.read_only == Some(true) { ("bad", "read-only") } else { short(used, total) };
    Some(Gauge {
        name: "Disk with the data",
        said: l.bytes_of(used, total),
        percent: Some(percent(used, total)),
        tone,
        word,
        note: if board.disk.read_only == Some(true) {
            l.t("A card that turned read-only by itself is failing: replace it.").to_owned()
        } else {
            l.f1("{} free for the gateway", l.bytes(available))
        },
    })
}

fn heat(board: &Board, l: Locale) -> Option<Gauge> {
    let warmest = board.temperatures.first()?;
    let (tone, word) = match warmest.celsius {
        celsius if celsius >= HOT_CELSIUS => ("bad", "hot"),
        celsius if celsius >= WARM_CELSIUS => ("warn", "warm"),
        _ => ("good", "fine"),
    };
    let degrees = |celsius: f64| format!("{}\u{a0}°C", l.number(celsius));
    let all = board.temperatures.iter().map(|of| format!("{} {}", of.name, degrees(of.celsius)));
    Some(Gauge {
        name: "Temperature",
        said: degrees(warmest.celsius),
        percent: None,
        tone,
        word,
        note: if tone == "good" {
            all.collect::<Vec<_>>().join(" · ")
        } else {
            l.t("It slows itself down from 80 °C on: give it air, or a cooler place.").to_owned()
        },
    })
}

fn supply(board: &Board, l: Locale) -> Option<Gauge> {
    let of = board.throttling?;
    let (tone, word, note) = if of.under_voltage {
        ("bad", "voltage too low", "Its voltage is too low now: use a stronger supply or a shorter cable.")
    } else if of.throttled || of.hot {
        ("warn", "slowed down", "It is slowed down now.")
    } else if of.under_voltage_before {
        (
            "warn",
            "was too low",
            "Its voltage was too low since the machine started: use a stronger supply or a shorter cable.",
        )
    } else if of.throttled_before || of.hot_before {
        ("warn", "was slowed down", "It was slowed down since the machine started.")
    } else {
        ("good", "fine", "It was never slowed down since the machine started.")
    };
    Some(Gauge { name: "Supply and speed", said: String::new(), percent: None, tone, word, note: l.t(note).to_owned() })
}

fn time(board: &Board, l: Locale) -> Gauge {
    let (tone, word, note) = match board.time.quality {
        "unset" => (
            "bad",
            "not set",
            "The clock was never set: readings are stored with the time since the start, and get their true time once it is.",
        ),
        "ntp" => ("good", "set by the network", "A time server keeps it."),
        _ => (
            "warn",
            "set, not verified",
            "It was set, but no time server keeps it now: check the network, or the time server.",
        ),
    };
    let battery = if board.time.has_battery_clock {
        "A clock with a battery goes on without power."
    } else {
        "There is no clock with a battery: after a power cut it waits for the network."
    };
    Gauge {
        name: "Clock",
        said: String::new(),
        percent: None,
        tone,
        word,
        note: format!("{} {}", l.t(note), l.t(battery)),
    }
}
