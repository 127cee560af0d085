//! `/api/v1/people`: who may sign in, for programs that have the right `people`.

use super::given::Given;
use super::{Api, delete, get, patch, post};
use crate::access::{Person, Role};
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::visit::Visit;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Everyone who may sign in.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct People {
    /// In the order in which they were added.
    people: Vec<Person>,
}

/// A person to add.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewPerson {
    /// What they sign in with: at most 64 visible characters; letters differ not by case.
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// What they may do.
    role: Role,
    /// At least 10 characters, and none of the first that anyone tries.
    #[schemars(length(min = 10, max = 256))]
    password: String,
}

/// What is to become of a person: either another role, or another password, which ends their sessions.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::web) struct PersonChange {
    /// Another role.
    #[serde(default)]
    #[schemars(with = "Role")]
    role: Option<Role>,
    /// Another password: at least 10 characters, and none of the first that anyone tries.
    #[serde(default)]
    #[schemars(with = "String", length(min = 10, max = 256))]
    password: Option<String>,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const ONE: &str = "/api/v1/people/{name}";
    api.at("/api/v1/people", get("Everyone who may sign in.").answers::<People>(), list)
        .at(
            "/api/v1/people",
            post("Adds a person.").takes::<NewPerson>().answers::<Person>().with(StatusCode::CREATED),
            add,
        )
        .at(ONE, get("A person.").answers::<Person>(), one)
        .at(ONE, patch("Gives a person another role or password.").takes::<PersonChange>().answers::<Person>(), change)
        .at(ONE, delete("Removes a person and ends their sessions."), remove)
}

/// `GET /api/v1/people`.
pub(in crate::web) async fn list(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    Ok(pages::json(&visit, &People { people: shared.state.access.people()? }))
}

/// `GET /api/v1/people/{name}`.
pub(in crate::web) async fn one(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    Ok(pages::json(&visit, &person(&shared, &name)?))
}

/// `POST /api/v1/people`.
pub(in crate::web) async fn add(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<NewPerson>,
) -> Result<Response, Failure> {
    shared.state.access.add_person(&visit.by()?, &asked.name, asked.role, &asked.password).await?;
    let made = person(&shared, &asked.name)?;
    Ok(created(&visit, &pages::path("/api/v1/people/", &made.name), &made))
}

/// `PATCH /api/v1/people/{name}`.
pub(in crate::web) async fn change(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Given(asked): Given<PersonChange>,
) -> Result<Response, Failure> {
    let (access, by) = (&shared.state.access, visit.by()?);
    match (asked.role, asked.password) {
        (Some(role), None) => access.set_role(&by, &name, role).await?,
        (None, Some(password)) => access.set_password(&by, &name, &password).await?,
        // Both at once could be half done.
        _ => return Err(Failure::unfit("give either \"role\" or \"password\"", Vec::new())),
    }
    Ok(pages::json(&visit, &person(&shared, &name)?))
}

/// `DELETE /api/v1/people/{name}`.
pub(in crate::web) async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    shared.state.access.remove_person(&visit.by()?, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The person of a name, in whatever case it is written.
pub(in crate::web) fn person(shared: &Shared, name: &str) -> Result<Person, Failure> {
    let wanted = name.trim().to_lowercase();
    let found = shared.state.access.people()?.into_iter().find(|person| person.name.to_lowercase() == wanted);
    found.ok_or_else(|| Failure::missing(format!("there is nobody called {name:?} here")))
}

/// The answer to what was made, and where it is.
pub(in crate::web) fn created(visit: &Visit, place: &str, made: &impl Serialize) -> Response {
    let mut response = pages::json(visit, made);
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::CREATED;
    }
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response.into_response()
}
