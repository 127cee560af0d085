//! `/api/v1/config`: the configuration as a text, handed in on trial, kept or taken back; its history; its options as forms.

use super::given::Given;
use super::{Api, get, post, put};
use crate::config::desk::{CONFIRM_WITHIN, Revision, Stuck};
use crate::config::edit::{NoPlace, Place};
use crate::config::form::{self, Form};
use crate::config::history::{History, Version};
use crate::config::redacted_toml;
use crate::reading::UnixMicros;
use crate::web::change;
use crate::web::failure::{Failure, FieldError};
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::visit::Visit;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The configuration that runs.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Running {
    /// Its text; secrets in addresses are hidden as `***` and put back when it is handed in again.
    text: String,
    /// Names the text; a change says which one it was made from.
    revision: Revision,
    /// The trial under way, if the text is not confirmed yet.
    trial: Option<OnTrial>,
    /// Why a change cannot be kept; nothing if it can.
    unwritable: Option<String>,
}

/// A configuration that runs but is not confirmed yet.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct OnTrial {
    /// Who made the change.
    by: String,
    /// When it began to run, in microseconds since 1970.
    since_us: UnixMicros,
    /// When it is taken back unless it is confirmed, in microseconds since 1970.
    until_us: UnixMicros,
    /// Seconds that are left until then, whatever becomes of the wall clock.
    left_s: u64,
    /// What changed, a line each.
    changes: Vec<String>,
    /// Whether readings have come in since it began, from every source that the change concerns; not if it leaves none.
    flows: bool,
    /// Sources that the change adds or starts anew and that have brought no value since.
    silent: Vec<String>,
    /// Sinks that the change adds or starts anew and that take nothing.
    stuck: Vec<Stuck>,
}

/// A text that is handed in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewText {
    /// The whole text, TOML.
    text: String,
    /// The revision that it was made from; another one by now is a conflict.
    base: Revision,
    /// How many seconds it waits to be confirmed, 10 to 3600; 300 if nothing is said.
    #[serde(default)]
    #[schemars(range(min = 10, max = 3_600))]
    confirm_within_s: Option<u64>,
}

/// What goes with the way back to a kept text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Back {
    /// The revision that was looked at; another one by now is a conflict.
    base: Revision,
    /// How many seconds it waits to be confirmed, 10 to 3600; 300 if nothing is said.
    #[serde(default)]
    #[schemars(range(min = 10, max = 3_600))]
    confirm_within_s: Option<u64>,
}

/// A text to look at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Text {
    /// The whole text, TOML.
    text: String,
}

/// What a trial has changed.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Tried {
    /// What changed, a line each.
    changes: Vec<String>,
    /// The revision that is on trial: what to name when it is kept or taken back.
    revision: Revision,
}

impl From<(Vec<String>, Revision)> for Tried {
    fn from((changes, revision): (Vec<String>, Revision)) -> Self {
        Self { changes, revision }
    }
}

/// How a trial is taken back.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct TakeBack {
    /// The revision that is meant; if another one is on trial by now, nothing is taken back. Whatever is on trial, without it.
    #[serde(default)]
    revision: Option<Revision>,
}

/// What runs once a trial is over.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Decided {
    /// The revision that runs.
    revision: Revision,
}

/// What is known of a text.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Looked {
    /// Whether a gateway would run by it.
    sound: bool,
    /// What is wrong, in the order of the lines.
    problems: Vec<FieldError>,
    /// What may be meant, but should be known.
    warnings: Vec<FieldError>,
}

/// How a trial is kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Keep {
    /// Also though something speaks against it: no reading has come in, no source is left, a source that the change concerns is silent, or a
    /// sink of it takes nothing.
    #[serde(default)]
    force: bool,
    /// The revision that is meant; if another one is on trial by now, nothing is kept. Whatever is on trial, without it.
    #[serde(default)]
    revision: Option<Revision>,
}

/// The texts that were kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Versions {
    /// The newest first.
    versions: Vec<Version>,
}

/// A text that was kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct OldText {
    /// What is known of it.
    version: Version,
    /// Its text, secrets in addresses hidden.
    text: String,
}

/// Which options are asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct At {
    /// The place, as `source[1].unit[0]`; the whole file if nothing is said.
    #[serde(default)]
    at: String,
    /// The kind that it is to be, if it is not there yet: `modbus`.
    kind: Option<String>,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const ALL: &str = "/api/v1/config";
    const N: &[(&str, u64)] = &[("n", u64::MAX)];
    const TRY: &str = "Runs a text on trial: at once, and until it is confirmed or its time is over.";
    api.at(ALL, get("The configuration that runs, its secrets hidden.").answers::<Running>(), running)
        .at(ALL, put(TRY).takes::<NewText>().answers::<Tried>(), hand_in)
        .at(
            "/api/v1/config/check",
            post("Looks at a text as `forebay check` does; nothing is changed.").takes::<Text>().answers::<Looked>(),
            check,
        )
        .at(
            "/api/v1/config/confirm",
            post("Keeps what is on trial: writes the file.").takes::<Keep>().answers::<Decided>(),
            confirm,
        )
        .at(
            "/api/v1/config/revert",
            post("Takes back what is on trial.").may_take::<TakeBack>().answers::<Decided>(),
            revert,
        )
        .at("/api/v1/config/history", get("The texts that were kept, the newest first.").answers::<Versions>(), history)
        .at(
            "/api/v1/config/history/{n}",
            get("A text that was kept, its secrets hidden.").answers::<OldText>().numbers(N),
            version,
        )
        .at(
            "/api/v1/config/history/{n}/restore",
            post("Tries a text that was kept, with the secrets that it had.")
                .takes::<Back>()
                .answers::<Tried>()
                .numbers(N),
            restore,
        )
        .at(
            "/api/v1/config/schema",
            get("The options of a place: what each is for, what it takes, and what it has now.")
                .query::<At>()
                .answers::<Form>(),
            schema,
        )
}

/// `GET /api/v1/config`.
async fn running(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let desk = shared.state.desk.state().borrow().clone();
    let trial = desk.trial.map(|trial| OnTrial {
        by: trial.by,
        since_us: trial.since_us,
        until_us: trial.until_us,
        left_s: trial.until_mono_us.saturating_sub(shared.state.clock.mono_us()) / 1_000_000,
        changes: trial.changes,
        flows: trial.doubts.flows(),
        silent: trial.doubts.silent,
        stuck: trial.doubts.stuck,
    });
    let text = redacted_toml(&desk.text);
    pages::json(&visit, &Running { text, revision: desk.revision, trial, unwritable: desk.unwritable })
}

/// `PUT /api/v1/config`.
async fn hand_in(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(given): Given<NewText>,
) -> Result<Response, Failure> {
    let within = within(given.confirm_within_s)?;
    let tried = change::try_text(&shared, &visit, &given.base.0, given.text, "configuration", within).await?;
    Ok(pages::json(&visit, &Tried::from(tried)))
}

/// How long a change waits to be confirmed.
pub(super) fn within(asked_s: Option<u64>) -> Result<Duration, Failure> {
    let within = asked_s.map_or(change::CONFIRM_WITHIN, Duration::from_secs);
    if CONFIRM_WITHIN.contains(&within) {
        return Ok(within);
    }
    Err(change::unfit_at("confirm_within_s", "a change waits 10 to 3600 seconds to be confirmed".to_owned()))
}

/// `POST /api/v1/config/check`.
async fn check(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(given): Given<Text>,
) -> Result<Response, Failure> {
    let looked = match change::restored(&shared, &given.text).await {
        Err(failure) if failure.fields.is_empty() => return Err(failure),
        Err(failure) => Looked { sound: false, problems: failure.fields, warnings: Vec::new() },
        Ok(text) => {
            let examined = change::look_at(text).await?;
            Looked {
                sound: examined.problems.is_empty(),
                problems: examined.problems.iter().map(FieldError::from).collect(),
                warnings: examined.warnings.iter().map(FieldError::from).collect(),
            }
        }
    };
    Ok(pages::json(&visit, &looked))
}

/// `POST /api/v1/config/confirm`.
async fn confirm(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(given): Given<Keep>,
) -> Result<Response, Failure> {
    change::keep(&shared, &visit, given.force, given.revision.as_ref()).await?;
    Ok(decided(&shared, &visit))
}

/// `POST /api/v1/config/revert`.
async fn revert(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    given: Option<Given<TakeBack>>,
) -> Result<Response, Failure> {
    let seen = given.and_then(|Given(given)| given.revision);
    change::take_back(&shared, &visit, seen.as_ref()).await?;
    Ok(decided(&shared, &visit))
}

fn decided(shared: &Shared, visit: &Visit) -> Response {
    let revision = shared.state.desk.state().borrow().revision.clone();
    pages::json(visit, &Decided { revision })
}

fn kept(shared: &Shared) -> History {
    let access = shared.state.access.dir();
    History::of(access.parent().unwrap_or(access))
}

/// `GET /api/v1/config/history`.
async fn history(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let history = kept(&shared);
    let versions = change::apart(move || history.list()).await?;
    Ok(pages::json(&visit, &Versions { versions }))
}

/// `GET /api/v1/config/history/{n}`.
async fn version(State(shared): State<Arc<Shared>>, visit: Visit, Path(n): Path<u64>) -> Result<Response, Failure> {
    let history = kept(&shared);
    let found = change::apart(move || history.get(n)).await?;
    let (version, text) = found.map_err(|error| Failure::missing(error.to_string()))?;
    Ok(pages::json(&visit, &OldText { version, text: redacted_toml(&text) }))
}

/// `POST /api/v1/config/history/{n}/restore`: with its own secrets, also those that the text shows as hidden.
async fn restore(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(n): Path<u64>,
    Given(given): Given<Back>,
) -> Result<Response, Failure> {
    let (within, history) = (within(given.confirm_within_s)?, kept(&shared));
    let found = change::apart(move || history.get(n)).await?;
    let (_, text) = found.map_err(|error| Failure::missing(error.to_string()))?;
    let what = format!("version {n}");
    let tried = change::try_text(&shared, &visit, &given.base.0, text, &what, within).await?;
    Ok(pages::json(&visit, &Tried::from(tried)))
}

/// `GET /api/v1/config/schema`.
async fn schema(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(At { at, kind }): Query<At>,
) -> Result<Response, Failure> {
    let place: Place = at.parse().map_err(|error: NoPlace| Failure::bad(error.to_string()))?;
    let text = shared.state.desk.state().borrow().text.clone();
    let form = form::at(&text, &place, kind.as_deref());
    let form = form.ok_or_else(|| Failure::missing(format!("no option has the place {place}")))?;
    Ok(pages::json(&visit, &form))
}
