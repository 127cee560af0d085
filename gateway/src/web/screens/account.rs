//! `/account`: who one is here, one's own password, and the browsers in which one is signed in.

use super::said::{self, Wrong};
use super::session::{let_in, session_cookie, set_cookie};
use crate::access::{Kind, Right, SignInError};
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// What was done a moment ago, as the address says it after a redirect.
#[derive(Debug, Default, Deserialize)]
pub(in crate::web) struct Ask {
    #[serde(default)]
    done: String,
}

/// A new password.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Given {
    old: String,
    new: String,
    again: String,
}

/// A right, and whether one has it.
struct RightView {
    name: &'static str,
    meaning: &'static str,
    has: bool,
}

/// What is known of a person.
struct PersonView {
    role: &'static str,
    meaning: &'static str,
    sessions: usize,
    password_at: Moment,
}

#[derive(Template)]
#[template(path = "account.html")]
struct Page {
    frame: Frame,
    name: String,
    person: Option<PersonView>,
    rights: Vec<RightView>,
    done: &'static str,
    wrong: Wrong,
}

/// `GET /account`.
pub(in crate::web) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(Ask { done }): Query<Ask>,
) -> Result<Response, Failure> {
    let done = if done == "password" { "Your password is changed. Other browsers are signed out." } else { "" };
    show(&shared, &visit, StatusCode::OK, done, Wrong::nothing())
}

fn show(
    shared: &Shared,
    visit: &Visit,
    status: StatusCode,
    done: &'static str,
    wrong: Wrong,
) -> Result<Response, Failure> {
    let by = visit.by()?;
    let now_us = shared.state.clock.tick().wall_us;
    let people = shared.state.access.people()?;
    // A token may be called like a person, and is none.
    let person = people.into_iter().find(|person| by.who.kind == Kind::Person && person.name == by.who.name);
    let person = person.map(|person| {
        let (role, meaning) = said::role(person.role);
        let password_at = Moment::new(person.password_us, now_us, visit.l);
        PersonView { role, meaning, sessions: person.sessions, password_at }
    });
    let right = |right: Right| {
        let (name, meaning) = said::right(right);
        RightView { name, meaning, has: by.who.may(right) }
    };
    let page = Page {
        frame: Frame::new(shared, visit, Nav::None),
        name: by.who.name.clone(),
        person,
        rights: Right::ALL.into_iter().map(right).collect(),
        done,
        wrong,
    };
    Ok(pages::html(status, visit, page.render()))
}

/// `POST /account/password`: proves the old one, sets the new one, and goes on in a new session.
pub(in crate::web) async fn change_password(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Given>,
) -> Result<Response, Failure> {
    let name = person_of(&visit)?;
    if given.new != given.again {
        let wrong = Wrong::at("again", visit.l, "the two passwords differ; type the same one twice");
        return show(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, "", wrong);
    }
    let error = match shared.state.access.change_own_password(&name, &given.old, &given.new, visit.from).await {
        Ok(signed_in) => {
            let mut response = Redirect::to("/account?done=password").into_response();
            let_in(&mut response, &signed_in, visit.secure);
            return Ok(response);
        }
        Err(error) => error,
    };
    let unfit = StatusCode::UNPROCESSABLE_ENTITY;
    let (status, wrong) = match &error {
        SignInError::Wrong => (unfit, Wrong::at("old", visit.l, "this is not your present password")),
        SignInError::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, Wrong::at("old", visit.l, &error.to_string())),
        SignInError::Access(inner) if inner.field().is_some() => {
            (unfit, Wrong::of(inner, visit.l).moved("password", "new"))
        }
        _ => return Err(Failure::unavailable(error.to_string())),
    };
    let mut response = show(&shared, &visit, status, "", wrong)?;
    if let SignInError::TooMany { after } = error {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    Ok(response)
}

/// `POST /account/sign-out-everywhere`: ends one's sessions in all browsers, this one too.
pub(in crate::web) async fn sign_out_everywhere(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
) -> Result<Response, Failure> {
    let name = person_of(&visit)?;
    shared.state.access.sign_out_everywhere(&visit.by()?, &name).await;
    let mut response = Redirect::to("/sign-in").into_response();
    set_cookie(&mut response, &session_cookie("", visit.secure, 0));
    Ok(response)
}

/// The person who asks; a program with a token has no account, even if the token is called like a person.
pub(in crate::web) fn person_of(visit: &Visit) -> Result<String, Failure> {
    let who = visit.by()?.who;
    if who.kind == Kind::Person {
        return Ok(who.name);
    }
    Err(Failure::forbidden("only someone who is signed in has a password and sessions; an API token has none"))
}
