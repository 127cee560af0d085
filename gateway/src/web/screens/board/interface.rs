//! `/api`: what the interface for programs is, for the person who writes such a program.

use crate::access::Right;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use std::sync::Arc;

/// Longest name of this gateway that an example shows, in bytes.
const HOST_BYTES_MAX: usize = 128;

/// What `/events` sends, and when: the names that stand in `of`, and the events that come then.
const EVENTS: [(&str, &str, &str); 10] = [
    ("overview", "needs, sources, board, upstream, watch, books, count, announce", "The overview"),
    ("point:ID", "now", "Point"),
    ("sources", "ways", "Sources"),
    ("source:NAME", "state, points", "Source"),
    ("upstream", "ways", "Upstream"),
    ("upstream:NAME", "state, replays", "Way upstream"),
    ("board", "board-waits, board-fill, board-card, board-replays", "The buffer"),
    ("alerts", "alerts-now", "Alerts"),
    ("system", "system", "The system"),
    ("first-steps", "value", "First steps"),
];

#[derive(Template)]
#[template(path = "see/interface.html")]
struct Page {
    frame: Frame,
    origin: String,
    own_certificate: bool,
    may_make_tokens: bool,
    groups: Vec<Group>,
    events: [(&'static str, &'static str, &'static str); 10],
}

/// The addresses that begin alike.
struct Group {
    name: String,
    addresses: Vec<(String, &'static str, &'static str)>,
}

/// `GET /api`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let tls = visit.secure || shared.state.tls.certificate().is_some();
    let page = Page {
        frame: Frame::new(&shared, &visit, Nav::None),
        origin: format!("{}://{}", if visit.secure { "https" } else { "http" }, host(&headers)),
        own_certificate: tls && visit.secure,
        may_make_tokens: visit.may(Right::People),
        groups: groups(),
        events: EVENTS,
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

/// How the viewer calls this gateway, as far as that can stand in a command.
fn host(headers: &HeaderMap) -> &str {
    let fit = |host: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(plain)
    };
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).filter(fit).unwrap_or("gateway.example")
}

fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    // Events have a part of the page to themselves.
    for operation in crate::web::api::all().operations().iter().filter(|operation| operation.path != "/events") {
        let name = operation.path.split('/').nth(3).unwrap_or_default().to_owned();
        let address = (operation.method.to_string(), operation.path, operation.summary);
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.addresses.push(address),
            None => groups.push(Group { name, addresses: vec![address] }),
        }
    }
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups
}
