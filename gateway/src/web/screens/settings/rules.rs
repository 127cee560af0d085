//! Rules, made by hand: which points, what is asked of them, and what happens then. A kind of rule is a file of its own here.

mod form;
mod limits;
mod list;
mod points;
mod unusual;
mod values;

pub(in crate::web) use points::pattern_of;

use crate::config::edit::{Place, Step};
use crate::config::form as options;
use crate::web::failure::FieldError;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;
use values::{Sheet, Values};

/// The screen's address.
pub(in crate::web) const HERE: &str = "/settings/rules";

/// Every kind of rule, in the order in which they are offered.
static KINDS: [&dyn Kind; 2] = [&limits::Limits, &unusual::Unusual];

/// A kind of rule: what the page has to know of it. Its options, and whether they are right, stand beside the code of the rule.
trait Kind: Sync {
    /// How addresses name it.
    fn key(&self) -> &'static str;

    /// The list of the file that it stands in.
    fn list(&self) -> &'static str;

    /// The key that makes an item of that list one of this kind; nothing if all of them are.
    fn mark(&self) -> Option<&'static str>;

    /// How its alerts name it.
    fn rule(&self) -> &'static str;

    /// Its name on the page, in English.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn about(&self) -> &'static str;

    /// The fields of its form, and what stands around them, by their names from the rule on: where something may be wrong.
    fn fields(&self) -> &'static [&'static str];

    /// Whether its numbers are in the unit of the points: then one rule hardly fits points of several.
    fn is_in_unit(&self) -> bool;

    /// What a rule of it asks, in the unit of its points, a piece each.
    fn says(&self, values: &Values, unit: &str, l: Locale) -> Vec<String>;

    /// Its fields as HTML, below the points.
    fn draw(&self, sheet: &Sheet<'_>) -> askama::Result<String>;

    /// What was typed, as the file has it; or what is wrong with it that the check of the file would not say at its field.
    fn written(&self, sheet: &Sheet<'_>) -> Result<Vec<(String, String)>, Vec<FieldError>>;
}

/// The routes of these screens.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route(HERE, get(list::page))
        .route("/settings/rules/new", get(form::new))
        .route("/settings/rules/edit", get(form::page).post(form::save))
        .route("/settings/rules/check", post(form::check))
        .route("/settings/rules/points", post(form::points))
        .route("/settings/rules/day", get(points::day))
}

/// The kind that an address names.
fn kind_named(key: &str) -> Option<&'static dyn Kind> {
    KINDS.into_iter().find(|kind| kind.key() == key)
}

/// The kind of a rule that stands in the file; none if there is no form for it.
fn kind_of(text: &str, at: &Place) -> Option<&'static dyn Kind> {
    let (around, Step::Item(_)) = at.split_last()? else { return None };
    let list = around.to_string();
    let form = options::at(text, at, None).filter(|form| form.exists)?;
    let has = |key: &str| form.fields.iter().any(|field| field.name == key && field.value.is_some());
    KINDS.into_iter().find(|kind| kind.list() == list && kind.mark().is_none_or(has))
}

/// The address of the form of a rule; that of all its options where there is none of its kind.
pub(in crate::web) fn edit_at(text: &str, at: &Place) -> String {
    if kind_of(text, at).is_none() {
        return super::fields::edit_at(at);
    }
    format!("{HERE}/edit?{}", pages::query(&[("at", &at.to_string())]))
}

/// What a rule says, in words; nothing where there is no form for its kind.
pub(super) fn words(text: &str, at: &Place, unit: &str, l: Locale) -> Option<String> {
    let kind = kind_of(text, at)?;
    Some(kind.says(&Values::of(text, at), unit, l).join(" · "))
}
