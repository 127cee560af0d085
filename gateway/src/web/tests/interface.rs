//! The interface as a program meets it: what the page does, asked for in JSON.

use super::entering::WithJson;
use super::served::{NOW_US, PATIENCE, Served, client, event_with};
use crate::access::{By, Right, Rights};
use crate::config::history::{History, Kept};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing_subscriber::layer::SubscriberExt;

/// A bus with two registers, and an endpoint with a token in its address.
const PLANT: &str = "[gateway]\nid = \"plant-7\" # named by Ann\n\n[[source]]\ntype = \"modbus\"\nname = \"bus\"\nurl = \"tcp://192.0.2.1:502\" # in the cellar\n\n[[source.unit]]\nid = 1\ndevice = \"boiler\"\nevery_ms = 500\nregisters = [{ point = \"flow\", table = \"holding\", address = 0, kind = \"i16\" }]\n\n[[sink]]\ntype = \"http\"\nname = \"cloud\"\nurl = \"https://192.0.2.9/in?token=s3cret\"\n";

impl Served {
    /// Sends an object; the status and what is answered.
    async fn send(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let answer = self.send_json(method, path, body).await;
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }
}

#[tokio::test]
async fn places_are_changed_and_comments_stay() {
    let (served, _works) = Served::with(PLANT).await;
    let edit = |base: &str, edits: Value| json!({ "base": base, "edits": edits });
    let base = served.revision();
    let wanted = json!([
        { "at": "source[0].unit[0].every_ms", "value": 1000 },
        { "at": "device", "do": "append", "value": { "id": "boiler", "tags": { "hall": "3" } } },
    ]);
    let (status, tried) = served.send(Method::PATCH, "/api/v1/config", edit(&base, wanted)).await;
    assert_eq!((status, &tried["revision"]), (200, &json!(served.revision())), "{tried}");
    let text = served.text_now();
    for part in ["every_ms = 1000", "# named by Ann", "# in the cellar", "hall = \"3\"", "token=s3cret"] {
        assert!(text.contains(part), "{text}");
    }
    let (status, _) =
        served.send(Method::PATCH, "/api/v1/config", edit(&base, json!([{ "at": "device[0]", "do": "remove" }]))).await;
    assert_eq!(status, 409, "it was made from an old revision");
    let base = served.revision();
    for (edits, status) in [
        (json!([{ "at": "device[0]", "do": "remove" }]), 200),
        (json!([{ "at": "source[0].unit[0].every_ms", "value": "often" }]), 422),
        (json!([{ "at": "source[0].url", "value": null }]), 422),
        (json!([{ "at": "source[0", "value": 1 }]), 422),
        (json!([["source[0].url", "set", "tcp://192.0.2.2:502"]]), 422),
        (json!([{ "at": "gateway", "value": [null] }]), 422),
    ] {
        let base = if status == 200 { base.clone() } else { served.revision() };
        let (found, answer) = served.send(Method::PATCH, "/api/v1/config", edit(&base, edits.clone())).await;
        assert_eq!(found, status, "{edits}: {answer}");
    }
    let (status, decided) = served.send(Method::POST, "/api/v1/config/revert", json!({ "revision": "another" })).await;
    assert_eq!(status, 409, "{decided}");
    let revert = served.client.post(format!("{}/api/v1/config/revert", served.base)).send();
    let decided: Value =
        serde_json::from_str(&timeout(PATIENCE, revert).await.unwrap().unwrap().text().await.unwrap()).unwrap();
    assert_eq!(decided["revision"], served.revision());
    assert_eq!(served.text_now(), PLANT);
}

#[tokio::test]
async fn a_kept_version_comes_back_with_the_secrets_that_it_had() {
    let (served, _works) = Served::with("[gateway]\nid = \"plant-7\"\n").await;
    let kept = Kept { by: "anna".to_owned(), at_us: NOW_US, changes: Vec::new(), note: String::new() };
    let n = History::of(&served.data_dir()).keep(PLANT, kept).unwrap().n;
    let shown = served.json(&format!("/api/v1/config/history/{n}")).await;
    assert!(shown["text"].as_str().unwrap().contains("/in?***"), "{shown}");
    let restore = format!("/api/v1/config/history/{n}/restore");
    assert_eq!(served.send(Method::POST, &restore, json!({ "base": "old" })).await.0, 409);
    let body = json!({ "base": served.revision(), "confirm_within_s": 60 });
    let (status, tried) = served.send(Method::POST, &restore, body.clone()).await;
    assert_eq!(status, 200, "{tried}");
    assert_eq!(served.text_now(), PLANT);
    assert_eq!(served.json("/api/v1/config").await["revision"], tried["revision"]);
    assert_eq!(served.send(Method::POST, "/api/v1/config/history/99/restore", body).await.0, 404);
}

#[tokio::test]
async fn registers_go_to_a_spreadsheet_and_come_back() {
    let (served, _works) = Served::with(PLANT).await;
    let table = served.text("/api/v1/sources/bus/registers").await;
    assert!(table.contains("flow;holding") || table.contains("flow"), "{table}");
    let more = format!("{table}{}", table.lines().nth(1).unwrap().replace("flow", "level").replace(";0;", ";7;"));
    let body = |csv: &str| json!({ "base": served.revision(), "csv": csv });
    let (status, tried) = served.send(Method::PUT, "/api/v1/sources/bus/registers", body(&more)).await;
    assert_eq!(status, 200, "{tried}");
    assert!(served.text_now().contains("level") && served.text_now().contains("# in the cellar"));
    let (status, wrong) = served.send(Method::PUT, "/api/v1/sources/bus/registers", body("point;kind\nflow;i17")).await;
    assert_eq!(status, 422);
    assert!(wrong["errors"][0]["path"].as_str().unwrap().starts_with("source[0].unit[0].registers[0]"), "{wrong}");
    assert_eq!(served.send(Method::PUT, "/api/v1/sources/bus/registers", body("point;colour\nflow;red")).await.0, 422);
    assert_eq!(served.get("/api/v1/sources/none/registers").await.status(), 404);
    assert_eq!(served.get("/api/v1/sources/bus/registers?unit=1").await.status(), 404);
}

#[tokio::test]
async fn a_template_is_filled_in_saved_and_removed() {
    let (served, _works) = Served::with(PLANT).await;
    let known = served.json("/api/v1/templates").await["templates"].clone();
    assert!(known.as_array().unwrap().iter().any(|template| template["id"] == "eastron-sdm120"), "{known}");
    let save = json!({ "at": "source[0]", "name": "Our boiler", "description": "in every cellar" });
    let (status, made) = served.send(Method::POST, "/api/v1/templates", save.clone()).await;
    assert_eq!((status, &made["id"]), (201, &json!("our-boiler")), "{made}");
    assert_eq!(served.send(Method::POST, "/api/v1/templates", save).await.0, 409, "the name is taken");
    let fill = |values: Value| json!({ "base": served.revision(), "values": values });
    let values = json!({ "name": "bus-2", "url": "tcp://192.0.2.2:502" });
    let (status, tried) = served.send(Method::POST, "/api/v1/templates/our-boiler", fill(values)).await;
    assert_eq!(status, 200, "{tried}");
    assert!(served.text_now().contains("bus-2") && served.text_now().contains("# named by Ann"));
    let (status, wrong) =
        served.send(Method::POST, "/api/v1/templates/our-boiler", fill(json!({ "colour": "red" }))).await;
    assert_eq!(status, 422, "{wrong}");
    assert_eq!(served.send(Method::DELETE, "/api/v1/templates/our-boiler", json!({})).await.0, 204);
    assert_eq!(served.send(Method::DELETE, "/api/v1/templates/our-boiler", json!({})).await.0, 404);
    assert_eq!(served.send(Method::DELETE, "/api/v1/templates/json-topics", json!({})).await.0, 409);
}

#[tokio::test]
async fn a_secret_is_typed_named_and_never_answered() {
    let (served, _works) = Served::with(PLANT).await;
    let put = async |name: &str, secret: &str| {
        served.send(Method::PUT, &format!("/api/v1/secrets/{name}"), json!({ "secret": secret })).await
    };
    let (status, made) = put("cloud-token", "s3cret").await;
    assert_eq!((status, &made["used"]), (200, &json!(false)), "{made}");
    assert_eq!(put("cloud", "other").await.0, 200);
    assert_eq!(put("No%20name", "x").await.0, 400);
    assert_eq!(put("empty", "\n").await.0, 422);
    let file = made["file"].as_str().unwrap();
    let named = format!("{PLANT}auth = {{ bearer_file = \"{file}\" }}\n");
    served.desk.send_replace(super::served::desk_state(&named));
    let list = served.json("/api/v1/secrets").await;
    assert!(!list.to_string().contains("s3cret") && list["secrets"][1]["typed_us"].is_i64(), "{list}");
    let used: Vec<_> = list["secrets"].as_array().unwrap().iter().map(|secret| secret["used"].clone()).collect();
    assert_eq!(used, [json!(false), json!(true)], "a name that begins like another is another");
    assert_eq!(put("cloud-token", "new").await.0, 409);
    assert_eq!(served.send(Method::DELETE, "/api/v1/secrets/cloud-token", json!({})).await.0, 409);
    assert_eq!(served.send(Method::DELETE, "/api/v1/secrets/cloud", json!({})).await.0, 204);
    assert_eq!(served.send(Method::DELETE, "/api/v1/secrets/cloud", json!({})).await.0, 404);
}

#[tokio::test]
async fn a_token_has_no_password_and_does_not_revoke_itself_nor_what_may_more() {
    let served = Served::start().await;
    let account = served.json("/api/v1/account").await;
    assert_eq!((&account["who"]["kind"], &account["person"]), (&json!("token"), &Value::Null));
    let password = json!({ "old": "kettle boils at noon", "new": "kettle boils at midnight" });
    let (status, told) = served.send(Method::POST, "/api/v1/account/password", password).await;
    assert_eq!((status, &told["type"]), (403, &json!("urn:forebay:problem:forbidden")), "{told}");
    assert_eq!(served.send(Method::POST, "/api/v1/account/sign-out-everywhere", json!({})).await.0, 403);
    let (status, told) = served.send(Method::DELETE, "/api/v1/tokens/TESTS", json!({})).await;
    assert_eq!((status, &told["type"]), (409, &json!("urn:forebay:problem:this-is-in-the-way")), "{told}");
    assert!(told["detail"].as_str().unwrap().contains("cannot revoke itself"), "{told}");
    let few = [Right::See, Right::People].into_iter().collect();
    let few = served.access.make_token(&By::tool(), "few", few, None).await.unwrap().token;
    let answer = client(HeaderMap::new()).delete(format!("{}/api/v1/tokens/tests", served.base)).bearer_auth(few);
    assert_eq!(timeout(PATIENCE, answer.send()).await.unwrap().unwrap().status(), 403);
    assert_eq!(served.send(Method::DELETE, "/api/v1/tokens/few", json!({})).await.0, 204);
    served.clock.set(60_000_000, 0);
    let ends = json!({ "name": "ends", "rights": ["see"], "expires_us": NOW_US });
    let (status, told) = served.send(Method::POST, "/api/v1/tokens", ends).await;
    assert!(status == 422 && told["detail"].as_str().unwrap().contains("clock is not set"), "{told}");
    assert_eq!(served.access.make_token(&By::tool(), "ever", Rights::all(), None).await.unwrap().name, "ever");
}

#[tokio::test]
async fn someone_who_is_signed_in_changes_their_own_password_and_signs_out_everywhere() {
    let served = Served::start().await;
    let cookie = served.signed_in("anna", super::served::PASSWORD).await;
    let post = |path: &str, cookie: &str, body: Value| {
        let request = client(HeaderMap::new()).post(format!("{}/api/v1/account/{path}", served.base));
        timeout(PATIENCE, request.header("cookie", cookie.to_owned()).json(&body).send())
    };
    let wrong = post("password", &cookie, json!({ "old": "wrong wrong wrong", "new": "kettle boils at nine" }))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(wrong.status(), 422);
    let body = json!({ "old": super::served::PASSWORD, "new": "kettle boils at nine" });
    let changed = post("password", &cookie, body).await.unwrap().unwrap();
    assert_eq!(changed.status(), 204);
    let set = changed.headers()["set-cookie"].to_str().unwrap();
    let new = set.split(';').next().unwrap().to_owned();
    let out = post("sign-out-everywhere", &new, json!({})).await.unwrap().unwrap();
    assert_eq!(out.status(), 204);
    let again = client(HeaderMap::new()).get(format!("{}/api/v1/account", served.base)).header("cookie", new);
    assert_eq!(timeout(PATIENCE, again.send()).await.unwrap().unwrap().status(), 401);
}

#[tokio::test]
async fn the_log_is_followed_as_json_and_the_audit_log_comes_as_a_file() {
    let served = Served::start().await;
    let mut lines = served.get("/api/v1/logs/follow?level=warn").await;
    assert_eq!(lines.headers()["content-type"], "text/event-stream");
    let subscriber = tracing_subscriber::registry().with(served.logs.layer());
    tracing::subscriber::with_default(subscriber, || tracing::warn!("the disk is nearly full"));
    let event = event_with(&mut lines, &["event: line", "the disk is nearly full"]).await;
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(data).unwrap()["level"], "warn");
    assert_eq!(served.get("/api/v1/logs/follow?before=1").await.status(), 400);
    let entries = served.text("/api/v1/audit/export?action=token_made").await;
    assert!(entries.lines().all(|line| line.contains("token_made")) && !entries.is_empty(), "{entries}");
    assert_eq!(served.get("/api/v1/audit?action=__main__").await.status(), 400);
    assert_eq!(served.get("/api/v1/audit/export?limit=1").await.status(), 400);
}

#[tokio::test]
async fn what_only_looks_like_the_options_of_a_file_is_not_tried() {
    let (served, _works) = Served::with(PLANT).await;
    for (path, body) in [
        ("sink", json!({ "sink": { "type": "http", "name": "a", "url": "http://127.0.0.1:9", "auth": [null, null] } })),
        ("sink", json!({ "sink": { "type": "http", "name": "a", "url": "http://127.0.0.1:9", "colour": 1 } })),
        (
            "source",
            json!({ "source": { "type": "mqtt", "name": "a", "url": "mqtt://127.0.0.1:9", "subscribe": [{ "filter": "#", "device": "a", "point": "b", "payload": { "format": 0 } }] } }),
        ),
        ("source", json!(["bus", null])),
        ("source", json!({})),
        ("sink", json!({ "name": null })),
        ("sink", json!({ "sink": [] })),
    ] {
        let (status, told) = served.send(Method::POST, &format!("/api/v1/try/{path}"), body.clone()).await;
        assert_eq!(status, 422, "{body}: {told}");
    }
}

#[tokio::test]
async fn an_address_or_a_form_that_cannot_be_read_is_answered_by_a_page_with_a_sentence() {
    let served = Served::start().await;
    for path in ["/settings/history/-1", "/points?page_size=0", "/settings/audit?before=-1", "/sources/%ff/edit"] {
        let answer = served.get(path).await;
        assert_eq!(answer.status(), 400, "{path}");
        let page = answer.text().await.unwrap();
        assert!(
            page.contains("<h1>The request is wrong</h1>") && page.contains("his address cannot be read"),
            "{page}"
        );
    }
    let answer = served.client.post(format!("{}/sign-in", served.base)).send().await.unwrap();
    assert_eq!(answer.status(), 415);
    assert!(answer.text().await.unwrap().contains("he form did not come as it was shown"));
    let part =
        served.client.get(format!("{}/points?page=x", served.base)).header("hx-request", "true").send().await.unwrap();
    assert!(part.text().await.unwrap().starts_with("<div class=\"said"), "a part is told as a part");
    for (path, status) in [("/board/letters/export?format=xml", 400), ("/api/v1/points?page=0", 400)] {
        assert_eq!(served.get(path).await.status(), status, "{path}");
    }
}
