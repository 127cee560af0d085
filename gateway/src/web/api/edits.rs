//! `PATCH /api/v1/config` and the registers of a source: changes at places of the file. What stands beside them stays as it is
//! written, with its comments.

use super::config::{Tried, within};
use super::given::{Given, Object};
use super::{Api, get, patch, put};
use crate::config::desk::Revision;
use crate::config::edit::{self, Edit, NoPlace, Place};
use crate::config::sheet;
use crate::web::change;
use crate::web::failure::{Failure, FieldError};
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::ways::draft::Side;
use crate::web::screens::ways::edit::{Running, registers_csv};
use crate::web::visit::Visit;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Changes at places of the configuration.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Places {
    /// The revision that they are made from; another one by now is a conflict.
    base: Revision,
    /// What changes, one after the other: all of it, or nothing.
    #[schemars(with = "Vec<PlaceEdit>", length(min = 1))]
    edits: Vec<Object<PlaceEdit>>,
    /// How many seconds it waits to be confirmed, 10 to 3600; 300 if nothing is said.
    #[serde(default)]
    #[schemars(range(min = 10, max = 3_600))]
    confirm_within_s: Option<u64>,
}

/// A change at a place.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct PlaceEdit {
    /// The place, as `source[1].unit[0].every_ms`.
    #[schemars(length(min = 1))]
    at: String,
    /// What is done there.
    #[serde(default, rename = "do")]
    what: Doing,
    /// What is put there, as the option takes it; nothing to remove.
    #[serde(default)]
    value: Value,
}

/// What is done at a place.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::web) enum Doing {
    /// Puts a value there.
    #[default]
    Set,
    /// Adds a value at the end of the list that stands there.
    Append,
    /// Takes out what stands there.
    Remove,
}

/// Which registers of a source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct SheetAsk {
    /// Which of its units, counted from 0; the first, if it is left out.
    #[serde(default)]
    unit: u32,
}

/// Registers from a spreadsheet.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewSheet {
    /// The revision that they are changed in; another one by now is a conflict.
    base: Revision,
    /// Which unit of the source, counted from 0; the first, if it is left out.
    #[serde(default)]
    unit: u32,
    /// The registers as a table, its first line the names of the columns: they take the place of those that are there.
    csv: String,
    /// How many seconds it waits to be confirmed, 10 to 3600; 300 if nothing is said.
    #[serde(default)]
    #[schemars(range(min = 10, max = 3_600))]
    confirm_within_s: Option<u64>,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const REGISTERS: &str = "/api/v1/sources/{name}/registers";
    api.at(
        "/api/v1/config",
        patch("Tries the configuration with changes at places of it; comments stay.")
            .takes::<Places>()
            .answers::<Tried>(),
        change_places,
    )
    .at(
        REGISTERS,
        get("The registers of a unit of a Modbus source as a table for a spreadsheet.")
            .query::<SheetAsk>()
            .answers_as(&["text/csv"]),
        registers,
    )
    .at(
        REGISTERS,
        put("Tries the configuration with other registers of a unit, from a table.")
            .takes::<NewSheet>()
            .answers::<Tried>(),
        put_registers,
    )
}

/// `PATCH /api/v1/config`.
async fn change_places(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<Places>,
) -> Result<Response, Failure> {
    let within = within(asked.confirm_within_s)?;
    change::is_still(&shared, Some(&asked.base))?;
    let what = asked.edits.first().map(|Object(edit)| edit.at.clone()).unwrap_or_default();
    let edits: Vec<Edit> = asked.edits.into_iter().map(|Object(edit)| edit.read()).collect::<Result<_, _>>()?;
    let text = shared.state.desk.state().borrow().text.clone();
    let text = change::apart(move || edit::apply(&text, &edits)).await?;
    let text = text.map_err(|error| Failure::unfit(error.to_string(), Vec::new()))?;
    let tried = change::try_text(&shared, &visit, &asked.base.0, text, &what, within).await?;
    Ok(pages::json(&visit, &Tried::from(tried)))
}

impl PlaceEdit {
    fn read(self) -> Result<Edit, Failure> {
        let place: Place = self.at.parse().map_err(|error: NoPlace| change::unfit_at(&self.at, error.to_string()))?;
        match (self.what, &self.value) {
            (Doing::Remove, Value::Null) => Ok(Edit::remove(&place)),
            (Doing::Remove, _) => Err(change::unfit_at(&self.at, "what is removed has no value".to_owned())),
            (_, Value::Null) => Err(change::unfit_at(&self.at, "give the value that is put there".to_owned())),
            (Doing::Set, value) => Ok(Edit::set(&place, toml(&self.at, value)?)),
            (Doing::Append, value) => Ok(Edit::append(&place, toml(&self.at, value)?)),
        }
    }
}

/// A JSON value as TOML in one line.
fn toml(at: &str, value: &Value) -> Result<String, Failure> {
    let value = toml::Value::try_from(value)
        .map_err(|error| change::unfit_at(at, format!("this is no value of an option: {error}")))?;
    Ok(value.to_string())
}

/// `GET /api/v1/sources/{name}/registers`.
async fn registers(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Query(ask): Query<SheetAsk>,
) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    let table = registers_csv(&running, &name, ask.unit as usize)?;
    Ok(pages::text(StatusCode::OK, &visit, "text/csv; charset=utf-8", table))
}

/// `PUT /api/v1/sources/{name}/registers`.
async fn put_registers(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Given(asked): Given<NewSheet>,
) -> Result<Response, Failure> {
    let within = within(asked.confirm_within_s)?;
    change::is_still(&shared, Some(&asked.base))?;
    let running = Running::read(&shared).await?;
    let unit = running.draft(Side::Source, &name)?.place().key("unit").item(asked.unit as usize);
    // That the unit has registers makes it one.
    registers_csv(&running, &name, asked.unit as usize)?;
    let place = unit.key("registers");
    let (text, list) = (running.text, place.to_string());
    let new = change::apart(move || {
        let pasted = sheet::paste(&asked.csv);
        if let [unknown, ..] = pasted.unknown.as_slice() {
            return Err(change::unfit_at("csv", format!("no column is called {unknown:?}")));
        }
        let edit = if pasted.problems.is_empty() { sheet::to_edit(&place, &pasted.rows) } else { Err(pasted.problems) };
        let edit = edit.map_err(|problems| of_cells(&list, problems))?;
        edit::apply(&text, &[edit]).map_err(|error| Failure::unfit(error.to_string(), Vec::new()))
    });
    let tried = change::try_text(&shared, &visit, &asked.base.0, new.await??, &name, within).await?;
    Ok(pages::json(&visit, &Tried::from(tried)))
}

/// What is wrong with cells, each at the place where it would stand.
fn of_cells(list: &str, problems: Vec<sheet::CellProblem>) -> Failure {
    let detail = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
    let field = |problem: sheet::CellProblem| {
        let path = format!("{list}[{}].{}", problem.row, problem.column);
        let path = path.trim_end_matches('.').to_owned();
        FieldError { path, message: problem.message, line: 0, column: 0 }
    };
    Failure::unfit(detail, problems.into_iter().map(field).collect())
}
