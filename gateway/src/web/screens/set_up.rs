//! `/set-up`: the first thing that anyone sees of a new gateway. Whoever has the token becomes its first administrator.

use super::said::Wrong;
use super::session::{let_in, secure_url, whole_seconds};
use crate::access::SetUpError;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// Where the guided way goes on once there is someone to guide.
const NEXT: &str = "/first-steps";

/// Who sets the gateway up.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Given {
    token: String,
    name: String,
    password: String,
    again: String,
}

#[derive(Template)]
#[template(path = "set_up.html")]
struct Page {
    frame: Frame,
    token: String,
    name: String,
    wrong: Wrong,
    wait_s: u64,
    encrypted: bool,
    secure_url: String,
}

/// `GET /set-up`.
pub(in crate::web) async fn page(State(shared): State<Arc<Shared>>, visit: Visit, headers: HeaderMap) -> Response {
    show(&shared, &visit, &headers, StatusCode::OK, &Given::default(), Wrong::nothing())
}

fn show(
    shared: &Shared,
    visit: &Visit,
    headers: &HeaderMap,
    status: StatusCode,
    given: &Given,
    wrong: Wrong,
) -> Response {
    show_after(shared, visit, headers, status, given, wrong, 0)
}

/// The same with a button that is of no use before some seconds are over.
fn show_after(
    shared: &Shared,
    visit: &Visit,
    headers: &HeaderMap,
    status: StatusCode,
    given: &Given,
    wrong: Wrong,
    wait_s: u64,
) -> Response {
    let page = Page {
        frame: Frame::bare(shared, visit, Nav::None),
        token: given.token.clone(),
        name: given.name.clone(),
        wrong,
        wait_s,
        encrypted: visit.secure || visit.from.is_loopback(),
        secure_url: secure_url(shared, headers, "/set-up"),
    };
    pages::html(status, visit, page.render())
}

/// `POST /set-up`: makes the first administrator and signs them in.
pub(in crate::web) async fn set_up(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    let access = &shared.state.access;
    if given.password != given.again {
        let wrong = Wrong::at("again", visit.l, "the two passwords differ; type the same one twice");
        return show(&shared, &visit, &headers, StatusCode::UNPROCESSABLE_ENTITY, &given, wrong);
    }
    let error = match access.set_up(&given.token, &given.name, &given.password, visit.from).await {
        Ok(who) => return enter(&shared, &visit, &who.name, &given.password).await,
        Err(error) => error,
    };
    let (status, wrong) = match &error {
        SetUpError::Already => return Redirect::to("/sign-in").into_response(),
        SetUpError::WrongToken => (StatusCode::FORBIDDEN, Wrong::at("token", visit.l, &error.to_string())),
        SetUpError::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, Wrong::at("token", visit.l, &error.to_string())),
        SetUpError::Access(inner) if inner.field().is_some() => {
            (StatusCode::UNPROCESSABLE_ENTITY, Wrong::of(inner, visit.l))
        }
        SetUpError::Access(inner) => (StatusCode::SERVICE_UNAVAILABLE, Wrong::of(inner, visit.l)),
    };
    let wait_s = if let SetUpError::TooMany { after } = &error { whole_seconds(*after) } else { 0 };
    let mut response = show_after(&shared, &visit, &headers, status, &given, wrong, wait_s);
    if let SetUpError::TooMany { after } = error {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    response
}

/// Signs in whoever has just set the gateway up; if that does not work at once, they sign in by hand.
async fn enter(shared: &Shared, visit: &Visit, name: &str, password: &str) -> Response {
    match shared.state.access.sign_in(name, password, visit.from).await {
        Ok(signed_in) => {
            let mut response = Redirect::to(NEXT).into_response();
            let_in(&mut response, &signed_in, visit.secure);
            response
        }
        Err(error) => {
            tracing::warn!(%error, "set up, but not signed in");
            Redirect::to("/sign-in").into_response()
        }
    }
}
