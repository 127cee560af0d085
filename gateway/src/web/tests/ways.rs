//! The screens of sources and ways upstream, their try-outs, and the guided way, as a browser and a program meet them.

use super::served::{PATIENCE, Served, desk_state, good};
use crate::config::desk::DeskRequest;
use crate::reading::NoData;
use crate::status::PointLive;
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::time::timeout;

const HALL: [(&str, &str); 9] = [
    ("type", "mqtt"),
    ("name", "hall"),
    ("url", "mqtt://127.0.0.1:1883"),
    ("subscribe[0].filter", "hall/+"),
    ("subscribe[0].device", "{1}"),
    ("subscribe[0].point", "{2}"),
    ("subscribe[0].payload.format", "number"),
    ("_was", ""),
    ("_do", "save"),
];

/// A form as a browser sends it.
fn form(served: &Served, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
    let escape = |text: &str| text.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"));
    let body: Vec<_> = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    let request = served.client.post(format!("{}{path}", served.base));
    request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"))
}

async fn post(served: &Served, path: &str, fields: &[(&str, &str)], htmx: bool) -> Response {
    let mut request = form(served, path, fields);
    if htmx {
        request = request.header("hx-request", "true");
    }
    timeout(PATIENCE, request.send()).await.unwrap().unwrap()
}

/// Answers what is asked of the desk, and tells the text that was handed in.
async fn tried(served: &mut Served) -> String {
    match timeout(PATIENCE, served.asked.recv()).await.unwrap().unwrap() {
        DeskRequest::Try(change, done) => {
            done.send(Ok(vec!["source \"hall\" is new".to_owned()])).unwrap();
            change.text
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_screen_of_the_ways_answers() {
    let served = Served::start().await;
    for (path, wanted) in [
        ("/sources", "boiler-bus"),
        ("/sources/boiler-bus", "all accounted for"),
        ("/sources/new", "Serial ports of this board"),
        ("/sources/discover", "MQTT broker"),
        ("/sources/new?type=mqtt&url=mqtt%3A%2F%2Fa%3A1883", "mqtt://a:1883"),
        ("/sources/new?type=mqtt&url=192.168.1.5%3A1883", "mqtt://192.168.1.5:1883"),
        ("/sources/new?type=modbus", "unit[0].registers[0].address"),
        ("/sources/new?type=serial", "framing.kind"),
        ("/upstream", "cloud"),
        ("/upstream/cloud", "Send once more"),
        ("/upstream/new", "Kafka"),
        ("/upstream/new?type=http", "_token"),
        ("/upstream/new?type=kafka", "topic_prefix"),
        ("/first-steps/name", "What is this gateway called?"),
        ("/first-steps/source", "Where do readings come from?"),
        ("/first-steps/value", "Looks right"),
        ("/first-steps/sink", "Where do readings go?"),
        ("/first-steps/done", "What to do next"),
    ] {
        let page = served.text(path).await;
        assert!(page.contains(wanted), "{path} lacks {wanted:?}: {page}");
    }
    for path in ["/sources/nobody", "/upstream/nobody", "/sources/nobody/edit", "/sources/jobs/77"] {
        assert_eq!(served.get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_source_that_was_typed_is_handed_in_as_text() {
    let mut served = Served::start().await;
    let base = served.desk.borrow().revision.to_string();
    let mut fields = HALL.to_vec();
    fields.push(("_base", &base));
    let request = form(&served, "/sources/new", &fields).send();
    let (answer, text) = tokio::join!(request, tried(&mut served));
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/sources/hall");
    assert!(text.contains("[[source]]") && text.contains("filter = \"hall/+\""), "{text}");
    assert!(text.starts_with("[gateway]\nid = \"plant-7\" # <b>bold</b>\n"), "{text}");
}

#[tokio::test]
async fn what_is_wrong_stands_at_its_field_and_nothing_is_handed_in() {
    let mut served = Served::start().await;
    let mut fields = HALL.to_vec();
    fields[2] = ("url", "http://a");
    fields[1] = ("name", "<script>");
    let answer = post(&served, "/sources/new", &fields, false).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = answer.text().await.unwrap();
    assert!(!page.contains("<script>\""), "{page}");
    let at = page.find("id=\"f-url-e\">").unwrap();
    assert!(page[at..at + 60].contains("http://a"), "{}", &page[at..at + 200]);
    let checked = post(&served, "/sources/check", &fields, true).await.text().await.unwrap();
    assert!(checked.contains("id=\"f-url-e\" hx-swap-oob=\"true\">&#34;http://a"), "{checked}");
    assert!(served.asked.try_recv().is_err());
}

#[tokio::test]
async fn rows_come_from_a_spreadsheet_and_go_one_by_one() {
    let served = Served::start().await;
    let sheet = "point\taddress\tkind\nflow\t8\tf32\nlevel\t10\tf33\n";
    let mut fields = vec![
        ("type", "modbus"),
        ("name", "bus"),
        ("_reach", "tcp"),
        ("_host", "10.0.0.9"),
        ("unit[0].id", "1"),
        ("unit[0].device", "boiler"),
        ("unit[0].registers[0].point", ""),
        ("_paste.unit[0].registers", sheet),
        ("_do", "paste:unit[0].registers"),
    ];
    let page = post(&served, "/sources/new", &fields, false).await.text().await.unwrap();
    assert!(page.contains("name=\"unit[0].registers[1].point\" value=\"level\""), "{page}");
    assert!(page.contains("did you mean"), "{page}");
    fields.retain(|(name, _)| !name.starts_with('_') || *name == "_reach");
    fields.extend([("unit[0].registers[1].point", "b"), ("_do", "drop:unit[0].registers:0")]);
    let page = post(&served, "/sources/new", &fields, false).await.text().await.unwrap();
    assert!(page.contains("value=\"b\""), "{page}");
}

#[tokio::test]
async fn a_column_that_is_not_understood_is_asked_about_and_taken_over_then() {
    let served = Served::start().await;
    let sheet = "Point\tAdress\tType\tWas es misst\nflow\t8\tu16\tl/s\n";
    let own = [("type", "modbus"), ("name", "bus"), ("_reach", "tcp"), ("_host", "10.0.0.9"), ("unit[0].id", "1")];
    let mut fields = own.to_vec();
    fields.extend([("_paste.unit[0].registers", sheet), ("_do", "paste:unit[0].registers")]);
    let page = post(&served, "/sources/new", &fields, false).await.text().await.unwrap();
    assert!(page.contains("3 of 4 columns were understood") && page.contains("“Was es misst” is"), "{page}");
    assert!(page.contains("taken for a holding register") && page.contains("value=\"holding\" aria-label"), "{page}");
    assert!(!page.contains("It does not run yet"), "nobody has handed anything in: {page}");
    let mut fields = own.to_vec();
    fields.extend([
        ("unit[0].registers[0].point", "flow"),
        ("_again.unit[0].registers", sheet),
        ("_pasted.unit[0].registers", "0:1"),
        ("_heading.unit[0].registers.0", "Was es misst"),
        ("_column.unit[0].registers.0", "unit"),
        ("_do", "paste:unit[0].registers"),
    ]);
    let page = post(&served, "/sources/new", &fields, false).await.text().await.unwrap();
    assert!(page.contains("name=\"unit[0].registers[0].unit\" value=\"l/s\""), "{page}");
    assert!(!page.contains("registers[1].point"), "its own rows gave way: {page}");
}

#[tokio::test]
async fn a_source_says_which_points_its_device_refuses() {
    let served = Served::start().await;
    served.point("boiler-3", "supply_temp", good(52.1));
    served.point("boiler-3", "bad_one", PointLive { outcome: Err(NoData::Exception(2)), ..good(0.0) });
    let page = served.text("/sources").await;
    assert!(
        page.contains("1 of 2 points gives no value: boiler-3 · bad one: the device answered with exception 2"),
        "{page}"
    );
}

#[tokio::test]
async fn a_try_out_tells_its_steps_and_what_to_do() {
    let served = Served::start().await;
    // Nobody listens at a port that was just given back.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{free}/readings");
    let fields = [("type", "http"), ("name", "cloud"), ("url", url.as_str())];
    let page = post(&served, "/upstream/try", &fields, false).await.text().await.unwrap();
    assert!(page.contains("It does not work yet"), "{page}");
    assert!(page.contains("class=\"steps\""), "{page}");
    let part = post(&served, "/upstream/try", &fields, true).await.text().await.unwrap();
    assert!(part.starts_with("<div class=\"findings\""), "{part}");
    let wrong = post(&served, "/upstream/try", &[("type", "http"), ("name", "cloud"), ("url", "ftp://a")], true).await;
    assert!(wrong.text().await.unwrap().contains("Nothing was tested"));
}

#[tokio::test]
async fn a_third_search_at_once_is_asked_to_wait() {
    let served = Served::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", silent.local_addr().unwrap());
    let fields = [("type", "mqtt"), ("name", "hall"), ("url", url.as_str()), ("_do", "listen")];
    for _ in 0..2 {
        let part = post(&served, "/sources/new", &fields, true).await;
        assert_eq!(part.status(), StatusCode::OK);
        assert!(part.text().await.unwrap().contains("hx-get=\"/sources/jobs/"));
    }
    let third = served.client.post(format!("{}/api/v1/discover/mqtt", served.base));
    let third = third.header("content-type", "application/json").body(format!("{{\"url\":\"{url}\"}}"));
    let third = timeout(PATIENCE, third.send()).await.unwrap().unwrap();
    assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(third.headers()["retry-after"], "5");
}

#[tokio::test]
async fn programs_find_the_ways_and_are_told_what_a_request_lacks() {
    let served = Served::start().await;
    assert_eq!(served.json("/api/v1/sources").await["sources"][0]["name"], "boiler-bus");
    assert_eq!(served.json("/api/v1/sinks/cloud").await["kind"], "http");
    assert_eq!(served.json("/api/v1/replays").await["replays"], serde_json::json!([]));
    assert!(served.json("/api/v1/discover/serial-ports").await["ports"].is_array());
    for (path, body, status) in [
        ("/api/v1/try/source", r#"{"name":"nobody"}"#, StatusCode::NOT_FOUND),
        ("/api/v1/try/source", "{}", StatusCode::UNPROCESSABLE_ENTITY),
        ("/api/v1/try/sink", r#"{"nam":"x"}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (
            "/api/v1/discover/modbus",
            r#"{"url":"x","unit":1,"table":"holding","address":0,"count":1}"#,
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        ("/api/v1/replays", r#"{"sink":"cloud","from_us":0}"#, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let request = served.client.post(format!("{}{path}", served.base)).header("content-type", "application/json");
        let answer = timeout(PATIENCE, request.body(body).send()).await.unwrap().unwrap();
        assert_eq!(answer.status(), status, "{path} {body}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path} {body}");
    }
}

#[tokio::test]
async fn the_guided_way_names_the_gateway_and_goes_on_by_itself() {
    let mut served = Served::start().await;
    let base = served.desk.borrow().revision.to_string();
    let fields = [("name", "line-3"), ("_base", base.as_str())];
    let request = form(&served, "/first-steps/name", &fields).send();
    let (answer, text) = tokio::join!(request, tried(&mut served));
    assert!(text.contains("id = \"line-3\" # <b>bold</b>"), "{text}");
    let page = answer.unwrap().text().await.unwrap();
    assert!(page.contains("starts anew as line-3") && page.contains("hx-post=\"/first-steps/keep\""), "{page}");
    let wrong = post(&served, "/first-steps/name", &[("name", "a b"), ("_base", &base)], false).await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    // Nothing is on trial any more: it goes on.
    let kept = post(&served, "/first-steps/keep", &[("to", "source")], true).await;
    assert_eq!(kept.headers()["hx-redirect"], "/first-steps/source");
}

#[tokio::test]
async fn a_source_is_removed_by_name_and_only_on_trial() {
    let mut served = Served::start().await;
    let text = "[gateway]\nid = \"plant-7\"\n\n# The scale.\n[[source]]\ntype = \"serial\"\nname = \"scale\"\nport = \"/dev/ttyS9\"\nframing = { kind = \"delimiter\" }\ndevice = \"scale-1\"\npayload = { format = \"number\", point = \"weight\" }\n";
    served.desk.send_replace(desk_state(text));
    let page = served.text("/sources/scale/remove").await;
    assert!(page.contains("Remove scale?"), "{page}");
    let edit = served.text("/sources/scale/edit").await;
    assert!(edit.contains("value=\"/dev/ttyS9\"") && edit.contains("value=\"weight\""), "{edit}");
    let base = served.desk.borrow().revision.to_string();
    let request = form(&served, "/sources/scale/remove", &[("_base", base.as_str())]).send();
    let (answer, text) = tokio::join!(request, tried(&mut served));
    assert_eq!(answer.unwrap().headers()["location"], "/sources");
    assert!(!text.contains("scale-1"), "{text}");
}

#[tokio::test]
async fn a_secret_of_the_gateway_itself_is_sent_nowhere_and_every_try_is_in_the_audit_log() {
    let served = Served::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("access")).unwrap();
    let (people, key) = (folder.path().join("access/people.json"), folder.path().with_extension("key"));
    std::fs::write(&people, "{}").unwrap();
    std::fs::write(&key, "k").unwrap();
    let running = format!("[gateway]\nid = \"a\"\ndata_dir = {:?}\n", folder.path());
    let text = format!("{running}[web]\ncertificate_file = {key:?}\nkey_file = {key:?}\n");
    served.desk.send_replace(desk_state(&text));
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", broker.local_addr().unwrap());
    let subscribe = serde_json::json!([{"filter": "a", "device": "d", "point": "p", "payload": {"format": "number"}}]);
    for file in [&people, &key] {
        let source = serde_json::json!({"type": "mqtt", "name": "b", "url": url, "client_id": "b", "username": "u",
            "password_file": file, "subscribe": subscribe});
        let sink = serde_json::json!({"type": "http", "name": "s", "url": url.replace("mqtt", "http"),
            "auth": {"bearer_file": file}});
        for (path, body, at) in [
            ("discover/mqtt", serde_json::json!({"url": url, "username": "u", "password_file": file}), "password_file"),
            ("try/source", serde_json::json!({ "source": source }), "source.password_file"),
            ("try/sink", serde_json::json!({ "sink": sink }), "sink.auth.bearer_file"),
        ] {
            let request = served
                .client
                .post(format!("{}/api/v1/{path}", served.base))
                .header("content-type", "application/json")
                .body(body.to_string());
            let answer = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path} {file:?}");
            let said: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(said["errors"][0]["path"], at, "{said}");
        }
        let file = file.to_str().unwrap();
        let mut fields = vec![("type", "mqtt"), ("name", "hall"), ("url", url.as_str()), ("username", "u")];
        fields.extend([("password_file", file), ("_do", "listen")]);
        let page = post(&served, "/sources/new", &fields, false).await;
        assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
        // A text that has the key no longer still may not have it sent.
        let revision = served.desk.borrow().revision.to_string();
        let mut changed =
            format!("{running}[[source]]\ntype = \"mqtt\"\nname = \"b\"\nurl = \"{url}\"\nclient_id = \"b\"\n");
        changed = format!("{changed}username = \"u\"\npassword_file = {file:?}\n");
        changed.push_str(
            "subscribe = [{ filter = \"a\", device = \"d\", point = \"p\", payload = { format = \"number\" } }]\n",
        );
        let request = served.client.put(format!("{}/api/v1/config", served.base));
        let body = serde_json::json!({"text": changed, "base": revision});
        let answer =
            timeout(PATIENCE, request.header("content-type", "application/json").body(body.to_string()).send());
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{file}");
        assert!(answer.text().await.unwrap().contains("source[0].password_file"), "{file}");
    }
    // Nobody came.
    assert!(futures_util::FutureExt::now_or_never(broker.accept()).is_none());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sink = serde_json::json!({"type": "http", "name": "s", "url": format!("http://{free}/?key=s3cret")});
    let request = served
        .client
        .post(format!("{}/api/v1/try/sink", served.base))
        .header("content-type", "application/json")
        .body(serde_json::json!({"sink": sink}).to_string());
    assert_eq!(timeout(PATIENCE, request.send()).await.unwrap().unwrap().status(), StatusCode::OK);
    let entries = served.json("/api/v1/audit?action=operated").await["entries"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 1, "{entries}");
    assert_eq!(entries[0]["subject"], format!("http://{free}/?***"));
    assert_eq!(entries[0]["detail"], "tried sink \"s\" (http)");
}

#[tokio::test]
async fn a_link_from_elsewhere_fills_in_no_secret_and_begins_nothing() {
    let served = Served::start().await;
    let link = "/sources/new?type=mqtt&_look=1&name=evil&url=mqtt://10.9.9.9&username=evil&password_file=/etc/evil";
    let page = served.text(link).await;
    assert!(page.contains("mqtt://10.9.9.9") && !page.contains("evil"), "{page}");
    assert!(!page.contains("click, load"), "{page}");
    let own = served.client.get(format!("{}{link}", served.base)).header("sec-fetch-site", "same-origin");
    let own = timeout(PATIENCE, own.send()).await.unwrap().unwrap().text().await.unwrap();
    assert!(own.contains("click, load") && !own.contains("evil"), "{own}");
}

#[tokio::test]
async fn a_typed_secret_leaves_no_file_behind_if_nothing_comes_of_it() {
    let served = Served::start().await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[gateway]\nid = \"a\"\ndata_dir = {:?}\n", folder.path());
    served.desk.send_replace(desk_state(&text));
    let secrets = || std::fs::read_dir(folder.path().join("secrets")).map_or(0, Iterator::count);
    let mut fields = HALL.to_vec();
    fields.extend([("username", "u"), ("_password", "s3cret"), ("_base", "0123456789abcdef")]);
    // Nobody works the requests off here: a desk that is closed refuses.
    drop(served.asked);
    let request = {
        let escape = |text: &str| text.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"));
        let body: Vec<_> = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let request = served.client.post(format!("{}/sources/new", served.base));
        request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"))
    };
    let answer = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
    assert_eq!((answer.status(), secrets()), (StatusCode::SERVICE_UNAVAILABLE, 0));
}
