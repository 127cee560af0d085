//! People, API tokens and the audit log over a real socket: who may what, and what is written down.

use super::entering::{WithJson, send};
use super::served::{PASSWORD, Served, client};
use crate::access::{By, Kind, Right, Role, Who};
use crate::web::pages::query;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::json;

const OTHER: &str = "window seat by the lake";

impl Served {
    /// The status that a program with such a token gets.
    async fn status_for(&self, token: &str, method: reqwest::Method, path: &str, body: serde_json::Value) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        let request = client(headers).request(method, format!("{}{path}", self.base));
        send(request.json(&body)).await.status().as_u16()
    }

    async fn token(&self, name: &str, rights: &[Right]) -> String {
        let rights = rights.iter().copied().collect();
        self.access.make_token(&By::tool(), name, rights, None).await.unwrap().token
    }
}

#[tokio::test]
async fn each_role_reaches_what_it_may_and_nothing_else() {
    let served = Served::start().await;
    served.add("vera", Role::Viewer, OTHER).await;
    served.add("otto", Role::Operator, OTHER).await;
    let (vera, otto, anna) = (
        served.signed_in("vera", OTHER).await,
        served.signed_in("otto", OTHER).await,
        served.signed_in("anna", PASSWORD).await,
    );
    for (path, cookies) in
        [("/", 3), ("/account", 3), ("/settings/people", 1), ("/settings/tokens", 1), ("/settings/audit", 1)]
    {
        let mut let_in = 0;
        for cookie in [&vera, &otto, &anna] {
            let status = served.seen(path, cookie).await.status();
            assert!(status == 200 || status == 403, "{path}: {status}");
            let_in += usize::from(status == 200);
        }
        assert_eq!(let_in, cookies, "{path}");
    }
    // Whatever a viewer posts is refused before it is looked at, and what configures is refused to an operator.
    assert_eq!(send(served.form("/anything", &vera, &[])).await.status(), 403);
    assert_ne!(send(served.form("/anything", &otto, &[])).await.status(), 403);
    for cookie in [&vera, &otto] {
        for path in
            ["/settings/people", "/settings/people/role", "/settings/tokens", "/settings/trial", "/api/v1/config"]
        {
            assert_eq!(send(served.form(path, cookie, &[])).await.status(), 403, "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_opens_what_it_is_for_until_it_is_revoked() {
    let served = Served::start().await;
    let (metrics, see) =
        (served.token("prometheus", &[Right::Metrics]).await, served.token("portal", &[Right::See]).await);
    let get = reqwest::Method::GET;
    for (token, path, status) in [
        (&metrics, "/metrics", 200),
        (&metrics, "/api/v1/status", 403),
        (&see, "/api/v1/status", 200),
        (&see, "/metrics", 403),
        (&see, "/api/v1/tokens", 403),
        (&see, "/settings/audit/export", 403),
    ] {
        assert_eq!(served.status_for(token, get.clone(), path, json!({})).await, status, "{path}");
    }
    let cookie = served.signed_in("anna", PASSWORD).await;
    let answer = send(served.form("/settings/tokens/revoke", &cookie, &[("name", "Portal")])).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(served.status_for(&see, get, "/api/v1/status", json!({})).await, 401);
}

#[tokio::test]
async fn a_token_is_shown_once_and_has_the_rights_that_were_ticked() {
    let served = Served::start().await;
    let cookie = served.signed_in("anna", PASSWORD).await;
    let none = send(served.form("/settings/tokens", &cookie, &[("name", "portal"), ("days", "30")])).await;
    assert_eq!(none.status(), 422);
    assert!(none.text().await.unwrap().contains("id=\"rights-wrong\""));
    let fields = [("name", "portal"), ("days", "30"), ("metrics", "on"), ("operate", "on")];
    let page = send(served.form("/settings/tokens", &cookie, &fields)).await.text().await.unwrap();
    let token = page.split("id=\"made\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert!(token.starts_with("fbt_"), "{page}");
    let rights = served.json("/api/v1/tokens/portal").await["rights"].clone();
    assert_eq!(rights, json!(["metrics", "operate"]));
    assert!(!served.text("/settings/tokens").await.contains(&token));
    assert!(!served.text("/settings/audit").await.contains(&token));
}

#[tokio::test]
async fn nobody_hands_out_more_than_they_have() {
    let served = Served::start().await;
    let token = served.token("clerk", &[Right::People]).await;
    let post = reqwest::Method::POST;
    let person = json!({ "name": "mallory", "role": "administrator", "password": OTHER });
    assert_eq!(served.status_for(&token, post.clone(), "/api/v1/people", person).await, 403);
    let more = json!({ "name": "more", "rights": ["configure"] });
    assert_eq!(served.status_for(&token, post, "/api/v1/tokens", more).await, 403);
    let password = json!({ "password": OTHER });
    assert_eq!(served.status_for(&token, reqwest::Method::PATCH, "/api/v1/people/anna", password).await, 403);
    assert_eq!(served.status_for(&token, reqwest::Method::DELETE, "/api/v1/people/anna", json!({})).await, 403);
    served.signed_in("anna", PASSWORD).await;
}

#[tokio::test]
async fn a_token_that_is_called_like_a_person_is_not_that_person() {
    let served = Served::start().await;
    let cookie = served.signed_in("anna", PASSWORD).await;
    let token = served.token("anna", &[Right::See]).await;
    let post = reqwest::Method::POST;
    assert_eq!(served.status_for(&token, post, "/account/sign-out-everywhere", json!({})).await, 403);
    assert_eq!(served.seen("/account", &cookie).await.status(), 200);
}

#[tokio::test]
async fn a_person_who_is_removed_is_out_at_once_and_only_by_their_name() {
    let served = Served::start().await;
    served.add("vera", Role::Viewer, OTHER).await;
    let (vera, anna) = (served.signed_in("vera", OTHER).await, served.signed_in("anna", PASSWORD).await);
    let wrong = send(served.form("/settings/people/remove", &anna, &[("name", "vera"), ("typed", "anna")])).await;
    assert_eq!(wrong.status(), 422);
    assert_eq!(served.seen("/account", &vera).await.status(), 200);
    let last = send(served.form("/settings/people/remove", &anna, &[("name", "anna"), ("typed", "anna")])).await;
    assert_eq!(last.status(), 422);
    assert!(last.text().await.unwrap().contains("last administrator"));
    let removed = send(served.form("/settings/people/remove", &anna, &[("name", "vera"), ("typed", "Vera ")])).await;
    assert_eq!(removed.status(), 303);
    assert_eq!(served.seen("/account", &vera).await.headers()["location"], "/sign-in?to=%2Faccount");
    let events = served.seen("/events?of=overview", &vera).await;
    assert_eq!(events.status(), 401);
}

#[tokio::test]
async fn another_password_or_role_holds_at_once() {
    let served = Served::start().await;
    served.add("vera", Role::Viewer, OTHER).await;
    let (vera, anna) = (served.signed_in("vera", OTHER).await, served.signed_in("anna", PASSWORD).await);
    let role = send(served.form("/settings/people/role", &anna, &[("name", "vera"), ("role", "administrator")])).await;
    assert_eq!(role.status(), 303);
    assert_eq!(served.seen("/settings/people", &vera).await.status(), 200);
    let fields = [("old", OTHER), ("new", PASSWORD), ("again", PASSWORD)];
    let changed = send(served.form("/account/password", &vera, &fields)).await;
    let fresh = changed.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(served.seen("/account", &vera).await.status(), 303);
    assert_eq!(served.seen("/account", &fresh).await.status(), 200);
    assert_eq!(send(served.form("/account/sign-out-everywhere", &fresh, &[])).await.status(), 303);
    assert_eq!(served.seen("/account", &fresh).await.status(), 303);
}

#[tokio::test]
async fn programs_manage_people_and_get_problem_documents_for_what_is_wrong() {
    let served = Served::start().await;
    let url = |path: &str| format!("{}/api/v1/people{path}", served.base);
    let vera = json!({ "name": "vera", "role": "viewer", "password": OTHER });
    assert_eq!(send(served.client.post(url("")).json(&vera)).await.status(), 201);
    for (request, status) in [
        (served.client.post(url("")).json(&vera), 409),
        (served.client.post(url("")).json(&json!({ "name": "x", "role": "viewer", "password": "short" })), 422),
        (
            served.client.post(url("")).json(&json!({ "name": "x", "role": "viewer", "password": OTHER, "more": 1 })),
            422,
        ),
        (served.client.post(url("")).body("{"), 415),
        (served.client.patch(url("/vera")).json(&json!({})), 422),
        (served.client.patch(url("/anna")).json(&json!({ "role": "viewer" })), 409),
        (served.client.get(url("/nobody")), 404),
        (served.client.put(url("/vera")), 405),
    ] {
        let answer = send(request).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(problem["status"], status);
    }
    let changed = send(served.client.patch(url("/Vera")).json(&json!({ "role": "operator" }))).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&changed.text().await.unwrap()).unwrap()["role"], "operator");
    assert_eq!(send(served.client.delete(url("/vera"))).await.status(), 204);
    assert_eq!(served.json("/api/v1/people").await["people"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_and_finds_it_again() {
    let served = Served::start().await;
    let who = Who::person("<b>eva</b>", Role::Administrator);
    assert_eq!(who.kind, Kind::Person);
    for number in 0..60 {
        let deed = crate::access::Deed {
            who: who.clone(),
            from: None,
            action: crate::access::Action::ConfigurationKept,
            subject: format!("change {number}"),
            detail: "--- before\n+++ after\n-a = 1\n+a = 2\n".to_owned(),
        };
        served.access.record(deed).await.unwrap();
    }
    let page = served.text("/settings/audit").await;
    assert!(page.contains("change 59") && !page.contains("change 9<"), "{page}");
    assert!(page.contains("<code class=\"added\">+a = 2</code>") && !page.contains("<b>eva"), "{page}");
    let next = page.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    assert!(served.text(&next.replace("&#38;", "&")).await.contains("change 9<"));
    let found =
        served.text(&format!("/settings/audit?{}", query(&[("who", "<B>EVA</b>"), ("text", "Change 42")]))).await;
    assert_eq!(found.matches("id=\"entry-").count(), 1);
    assert!(served.text("/settings/audit?text=nothing-like-it").await.contains("Nothing in the log matches."));
    let lines = served.text("/settings/audit/export").await;
    assert!(lines.lines().count() > 60);
    assert!(lines.lines().all(|line| serde_json::from_str::<crate::access::Entry>(line).is_ok()));
    let answer = served.json("/api/v1/audit?limit=2&action=configuration_kept").await;
    assert_eq!(answer["entries"].as_array().unwrap().len(), 2);
    assert_eq!(served.get("/api/v1/audit?limit=0").await.status(), 400);
    assert_eq!(served.get("/api/v1/audit?nonsense=1").await.status(), 400);
}

#[tokio::test]
async fn a_hostile_name_is_shown_as_text_on_every_screen_about_people() {
    let served = Served::start().await;
    let hostile = "\"><script>alert(1)</script>";
    served.add(hostile, Role::Viewer, OTHER).await;
    served.token(hostile, &[Right::See]).await;
    let one = format!("/settings/people/one?{}", query(&[("name", hostile)]));
    for path in ["/settings/people", "/settings/tokens", "/settings/audit", one.as_str()] {
        let page = served.text(path).await;
        assert!(page.contains("alert(1)") && !page.contains("<script>alert"), "{path}");
    }
}

#[tokio::test]
async fn an_open_page_ends_with_what_let_it_in() {
    let served = Served::start().await;
    served.add("vera", Role::Viewer, OTHER).await;
    let (vera, again) = (served.signed_in("vera", OTHER).await, served.signed_in("vera", OTHER).await);
    let token = served.token("wall", &[Right::See]).await;
    let with_token = |path: &str| {
        let client = client(HeaderMap::new());
        send(client.get(format!("{}{path}", served.base)).header("authorization", format!("Bearer {token}")))
    };
    let mut open = vec![
        served.seen("/events?of=system", &vera).await,
        served.seen("/board/logs/stream", &again).await,
        with_token("/events?of=overview").await,
    ];
    for stream in &mut open {
        assert_eq!(stream.status(), 200);
    }
    assert_eq!(send(served.form("/sign-out", &vera, &[])).await.status(), 303);
    served.access.remove_person(&By::tool(), "vera").await.unwrap();
    served.access.revoke_token(&By::tool(), "wall").await.unwrap();
    for stream in &mut open {
        let rest = async { while stream.chunk().await.unwrap().is_some() {} };
        tokio::time::timeout(super::served::PATIENCE, rest).await.unwrap();
    }
}
