//! The screens, one file each. A screen has a handler that answers with the whole page, and, if it is live, a function that
//! renders its parts once a second for all pages that show it.

pub(super) mod account;
pub(super) mod alerts;
pub(super) mod audit;
pub(super) mod board;
pub(super) mod board_card;
pub(super) mod books;
pub(super) mod first_steps;
pub(super) mod missing;
pub(super) mod more;
pub(super) mod needs;
pub(super) mod overview;
pub(super) mod people;
pub(super) mod point;
pub(super) mod point_page;
pub(super) mod points;
pub(super) mod said;
pub(super) mod session;
pub(super) mod set_up;
pub(super) mod settings;
pub(super) mod sources;
pub(super) mod tokens;
pub(super) mod trial;
pub(super) mod upstream;
pub(super) mod ways;

use super::live::{Part, Shared};
use super::locale::Locale;
use super::snapshot::Snapshot;
use ways::draft::Side;

/// The live parts of a screen by its name; every screen has the banner of a trial.
pub(super) fn parts(screen: &str, snapshot: &Snapshot, shared: &Shared, l: Locale) -> askama::Result<Vec<Part>> {
    let mut parts = match screen.split_once(':').unwrap_or((screen, "")) {
        ("overview", _) => overview::parts(snapshot, shared, l)?,
        ("point", id) => point_page::parts(id, snapshot.now_us, shared, l)?,
        ("sources", "") => ways::routes::parts(Side::Source, snapshot, l)?,
        ("source", name) => ways::detail::source_parts(snapshot, shared, name, l)?,
        ("upstream", "") => ways::routes::parts(Side::Sink, snapshot, l)?,
        ("upstream", name) => ways::detail::sink_parts(snapshot, shared, name, l)?,
        // The guided way keeps what is on trial by its next button: no banner asks for it there.
        ("first-steps", _) => return first_steps::parts(snapshot, shared, l),
        ("alerts", _) => alerts::parts(snapshot, l)?,
        ("board", _) => board::parts(snapshot, shared, l)?,
        ("system", _) => board::system_parts(shared, l)?,
        _ => Vec::new(),
    };
    parts.push(("trial", trial::banner(shared, l)?));
    Ok(parts)
}
