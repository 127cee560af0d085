//! Two people at once: the second sees what runs now, what they wanted, and what differs, and nothing that they typed is lost.

use super::draft::{self, Entry};
use super::edit::running;
use super::past::{DiffView, diff_view};
use crate::config::history::History;
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

#[derive(Template)]
#[template(path = "settings/conflict.html")]
struct Page {
    frame: Frame,
    /// Who made the newest one, if that is known.
    by: String,
    /// What the newest one changed, if that is known.
    theirs: Option<DiffView>,
    /// What would become of the newest one.
    mine: DiffView,
    /// Why the change does not fit the newest one.
    wrong: String,
    action: &'static str,
    open: String,
    hidden: Vec<(String, String)>,
}

/// The answer to a form that was made from an old text. Its fields are put onto the newest one.
pub(super) async fn of_form(shared: &Shared, visit: &Visit, entry: &Entry) -> Result<Response, Failure> {
    let (now, revision) = running(shared);
    let (mine, wrong) = match draft::new_text(&now, entry, shared) {
        Ok(mine) => (mine, String::new()),
        Err(errors) => (now.clone(), errors.first().map(|error| error.message.clone()).unwrap_or_default()),
    };
    let own = [(":at", entry.at.to_string()), (":base", revision), (":within", entry.within.clone())];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let tags = entry.tags.iter().map(|tag| (":tag".to_owned(), tag.clone()));
    // A secret that was typed is typed again: it does not travel through a page.
    let typed = entry.typed.iter().filter(|(name, _)| !name.starts_with(super::edit::SECRET)).cloned();
    let hidden = own.chain(tags).chain(typed).collect();
    let open = super::fields::edit_at(&entry.at);
    show(shared, visit, &entry.base, &now, &mine, wrong, "/settings/edit", open, hidden).await
}

/// The answer to a text that was made from an old one. It can still be put in its place.
pub(super) async fn of_text(
    shared: &Shared,
    visit: &Visit,
    base: &str,
    text: &str,
    within: &str,
) -> Result<Response, Failure> {
    let (now, revision) = running(shared);
    let hidden = [("base", revision.as_str()), ("confirm_within", within), ("text", text)];
    let hidden = hidden.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let open = "/settings/file".to_owned();
    show(shared, visit, base, &now, text, String::new(), "/settings/file", open, hidden).await
}

#[expect(clippy::too_many_arguments, reason = "what the two pages differ in, each once")]
async fn show(
    shared: &Shared,
    visit: &Visit,
    base: &str,
    now: &str,
    mine: &str,
    wrong: String,
    action: &'static str,
    open: String,
    hidden: Vec<(String, String)>,
) -> Result<Response, Failure> {
    let desk = shared.state.desk.state().borrow().clone();
    let (data_dir, base) = (draft::data_dir(shared), base.to_owned());
    let (before, newest) = change::apart(move || {
        let history = History::of(&data_dir);
        let list = history.list();
        let known = list.iter().find(|version| version.revision.0 == base);
        (known.and_then(|version| history.get(version.n).ok()), list.into_iter().next())
    })
    .await?;
    let by = desk.trial.as_ref().map(|trial| trial.by.clone()).or_else(|| newest.map(|version| version.by));
    let before = before.map(|(_, text)| text).or_else(|| desk.trial.as_ref().map(|trial| trial.before.to_string()));
    let page = Page {
        frame: Frame::new(shared, visit, Nav::Settings).tab("/settings"),
        by: by.unwrap_or_default(),
        theirs: before.map(|before| diff_view(&before, now)),
        mine: diff_view(now, mine),
        wrong: crate::web::words::sentence(&visit.l.say(&wrong)),
        action,
        open,
        hidden,
    };
    Ok(pages::html(StatusCode::CONFLICT, visit, page.render()))
}
