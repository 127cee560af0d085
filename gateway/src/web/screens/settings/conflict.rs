//! Two people at once: the second sees what runs now, what they wanted, and what differs, and nothing that they typed is lost.

use super::draft::{self, Entry};
use super::edit::running;
use super::past::{DiffView, diff_view};
use crate::config::desk::Revision;
use crate::config::history::{History, merge};
use crate::config::redacted_toml;
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
    /// What was wanted, where it cannot be put into the newest one: to be read off and typed there.
    yours: Option<DiffView>,
    action: &'static str,
    open: String,
    hidden: Vec<(String, String)>,
}

/// The answer to a form that was made from an old text. What it changed there is put into the newest one.
pub(super) async fn of_form(shared: &Shared, visit: &Visit, entry: &Entry) -> Result<Response, Failure> {
    let (before, newest) = known(shared, &entry.base).await?;
    // A secret that was typed is typed again: it does not travel through a page.
    let typed = entry.typed.iter().filter(|(name, _)| !name.starts_with(super::edit::SECRET)).cloned().collect();
    let entry = Entry { typed, ..entry.clone() };
    let text = before.clone().unwrap_or_else(|| running(shared).0);
    let mine = draft::new_text(&text, &entry, shared)
        .map_err(|errors| errors.first().map(|error| error.message.clone()).unwrap_or_default());
    let conflict = Conflict { before, newest, mine, within: &entry.within, open: super::fields::edit_at(&entry.at) };
    Ok(show(shared, visit, conflict))
}

/// The answer to a text that was made from an old one.
pub(super) async fn of_text(
    shared: &Shared,
    visit: &Visit,
    base: &str,
    text: &str,
    within: &str,
) -> Result<Response, Failure> {
    let (before, newest) = known(shared, base).await?;
    let mine = Ok(text.replace("\r\n", "\n"));
    Ok(show(shared, visit, Conflict { before, newest, mine, within, open: "/settings/file".to_owned() }))
}

/// What meets.
struct Conflict<'a> {
    /// The text that the change was made from, if it is still known.
    before: Option<String>,
    /// Who kept the newest one.
    newest: Option<String>,
    /// What was wanted, or why it does not even fit what it was made from.
    mine: Result<String, String>,
    within: &'a str,
    open: String,
}

/// The text of a revision, as far as it was kept or may come back; and who kept the newest one.
async fn known(shared: &Shared, base: &str) -> Result<(Option<String>, Option<String>), Failure> {
    let desk = shared.state.desk.state().borrow().clone();
    let (data_dir, base) = (draft::data_dir(shared), base.to_owned());
    let before = desk.trial.as_ref().map(|trial| trial.before.to_string());
    let before = before.filter(|text| Revision::of(text).0 == base);
    change::apart(move || {
        let history = History::of(&data_dir);
        let list = history.list();
        let kept =
            || list.iter().find(|version| version.revision.0 == base).and_then(|version| history.get(version.n).ok());
        let text = before.or_else(|| kept().map(|(_, text)| text));
        (text, list.into_iter().next().map(|version| version.by))
    })
    .await
}

fn show(shared: &Shared, visit: &Visit, conflict: Conflict<'_>) -> Response {
    let Conflict { before, newest, mine, within, open } = conflict;
    let (now, revision) = running(shared);
    let l = visit.l;
    // Secrets stay hidden: they are put back where the text is handed in.
    let (now, before) = (redacted_toml(&now), before.as_deref().map(redacted_toml));
    let mut yours = None;
    let both = mine.and_then(|mine| {
        let mine = redacted_toml(&mine);
        match &before {
            Some(before) => merge(before, &mine, &now).ok_or_else(|| {
                yours = Some(diff_view(before, &mine));
                l.t("Both of you changed the same lines; open the newest one and make your change there").to_owned()
            }),
            None => Ok(mine),
        }
    });
    let (mine, wrong) = match both {
        Ok(both) => (both, String::new()),
        Err(wrong) => (now.clone(), crate::web::words::sentence(&l.say(&wrong))),
    };
    let hidden = [("base", revision.as_str()), ("confirm_within", within), ("text", &mine)];
    let desk = shared.state.desk.state().borrow().clone();
    let by = desk.trial.as_ref().map(|trial| trial.by.clone()).or(newest);
    let page = Page {
        frame: Frame::new(shared, visit, Nav::Settings).tab("/settings"),
        by: by.unwrap_or_default(),
        theirs: before.map(|before| diff_view(&before, &now)),
        mine: diff_view(&now, &mine),
        wrong,
        yours,
        action: "/settings/file",
        open,
        hidden: hidden.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    pages::html(StatusCode::CONFLICT, visit, page.render())
}
