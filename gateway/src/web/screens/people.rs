//! `/settings/people`: who may sign in, and as what.

use super::said::{self, Wrong};
use super::{account, audit, set_up, tokens};
use crate::access::{AccessError, Kind, PEOPLE_MAX, Person, Role};
use crate::web::api::people::person;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use serde::Deserialize;
use std::sync::Arc;

/// The screen's address.
const HERE: &str = "/settings/people";

/// The screens about people: from the first one to what they did.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/set-up", get(set_up::page).post(set_up::set_up))
        .route("/account", get(account::page))
        .route("/account/password", post(account::change_password))
        .route("/account/sign-out-everywhere", post(account::sign_out_everywhere))
        .route("/settings/people", get(page).post(add))
        .route("/settings/people/one", get(one))
        .route("/settings/people/role", post(set_role))
        .route("/settings/people/password", post(set_password))
        .route("/settings/people/remove", post(remove))
        .route("/settings/tokens", get(tokens::page).post(tokens::make))
        .route("/settings/tokens/revoke", post(tokens::revoke))
        .route("/settings/audit", get(audit::page))
        .route("/settings/audit/export", get(audit::export))
}

/// What is asked of the list, or of one person.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Ask {
    /// What was done a moment ago, after a redirect.
    done: String,
    /// Whose screen it is.
    name: String,
}

/// What the forms send; each uses some of it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Given {
    name: String,
    role: String,
    password: String,
    again: String,
    typed: String,
}

/// A role to choose.
struct RoleView {
    value: &'static str,
    name: &'static str,
    meaning: &'static str,
    chosen: bool,
}

/// A line of the list.
struct Row {
    name: String,
    address: String,
    role: &'static str,
    sessions: usize,
    made: Moment,
    made_by: String,
    password_at: Moment,
    is_own: bool,
}

#[derive(Template)]
#[template(path = "people.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    roles: Vec<RoleView>,
    name: String,
    is_full: bool,
    done: &'static str,
    wrong: Wrong,
}

#[derive(Template)]
#[template(path = "person.html")]
struct PersonPage {
    frame: Frame,
    person: Row,
    roles: Vec<RoleView>,
    is_last: bool,
    wrong: Wrong,
}

fn roles(chosen: &str) -> Vec<RoleView> {
    let view = |role: Role| {
        let (name, meaning) = said::role(role);
        RoleView { value: role.name(), name, meaning, chosen: role.name() == chosen }
    };
    Role::ALL.into_iter().map(view).collect()
}

fn row(shared: &Shared, visit: &Visit, person: Person) -> Row {
    let now_us = shared.state.clock.tick().wall_us;
    let is_own = visit.who.as_ref().is_some_and(|who| who.kind == Kind::Person && who.name == person.name);
    Row {
        address: format!("{HERE}/one?{}", pages::query(&[("name", &person.name)])),
        role: said::role(person.role).0,
        sessions: person.sessions,
        made: Moment::new(person.made_us, now_us, visit.l),
        made_by: person.made_by,
        password_at: Moment::new(person.password_us, now_us, visit.l),
        name: person.name,
        is_own,
    }
}

/// `GET /settings/people`.
pub(in crate::web) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let done = match ask.done.as_str() {
        "added" => "The person is added.",
        "role" => "The role is changed. It holds at once, also where the person is signed in.",
        "password" => "The password is set, and the person signed out everywhere. Tell them the new one.",
        "removed" => "The person is removed and signed out everywhere.",
        _ => "",
    };
    show(&shared, &visit, StatusCode::OK, done, &Given::default(), Wrong::nothing())
}

fn show(
    shared: &Shared,
    visit: &Visit,
    status: StatusCode,
    done: &'static str,
    given: &Given,
    wrong: Wrong,
) -> Result<Response, Failure> {
    let people = shared.state.access.people()?;
    let role = if given.role.is_empty() { Role::Viewer.name() } else { given.role.as_str() };
    let page = Page {
        frame: Frame::new(shared, visit, Nav::Settings).tab(HERE),
        is_full: people.len() >= PEOPLE_MAX,
        rows: people.into_iter().map(|person| row(shared, visit, person)).collect(),
        roles: roles(role),
        name: given.name.clone(),
        done,
        wrong,
    };
    Ok(pages::html(status, visit, page.render()))
}

/// `GET /settings/people/one?name=…`.
pub(in crate::web) async fn one(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    show_one(&shared, &visit, StatusCode::OK, &ask.name, Wrong::nothing())
}

fn show_one(shared: &Shared, visit: &Visit, status: StatusCode, name: &str, wrong: Wrong) -> Result<Response, Failure> {
    let person = person(shared, name)?;
    let people = shared.state.access.people()?;
    let others = people.iter().filter(|other| other.role == Role::Administrator && other.name != person.name);
    let page = PersonPage {
        frame: Frame::new(shared, visit, Nav::Settings).tab(HERE),
        roles: roles(person.role.name()),
        is_last: others.count() == 0,
        person: row(shared, visit, person),
        wrong,
    };
    Ok(pages::html(status, visit, page.render()))
}

/// `POST /settings/people`: adds a person.
pub(in crate::web) async fn add(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Given>,
) -> Result<Response, Failure> {
    let wrong = if given.password == given.again {
        let role = role_of(&given.role)?;
        let added = shared.state.access.add_person(&visit.by()?, &given.name, role, &given.password).await;
        match added {
            Ok(()) => return Ok(Redirect::to("/settings/people?done=added").into_response()),
            Err(error) => at_field(error, &visit)?,
        }
    } else {
        Wrong::at("again", visit.l, "the two passwords differ; type the same one twice")
    };
    show(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, "", &given, wrong)
}

/// `POST /settings/people/role`.
pub(in crate::web) async fn set_role(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Given>,
) -> Result<Response, Failure> {
    let role = role_of(&given.role)?;
    match shared.state.access.set_role(&visit.by()?, &given.name, role).await {
        Ok(()) => Ok(Redirect::to("/settings/people?done=role").into_response()),
        Err(error) => {
            let wrong = at_field(error, &visit)?;
            show_one(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &given.name, wrong)
        }
    }
}

/// `POST /settings/people/password`: sets another password, for someone who has forgotten theirs.
pub(in crate::web) async fn set_password(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Given>,
) -> Result<Response, Failure> {
    let wrong = if given.password == given.again {
        match shared.state.access.set_password(&visit.by()?, &given.name, &given.password).await {
            Ok(()) => return Ok(Redirect::to("/settings/people?done=password").into_response()),
            Err(error) => at_field(error, &visit)?,
        }
    } else {
        Wrong::at("again", visit.l, "the two passwords differ; type the same one twice")
    };
    show_one(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &given.name, wrong)
}

/// `POST /settings/people/remove`: only with the name typed once more.
pub(in crate::web) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Given>,
) -> Result<Response, Failure> {
    let known = person(&shared, &given.name)?;
    let wrong = if given.typed.trim().to_lowercase() == known.name.to_lowercase() {
        match shared.state.access.remove_person(&visit.by()?, &known.name).await {
            Ok(()) => return Ok(Redirect::to("/settings/people?done=removed").into_response()),
            Err(AccessError::LastAdministrator) => {
                Wrong::at("typed", visit.l, &AccessError::LastAdministrator.to_string())
            }
            Err(error) => at_field(error, &visit)?,
        }
    } else {
        Wrong::at("typed", visit.l, "this is not the name; type it as it stands above")
    };
    show_one(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &given.name, wrong)
}

/// A role that a form sent.
fn role_of(name: &str) -> Result<Role, Failure> {
    name.parse().map_err(|error: crate::access::UnknownName| Failure::bad(error.to_string()))
}

/// What is wrong at its field; what belongs to none, or to someone who is no more, is a page of its own.
pub(super) fn at_field(error: AccessError, visit: &Visit) -> Result<Wrong, Failure> {
    match error {
        AccessError::NoSuchPerson(_) | AccessError::NoSuchToken(_) => Err(error.into()),
        error if error.field().is_some() => Ok(Wrong::of(&error, visit.l)),
        error => Err(error.into()),
    }
}
