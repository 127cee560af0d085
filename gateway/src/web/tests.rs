//! The page as a browser, a supervisor and Prometheus meet it: over a real socket.

#![allow(clippy::unwrap_used, reason = "tests")]

mod attacks;
mod board;
mod certificate;
mod entering;
mod interface;
mod people;
mod points;
mod rules;
pub(in crate::web) mod served;
mod settings;
mod sheets;
mod trials;
mod ways;

use super::*;
use crate::access::{By, Right};
use crate::block::records::Severity;
use crate::config::desk::DeskRequest;
use crate::reading::{Flags, Stream, Value};
use crate::status::{HasHealth, LaneBooks, State as Health};
use reqwest::header::HeaderMap;
use served::{NOW_US, PATIENCE, Served, client, event_with, good};
use std::collections::BTreeSet;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const PAGES: [&str; 3] = ["/", "/points", "/more"];
const OTHERS: [&str; 5] = ["/metrics", "/live", "/ready", "/api/v1/status", "/api/v1/points"];

#[tokio::test]
async fn every_answer_carries_the_headers_that_keep_a_browser_safe() {
    let served = Served::start().await;
    for path in PAGES.into_iter().chain(OTHERS).chain(["/nowhere", "/static/nothing.js"]) {
        let answer = served.get(path).await;
        let header =
            |name: &str| answer.headers().get(name).unwrap_or_else(|| panic!("{path}: {name}")).to_str().unwrap();
        assert!(header("content-security-policy").starts_with("default-src 'self';"), "{path}");
        assert!(!header("content-security-policy").contains("unsafe"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
    }
    served.point("boiler-3", "supply_temp", good(52.1));
    for path in PAGES {
        let page = served.text(path).await;
        for inline in ["<script>", "<style", " style=", " onclick=", "javascript:", "hx-on"] {
            assert!(!page.contains(inline), "{path} has {inline}, which the policy forbids");
        }
    }
}

#[tokio::test]
async fn one_thing_that_is_broken_is_told_once_with_the_way_to_mend_it() {
    let served = Served::start().await;
    let why = "401 Unauthorized; check the token in auth.bearer_file: the endpoint does not know it or it has expired";
    for what in ["Paused", "Paused of the alerts", "Paused of the dead-letters"] {
        served.trouble(&format!("{what}: {why}"), Severity::Error);
    }
    let page = served.text("/").await;
    assert!(page.contains("One thing needs you"), "{page}");
    assert!(page.contains("Takes nothing: 401 Unauthorized. The endpoint does not know the token, or it has expired."));
    assert!(page.contains("/sources/boiler-bus/edit?_focus=_token") && page.contains("Change the token"), "{page}");
    assert!(served.text("/alerts").await.contains("One thing is told now"));
    assert!(!page.contains("bearer_file") && !page.contains("Paused of"), "{page}");
}

#[tokio::test]
async fn names_and_notes_from_outside_are_shown_as_text_never_as_markup() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'&";
    let served = Served::start().await;
    let mut live = good(1.0);
    live.outcome = Ok(Value::Text(HOSTILE.into()));
    live.flags.insert(Flags::ANOMALY);
    HOSTILE.clone_into(&mut live.note);
    served.point(HOSTILE, HOSTILE, live);
    served.trouble(HOSTILE, Severity::Error);
    served.status.sources()[0].set_error(Health::Down, HOSTILE, NOW_US);
    served.status.sinks()[0].set_error(Health::Paused, HOSTILE, NOW_US);
    for path in ["/", "/points", "/points?filter=%3Cscript%3E%22", "/%3Cscript%3E"] {
        let page = served.get(path).await.text().await.unwrap();
        assert!(!page.contains("<script>"), "{path}");
        assert!(!page.contains("<b>bold"), "{path}");
        assert!(!page.contains("\"'&\""), "{path}");
    }
    let mut events = served.get("/events?of=overview").await;
    let event = event_with(&mut events, &["event: announce"]).await;
    assert!(!event.contains("<script>"), "{event}");
}

#[tokio::test]
async fn the_overview_says_first_whether_anything_needs_a_person() {
    let served = Served::start().await;
    let page = served.text("/").await;
    assert!(page.contains("<h1>Nothing needs you</h1>"));
    assert!(page.contains("The source is live, the way upstream is in step."), "{page}");
    served.trouble("unit 4 does not answer", Severity::Warning);
    let page = served.text("/").await;
    assert!(page.contains("<h1>One thing needs you</h1>"));
    assert!(page.contains("Unit 4 does not answer."), "{page}");
    assert!(page.contains("Check its wiring."), "{page}");
    assert!(page.contains(">6\u{a0}min</time>"), "{page}");
    for index in 0..6 {
        served.trouble(&format!("trouble {index}"), Severity::Error);
    }
    let page = served.text("/").await;
    assert!(page.contains("<h1>Seven things need you</h1>"));
    assert!(page.contains("and 2 more"), "{page}");
}

#[tokio::test]
async fn nothing_is_said_to_be_on_disk_while_the_buffer_takes_nothing() {
    let served = Served::start().await;
    assert!(served.text("/").await.contains("all on disk"));
    served.trouble("buffer/commit", Severity::Error);
    let page = served.text("/").await;
    assert!(page.contains("not stored") && !page.contains("all on disk"), "{page}");
}

#[tokio::test]
async fn a_sink_that_stands_still_is_not_said_to_empty_the_board() {
    let served = Served::start().await;
    let wait = |undelivered| {
        let books = LaneBooks { undelivered, ..LaneBooks::default() };
        served.status.sinks()[0].set_lane(Stream::Readings, books);
    };
    wait(1_000);
    let mut events = served.get("/events?of=overview").await;
    // Two looks make a rate.
    event_with(&mut events, &["event: board", "1\u{202f}000"]).await;
    served.clock.set(61_000_000, NOW_US + 1_000_000);
    wait(900);
    event_with(&mut events, &["event: board", "900", "empty in about"]).await;
    for (state, word) in [(Health::Down, "not delivering"), (Health::Paused, "paused")] {
        served.status.sinks()[0].set_error(state, "the endpoint answers 500", NOW_US);
        let page = served.text("/").await;
        assert!(page.contains(word) && !page.contains("not reached") && !page.contains("empty in"), "{page}");
    }
}

#[tokio::test]
async fn a_board_whose_clock_was_never_set_says_so() {
    let served = Served::start().await;
    assert!(!served.text("/").await.contains("clock of the board is not set"));
    served.clock.set(60_000_000, 0);
    assert!(served.text("/").await.contains("clock of the board is not set"));
}

#[tokio::test]
async fn an_unusual_point_stands_before_the_good_ones() {
    let served = Served::start().await;
    for index in 0..20 {
        served.point(&format!("meter-{index}"), "power", good(f64::from(index)));
    }
    let mut unusual = good(52.1);
    unusual.flags.insert(Flags::ANOMALY);
    "19 °C below what this hour usually shows".clone_into(&mut unusual.note);
    served.point("boiler-3", "supply_temp", unusual);
    let page = served.text("/").await;
    assert!(page.find("boiler-3").unwrap() < page.find("meter-0").unwrap());
    assert!(page.contains("19 °C below what this hour usually shows"));
    assert_eq!(page.matches("<a class=\"card point\"").count(), 12);
    let looks = served.json("/api/v1/points?show=look").await;
    assert_eq!(looks["matching"], 1);
    assert_eq!(looks["points"][0]["state"], "unusual");
}

#[tokio::test]
async fn the_list_of_points_is_found_by_words_and_bounded_by_pages() {
    let served = Served::start().await;
    for index in 0..450 {
        served.point(&format!("meter-{index:03}"), "active_power", good(1.0));
    }
    served.point("boiler-3", "supply_temp", good(52.1));
    let first = served.text("/points").await;
    assert_eq!(first.matches("<tr>").count() - 1, 200);
    assert!(first.contains("1 to 200 of 451"));
    assert!(first.contains("href=\"/points?page=2\""));
    let past_the_end = served.text("/points?page=99999999").await;
    assert!(past_the_end.contains("401 to 451 of 451"));
    let found = served.text("/points?filter=METER+active+power+42").await;
    assert!(found.contains("1 to 15 of 15 that match, of 451 in all"));
    let nothing = served.text("/points?filter=no-such-thing").await;
    assert!(nothing.contains("No point matches"));
    assert_eq!(served.get("/points?page=minus").await.status(), 400);
}

#[tokio::test]
async fn an_open_page_is_told_when_a_point_changes() {
    let served = Served::start().await;
    served.point("boiler-3", "supply_temp", good(52.1));
    let mut events = served.get("/events?of=overview").await;
    let before = event_with(&mut events, &["event: watch", "52.1"]).await;
    assert!(before.contains("supply temp"), "{before}");
    served.point("boiler-3", "supply_temp", good(67.8));
    event_with(&mut events, &["event: watch", "67.8"]).await;
    served.trouble("unit 4 does not answer", Severity::Warning);
    event_with(&mut events, &["event: announce", "One thing needs you. Unit 4 does not answer."]).await;
}

#[tokio::test]
async fn more_pages_than_can_be_kept_up_to_date_are_turned_away_with_a_sentence() {
    let served = Served::start().await;
    let mut open = Vec::new();
    let by = By::tool();
    let ask = async |token: &str| {
        let request = client(HeaderMap::new()).get(format!("{}/events?of=overview", served.base));
        timeout(PATIENCE, request.bearer_auth(token).send()).await.unwrap().unwrap()
    };
    let mut token = String::new();
    for opened in 0..live::PAGES_MAX {
        if opened % live::OWN_PAGES_MAX == 0 {
            if opened > 0 {
                let turned_away = ask(&token).await;
                assert_eq!(turned_away.status(), 503);
                assert!(turned_away.text().await.unwrap().contains("you have 25 pages open"));
            }
            let name = format!("wall {opened}");
            token = served.access.make_token(&by, &name, [Right::See].into_iter().collect(), None).await.unwrap().token;
        }
        let answer = ask(&token).await;
        assert_eq!(answer.status(), 200);
        open.push(answer);
    }
    let turned_away = served.get("/events?of=overview").await;
    assert_eq!(turned_away.status(), 503);
    assert!(turned_away.text().await.unwrap().contains("100 pages are open"));
    assert_eq!(served.get("/").await.status(), 200);
    drop(open);
    let again = async {
        while served.get("/events?of=overview").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn open_pages_and_half_sent_requests_do_not_hold_up_the_stop() {
    let mut served = Served::start().await;
    let mut events = served.get("/events?of=overview").await;
    let mut half = tokio::net::TcpStream::connect(served.base.trim_start_matches("http://")).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    served.stop.cancel();
    timeout(PATIENCE, served.server.join_next()).await.unwrap().unwrap().unwrap();
    let rest = async { while let Ok(Some(_)) = events.chunk().await {} };
    timeout(PATIENCE, rest).await.unwrap();
    let mut answer = Vec::new();
    // Closed or reset: either way it ends.
    _ = timeout(PATIENCE, half.read_to_end(&mut answer)).await.unwrap();
}

#[tokio::test]
async fn a_header_without_end_is_refused() {
    let served = Served::start().await;
    let mut stream = tokio::net::TcpStream::connect(served.base.trim_start_matches("http://")).await.unwrap();
    // The other end stops reading early, so that not all of it can be written.
    _ = stream.write_all(format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(1 << 20)).as_bytes()).await;
    let mut answer = Vec::new();
    _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    assert_eq!(served.get("/live").await.status(), 200);
}

#[tokio::test]
async fn a_gateway_whose_ingest_stands_still_is_not_live() {
    let served = Served::start().await;
    served.status.ingest_turns.add(1);
    assert_eq!(served.get("/live").await.status(), 200);
    served.clock.set(60_000_000 + 9_000_000, NOW_US);
    assert_eq!(served.get("/live").await.status(), 200);
    served.clock.set(60_000_000 + 21_000_000, NOW_US);
    let stuck = served.get("/live").await;
    assert_eq!(stuck.status(), 503);
    assert!(stuck.text().await.unwrap().contains("ingest has made no turn for"));
    served.status.ingest_turns.add(1);
    assert_eq!(served.get("/live").await.status(), 200);
}

#[tokio::test]
async fn a_gateway_is_ready_once_its_sources_are_started() {
    let (_usage, usage) = watch::channel(Usage::default());
    let (_ends, ends) = watch::channel(Ends::default());
    let status = Arc::new(Status::default());
    let clock = Clock::manual(1, 0, NOW_US);
    let directory = tempfile::tempdir().unwrap();
    let state = WebState {
        status: status.clone(),
        registry: Arc::default(),
        usage,
        ends,
        buffer: None,
        access: Access::open(directory.path(), clock.clone()).unwrap(),
        desk: Desk::closed(""),
        version: "1.2.3",
        tls: Tls::plain(),
        history: History::absent(),
        system: Arc::new(System::new(Path::new("."), clock.clone())),
        logs: LogRing::new(clock.clone()),
        clock,
    };
    let shared = axum::extract::State(Arc::new(Shared::new(state, CancellationToken::new())));
    assert_eq!(probes::ready(shared.clone()).await.status(), 503);
    assert_eq!(probes::live(shared.clone()).await.status(), 200);
    status.set_ready();
    assert_eq!(probes::ready(shared).await.status(), 200);
}

#[tokio::test]
async fn the_status_has_the_books_of_every_source_and_sink() {
    let served = Served::start().await;
    served.usage.send_modify(|usage| usage.disk_bytes = 4_096);
    served.ends.send_modify(|ends| ends[Stream::DeadLetters.index()].next = 3);
    let status = served.json("/api/v1/status").await;
    let source = &status["sources"][0];
    assert_eq!(source["state"], "live");
    assert_eq!(
        source["received"].as_u64().unwrap(),
        ["accepted", "duplicate", "rejected"].iter().map(|name| source[*name].as_u64().unwrap()).sum::<u64>()
    );
    let lane = &status["sinks"][0]["streams"]["readings"];
    let booked = ["delivered", "filtered", "undelivered", "refused", "gaps"];
    assert_eq!(
        status["buffer"]["streams"]["readings"]["next"].as_u64().unwrap(),
        booked.iter().map(|name| lane[*name].as_u64().unwrap()).sum::<u64>()
    );
    assert_eq!(status["buffer"]["disk_bytes"], 4_096);
    assert_eq!(status["buffer"]["streams"]["dead-letters"]["next"], 3);
}

#[tokio::test]
async fn the_page_says_how_long_the_card_lasts() {
    let page = Served::start().await.text("/").await;
    assert!(page.contains("about 14 years") && page.contains("The gateway writes a day"), "{page}");
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let served = Served::start().await;
    let answer = served.get("/metrics").await;
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"));
    let there: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    let documented: BTreeSet<&str> = include_str!("../../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(there, documented);
    assert!(text.contains(r#"forebay_source_accepted_samples_total{source="boiler-bus",kind="modbus"} 9"#), "{text}");
    assert!(text.contains(r#"forebay_sink_backlog_records{sink="cloud",kind="http",stream="readings"} 4"#), "{text}");
    assert!(text.contains(r#"forebay_sink_state{sink="cloud",kind="http",state="live"} 1"#), "{text}");
}

#[tokio::test]
async fn the_first_view_is_light_and_its_files_are_kept_for_good() {
    const FIRST_VIEW_BYTES_MAX: usize = 150 * 1024;
    let served = Served::start().await;
    for index in 0..12 {
        let mut live = good(f64::from(index));
        live.sparkline = (0..60_u8).map(|step| f32::from(step.wrapping_mul(37))).collect();
        served.point(&format!("meter-{index}"), "power", live);
    }
    let page = served.text("/").await;
    let files: Vec<&str> = page.split('"').filter(|part| part.starts_with("/static/")).collect();
    assert_eq!(files.len(), 6, "{files:?}");
    let mut total = 0;
    for path in files.into_iter().chain(["/"]) {
        let request = served.client.get(format!("{}{path}", served.base)).header("accept-encoding", "gzip, br");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], "gzip", "{path}");
        let keeps = answer.headers()["cache-control"].to_str().unwrap().contains("immutable");
        assert_eq!(keeps, path != "/", "{path}");
        total += answer.bytes().await.unwrap().len();
    }
    assert!(total < FIRST_VIEW_BYTES_MAX, "{total}");
    assert_eq!(served.get("/static/page.000000000000.css").await.status(), 404);
    let plain = served.get(page.split('"').find(|part| part.starts_with("/static/page.")).unwrap()).await;
    assert!(plain.text().await.unwrap().contains("--paper"));
}

#[tokio::test]
async fn the_page_says_whether_the_books_close() {
    let served = Served::start().await;
    let page = served.text("/").await;
    assert!(
        page.contains(">all accounted for<") && page.contains("came again") && !page.contains("not all accounted for"),
        "{page}"
    );
    assert!(served.text("/metrics").await.contains("forebay_books_closed{of=\"ingest\",name=\"\",stream=\"\"} 1.0"));
    let books = LaneBooks { accepted: 10, delivered: 9, ..LaneBooks::default() };
    served.status.sinks()[0].set_lane(Stream::Readings, books);
    assert!(served.text("/").await.contains("not all accounted for"));
    let metrics = served.text("/metrics").await;
    assert!(metrics.contains("forebay_books_closed{of=\"sink\",name=\"cloud\",stream=\"readings\"} 0.0"), "{metrics}");
}

#[tokio::test]
async fn a_change_is_in_the_audit_log_also_if_whoever_asked_has_hung_up() {
    let mut served = Served::start().await;
    let text = format!("{}# more\n", served::CONFIG);
    let asked = serde_json::json!({ "text": text, "base": served::desk_state(served::CONFIG).revision });
    let request = served.client.put(format!("{}/api/v1/config", served.base)).body(asked.to_string());
    let request = request.header("content-type", "application/json");
    let mut asking = tokio::task::JoinSet::new();
    asking.spawn(request.send());
    let Some(DeskRequest::Try(_, done)) = timeout(PATIENCE, served.asked.recv()).await.unwrap() else {
        panic!("the change is handed in");
    };
    asking.shutdown().await;
    done.send(Ok(vec!["nothing changed".to_owned()])).unwrap();
    let told = async {
        while !served.text("/api/v1/audit").await.contains("configuration_tried") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
}
