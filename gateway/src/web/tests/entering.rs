//! Coming in over a real socket: set-up, signing in and out, and whoever must stay outside.

use super::served::{PASSWORD, PATIENCE, Served};
use crate::access::{Action, AuditFilter, By, Role};
use reqwest::{RequestBuilder, Response};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio::time::timeout;

/// A browser's answer to a form.
pub(super) async fn send(request: RequestBuilder) -> Response {
    timeout(PATIENCE, request.send()).await.unwrap().unwrap()
}

/// A request of a program.
pub(super) trait WithJson {
    /// With this as its body.
    fn json(self, body: &serde_json::Value) -> Self;
}

impl WithJson for RequestBuilder {
    fn json(self, body: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }
}

impl Served {
    /// A form of a browser that has this cookie.
    pub(super) fn form(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let fields: Vec<String> = fields.iter().map(|pair| crate::web::pages::query(&[*pair])).collect();
        let request = super::served::client(reqwest::header::HeaderMap::new()).post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(fields.join("&"));
        if cookie.is_empty() { request } else { request.header("cookie", cookie) }
    }

    /// A page as a browser with this cookie sees it.
    pub(super) async fn seen(&self, path: &str, cookie: &str) -> Response {
        let request = super::served::client(reqwest::header::HeaderMap::new()).get(format!("{}{path}", self.base));
        send(request.header("cookie", cookie)).await
    }

    /// Signs in and tells the cookie.
    pub(super) async fn signed_in(&self, name: &str, password: &str) -> String {
        let answer = send(self.form("/sign-in", "", &[("name", name), ("password", password)])).await;
        assert_eq!(answer.status(), 303);
        session_of(&answer)
    }

    /// Someone else, with a role of their own.
    pub(super) async fn add(&self, name: &str, role: Role, password: &str) {
        self.access.add_person(&By::tool(), name, role, password).await.unwrap();
    }
}

/// The cookie that an answer sets.
fn session_of(answer: &Response) -> String {
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// Every address in the code of the page, with something in the place of each name.
fn addresses() -> Vec<String> {
    let sources = [
        include_str!("../../web.rs"),
        include_str!("../screens/people.rs"),
        include_str!("../screens/sources.rs"),
        include_str!("../screens/upstream.rs"),
        include_str!("../screens/first_steps.rs"),
        include_str!("../screens/alerts.rs"),
        include_str!("../screens/board.rs"),
        include_str!("../screens/settings.rs"),
    ];
    let routes = sources.iter().flat_map(|source| source.split(".route(").skip(1));
    let literals = routes.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let both =
        include_str!("../screens/ways/routes.rs").split("at(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let both = both.flat_map(|below| ["/sources", "/upstream"].map(|root| format!("{root}{below}")));
    let interface = crate::web::api::all();
    let interface = interface.operations().iter().map(|operation| operation.path);
    let own = literals.chain(interface).map(str::to_owned).chain(both);
    own.map(|path| path.replace("{name}", "x").replace("{id}", "1")).collect()
}

#[tokio::test]
async fn before_it_is_set_up_nothing_is_reachable_but_setting_it_up() {
    let served = Served::start_new().await;
    let all = addresses();
    assert!(all.len() > 25, "{all:?}");
    for path in all.iter().map(String::as_str).chain(["/nowhere", "/first-steps", "/settings", "/api/v1/config"]) {
        let open =
            matches!(path, "/live" | "/ready" | "/sign-in" | "/language" | "/set-up") || path.starts_with("/static/");
        for method in [reqwest::Method::GET, reqwest::Method::POST, reqwest::Method::DELETE] {
            let answer = send(served.client.request(method.clone(), format!("{}{path}", served.base))).await;
            let to = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default();
            if !open {
                assert!(answer.status() == 403 || to == "/set-up", "{method} {path}: {} {to}", answer.status());
            }
            assert!(!answer.headers().contains_key("set-cookie"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn whoever_has_the_token_makes_their_user_and_is_signed_in_at_once() {
    let served = Served::start_new().await;
    let token = served.access.set_up_token().unwrap();
    let page = served.text("/set-up").await;
    assert!(page.contains("forebay set-up-token") && !page.contains(&token), "{page}");
    let fields = |token: &str, name: &str, password: &str, again: &str| {
        served.form("/set-up", "", &[("token", token), ("name", name), ("password", password), ("again", again)])
    };
    for (request, status, field) in [
        (fields("forebay-aaaa-bbbb-cccc-dddd", "eva", PASSWORD, PASSWORD), 403, "token-wrong"),
        (fields(&token, "eva", PASSWORD, "kettle boils at nine"), 422, "again-wrong"),
        (fields(&token, "eva", "short", "short"), 422, "password-wrong"),
        (fields(&token, " ", PASSWORD, PASSWORD), 422, "name-wrong"),
    ] {
        let answer = send(request).await;
        assert_eq!(answer.status(), status);
        let page = answer.text().await.unwrap();
        assert!(page.contains(&format!("id=\"{field}\"")) && page.contains("aria-invalid=\"true\""), "{page}");
        assert!(!page.contains(PASSWORD), "{page}");
    }
    let answer = send(fields(&token, "eva", PASSWORD, PASSWORD)).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], "/first-steps");
    let cookie = session_of(&answer);
    assert_eq!(served.seen("/account", &cookie).await.status(), 200);
    let again = send(fields(&token, "mallory", PASSWORD, PASSWORD)).await;
    assert_eq!(again.headers()["location"], "/");
    assert_eq!(served.access.people().unwrap().len(), 1);
}

#[tokio::test]
async fn guessing_the_set_up_token_is_slowed_down_and_said_kindly() {
    let served = Served::start_new().await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let fields =
            [("token", "forebay-aaaa-bbbb-cccc-dddd"), ("name", "m"), ("password", PASSWORD), ("again", PASSWORD)];
        let answer = send(served.form("/set-up", "", &fields)).await;
        statuses.push(answer.status().as_u16());
        if answer.status() == 429 {
            assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
            assert!(answer.text().await.unwrap().contains("Too many attempts failed; try again in"));
        }
    }
    assert_eq!(statuses, [403, 403, 403, 403, 403, 429]);
}

#[tokio::test]
async fn signing_in_and_out_works_and_the_cookie_is_for_this_page_alone() {
    let served = Served::start().await;
    let answer =
        send(served.form("/sign-in", "", &[("name", "Anna"), ("password", PASSWORD), ("to", "/points")])).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/points"));
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    for flag in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(set.contains(flag), "{set}");
    }
    let cookie = session_of(&answer);
    assert!(served.seen("/", &cookie).await.text().await.unwrap().contains("anna"));
    assert_eq!(send(served.form("/sign-out", &cookie, &[])).await.status(), 303);
    let after = served.seen("/points", &cookie).await;
    assert_eq!(after.headers()["location"], "/sign-in?to=%2Fpoints");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_soon_slowed_down() {
    let served = Served::start().await;
    for _ in 0..5 {
        let answer = send(served.form("/sign-in", "", &[("name", "anna"), ("password", "not the right one")])).await;
        assert_eq!(answer.status(), 401);
        assert!(!answer.headers().contains_key("set-cookie"));
    }
    let answer = send(served.form("/sign-in", "", &[("name", "anna"), ("password", PASSWORD)])).await;
    assert_eq!(answer.status(), 429);
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn a_session_that_someone_else_chose_is_not_adopted() {
    let served = Served::start().await;
    let planted = format!("forebay-session={}", "A".repeat(43));
    let answer = send(served.form("/sign-in", &planted, &[("name", "anna"), ("password", PASSWORD)])).await;
    let cookie = session_of(&answer);
    assert_ne!(cookie, planted);
    assert_eq!(served.seen("/account", &planted).await.status(), 303);
    assert_eq!(served.seen("/account", &cookie).await.status(), 200);
}

#[tokio::test]
async fn a_form_of_another_site_is_refused_though_the_browser_is_signed_in() {
    let served = Served::start().await;
    let cookie = served.signed_in("anna", PASSWORD).await;
    let fields = [("name", "mallory"), ("role", "administrator"), ("password", PASSWORD), ("again", PASSWORD)];
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let answer = send(served.form("/settings/people", &cookie, &fields).header(name, value)).await;
        assert_eq!(answer.status(), 403, "{name}: {value}");
    }
    assert_eq!(served.access.people().unwrap().len(), 1);
    let own = send(served.form("/settings/people", &cookie, &fields).header("sec-fetch-site", "same-origin")).await;
    assert_eq!(own.status(), 303);
}

#[tokio::test]
async fn nobody_smuggles_a_header_in_through_an_address_or_a_name() {
    let served = Served::start().await;
    let hostile = "/points\r\nset-cookie: forebay-session=evil";
    let answer = send(served.form("/sign-in", "", &[("name", "anna"), ("password", PASSWORD), ("to", hostile)])).await;
    assert_eq!(answer.headers()["location"], "/");
    let cookies = answer.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    assert_eq!(cookies.filter(|cookie| cookie.contains("session=")).count(), 1);
    let body = serde_json::json!({ "name": "x\r\nset-cookie: a=b", "role": "viewer", "password": PASSWORD });
    let answer = send(served.client.post(format!("{}/api/v1/people", served.base)).json(&body)).await;
    assert_eq!(answer.status(), 422);
    let body = serde_json::json!({ "name": "ä/b ?#\"", "role": "viewer", "password": PASSWORD });
    let answer = send(served.client.post(format!("{}/api/v1/people", served.base)).json(&body)).await;
    assert_eq!(answer.status(), 201);
    let place = answer.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(served.json(&place).await["name"], "ä/b ?#\"");
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_password_is_never_told_again_on_no_page_in_no_log_and_not_in_the_audit_log() {
    let heard = Heard::default();
    let writer = heard.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _listening = tracing::subscriber::set_default(subscriber.finish());
    let served = Served::start().await;
    let secrets = ["first secret of max", "second secret of max", "a wrong guess at it"];
    let [first, second, guess] = secrets;
    let anna = served.signed_in("anna", PASSWORD).await;
    let mut pages = String::new();
    for (path, cookie, fields) in [
        ("/settings/people", &anna, vec![("name", "max"), ("role", "viewer"), ("password", first), ("again", guess)]),
        ("/settings/people", &anna, vec![("name", "max"), ("role", "viewer"), ("password", first), ("again", first)]),
        ("/settings/people/password", &anna, vec![("name", "max"), ("password", second), ("again", second)]),
        ("/sign-in", &String::new(), vec![("name", "max"), ("password", guess)]),
        ("/account/password", &anna, vec![("old", guess), ("new", second), ("again", second)]),
        ("/account/password", &anna, vec![("old", PASSWORD), ("new", second), ("again", second)]),
    ] {
        pages.push_str(&send(served.form(path, cookie, &fields)).await.text().await.unwrap());
    }
    for path in ["/settings/people", "/settings/audit", "/settings/audit/export", "/api/v1/people", "/api/v1/audit"] {
        pages.push_str(&served.text(path).await);
    }
    let audit = served.access.audit(None, 100, AuditFilter::default()).await.unwrap();
    assert!(audit.entries.len() >= 5, "{audit:?}");
    let log = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
    // Other tests, running beside this one without a listener, may keep single lines from it; never all of them.
    assert!(!log.is_empty());
    assert!(audit.entries.iter().any(|entry| entry.action == Action::SignInRefused), "{audit:?}");
    let told = format!("{pages}{audit:?}{log}");
    for secret in secrets.into_iter().chain([PASSWORD]) {
        assert!(!told.contains(secret) && !told.contains(&secret.replace(' ', "+")), "{secret}");
    }
}
