//! The page of one point and its addresses of the interface, over a history that is kept.

use super::served::{NOW_US, PATIENCE, Served, event_with, good};
use crate::block::columns::{Encoder, Frame, JudgedReading};
use crate::buffer::{Buffer, Commit, StoreOptions};
use crate::clock::{Clock, Tick};
use crate::history::History;
use crate::reading::{
    AnomalyScore, Detector, Flags, NO_HASH, NoData, Note, PointId, Quality, Reason, TimeQuality, Value,
};
use crate::site::Registry;
use crate::status::{HasHealth, PointLive, State};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::time::timeout;

const SECOND_US: i64 = 1_000_000;
const HOUR_S: i64 = 3_600;

const CONFIG: &str = r#"[gateway]
id = "plant-7"

[[device]]
id = "boiler-3"
tags = { site = "north" }

[[check]]
points = "boiler-*/supply_temp"
range = { operating = [20.0, 95.0], possible = [-40.0, 150.0] }
"#;

/// An hour of two points, a reading a second each, up to now; the first has something to say.
async fn plant() -> (Served, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { keep_delivered_us: i64::MAX, ..StoreOptions::new(directory.path().to_owned()) };
    let (buffer, opened) = Buffer::open(options, Clock::manual(1, 1, NOW_US)).await.unwrap();
    let registry = Arc::new(Registry::default());
    for point in ["supply_temp", "flow"] {
        registry.intern("boiler-3", point, "°C", "boiler-bus").unwrap();
    }
    let mut encoder = Encoder::new().unwrap();
    let readings: Vec<JudgedReading> =
        (0..HOUR_S).flat_map(|second| (0..2).filter_map(move |point| judged(point, second))).collect();
    let base = Tick { mono_us: 0, wall_us: NOW_US - HOUR_S * SECOND_US, quality: TimeQuality::Ntp };
    let mut drafts = Vec::new();
    encoder.encode(&readings, &[], &Frame { boot_id: 1, base, config_version: 1 }, &mut drafts).unwrap();
    let points = registry.unsaved();
    registry.mark_saved(PointId(1));
    buffer.commit(Commit { points, drafts, ..Commit::default() }).await.unwrap();
    let history = History::new(buffer, registry.clone(), "plant-7", opened.epoch.unwrap());
    let served = Served::start_with(history, registry).await;
    served.desk.send_modify(|desk| *desk = super::served::desk_state(CONFIG));
    (served, directory)
}

fn judged(point: u32, second: i64) -> Option<JudgedReading> {
    let mut reading = JudgedReading {
        point: PointId(point),
        outcome: Ok(Value::Number(f64::from(point) * 10.0 + (second % 60) as f64 / 10.0 + 70.0)),
        observed_at_us: None,
        received_mono_us: (second * SECOND_US).unsigned_abs(),
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        message_hash: NO_HASH,
        note: None,
    };
    match (point, second) {
        // Five minutes without a reading.
        (0, 1_200..1_500) => return None,
        (0, 3_000) => {
            reading.outcome = Ok(Value::Number(96.2));
            (reading.flags, reading.quality) = (Flags::ANOMALY, Quality::Uncertain);
            reading.note = Some(Note { detector: Detector::Residual, reason: Reason::Above, expected: 90.0 });
        }
        (0, 3_100) => (reading.outcome, reading.quality) = (Err(NoData::Timeout), Quality::Bad),
        _ => {}
    }
    Some(reading)
}

#[tokio::test]
async fn the_chart_of_a_point_has_columns_statistics_gaps_and_what_was_said() {
    let (served, _directory) = plant().await;
    let chart = served.json("/api/v1/points/0/chart?columns=100").await;
    assert_eq!(chart["statistics"]["count"], 3_300);
    assert_eq!(chart["statistics"]["max"], 96.2);
    assert_eq!(chart["statistics"]["gaps"].as_array().unwrap().len(), 1);
    assert_eq!(chart["kept_from_us"], NOW_US - HOUR_S * SECOND_US);
    assert!(chart["raw"].is_null() && chart["complete"].as_bool().unwrap());
    let columns = &chart["columns"];
    let lengths =
        ["at", "min", "max", "mean", "count", "flagged", "worst"].map(|name| columns[name].as_array().unwrap().len());
    assert!(lengths.iter().all(|length| *length == lengths[0]) && lengths[0] <= 102, "{lengths:?}");
    assert_eq!(columns["min"].as_array().unwrap().iter().filter(|min| min.is_null()).count(), 1);
    let mark = &chart["marks"][0];
    assert_eq!((mark["kind"].as_str().unwrap(), mark["value"].as_f64().unwrap()), ("anomaly", 96.2));
    assert_eq!(mark["words"], "6.2 °C above the expected 90 °C");
    let marks = served.json("/api/v1/points/0/marks").await;
    assert_eq!(marks["marks"], chart["marks"]);
    assert!(served.json("/api/v1/points/1/marks").await["marks"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_narrow_chart_has_every_reading_and_all_that_is_known_of_the_odd_ones() {
    let (served, _directory) = plant().await;
    let (from_us, to_us) = (NOW_US - 700 * SECOND_US, NOW_US - 400 * SECOND_US);
    let chart = served.json(&format!("/api/v1/points/0/chart?from_us={from_us}&to_us={to_us}")).await;
    let raw = &chart["raw"];
    assert_eq!(raw["at"].as_array().unwrap().len(), 301);
    assert_eq!(raw["value"].as_array().unwrap().iter().filter(|value| value.is_null()).count(), 1);
    let notable = raw["notable"].as_array().unwrap();
    assert_eq!(notable.len(), 2);
    assert_eq!((&notable[0]["flags"][0], &notable[0]["quality"]), (&"anomaly".into(), &"uncertain".into()));
    assert_eq!((&notable[1]["no_data"], &notable[1]["quality"]), (&"timeout".into(), &"bad".into()));
}

#[tokio::test]
async fn a_chart_is_sent_compressed() {
    let (served, _directory) = plant().await;
    let request = served.client.get(format!("{}/api/v1/points/1/chart", served.base)).header("accept-encoding", "gzip");
    let answer = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn a_point_tells_its_value_its_tags_and_its_limits() {
    let (served, _directory) = plant().await;
    served.point("boiler-3", "supply_temp", good(52.1));
    let point = served.json("/api/v1/points/0").await;
    assert_eq!(
        (&point["device"], &point["value"], &point["state"]),
        (&"boiler-3".into(), &52.1.into(), &"good".into())
    );
    assert_eq!(point["tags"]["site"], "north");
    assert_eq!(point["limits"][0]["operating"], serde_json::json!([20.0, 95.0]));
    assert!(served.json("/api/v1/points/1").await["limits"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_readings_of_one_point_are_exported_and_no_others() {
    let (served, _directory) = plant().await;
    let csv = served.get("/api/v1/points/1/export?format=csv").await;
    assert_eq!(csv.headers()["content-disposition"], "attachment; filename=\"boiler-3-flow.csv\"");
    let csv = csv.text().await.unwrap();
    assert_eq!(csv.lines().count(), 3_601);
    assert!(csv.lines().skip(1).all(|line| line.contains("flow")));
    let from_us = NOW_US - 10 * SECOND_US;
    let lines = served.text(&format!("/api/v1/points/0/export?from_us={from_us}&format=ndjson")).await;
    let readings: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(readings.len(), 10);
    assert!(readings.iter().all(|reading| reading["point"] == "supply_temp" && reading["tags"]["site"] == "north"));
}

#[tokio::test]
async fn what_makes_no_sense_is_answered_with_what_is_wrong_and_never_as_a_fault_of_the_gateway() {
    let (served, _directory) = plant().await;
    for id in ["2", "-1", "99999999999999999999", "x", "%00", "..%2f..", "0x1", "1.0", "%22%3E%3Cscript%3E"] {
        for path in [
            "/points/ID",
            "/api/v1/points/ID",
            "/api/v1/points/ID/chart",
            "/api/v1/points/ID/marks",
            "/api/v1/points/ID/export",
        ] {
            let path = path.replace("ID", id);
            let answer = served.get(&path).await;
            assert_eq!(answer.status(), 404, "{path}");
            // In JSON it is text; on a page it would be markup.
            assert!(path.starts_with("/api/") || !answer.text().await.unwrap().contains("<script>"), "{path}");
        }
    }
    let (least, most) = (i64::MIN, i64::MAX);
    let asks = [
        ("columns=9".to_owned(), 422),
        ("columns=2001".to_owned(), 422),
        ("columns=-1".to_owned(), 400),
        ("columns=1e3".to_owned(), 400),
        ("columns=99999999999999999999999".to_owned(), 400),
        ("from_us=2&to_us=1".to_owned(), 422),
        (format!("from_us={most}&to_us={least}"), 422),
        ("from_us=yesterday".to_owned(), 400),
        ("from=1".to_owned(), 400),
        ("from_us=1&from_us=2".to_owned(), 400),
        (format!("from_us={least}&to_us={most}"), 200),
        (format!("from_us={least}&to_us={least}"), 200),
        (format!("from_us={most}&to_us={most}&columns=10"), 200),
        (format!("from_us={least}&columns=2000"), 200),
        ("to_us=0".to_owned(), 200),
    ];
    for (ask, status) in asks {
        let answer = served.get(&format!("/api/v1/points/0/chart?{ask}")).await;
        assert_eq!(answer.status(), status, "{ask}");
        if status != 200 {
            assert_eq!(answer.headers()["content-type"], "application/problem+json", "{ask}");
        }
        if !ask.contains("columns") {
            for path in ["marks", "export"] {
                assert_eq!(
                    served.get(&format!("/api/v1/points/0/{path}?{ask}")).await.status(),
                    status,
                    "{path} {ask}"
                );
            }
        }
    }
    assert_eq!(served.get("/api/v1/points/0/export?format=pdf").await.status(), 400);
}

#[tokio::test]
async fn the_page_of_a_point_says_what_it_is_and_follows_its_value() {
    let (served, _directory) = plant().await;
    served.point("boiler-3", "supply_temp", good(52.1));
    let page = served.text("/points/0").await;
    assert!(page.contains("<span class=\"soft\">boiler-3 ·</span> supply temp"), "{page}");
    assert!(page.contains("52.1 <small>°C</small>") && page.contains(">good</span>"), "{page}");
    assert!(page.contains("Operated from 20.0 to 95.0") && page.contains("site: north"), "{page}");
    assert!(page.contains("href=\"/sources/boiler-bus\"") && page.contains("/static/uplot."), "{page}");
    for inline in ["<script>", "<style", " style=", " onclick=", "javascript:", "hx-on"] {
        assert!(!page.contains(inline), "{inline}");
    }
    let mut events = served.get("/events?of=point:0").await;
    event_with(&mut events, &["event: now", "52.1"]).await;
    let mut unusual = good(67.8);
    unusual.flags.insert(Flags::ANOMALY);
    served.point("boiler-3", "supply_temp", unusual);
    event_with(&mut events, &["event: now", "67.8", "unusual", "data-flags=\"anomaly\""]).await;
    assert_eq!(served.get("/events?of=point:nowhere").await.status(), 200);
}

#[tokio::test]
async fn names_from_outside_are_text_on_the_page_of_a_point() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'&";
    let served = Served::start().await;
    let mut live = good(1.0);
    live.outcome = Ok(Value::Text(HOSTILE.into()));
    HOSTILE.clone_into(&mut live.note);
    served.point(HOSTILE, HOSTILE, live);
    let page = served.text("/points/0").await;
    assert!(!page.contains("<script>") && !page.contains("\"'&\""), "{page}");
    // A buffer that is closed has no history to show, and says so.
    assert_eq!(served.get("/api/v1/points/0/chart").await.status(), 503);
}

#[tokio::test]
async fn pages_that_look_at_the_same_list_share_one_for_a_moment() {
    let served = Served::start().await;
    let look = async || {
        let request = served.client.get(format!("{}/points", served.base)).header("hx-request", "true");
        timeout(PATIENCE, request.send()).await.unwrap().unwrap().text().await.unwrap()
    };
    served.point("boiler-3", "supply_temp", good(52.1));
    assert!(look().await.contains("52.1"));
    served.point("boiler-3", "supply_temp", good(67.8));
    assert!(look().await.contains("52.1"));
    assert!(served.text("/points").await.contains("67.8"));
    served.clock.set(62_000_000, NOW_US + 2_000_000);
    assert!(look().await.contains("67.8"));
}

#[tokio::test]
async fn a_value_is_not_called_good_once_its_source_is_down_or_the_point_is_silent() {
    let served = Served::start().await;
    let id = served.point("boiler-3", "supply_temp", good(72.7));
    let path = format!("/points/{}", id.0);
    assert!(served.text(&path).await.contains("<span class=\"state good\">good</span>"));
    let source = served.status.sources().first().cloned().unwrap();
    source.set_state(State::Down, NOW_US);
    let page = served.text(&path).await;
    assert!(page.contains("<span class=\"state idle\">old</span>"), "{page}");
    assert!(page.contains("nothing comes in: boiler-bus is down"), "{page}");
    assert_eq!(served.json(&format!("/api/v1{path}")).await["state"], "old");
    source.set_state(State::Live, NOW_US);
    served.clock.set(120_000_000, NOW_US + 22_000_000);
    let page = served.text(&path).await;
    assert!(page.contains("<span class=\"state idle\">old</span>"), "{page}");
    assert!(
        page.contains("silent, though it usually speaks every 1\u{a0}s") && page.contains("22\u{a0}s ago"),
        "{page}"
    );
}

#[tokio::test]
async fn points_stand_below_their_devices_or_in_the_order_that_is_asked_for() {
    let served = Served::start().await;
    served.point("boiler-1", "flow", good(18.4));
    served.point("boiler-1", "supply_temp", good(71.5));
    served.point("tank-1", "level", PointLive { flags: Flags::POSSIBLE_RANGE, ..good(900.0) });
    let list = served.text("/points").await;
    assert_eq!(list.matches("<tr class=\"device\">").count(), 2, "{list}");
    let worst = served.text("/points?sort=state").await;
    assert!(worst.find("tank-1").unwrap() < worst.find("boiler-1").unwrap(), "{worst}");
    assert!(worst.contains("value=\"state\" selected"), "{worst}");
    let points = served.json("/api/v1/points?sort=state").await;
    assert_eq!(points["points"][0]["device"], "tank-1");
}

#[tokio::test]
async fn a_whole_number_has_the_decimals_of_those_before_it() {
    let served = Served::start().await;
    let id = served.point(
        "boiler-3",
        "flow",
        PointLive { outcome: Ok(Value::Integer(7)), sparkline: [6.82, 7.0].into(), ..good(7.0) },
    );
    assert!(served.text(&format!("/points/{}", id.0)).await.contains("7.00 <small>"));
}
