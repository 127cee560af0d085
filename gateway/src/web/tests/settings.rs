//! The settings as someone at the page meets them: what is typed, what is wrong with it, what becomes of it.

use super::served::{NOW_US, PATIENCE, Served, desk_state};
use crate::config::desk::{DeskError, DeskRequest, DeskState, Doubts, Trial};
use crate::config::edit::Place;
use crate::config::form::{self, Kind};
use crate::config::history::{History, Kept};
use crate::config::redacted_toml;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reqwest::Response;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const EXAMPLE: &str = include_str!("../../../forebay.example.toml");

/// An endpoint with a token in its address, and a device whose comment someone cares for.
pub(super) const PLANT: &str = "[gateway]\nid = \"plant-7\" # named by Ann\n\n# The boiler.\n[[device]]\nid = \"boiler-3\" # in the cellar\n\n[[source]]\ntype = \"mqtt\"\nname = \"broker\"\nurl = \"mqtt://192.0.2.1:1883\"\n\n[[source.subscribe]]\nfilter = \"a/+\"\ndevice = \"{1}\"\npoint = \"{2}\"\npayload = { format = \"number\" }\n\n[[sink]]\ntype = \"http\"\nname = \"old\"\nurl = \"https://192.0.2.9/in?token=s3cret\"\n";

impl Served {
    /// A page over this text, with a desk that does what it is asked.
    pub(super) async fn with(text: &str) -> (Self, JoinSet<()>) {
        let mut served = Self::start().await;
        served.desk.send_replace(desk_state(text));
        let mut asked = std::mem::replace(&mut served.asked, mpsc::channel(1).1);
        let desk = served.desk.clone();
        let mut works = JoinSet::new();
        works.spawn(async move {
            while let Some(request) = asked.recv().await {
                work_off(request, &desk);
            }
        });
        (served, works)
    }

    pub(super) fn text_now(&self) -> String {
        self.desk.borrow().text.to_string()
    }

    pub(super) fn revision(&self) -> String {
        self.desk.borrow().revision.0.clone()
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.access.dir().parent().unwrap().to_owned()
    }

    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let body: Vec<_> = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"));
        timeout(PATIENCE, request.send()).await.unwrap().unwrap()
    }

    /// Hands in a form of a place.
    async fn fill(&self, at: &str, fields: &[(&str, &str)]) -> Response {
        let revision = self.revision();
        let own = [(":at", at), (":base", revision.as_str())];
        self.post("/settings/edit", &own.into_iter().chain(fields.iter().copied()).collect::<Vec<_>>()).await
    }

    pub(super) async fn send_json(&self, method: reqwest::Method, path: &str, body: serde_json::Value) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json").body(body.to_string());
        timeout(PATIENCE, request.send()).await.unwrap().unwrap()
    }
}

fn work_off(request: DeskRequest, desk: &tokio::sync::watch::Sender<DeskState>) {
    match request {
        DeskRequest::Try(change, done) => {
            let now = desk.borrow().clone();
            if now.revision != change.base {
                done.send(Err(DeskError::Conflict { now: now.revision })).ok();
                return;
            }
            let trial = Trial {
                by: change.by,
                since_us: NOW_US,
                until_us: NOW_US + i64::try_from(change.confirm_within.as_micros()).unwrap(),
                until_mono_us: 60_000_000 + u64::try_from(change.confirm_within.as_micros()).unwrap(),
                changes: vec!["something".to_owned()],
                before: now.trial.map_or(now.text, |trial| trial.before),
                doubts: Doubts::default(),
            };
            desk.send_replace(DeskState { trial: Some(trial), ..desk_state(&change.text) });
            done.send(Ok(vec!["something".to_owned()])).ok();
        }
        DeskRequest::Confirm { force, done, .. } => {
            let doubts = desk.borrow().trial.as_ref().map(|trial| trial.doubts.clone()).unwrap_or_default();
            if doubts.any() && !force {
                done.send(Err(DeskError::Doubtful(doubts))).ok();
                return;
            }
            desk.send_modify(|state| state.trial = None);
            done.send(Ok(())).ok();
        }
        DeskRequest::Revert { done, .. } => {
            let before = desk.borrow().trial.as_ref().map(|trial| trial.before.clone());
            if let Some(before) = &before {
                desk.send_replace(desk_state(before));
            }
            done.send(before.map(|_| ()).ok_or(DeskError::NoTrial)).ok();
        }
    }
}

async fn body(answer: Response) -> String {
    answer.text().await.unwrap()
}

/// A text as it stands in HTML.
fn shown(text: &str) -> String {
    let text = text.replace('&', "&#38;").replace('"', "&#34;").replace('<', "&#60;").replace('>', "&#62;");
    text.replace('\'', "&#39;")
}

#[tokio::test]
async fn a_wrong_field_is_told_at_the_field_and_nothing_is_handed_in() {
    let (served, _works) = Served::with(PLANT).await;
    let answer = served.fill("buffer", &[("commit_interval_ms", "soon"), ("disk_max", "1 TiB")]).await;
    assert_eq!(answer.status(), 422);
    let page = body(answer).await;
    let slot = page.split("id=\"e-f-commit-interval-ms\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(slot.contains("class=\"wrong\""), "{slot}");
    assert!(page.contains("value=\"soon\"") && page.contains("value=\"1 TiB\""), "what was typed is lost");
    assert!(page.contains("aria-invalid=\"true\""));
    assert!(page.contains("Not running yet: 2 fields need something else."), "{page}");
    assert!(page.contains("href=\"#f-commit-interval-ms\"") && page.contains("id=\"f-commit-interval-ms\""), "{page}");
    assert_eq!(served.text_now(), PLANT);
    // What only the whole shows is told at its field, too.
    let answer = served.fill("source[0]", &[("url", "ftp://nowhere")]).await;
    assert_eq!(answer.status(), 422);
    let page = body(answer).await;
    let slot = page.split("id=\"e-f-url\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(slot.contains("class=\"wrong\""), "{slot}");
    assert_eq!(served.text_now(), PLANT);
}

#[tokio::test]
async fn a_field_is_checked_as_it_is_typed_and_nothing_is_changed() {
    let (served, _works) = Served::with(PLANT).await;
    let fields = [(":at", "buffer"), ("commit_interval_ms", "9999999"), ("disk_max", "")];
    let answer = served.post("/settings/check", &fields).await;
    assert_eq!(answer.status(), 200);
    let parts = body(answer).await;
    let slot = parts.split("id=\"e-f-commit-interval-ms\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(slot.contains("hx-swap-oob=\"true\"") && slot.contains("class=\"wrong\""), "{slot}");
    let slot = parts.split("id=\"e-f-disk-max\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(!slot.contains("wrong"), "{slot}");
    assert_eq!(served.text_now(), PLANT);
}

#[tokio::test]
async fn comments_survive_a_change_in_a_form_and_the_change_is_in_the_audit_log() {
    let (served, _works) = Served::with(PLANT).await;
    let answer = served.fill("device[0]", &[("id", "boiler-4"), ("tags", "site = north")]).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], "/settings");
    let text = served.text_now();
    assert!(text.contains("# The boiler.\n[[device]]\nid = \"boiler-4\" # in the cellar\n"), "{text}");
    assert!(text.contains("# named by Ann") && text.contains("site"), "{text}");
    assert!(text.contains("token=s3cret"), "the secret in an address that nobody touched is lost: {text}");
    let log = served.access.audit(None, 10, crate::access::AuditFilter::default()).await.unwrap();
    let entry = log.entries.iter().find(|entry| entry.subject == "device[0]").unwrap();
    assert_eq!(entry.action, crate::access::Action::ConfigurationTried);
    assert!(entry.detail.contains("-id = \"boiler-3\"") && entry.detail.contains("+id = \"boiler-4\""), "{entry:?}");
    // On trial until someone keeps it.
    let page = served.text("/settings").await;
    assert!(page.contains("A new configuration runs on trial.") && page.contains("href=\"/settings/trial\""), "{page}");
    let changed = served.text("/settings/trial").await;
    assert!(changed.contains("id = &#34;boiler-4&#34;") && !changed.contains("s3cret"), "{changed}");
    // Whoever saw another text decides nothing.
    for what in ["confirm", "force", "revert"] {
        let answer = served.post("/settings/trial", &[("do", what), ("revision", "0123456789abcdef")]).await;
        assert_eq!((answer.status().as_u16(), served.text_now() == text), (409, true), "{what}");
    }
    let seen = page.split("name=\"revision\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let answer = served.post("/settings/trial", &[("do", "revert"), ("revision", seen)]).await;
    assert_eq!((answer.status().as_u16(), served.text_now().as_str()), (303, PLANT));
    assert_eq!(served.post("/settings/trial", &[("do", "revert")]).await.status(), 409);
    assert_eq!(served.post("/settings/trial", &[("do", "explode")]).await.status(), 400);
}

#[tokio::test]
async fn a_new_item_gets_the_fields_of_the_kind_that_was_chosen() {
    let (served, _works) = Served::with(PLANT).await;
    let answer = served.get("/settings/add?to=sink").await;
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let page = served.text(&location).await;
    assert!(page.contains("name=\"type\"") && !page.contains("name=\"url\""), "{page}");
    let own = [(":at", "sink[1]"), (":tag", "type"), ("type", "http")];
    let part = body(served.post("/settings/edit/fields", &own).await).await;
    assert!(
        part.contains("name=\"url\"") && part.contains("name=\"auth.type\"") | part.contains("name=\"auth."),
        "{part}"
    );
    let answer = served
        .fill("sink[1]", &[(":tag", "type"), ("type", "http"), ("name", "cloud"), ("url", "https://example.com/in")])
        .await;
    assert_eq!(answer.status(), 303, "{}", body(answer).await);
    let text = served.text_now();
    assert!(text.contains("[[sink]]") && text.contains("https://example.com/in"), "{text}");
    // A source brings the first item of the list that it may not be without.
    let page = served.text("/settings/edit?at=source%5B1%5D&kind=modbus").await;
    assert!(page.contains("name=\"unit[0].registers[0].address\""), "{page}");
    let fields = [
        (":tag", "type"),
        ("type", "modbus"),
        ("name", "bus"),
        ("url", "tcp://192.0.2.2:502"),
        ("unit[0].id", "7"),
        ("unit[0].device", "meter"),
        ("unit[0].every_ms", "1000"),
        ("unit[0].registers[0].point", "power"),
        ("unit[0].registers[0].table", "holding"),
        ("unit[0].registers[0].address", "0"),
        ("unit[0].registers[0].kind", "u16"),
    ];
    let answer = served.fill("source[1]", &fields).await;
    assert_eq!(answer.status(), 303, "{}", body(answer).await);
    let answer =
        served.post("/settings/item", &[(":at", "source[1]"), (":do", "up"), (":base", &served.revision())]).await;
    assert_eq!(answer.status(), 303, "{}", body(answer).await);
    let config = crate::config::parse("t", served.text_now()).unwrap().config;
    assert_eq!(config.source_names().collect::<Vec<_>>(), ["bus", "broker"]);
    let answer =
        served.post("/settings/item", &[(":at", "source[0]"), (":do", "remove"), (":base", &served.revision())]).await;
    assert_eq!(answer.status(), 303, "{}", body(answer).await);
    assert!(!served.text_now().contains("modbus"));
}

#[tokio::test]
async fn two_people_at_once_the_second_sees_the_newest_and_loses_nothing() {
    let (served, _works) = Served::with(PLANT).await;
    let old = served.revision();
    assert_eq!(served.fill("gateway", &[("id", "plant-8")]).await.status(), 303);
    let fields = [(":at", "device[0]"), (":base", old.as_str()), ("id", "boiler-9")];
    let answer = served.post("/settings/edit", &fields).await;
    assert_eq!(answer.status(), 409);
    let page = body(answer).await;
    assert!(page.contains("Someone else was faster") && page.contains("plant-8"), "{page}");
    assert!(page.contains("name=\"text\"") && page.contains("id = &#34;boiler-9&#34;"), "{page}");
    assert!(page.contains(&served.revision()), "{page}");
    assert!(!page.contains("s3cret"));
    assert!(!served.text_now().contains("boiler-9"));
    // What meets on one line cannot be put together, and is still there to be read.
    let fields = [(":at", "gateway"), (":base", old.as_str()), ("id", "plant-9")];
    let page = body(served.post("/settings/edit", &fields).await).await;
    assert!(page.contains("What you changed") && page.contains("plant-9") && page.contains("plant-8"), "{page}");
    // The same for texts.
    let mine = redacted_toml(PLANT).replace("boiler-3", "boiler-9");
    let answer = served.post("/settings/file", &[("base", &old), ("text", &mine)]).await;
    assert_eq!(answer.status(), 409);
    let page = body(answer).await;
    assert!(page.contains("boiler-9") && page.contains("plant-8") && !page.contains("s3cret"), "{page}");
}

#[tokio::test]
async fn a_secret_never_comes_out_and_is_put_back_where_it_was() {
    let (served, _works) = Served::with(PLANT).await;
    let data_dir = served.data_dir();
    let kept = Kept { at_us: NOW_US, by: "ann".to_owned(), changes: Vec::new(), note: String::new() };
    History::of(&data_dir).keep(PLANT, kept).unwrap();
    for path in [
        "/settings",
        "/settings/file",
        "/settings/file/download",
        "/settings/edit?at=source%5B0%5D",
        "/settings/edit?at=sink%5B0%5D",
        "/settings/history",
        "/settings/history/1",
        "/settings/templates",
        "/settings/security",
        "/api/v1/config",
        "/api/v1/config/history/1",
        "/api/v1/config/schema?at=source%5B0%5D",
        "/settings/edit?at=source",
    ] {
        let page = served.text(path).await;
        assert!(!page.contains("s3cret"), "{path}");
    }
    let text = redacted_toml(PLANT).replace("# The boiler.", "# The kettle.").replace('\n', "\r\n");
    let answer = served.post("/settings/file", &[("base", &served.revision()), ("text", &text)]).await;
    assert_eq!(answer.status(), 303, "{}", body(answer).await);
    assert_eq!(served.text_now(), PLANT.replace("# The boiler.", "# The kettle."));
    // One that was typed goes into a file; the configuration names it.
    let answer = served.fill("source[0]", &[("username", "ann"), ("secret:password_file", "hunter2")]).await;
    assert_eq!(answer.status(), 303, "{}", body(answer).await);
    let text = served.text_now();
    let path = data_dir.join("secrets/broker-password");
    assert!(text.contains(&path.to_string_lossy().into_owned()) && !text.contains("hunter2"), "{text}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "hunter2");
    assert!(served.text("/settings/security").await.contains("broker-password"));
    // The secret of an address that leads elsewhere is asked for.
    let text = redacted_toml(&served.text_now()).replace("192.0.2.9", "192.0.2.66");
    assert_eq!(served.post("/settings/file", &[("base", &served.revision()), ("text", &text)]).await.status(), 422);
    let log = served.access.audit(None, 50, crate::access::AuditFilter::default()).await.unwrap();
    assert!(!format!("{log:?}").contains("s3cret") && !format!("{log:?}").contains("hunter2"));
    // One that was not taken leaves no file behind.
    let answer = served.fill("source[0]", &[("url", "ftp://x"), ("secret:password_file", "hunter3")]).await;
    assert_eq!(answer.status(), 422);
    assert_eq!(std::fs::read_dir(data_dir.join("secrets")).unwrap().count(), 1);
}

/// Every table that the shape of the file has, with the kinds it may be of.
fn places(text: &str, place: &Place, found: &mut Vec<(Place, Option<String>)>) {
    let Some(form) = form::at(text, place, None) else { panic!("{place} has no form") };
    match &form.tag {
        Some(tag) => found.extend(tag.words.iter().map(|word| (place.clone(), Some(word.word.clone())))),
        None => found.push((place.clone(), None)),
    }
    for field in &form.fields {
        match &field.kind {
            Kind::List { of, count, .. } if matches!(**of, Kind::Table | Kind::Variants { .. }) => {
                (0..=*count).for_each(|index| places(text, &field.path.item(index), found));
            }
            Kind::Table | Kind::Variants { .. } => places(text, &field.path, found),
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_option_of_the_reference_has_a_field_somewhere() {
    let (served, _works) = Served::with(EXAMPLE).await;
    let mut found = Vec::new();
    places(EXAMPLE, &Place::root(), &mut found);
    assert!(found.len() > 40, "{found:?}");
    let mut seen = BTreeSet::new();
    for (place, kind) in found.into_iter().filter(|(place, _)| !place.steps().is_empty()) {
        let path = format!("at={}&kind={}", escape(&place.to_string()), kind.clone().unwrap_or_default());
        let answer = served.get(&format!("/settings/edit?{path}")).await;
        assert_eq!(answer.status(), 200, "{place} {kind:?}: {:?}", answer.headers().get("location"));
        let page = body(answer).await;
        for field in form::at(EXAMPLE, &place, kind.as_deref()).unwrap().fields {
            let key = format!("<span class=\"soft mono\">{}</span>", shown(&field.name));
            assert!(page.contains(&key), "{place} {kind:?}: {}", field.name);
        }
        let keys = page.split("<span class=\"soft mono\">").skip(1).filter_map(|rest| rest.split('<').next());
        seen.extend(keys.map(str::to_owned));
    }
    // Every key that the reference names.
    let reference = crate::config::reference();
    let keys = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key);
    let roots = ["gateway", "web", "buffer", "device", "source", "check", "anomaly", "sink"];
    let missing: Vec<_> = keys.filter(|key| !seen.contains(*key) && !roots.contains(key)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

fn escape(text: &str) -> String {
    crate::web::pages::path("", text)
}

#[tokio::test]
async fn hostile_places_and_fields_are_refused_and_change_nothing() {
    let (served, _works) = Served::with(EXAMPLE).await;
    let mut runner = TestRunner::deterministic();
    let place = prop_oneof![
        "(source|sink|device|check|web|buffer)(\\[[0-9]{1,2}\\])?(\\.[a-z_]{1,12}(\\[[0-9]\\])?){0,3}",
        "\\PC{0,40}",
        "[\\[\\].\"\\\\a-z0-9]{0,30}",
    ];
    let name = prop_oneof![
        "[a-z_]{1,12}(\\[[0-9]\\])?(\\.[a-z]{1,6})?",
        ":[a-z]{1,6}",
        "secret:[a-z./]{0,12}",
        "\\PC{0,20}",
        Just("type".to_owned()),
        Just("url".to_owned()),
        Just(":tag".to_owned()),
        Just("name".to_owned())
    ];
    let typed = prop_oneof![
        "\\PC{0,30}",
        "[\"'\\\\\\[\\]{}=#\n\r\t\u{0}]{0,20}",
        "mqtt|http|kafka|modbus|serial|",
        Just("type".to_owned()),
        Just("'\"><script>alert(1)</script>".to_owned())
    ];
    let fields = prop::collection::vec((name, typed), 0..6);
    let case = (place, fields);
    for _ in 0..60 {
        let (place, fields) = case.new_tree(&mut runner).unwrap().current();
        let answer = served.get(&format!("/settings/edit?at={}&kind={}", escape(&place), fields.len())).await;
        assert!(answer.status().as_u16() < 500, "{place:?}: {}", answer.status());
        let answer = served.get(&format!("/api/v1/config/schema?at={}", escape(&place))).await;
        assert!(answer.status().as_u16() < 500, "{place:?}: {}", answer.status());
        let mut all = vec![(":at", place.as_str()), (":base", "0000")];
        all.extend(fields.iter().map(|(name, typed)| (name.as_str(), typed.as_str())));
        for path in ["/settings/check", "/settings/edit/fields", "/settings/edit", "/settings/item"] {
            let answer = served.post(path, &all).await;
            assert!(answer.status().as_u16() < 500, "{path} {all:?}: {}", answer.status());
            let page = body(answer).await;
            assert!(!page.contains("<script>alert"), "{path} {all:?}");
        }
    }
    assert_eq!(served.text_now(), EXAMPLE);
    for text in ["", "\u{0}", "[", "a = \"\"\"", &"[[source]]\n".repeat(5_000), &"[".repeat(100_000)] {
        let answer = served.post("/settings/file", &[("base", &served.revision()), ("text", text)]).await;
        assert_eq!(answer.status(), 422);
        assert_eq!(served.post("/settings/file/check", &[("text", text)]).await.status(), 200);
    }
    assert_eq!(served.text_now(), EXAMPLE);
}

#[tokio::test]
async fn one_goes_back_to_a_kept_version_and_sees_before_what_that_changes() {
    let (served, _works) = Served::with(PLANT).await;
    assert!(served.text("/settings/history").await.contains("Nothing yet"));
    let history = History::of(&served.data_dir());
    let kept = |by: &str| Kept {
        at_us: NOW_US,
        by: by.to_owned(),
        changes: vec!["device boiler-2".to_owned()],
        note: String::new(),
    };
    history.keep(&PLANT.replace("boiler-3", "boiler-2"), kept("<b>ann</b>")).unwrap();
    history.keep(PLANT, kept("bob")).unwrap();
    let page = served.text("/settings/history").await;
    let places = ["bob", "&#60;b&#62;ann"].map(|name| page.find(name).unwrap_or_else(|| panic!("{name}: {page}")));
    assert!(places[0] < places[1] && page.contains("runs now"));
    assert!(
        page.contains("action=\"/settings/history/1\"") && !page.contains("action=\"/settings/history/2\""),
        "{page}"
    );
    let page = served.text("/settings/history/1").await;
    assert!(page.contains("class=\"added\"") && page.contains("boiler-2"), "{page}");
    let answer = served.post("/settings/history/1", &[("base", &served.revision()), ("confirm_within", "15")]).await;
    assert_eq!(answer.status(), 303);
    assert!(served.text_now().contains("boiler-2"));
    assert_eq!(served.desk.borrow().trial.as_ref().unwrap().until_us, NOW_US + 15 * 60_000_000);
    assert_eq!(served.get("/settings/history/99").await.status(), 404);
}

#[tokio::test]
async fn a_template_is_filled_in_saved_and_removed() {
    let (served, _works) = Served::with(PLANT).await;
    let page = served.text("/settings/templates").await;
    assert!(page.contains("/settings/templates/pulse-counter") && page.contains(">broker</option>"), "{page}");
    let base = served.revision();
    let proposed = |page: &str, name: &str| page.contains(&format!("placeholder=\"{name}\""));
    assert!(proposed(&served.text("/settings/templates/pulse-counter").await, "counter-bus"));
    let answer = served.post("/settings/templates/pulse-counter", &[(":base", &base), ("unit", "seven")]).await;
    assert_eq!(answer.status(), 422);
    let page = body(answer).await;
    assert!(page.contains("id=\"w-unit\"") && page.contains("value=\"seven\""), "{page}");
    let answer =
        served.post("/settings/templates/pulse-counter", &[(":base", &base), ("unit", "7"), ("name", "")]).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (303, "/sources/counter-bus")
    );
    assert!(served.text_now().contains("name = \"counter-bus\""));
    let page = served.text("/settings/templates/pulse-counter").await;
    assert!(proposed(&page, "counter-bus-2"), "a name that is taken is not proposed: {page}");
    let answer = served.post("/settings/templates", &[("at", "source[0]"), ("name", "My broker")]).await;
    assert_eq!(answer.status(), 303, "{}", body(answer).await);
    let page = served.text("/settings/templates/my-broker").await;
    assert!(page.contains("My broker") && !page.contains("s3cret"), "{page}");
    assert_eq!(served.post("/settings/templates", &[("at", "source[0]"), ("name", "My broker")]).await.status(), 422);
    assert_eq!(served.post("/settings/templates/my-broker/remove", &[]).await.status(), 303);
    assert_eq!(served.post("/settings/templates/pulse-counter/remove", &[]).await.status(), 409);
    assert_eq!(served.get("/settings/templates/my-broker").await.status(), 404);
}

#[tokio::test]
async fn programs_change_the_configuration_as_the_page_does() {
    let (served, _works) = Served::with(PLANT).await;
    let running = served.json("/api/v1/config").await;
    assert!(running["text"].as_str().unwrap().contains("?***"));
    let base = running["revision"].as_str().unwrap().to_owned();
    let text = running["text"].as_str().unwrap().replace("boiler-3", "boiler-5");
    let put = reqwest::Method::PUT;
    let sent = serde_json::json!({ "text": text, "base": base, "confirm_within_s": 60 });
    let answer = served.send_json(put.clone(), "/api/v1/config", sent.clone()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(served.text_now(), PLANT.replace("boiler-3", "boiler-5"));
    let trial = &served.json("/api/v1/config").await["trial"];
    assert_eq!((trial["by"].as_str(), trial["until_us"].as_i64()), (Some("tests"), Some(NOW_US + 60_000_000)));
    assert_eq!(served.send_json(put.clone(), "/api/v1/config", sent).await.status(), 409);
    let post = reqwest::Method::POST;
    assert_eq!(served.send_json(post.clone(), "/api/v1/config/confirm", serde_json::json!({})).await.status(), 200);
    assert_eq!(served.send_json(post.clone(), "/api/v1/config/revert", serde_json::json!({})).await.status(), 409);
    let looked =
        served.send_json(post, "/api/v1/config/check", serde_json::json!({ "text": "[gateway]\nid = 5\n" })).await;
    let looked: serde_json::Value = serde_json::from_str(&body(looked).await).unwrap();
    assert_eq!((looked["sound"].as_bool(), looked["problems"][0]["path"].as_str()), (Some(false), Some("gateway.id")));
    let wrong = serde_json::json!({ "text": "[gateway]\nid = 5\n", "base": served.revision() });
    let answer = served.send_json(put.clone(), "/api/v1/config", wrong).await;
    assert_eq!(answer.status(), 422);
    assert!(body(answer).await.contains("\"gateway.id\""));
    let late = serde_json::json!({ "text": PLANT, "base": served.revision(), "confirm_within_s": 9_999_999 });
    assert_eq!(served.send_json(put, "/api/v1/config", late).await.status(), 422);
    assert!(served.json("/api/v1/config/schema?at=gateway").await["fields"][0]["name"] == "id");
    assert_eq!(served.json("/api/v1/config/history").await["versions"], serde_json::json!([]));
}

#[tokio::test]
async fn no_screen_of_the_settings_needs_what_the_policy_forbids_and_all_speak_german() {
    let (served, _works) = Served::with(EXAMPLE).await;
    for path in [
        "/settings",
        "/settings/edit?at=web",
        "/settings/edit?at=source",
        "/settings/edit?at=source%5B1%5D",
        "/settings/file",
        "/settings/history",
        "/settings/templates",
        "/settings/templates/pulse-counter",
        "/settings/security",
    ] {
        let page = served.text(path).await;
        for inline in ["<script>", "<style", " style=", " onclick=", "javascript:", "hx-on"] {
            assert!(!page.contains(inline), "{path} has {inline}");
        }
        assert_eq!(page.matches("<h1>").count(), 1, "{path}");
        let german = served.client.get(format!("{}{path}", served.base)).header("accept-language", "de");
        let german = body(timeout(PATIENCE, german.send()).await.unwrap().unwrap()).await;
        for english in ["Run on trial", "Cancel", "More options", "Change<", ">Add one<", "What was kept"] {
            assert!(!german.contains(english), "{path}: {english}");
        }
    }
    assert_eq!(served.get("/settings/edit?at=").await.status(), 303);
    assert_eq!(
        served.get("/settings/edit?at=source%5B0%5D.url").await.headers()["location"],
        "/settings/edit?at=source%5B0%5D"
    );
    assert_eq!(served.get("/settings/edit?at=source%5B77%5D").await.status(), 404);
}

#[tokio::test]
async fn a_change_that_moves_the_page_says_where_it_is() {
    let (served, _works) = Served::with(PLANT).await;
    let text = format!("{PLANT}\n[web]\nlisten = \"0.0.0.0:9090\"\n");
    let fields = [("base", served.revision()), ("text", text)];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let answer = served.post("/settings/file", &fields).await;
    assert_eq!(answer.status(), 200);
    let page = body(answer).await;
    assert!(page.contains("http://127.0.0.1:9090; open it there and keep the change"), "{page}");
    let answer = served.post("/settings/trial", &[("do", "revert"), ("revision", &served.revision())]).await;
    assert!(body(answer).await.contains("open it there again"));
}

#[tokio::test]
async fn the_time_that_is_left_goes_by_no_clock_that_may_be_set() {
    let (served, _works) = Served::with(PLANT).await;
    served.fill("buffer", &[("commit_interval_ms", "50")]).await;
    assert_eq!(served.json("/api/v1/config").await["trial"]["left_s"], 300);
    // An hour later by the wall, a minute by the clock that counts.
    served.clock.set(120_000_000, NOW_US + 3_600_000_000);
    assert_eq!(served.json("/api/v1/config").await["trial"]["left_s"], 240);
    let page = served.text("/points").await;
    assert!(page.contains("data-until-ms=\"360000\"") && page.contains("data-mono-ms=\"120000\""), "{page}");
}
