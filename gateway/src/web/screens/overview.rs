//! `/`: the way of a reading. First whether anything needs a person, then sources, board and upstream, then points.

use super::board_card::BoardCard;
use super::books::Books;
use super::needs::Needs;
use super::point::PointView;
use super::points;
use super::ways::Ways;
use super::ways::draft::Side;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::snapshot::Snapshot;
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "watch.html")]
struct Watch {
    l: Locale,
    points: Vec<PointView>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    needs: String,
    sources: String,
    board: String,
    upstream: String,
    watch: String,
    books: String,
    count: String,
}

/// `GET /`.
pub(in crate::web) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let rendered = parts(&shared.snapshot(), &shared, visit.l).and_then(|mut parts| {
        let mut part = |name: &str| {
            let found = parts.iter_mut().find(|(known, _)| *known == name);
            found.map(|(_, text)| std::mem::take(text)).unwrap_or_default()
        };
        Page {
            frame: Frame::new(&shared, &visit, Nav::Overview).live("overview"),
            needs: part("needs"),
            sources: part("sources"),
            board: part("board"),
            upstream: part("upstream"),
            watch: part("watch"),
            books: part("books"),
            count: part("count"),
        }
        .render()
    });
    pages::html(StatusCode::OK, &visit, rendered)
}

/// Everything on the overview that changes.
pub(in crate::web) fn parts(snapshot: &Snapshot, shared: &Shared, l: Locale) -> askama::Result<Vec<Part>> {
    let (registry, status) = (&shared.state.registry, &shared.state.status);
    let needs = Needs::new(snapshot, shared, l);
    let watch = Watch { l, points: points::watched(registry, status, snapshot.now_us, l) };
    Ok(vec![
        ("announce", needs.announcement()?),
        ("needs", needs.render()?),
        ("sources", Ways::of(Side::Source, snapshot, l).render()?),
        ("board", BoardCard::new(snapshot, l).render()?),
        ("upstream", Ways::of(Side::Sink, snapshot, l).render()?),
        ("watch", watch.render()?),
        ("books", Books::new(snapshot, l).render()?),
        ("count", l.count(registry.len() as u64)),
    ])
}
