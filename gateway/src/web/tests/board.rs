//! The board as a browser and a program meet it: a real buffer behind it, and what came from outside shown as text.

use super::served::{NOW_US, Served, client, event_with};
use crate::access::{By, Right, Rights};
use crate::block::columns::Frame;
use crate::block::records::{
    self, Alert, DeadLetter, Gap, GapReason, Missed, MissedReason, RawBytes, Record, RecordBody, Severity,
};
use crate::buffer::{Buffer, Commit, Replay, ReplayState, StoreOptions};
use crate::clock::{Clock, Tick};
use crate::history::History;
use crate::reading::{SequenceRange, Stream, TimeQuality};
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use std::sync::Arc;
use tempfile::TempDir;
use tracing_subscriber::prelude::*;

const HOSTILE: &str = "<script>alert(1)</script>\"'&";

const SCREENS: [&str; 8] = [
    "/board",
    "/board/letters",
    "/board/letters/0",
    "/board/logs",
    "/board/system",
    "/alerts",
    "/api",
    "/board/letters?text=%3Cscript%3E&source=%22%3E%3Cscript%3E",
];

fn letter(number: u64, raw: &[u8]) -> Vec<Record> {
    let letter = DeadLetter {
        source: if number == 0 { HOSTILE } else { "meters" }.to_owned(),
        position: format!("{HOSTILE}-{}", number % 2),
        error: format!("value {number} is no number {HOSTILE}"),
        rule: "decode".to_owned(),
        config_version: 3,
        raw: Vec::new(),
        part: 0,
        parts: 1,
        raw_bytes: 0,
        raw_sha256: None,
        message_hash: 0,
    };
    let at_us = NOW_US - 60_000_000 + i64::try_from(number).unwrap();
    records::dead_letters(number << 8, at_us, &letter, &RawBytes::of(raw))
}

fn alert(second: i64, raised: bool) -> Record {
    let alert = Alert {
        rule: "range".to_owned(),
        severity: Severity::Warning,
        subject: HOSTILE.to_owned(),
        message: format!("96 °C is above the limit {HOSTILE}"),
        value: Some(96.0),
        raised,
    };
    Record { id: 7, time_us: NOW_US - 600_000_000 + second * 1_000_000, body: RecordBody::Alert(alert) }
}

/// A gateway that something happened to.
async fn gateway() -> (Served, Buffer, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, opened) =
        Buffer::open(StoreOptions::new(dir.path().to_owned()), Clock::manual(1, 1, NOW_US)).await.unwrap();
    let range = SequenceRange { first: 10, last: 1_249 };
    let gap = Gap {
        stream: Stream::Readings,
        range,
        first_time_us: NOW_US - 9_000_000,
        last_time_us: NOW_US - 8_000_000,
        reason: GapReason::Cap,
        sinks: vec![(HOSTILE.to_owned(), range)],
        in_flight: true,
    };
    let missed = Missed {
        source: HOSTILE.to_owned(),
        position: "unit 4".to_owned(),
        count: 12,
        reason: MissedReason::PollMissed,
    };
    let record = |body| Record { id: 1, time_us: NOW_US - 5_000_000, body };
    let mut all =
        vec![alert(0, true), alert(360, false), record(RecordBody::Gap(gap)), record(RecordBody::Missed(missed))];
    all.extend(letter(0, format!("{HOSTILE}\u{0}\u{1}").as_bytes()));
    for number in 1..120 {
        all.extend(letter(number, format!("{{\"v\": \"x{number}\"}}").as_bytes()));
    }
    let base = Tick { mono_us: 0, wall_us: NOW_US, quality: TimeQuality::Ntp };
    let drafts = records::encode(&all, &Frame { boot_id: 1, base, config_version: 1 }).unwrap();
    buffer.commit(Commit { drafts, ..Commit::default() }).await.unwrap();
    buffer.keep_replay(replay()).await.unwrap();
    let history = History::new(buffer.clone(), Arc::default(), "plant-7", opened.epoch.unwrap());
    (Served::start_with(history, Arc::default()).await, buffer, dir)
}

fn replay() -> Replay {
    Replay {
        id: 0,
        sink: "cloud".to_owned(),
        stream: Stream::Readings,
        from_us: NOW_US - 9_000_000,
        to_us: NOW_US,
        points: vec![HOSTILE.to_owned()],
        created_us: NOW_US,
        ended_us: None,
        state: ReplayState::Running,
        range: Some(SequenceRange { first: 0, last: 99 }),
        next: 25,
        config_version: 1,
        render_version: 1,
        run: None,
        delivered: 25,
        refused: 0,
        lost: 0,
        remote_position: None,
        trouble: Some(format!("held up {HOSTILE}")),
        revision: 0,
    }
}

fn log(served: &Served, write: impl FnOnce()) {
    let subscriber = tracing_subscriber::registry().with(served.logs.layer());
    tracing::subscriber::with_default(subscriber, write);
}

#[tokio::test]
async fn whatever_came_from_outside_is_shown_as_text_on_every_screen_of_the_board() {
    let (served, _buffer, _dir) = gateway().await;
    log(&served, || tracing::warn!(topic = HOSTILE, "{HOSTILE}\r\nevent: line\n\n{HOSTILE}"));
    for path in SCREENS {
        let page = served.text(path).await;
        assert!(!page.contains("<script>"), "{path}");
        assert!(!page.contains("\"'&\""), "{path}");
        for inline in ["<style", " style=", " onclick=", "javascript:", "hx-on"] {
            assert!(!page.contains(inline), "{path} has {inline}, which the policy forbids");
        }
    }
    for screen in ["board", "alerts", "system"] {
        let mut events = served.get(&format!("/events?of={screen}")).await;
        let event = event_with(&mut events, &["data:"]).await;
        assert!(!event.contains("<script>"), "{event}");
    }
}

#[tokio::test]
async fn the_buffer_says_what_waits_what_was_lost_and_what_goes_first() {
    let (served, _buffer, _dir) = gateway().await;
    let page = served.text("/board").await;
    let waits = page.find("readings on their way").or_else(|| page.find("readings wait")).unwrap();
    assert!(page[..waits].contains("cloud"), "{page}");
    for words in ["1\u{202f}240 readings", "The buffer was full and gave up its oldest.", "12 polls of ", "25 %"] {
        assert!(page.contains(words), "{words}");
    }
    let order = ["<b>Raw payloads</b>", "<b>Dead letters</b>", "<b>Readings</b>", "<b>Alerts and gaps</b>"];
    let places: Vec<usize> = order.iter().map(|words| page.find(words).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn dead_letters_are_paged_looked_into_and_taken_home() {
    let (served, _buffer, _dir) = gateway().await;
    let first = served.text("/board/letters").await;
    assert!(first.contains("Value 119 is no number") && !first.contains("Value 19 is no number"));
    assert!(first.contains("49 more like it since") && first.matches("id=\"letter-").count() == 2);
    assert!(first.contains("They can be looked into and exported"));
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    let second = served.text(&next).await;
    assert!(second.contains("Value 19 is no number") && !second.contains("Value 20 is no number"));
    let found = served.text("/board/letters?source=meters&text=X11").await;
    assert!(found.contains("Value 110 is no number") && !found.contains("Value 109 is no number"));

    let inside = served.text("/board/letters/0").await;
    assert!(inside.contains("3c 73 63 72 69 70 74 3e"), "{inside}");
    assert!(inside.contains("Version of the configuration"));
    let raw = served.get("/board/letters/0/raw").await;
    assert_eq!(raw.headers()["content-type"], "application/octet-stream");
    assert!(raw.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    assert_eq!(raw.bytes().await.unwrap(), format!("{HOSTILE}\u{0}\u{1}").as_bytes());

    let csv = served.text("/board/letters/export?format=csv&source=meters").await;
    assert_eq!(csv.lines().count(), 120);
    let json = served.text("/api/v1/dead-letters/export?text=X11").await;
    assert_eq!(json.lines().count(), 11);
}

#[tokio::test]
async fn an_alert_that_is_over_says_how_long_it_lasted() {
    let (served, _buffer, _dir) = gateway().await;
    served.trouble("unit 4 does not answer", Severity::Error);
    let page = served.text("/alerts").await;
    assert!(page.contains("One thing is told now") && page.contains("href=\"/sources/boiler-bus\""), "{page}");
    assert!(page.contains("after 6\u{a0}min"), "{page}");
    let none = served.text("/alerts?text=nothing+like+it").await;
    assert!(none.contains("No alert matches."));
    let calm = Served::start().await.text("/alerts").await;
    assert!(calm.contains("Nothing is wrong now"));
}

#[tokio::test]
async fn who_may_only_see_sees_replays_and_calls_none_off() {
    let (served, buffer, _dir) = gateway().await;
    let rights: Rights = [Right::See].into_iter().collect();
    let token = served.access.make_token(&By::tool(), "viewer", rights, None).await.unwrap().token;
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let viewer = client(headers);
    let seen = viewer.get(format!("{}/board", served.base)).send().await.unwrap();
    assert_eq!(seen.status(), StatusCode::OK);
    assert!(seen.text().await.unwrap().contains("Replay 1 to cloud"));
    let (form, address) =
        (format!("{}/board/replays/1/cancel", served.base), format!("{}/api/v1/replays/1", served.base));
    assert_eq!(viewer.post(&form).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(viewer.delete(&address).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert!(buffer.replays().borrow()[0].is_running());

    let done = served.client.post(&form).send().await.unwrap();
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    assert_eq!(buffer.replays().borrow()[0].state, ReplayState::Cancelled);
    let audit = served.json("/api/v1/audit").await;
    assert_eq!(audit["entries"][0]["detail"], "called off replay 1");
    let again = served.client.delete(&address).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn the_log_is_narrowed_followed_and_goes_on_where_a_browser_left() {
    let served = Served::start().await;
    log(&served, || {
        tracing::info!("all well");
        tracing::error!(sink = "cloud", "refused");
    });
    let page = served.text("/board/logs?level=error").await;
    assert!(page.contains("refused") && !page.contains("all well"), "{page}");
    assert!(served.text("/board/logs/download").await.contains("ERROR"));
    let mut stream = served.get("/board/logs/stream?after=0").await;
    event_with(&mut stream, &["event: line", "refused"]).await;
    log(&served, || tracing::warn!("{HOSTILE}\r\n\r\nevent: evil"));
    let event = event_with(&mut stream, &["event: line", "evil"]).await;
    assert!(!event.contains("<script>") && event.contains("id: 2"), "{event}");
    log(&served, || (0..3_000).for_each(|number| tracing::info!("line {number}")));
    let mut behind = served.get("/board/logs/stream?after=2").await;
    let missed = event_with(&mut behind, &["event: missed"]).await;
    assert!(missed.contains("data: 2500"), "{missed}");
}

#[tokio::test]
async fn the_interface_answers_with_what_was_asked_and_says_what_is_wrong() {
    let (served, _buffer, _dir) = gateway().await;
    let letters = served.json("/api/v1/dead-letters?source=meters&limit=2").await;
    assert_eq!(letters["records"][0]["kind"], "dead_letter");
    assert_eq!(letters["records"].as_array().unwrap().len(), 2);
    assert_eq!(served.json("/api/v1/dead-letters/0").await["raw"]["text"], serde_json::Value::Null);
    assert_eq!(served.json("/api/v1/alerts").await["records"][0]["raised"], false);
    assert_eq!(served.json("/api/v1/gaps").await["records"][1]["count"], 1_240);
    assert_eq!(served.json("/api/v1/replays").await["replays"][0]["percent"], 25);
    assert!(served.json("/api/v1/buffer").await["sinks"]["cloud"]["readings"]["undelivered"].is_u64());
    assert!(served.json("/api/v1/system").await["processor"]["cores"].is_u64());
    assert!(served.json("/api/v1/logs?level=warn").await["lines"].is_array());
    for path in [
        "/api/v1/dead-letters?limit=0",
        "/api/v1/dead-letters?limit=201",
        "/api/v1/dead-letters?before=-1",
        "/api/v1/alerts?from_us=2&to_us=1",
        "/api/v1/gaps?nonsense=1",
        "/api/v1/logs?level=loud",
        "/api/v1/logs?limit=501",
        "/api/v1/dead-letters/9999",
        "/api/v1/dead-letters/x",
        "/api/v1/dead-letters/export?format=xml",
        "/api/v1/dead-letters?text=%FF%FE&from_us=99999999999999999999",
    ] {
        let answer = served.get(path).await;
        assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
    }
    for path in [
        "/board/letters?from=yesterday",
        "/board/letters?before=x",
        "/board/letters/x",
        "/board/letters/18446744073709551615/raw",
        "/board?before=-1",
        "/board/logs?level=loud",
        "/board/logs/stream?after=x",
        "/alerts?to=%00",
    ] {
        let answer = served.get(path).await;
        assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
    }
    let far = served.json(&format!("/api/v1/dead-letters?before={}&from_us={}", u64::MAX, i64::MIN)).await;
    assert!(far["records"].is_array());
}
