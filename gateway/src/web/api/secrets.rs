//! `/api/v1/secrets`: passwords and tokens that are typed in, each in a file of its own that the configuration names. None is ever
//! answered.

use super::given::Given;
use super::{Api, delete, get, put};
use crate::access::{Action, Deed};
use crate::reading::UnixMicros;
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::settings::security;
use crate::web::visit::Visit;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The secrets that the gateway keeps.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct SecretList {
    /// By name.
    secrets: Vec<SecretView>,
}

/// A secret without what it says.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct SecretView {
    /// Its name.
    name: String,
    /// Its file, for `password_file`, `bearer_file` and the like.
    file: String,
    /// When it was typed, in microseconds since 1970; nothing if its file does not tell.
    typed_us: Option<UnixMicros>,
    /// Whether the configuration that runs, or one that may come back, names it.
    used: bool,
}

/// A secret as it is typed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewSecret {
    /// What it says: at most 64 KiB; line ends at its end do not count.
    #[schemars(length(min = 1, max = 65_536))]
    secret: String,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const ONE: &str = "/api/v1/secrets/{name}";
    api.at("/api/v1/secrets", get("The secrets that were typed in, by name alone.").answers::<SecretList>(), list)
        .at(
            ONE,
            put("Keeps a secret in a file of its own; not in place of one that is used.")
                .takes::<NewSecret>()
                .answers::<SecretView>(),
            write,
        )
        .at(ONE, delete("Removes a secret that the configuration does not name."), remove)
}

fn view(secrets: &crate::config::secrets::Secrets, texts: &[String], name: String) -> SecretView {
    let file = secrets.path(&name).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    SecretView { used: security::names(texts, &file), typed_us: secrets.typed_us(&name), file, name }
}

/// `GET /api/v1/secrets`.
async fn list(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let (secrets, texts) = (security::secrets(&shared), security::texts(&shared));
    let secrets =
        change::apart(move || secrets.list().into_iter().map(|name| view(&secrets, &texts, name)).collect()).await?;
    Ok(pages::json(&visit, &SecretList { secrets }))
}

/// `PUT /api/v1/secrets/{name}`.
async fn write(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Given(asked): Given<NewSecret>,
) -> Result<Response, Failure> {
    let (secrets, texts) = (security::secrets(&shared), security::texts(&shared));
    let path = secrets.path(&name).map_err(|error| Failure::bad(error.to_string()))?;
    if security::names(&texts, &path.to_string_lossy()) {
        let said = "the configuration names this secret, and what runs is not changed without a trial; type it under another name, and change the name in the configuration";
        return Err(Failure::conflict(said));
    }
    let subject = name.clone();
    let written = change::apart(move || {
        secrets.write(&name, &asked.secret)?;
        Ok(view(&secrets, &texts, name))
    });
    let view = written.await?.map_err(|error| security::refused(&error))?;
    if let Some(who) = visit.who.clone() {
        let detail = "a secret was typed in".to_owned();
        let deed = Deed { who, from: Some(visit.from), action: Action::Operated, subject, detail };
        // That it could not be written is logged there; the secret is kept.
        shared.state.access.record(deed).await.ok();
    }
    Ok(pages::json(&visit, &view))
}

/// `DELETE /api/v1/secrets/{name}`.
async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    security::forget_one(&shared, &visit, name).await?;
    Ok(StatusCode::NO_CONTENT)
}
