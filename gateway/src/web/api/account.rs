//! `/api/v1/account`: who asks, what they may do; and for someone who is signed in their own password and sessions.

use super::given::Given;
use super::{Api, get, post};
use crate::access::{Kind, Person, SignInError, Who};
use crate::web::failure::{Failure, FieldError};
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::account::person_of;
use crate::web::screens::session::{SESSION_SECONDS, session_cookie, set_cookie};
use crate::web::visit::Visit;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who asks.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Account {
    /// Their name, and what they may do.
    who: Who,
    /// What is known of the person; nothing of a program with a token.
    person: Option<Person>,
}

/// A new password of one's own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct OwnPassword {
    /// The present one.
    old: String,
    /// The new one: at least 10 characters, and none of the first that anyone tries.
    #[schemars(length(min = 10, max = 256))]
    new: String,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    api.at("/api/v1/account", get("Who asks, and what they may do.").answers::<Account>(), own)
        .at(
            "/api/v1/account/password",
            post("Sets one's own password, ends one's sessions and begins a new one; not for tokens.")
                .takes::<OwnPassword>(),
            password,
        )
        .at("/api/v1/account/sign-out-everywhere", post("Ends all of one's own sessions; not for tokens."), sign_out)
}

/// `GET /api/v1/account`.
async fn own(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let who = visit.by()?.who;
    let people = shared.state.access.people()?;
    // A token may be called like a person, and is none.
    let person = people.into_iter().find(|person| who.kind == Kind::Person && person.name == who.name);
    Ok(pages::json(&visit, &Account { who, person }))
}

/// `POST /api/v1/account/password`.
async fn password(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<OwnPassword>,
) -> Result<Response, Failure> {
    let name = person_of(&visit)?;
    let changed = shared.state.access.change_own_password(&name, &asked.old, &asked.new, visit.from).await;
    let signed_in = changed.map_err(refused)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &session_cookie(&signed_in.cookie_value, visit.secure, SESSION_SECONDS));
    Ok(response)
}

/// `POST /api/v1/account/sign-out-everywhere`.
async fn sign_out(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let name = person_of(&visit)?;
    shared.state.access.sign_out_everywhere(&visit.by()?, &name).await;
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &session_cookie("", visit.secure, 0));
    Ok(response)
}

/// Why a password was not changed, at its field.
fn refused(error: SignInError) -> Failure {
    let said = error.to_string();
    let at = |path: &str, message: String| FieldError { path: path.to_owned(), message, line: 0, column: 0 };
    match error {
        SignInError::Wrong => {
            let said = "this is not your present password".to_owned();
            Failure::unfit(said.clone(), vec![at("old", said)])
        }
        SignInError::TooMany { after } => Failure {
            retry_after_s: Some(after.as_secs().max(1)),
            ..Failure::new(StatusCode::TOO_MANY_REQUESTS, "Too many attempts", said)
        },
        SignInError::Access(inner) if inner.field() == Some("password") => {
            Failure::unfit(said.clone(), vec![at("new", said)])
        }
        SignInError::Access(inner) => inner.into(),
        SignInError::NotSetUp => Failure::unavailable(said),
    }
}
