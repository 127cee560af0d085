//! The door: who may do what, and how a refusal looks. Every request passes here before any handler.
//!
//! One table, [`need`], says what each address asks for; nothing is reachable that it does not let through. Before the
//! gateway is set up, only setting up is. Requests of other sites in a signed-in browser are refused by their `Origin` and
//! `Sec-Fetch-Site` (tower-http's `csrf`), and the session's cookie is `SameSite=Strict` besides.

use super::failure::Failure;
use super::live::Shared;
use super::pages::{self, Frame, Nav};
use super::server::Peer;
use super::visit::{Pass, Visit, cookie};
use super::words::sentence;
use crate::access::Right;
use askama::Template;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;

/// The session's cookie. Over TLS its name begins with `__Host-`, so that no other host can set it (RFC 6265bis, section 4.1.3).
pub(super) const SESSION_COOKIE: &str = "forebay-session";

/// The same over TLS.
pub(super) const SECURE_SESSION_COOKIE: &str = "__Host-forebay-session";

/// Most bytes of a plain-text refusal that become the detail of a problem document.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// What an address asks of whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: probes, the files of the page, signing in.
    Nothing,
    /// That nobody has set the gateway up yet; the handlers ask for the token.
    NotSetUp,
    /// Being signed in, whatever the rights.
    SignedIn,
    /// A right.
    Right(Right),
}

/// What an address asks for.
pub(super) fn need(method: &Method, path: &str) -> Need {
    let reads = reads(method);
    let below = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let either = |name: &str| below(&format!("/settings/{name}")) || below(&format!("/api/v1/{name}"));
    match path {
        "/live" | "/ready" | "/sign-in" | "/language" | "/favicon.ico" => Need::Nothing,
        "/metrics" => Need::Right(Right::Metrics),
        "/api/v1/openapi.json" => Need::Right(Right::See),
        _ if below("/static") => Need::Nothing,
        _ if below("/set-up") => Need::NotSetUp,
        _ if path == "/sign-out" || below("/account") || below("/api/v1/account") => Need::SignedIn,
        _ if either("people") || either("tokens") || either("audit") => Need::Right(Right::People),
        _ if below("/settings") || below("/first-steps") || either("config") || either("try") || either("discover") => {
            Need::Right(Right::Configure)
        }
        _ if either("templates") || either("secrets") => Need::Right(Right::Configure),
        _ if !reads && below("/api/v1/sources") => Need::Right(Right::Configure),
        _ if !reads && below("/api/v1/certificate") => Need::Right(Right::Configure),
        _ if changes_a_way(reads, path) => Need::Right(Right::Configure),
        _ if reads => Need::Right(Right::See),
        _ => Need::Right(Right::Operate),
    }
}

/// Whether it is a form for a source or a way upstream, or what such a form asks for. Replays are for operators.
fn changes_a_way(reads: bool, path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/sources/").or_else(|| path.strip_prefix("/upstream/")) else { return false };
    let (name, below) = rest.split_once('/').unwrap_or((rest, ""));
    let forms =
        matches!(name, "new" | "discover" | "try" | "check" | "jobs") || matches!(below, "edit" | "remove" | "try");
    forms || !reads && !below.starts_with("replays")
}

/// Whether an address takes a text of the configuration apart to answer. A decision about what runs waits for none.
pub(super) fn works_on_text(method: &Method, path: &str) -> bool {
    let decides = matches!(path, "/settings/trial" | "/api/v1/config/confirm" | "/api/v1/config/revert");
    let below = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let configures = need(method, path) == Need::Right(Right::Configure);
    !decides && configures && !below("/api/v1/try") && !below("/api/v1/discover")
}

/// Lets through who may pass, and says who it is to the handlers.
pub(super) async fn admit(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let need = need(request.method(), request.uri().path());
    let access = &shared.state.access;
    let set_up = access.is_set_up();
    match (need, set_up) {
        (Need::Nothing, _) | (Need::NotSetUp, false) => {}
        (Need::NotSetUp, true) => return Redirect::to("/").into_response(),
        (_, false) => return refuse_before_set_up(&request),
        (Need::SignedIn | Need::Right(_), true) => {
            let secure = request.extensions().get::<Peer>().is_some_and(|peer| peer.tls);
            let pass = pass(request.headers(), secure);
            let who = pass.as_ref().and_then(|pass| pass.who(access));
            if let (Some(Pass::Token(_)), None) = (&pass, &who)
                && let Err(after) = access.wrong_token(Visit::of_request(&request)).await
            {
                let words = "too many wrong API tokens came from this address; check the token, and try again later";
                let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "Too many attempts", words);
                return Failure { retry_after_s: Some(after.as_secs() + 1), ..failure }.into_response();
            }
            let (Some(pass), Some(who)) = (pass, who) else { return refuse_stranger(&request) };
            if let Need::Right(right) = need
                && !who.may(right)
            {
                let detail = format!(
                    "{} may not do this: it needs the right \"{}\"; an administrator can give it",
                    who.name,
                    right.name()
                );
                return Failure::forbidden(detail).into_response();
            }
            request.extensions_mut().insert(who);
            request.extensions_mut().insert(pass);
        }
    }
    if reads(request.method()) {
        return next.run(request).await;
    }
    // What changes something is done to its end, also when whoever asked hangs up meanwhile: a change without its entry in the audit
    // log must not be.
    shared.changes.spawn(next.run(request)).await.unwrap_or_else(|_| {
        Failure::unavailable("the gateway is about to end; open its page again in a minute").into_response()
    })
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The token or session that comes with a request.
///
/// Over TLS the plain cookie does not count: anyone on the way could have set it over plain HTTP.
fn pass(headers: &HeaderMap, secure: bool) -> Option<Pass> {
    if let Some(given) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = given.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| Pass::Token(token.trim().to_owned()));
    }
    let name = if secure { SECURE_SESSION_COOKIE } else { SESSION_COOKIE };
    Some(Pass::Session(cookie(headers, name)?.to_owned()))
}

fn is_interface(path: &str) -> bool {
    path.starts_with("/api/") || path == "/metrics" || path == "/events"
}

fn refuse_before_set_up(request: &Request) -> Response {
    if is_interface(request.uri().path()) {
        let detail = "nobody has set this gateway up yet: open its page and type the set-up token (forebay set-up-token prints it)";
        return Failure::new(StatusCode::FORBIDDEN, "This gateway is not set up", detail).into_response();
    }
    go(request, "/set-up")
}

fn refuse_stranger(request: &Request) -> Response {
    let path = request.uri().path();
    if is_interface(path) {
        let detail = "sign in on the page, or send an API token as \"Authorization: Bearer fbt_…\"";
        let mut response = Failure::new(StatusCode::UNAUTHORIZED, "Nobody is signed in", detail).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    let reads = reads(request.method());
    // Where a part was asked for, it is the page around it that one wants to be back on.
    let page = request.headers().get("hx-current-url").and_then(|url| url.to_str().ok()?.parse::<Uri>().ok());
    let page = page.as_ref().or_else(|| reads.then(|| request.uri()));
    let back = page.and_then(|uri| uri.path_and_query()).map_or("/", |path| path.as_str());
    let to = if back == "/" { "/sign-in".to_owned() } else { format!("/sign-in?{}", pages::query(&[("to", back)])) };
    go(request, &to)
}

/// Sends a browser elsewhere, as a whole page even where a part was asked for.
fn go(request: &Request, to: &str) -> Response {
    if !request.headers().contains_key("hx-request") {
        return Redirect::to(to).into_response();
    }
    let mut response = StatusCode::OK.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert("hx-redirect", to);
    }
    response
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Page {
    frame: Frame,
    title: &'static str,
    detail: String,
    fields: Vec<super::failure::FieldError>,
}

/// A refusal that htmx shows where it was asked for.
#[derive(Template)]
#[template(path = "refusal.html")]
struct Part {
    title: &'static str,
    detail: String,
    fields: Vec<super::failure::FieldError>,
}

/// Gives a failure its looks, by who asked.
pub(super) async fn present(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    // Without its body, so that it outlives the handler; who it is is looked up below, where it matters.
    let mut visit = Visit::of(&parts);
    let pass = pass(&parts.headers, visit.secure);
    let path = parts.uri.path().to_owned();
    parts.extensions.remove::<crate::access::Who>();
    let mut response = next.run(Request::from_parts(parts, body)).await;
    let failure = response.extensions_mut().remove::<Failure>();
    let Some(failure) = failure.or_else(|| refused_plainly(&path, &response)) else {
        return if is_interface(&path) { documented(response).await } else { response };
    };
    let mut shown = if is_interface(&path) {
        pages::problem(&failure)
    } else {
        visit.who = pass.and_then(|pass| pass.who(&shared.state.access));
        let (title, detail) = (visit.l.t(failure.title), sentence(&visit.l.say(&failure.detail)));
        let fields = failure.fields.clone();
        if visit.htmx {
            pages::html(failure.status, &visit, Part { title, detail, fields }.render())
        } else {
            let frame = Frame::bare(&shared, &visit, Nav::None);
            pages::html(failure.status, &visit, Page { frame, title, detail, fields }.render())
        }
    };
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            shown.headers_mut().insert(name.clone(), value.clone());
        }
    }
    if let Some(seconds) = failure.retry_after_s {
        shown.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    shown
}

/// What a browser is told where the framework refused a request in its own plain words: an address or a form that cannot be read.
fn refused_plainly(path: &str, response: &Response) -> Option<Failure> {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain");
    let is_page = !is_interface(path) && !path.starts_with("/static/") && !matches!(path, "/live" | "/ready");
    if !is_page || !response.status().is_client_error() || !kind.starts_with("text/plain") {
        return None;
    }
    let (title, detail) = match response.status() {
        StatusCode::NOT_FOUND => ("There is nothing here", "this address cannot be read; go back, and follow a link"),
        StatusCode::BAD_REQUEST => ("The request is wrong", "this address cannot be read; go back, and follow a link"),
        StatusCode::FORBIDDEN => (
            "This is not yours to do",
            "this was asked by a page of another site; open this page itself, and do it there",
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            "This address takes no such request",
            "what was asked cannot be done at this address; go back, and follow a link",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("The request is too large", "what was sent is larger than anything that is taken here; send less at once")
        }
        StatusCode::REQUEST_TIMEOUT => ("The request is wrong", "what was sent did not come in time; send it again"),
        _ => (
            "The request is wrong",
            "the form did not come as it was shown; open its page again, and send it from there",
        ),
    };
    Some(Failure::new(response.status(), title, detail))
}

/// Makes a problem document of a refusal that the framework wrote as plain text: a body that is no JSON, a wrong method.
async fn documented(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !(status.is_client_error() || status.is_server_error()) || kind.contains("json") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = axum::body::to_bytes(Body::new(body), REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let title = match status {
        StatusCode::METHOD_NOT_ALLOWED => "This address takes no such request",
        StatusCode::PAYLOAD_TOO_LARGE => "The request is too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The request is of a kind that is not taken",
        StatusCode::SERVICE_UNAVAILABLE => "The gateway cannot do this now",
        _ => "The request is wrong",
    };
    let detail = if said.is_empty() { title.to_owned() } else { said };
    let mut shown = pages::problem(&Failure::new(status, title, detail));
    for name in [header::ALLOW, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            shown.headers_mut().insert(name, value.clone());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_asks_for_more_than_what_shows_it() {
        let (get, post) = (Method::GET, Method::POST);
        assert_eq!(need(&get, "/points"), Need::Right(Right::See));
        assert_eq!(need(&post, "/api/v1/replays"), Need::Right(Right::Operate));
        assert_eq!(need(&get, "/settings/file"), Need::Right(Right::Configure));
        assert_eq!(need(&get, "/settings/people"), Need::Right(Right::People));
        assert_eq!(need(&post, "/api/v1/tokens"), Need::Right(Right::People));
        assert_eq!(need(&post, "/api/v1/config"), Need::Right(Right::Configure));
        assert_eq!(need(&Method::DELETE, "/anything/new"), Need::Right(Right::Operate));
        for path in ["/sources/new", "/sources/discover", "/sources/a/edit", "/upstream/a/remove", "/sources/jobs/1"] {
            assert_eq!(need(&get, path), Need::Right(Right::Configure), "{path}");
        }
        assert_eq!(need(&get, "/sources/a"), Need::Right(Right::See));
        assert_eq!(need(&post, "/sources/a/try"), Need::Right(Right::Configure));
        assert_eq!(need(&post, "/upstream/a/replays/3/cancel"), Need::Right(Right::Operate));
        assert_eq!(need(&get, "/api/v1/sources/a/registers"), Need::Right(Right::See));
        for (method, path) in [(&Method::PUT, "sources/a/registers"), (&get, "secrets"), (&post, "templates/a")] {
            assert_eq!(need(method, &format!("/api/v1/{path}")), Need::Right(Right::Configure), "{path}");
        }
        assert_eq!(need(&get, "/api/v1/account"), Need::SignedIn);
    }

    #[test]
    fn nothing_is_open_that_only_looks_like_an_open_address() {
        for path in ["/static-files", "/live/", "/sign-in/x", "/Live", "//live", "/set-upx", "/accounts"] {
            assert!(matches!(need(&Method::GET, path), Need::Right(_)), "{path}");
        }
    }
}
