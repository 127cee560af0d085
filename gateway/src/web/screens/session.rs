//! Signing in and out, and choosing a language.

use crate::access::{SignInError, SignedIn};
use crate::web::failure::Failure;
use crate::web::guard::{SECURE_SESSION_COOKIE, SESSION_COOKIE};
use crate::web::live::Shared;
use crate::web::locale::{LANGUAGE_COOKIE, Language};
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::{Visit, cookie};
use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How long a browser keeps the chosen language, in seconds: a year.
const LANGUAGE_SECONDS: u32 = 365 * 24 * 3_600;

/// How long a browser keeps the session's cookie, in seconds. The gateway ends it earlier if it is not used.
pub(in crate::web) const SESSION_SECONDS: u32 = 7 * 24 * 3_600;

/// How long a browser stays known, in seconds: a year.
const DEVICE_SECONDS: u32 = 365 * 24 * 3_600;

/// Where to go after signing in.
#[derive(Debug, Default, Deserialize)]
pub(in crate::web) struct Ask {
    #[serde(default)]
    to: String,
}

/// Who wants to sign in.
#[derive(Deserialize)]
pub(in crate::web) struct Given {
    name: String,
    password: String,
    #[serde(default)]
    to: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page {
    frame: Frame,
    to: String,
    name: String,
    problem: String,
    /// How long the button is of no use yet.
    wait_s: u64,
    encrypted: bool,
    secure_url: String,
}

/// Why someone was not let in.
#[derive(Default)]
struct Refused {
    problem: String,
    wait_s: u64,
}

/// `GET /sign-in`.
pub(in crate::web) async fn sign_in_page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(Ask { to }): Query<Ask>,
    headers: HeaderMap,
) -> Response {
    if !shared.state.access.is_set_up() {
        return Redirect::to("/set-up").into_response();
    }
    show(&shared, &visit, &headers, StatusCode::OK, String::new(), &to, Refused::default())
}

fn show(
    shared: &Shared,
    visit: &Visit,
    headers: &HeaderMap,
    status: StatusCode,
    name: String,
    to: &str,
    refused: Refused,
) -> Response {
    let local = visit.from.is_loopback();
    let page = Page {
        frame: Frame::bare(shared, visit, Nav::None),
        to: local_path(to).to_owned(),
        name,
        problem: refused.problem,
        wait_s: refused.wait_s,
        encrypted: visit.secure || local,
        secure_url: secure_url(shared, headers, "/sign-in"),
    };
    pages::html(status, visit, page.render())
}

/// The same page encrypted, as far as there is one; else nothing.
pub(in crate::web) fn secure_url(shared: &Shared, headers: &HeaderMap, path: &str) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if shared.state.offers_tls() && !host.is_empty() { format!("https://{host}{path}") } else { String::new() }
}

/// `POST /sign-in`.
pub(in crate::web) async fn sign_in(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    Form(Given { name, password, to }): Form<Given>,
) -> Response {
    let device = cookie(&headers, device_cookie_name(visit.secure));
    match shared.state.access.sign_in_with(&name, &password, visit.from, device).await {
        Ok(signed_in) => {
            let mut response = Redirect::to(local_path(&to)).into_response();
            let_in(&mut response, &signed_in, visit.secure);
            response
        }
        Err(error) => {
            let status = match &error {
                SignInError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
                SignInError::Wrong => StatusCode::UNAUTHORIZED,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            let words = visit.l.say(&error.to_string()).into_owned();
            let wait_s = if let SignInError::TooMany { after } = &error { whole_seconds(*after) } else { 0 };
            let refused = Refused { problem: crate::web::words::sentence(&words), wait_s };
            let mut response = show(&shared, &visit, &headers, status, name, &to, refused);
            if let SignInError::TooMany { after } = error {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
            }
            response
        }
    }
}

/// `POST /sign-out`.
pub(in crate::web) async fn sign_out(State(shared): State<Arc<Shared>>, visit: Visit, headers: HeaderMap) -> Response {
    for name in [SECURE_SESSION_COOKIE, SESSION_COOKIE] {
        if let Some(session) = cookie(&headers, name) {
            shared.state.access.sign_out(session, visit.from).await;
        }
    }
    let mut response = Redirect::to("/sign-in").into_response();
    set_cookie(&mut response, &session_cookie("", visit.secure, 0));
    response
}

/// `GET /language?to=de`: keeps the choice in a cookie and goes back.
pub(in crate::web) async fn language(visit: Visit, Query(Ask { to }): Query<Ask>, headers: HeaderMap) -> Response {
    let Some(language) = Language::of(&to) else {
        return Failure::bad("the page speaks en and de").into_response();
    };
    let referer = headers.get(header::REFERER).and_then(|referer| referer.to_str().ok()).unwrap_or_default();
    let back = referer.parse::<Uri>().ok().and_then(|uri| Some(uri.path_and_query()?.to_string())).unwrap_or_default();
    let mut response = Redirect::to(local_path(&back)).into_response();
    let secure = if visit.secure { "; Secure" } else { "" };
    let tag = language.tag();
    set_cookie(
        &mut response,
        &format!("{LANGUAGE_COOKIE}={tag}; Path=/; Max-Age={LANGUAGE_SECONDS}; SameSite=Lax{secure}"),
    );
    response
}

/// The cookies of someone who has just signed in: the session's, and what makes this browser known the next time.
pub(in crate::web) fn let_in(response: &mut Response, signed_in: &SignedIn, secure: bool) {
    set_cookie(response, &session_cookie(&signed_in.cookie_value, secure, SESSION_SECONDS));
    if let Some(device) = &signed_in.device_value {
        let name = device_cookie_name(secure);
        let mark = if secure { "; Secure" } else { "" };
        let seconds = DEVICE_SECONDS;
        set_cookie(response, &format!("{name}={device}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{mark}"));
    }
}

fn device_cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-forebay-device" } else { "forebay-device" }
}

/// Whole seconds, rounded up: whoever waits as long as told is let in.
pub(in crate::web) fn whole_seconds(after: Duration) -> u64 {
    after.as_secs() + u64::from(after.subsec_nanos() > 0)
}

/// The session's cookie: not for scripts, not for other sites, not for other hosts.
pub(in crate::web) fn session_cookie(value: &str, secure: bool, seconds: u32) -> String {
    let (name, secure) = if secure { (SECURE_SESSION_COOKIE, "; Secure") } else { (SESSION_COOKIE, "") };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Adds a cookie to an answer.
pub(in crate::web) fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// A path of this gateway, or its first page: nobody is sent elsewhere after signing in.
fn local_path(to: &str) -> &str {
    let inside = to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n', '\t']);
    if inside { to } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site_after_signing_in() {
        for elsewhere in ["https://example.com", "//example.com", "/\\example.com", "", "points", "/\t/example.com"] {
            assert_eq!(local_path(elsewhere), "/", "{elsewhere}");
        }
        assert_eq!(local_path("/points?filter=a"), "/points?filter=a");
    }
}
