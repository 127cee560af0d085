//! The whole configuration in plain words, each part with the way to change it.

use super::edit::{running, unwritable};
use super::fields::{self, Item};
use super::rules;
use crate::buffer::WhenFull;
use crate::config::edit::Place;
use crate::config::{Config, HttpsMode, parse};
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

/// A part of which there is one.
struct One {
    name: &'static str,
    says: String,
    at: &'static str,
}

/// A part of which there may be many.
struct Many {
    name: &'static str,
    about: &'static str,
    none: &'static str,
    items: Vec<Item>,
    left_out: usize,
    add: &'static str,
}

#[derive(Template)]
#[template(path = "settings/outline.html")]
struct Page {
    frame: Frame,
    ones: Vec<One>,
    many: Vec<Many>,
    unwritable: String,
}

/// `GET /settings`.
pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let text = running(&shared).0;
    let l = visit.l;
    let (ones, many) = change::apart(move || {
        let config = parse("configuration", text.clone()).ok().map(|loaded| loaded.config);
        let ones = config.as_ref().map(|config| ones(config, l)).unwrap_or_default();
        (ones, many(&text, config.as_ref(), l))
    })
    .await?;
    let frame = Frame::new(&shared, &visit, Nav::Settings).tab("/settings");
    let page = Page { frame, ones, many, unwritable: unwritable(&shared, l) };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

fn ones(config: &Config, l: Locale) -> Vec<One> {
    let gateway = l.f2("{}, keeps its data in {}", &config.gateway.id, config.gateway.data_dir.display());
    let https = match config.web.https {
        HttpsMode::Required => "always encrypted",
        HttpsMode::Offered => "encrypted where the browser asks for it",
        HttpsMode::Off => "not encrypted",
    };
    let web = l.f2("listens on {}, {}", &config.web.listen, l.t(https));
    let full = match config.buffer.when_full {
        WhenFull::DropOldest => "when full, the oldest readings go",
        WhenFull::Block => "when full, nothing new is taken in",
    };
    let days = config.buffer.keep_delivered.to_string();
    let days = days.strip_suffix(" days").map_or(days.clone(), |days| l.f1("{} days", days));
    let kept = l.f("{} on disk; {}; delivered readings are kept for {}", &[&config.buffer.disk_max, &l.t(full), &days]);
    vec![
        One { name: "Gateway", says: gateway, at: "gateway" },
        One { name: "Web page", says: web, at: "web" },
        One { name: "Buffer", says: kept, at: "buffer" },
    ]
}

fn many(text: &str, config: Option<&Config>, l: Locale) -> Vec<Many> {
    let count = |count: fn(&Config) -> usize| config.map_or(0, count);
    let lists = [
        (
            "Sources",
            "Where readings come from.",
            "No source yet: nothing comes in.",
            "source",
            count(|c| c.source.len()),
        ),
        (
            "Upstream",
            "Where readings go.",
            "No way upstream yet: readings stay in the buffer.",
            "sink",
            count(|c| c.sink.len()),
        ),
        (
            "Devices",
            "Tags that go with every reading of a device.",
            "No device has tags.",
            "device",
            count(|c| c.device.len()),
        ),
        (
            "Rules",
            "Rules that readings are held against: limits, and what is unusual.",
            "No rule yet: every reading passes as it is.",
            "check",
            count(|c| c.check.len() + c.anomaly.len()),
        ),
    ];
    let many = lists.into_iter().map(|(name, about, none, key, count)| {
        let mut items =
            if key == "check" { rule_items(text, l) } else { fields::items(text, &Place::root().key(key), l) };
        let (root, add) = match key {
            "source" => ("/sources/", "/sources/new"),
            "sink" => ("/upstream/", "/upstream/new"),
            "device" => ("", "/settings/add?to=device"),
            _ => ("", rules::HERE),
        };
        if !root.is_empty() {
            for item in &mut items {
                item.href = pages::path(root, &item.name);
            }
        }
        Many { name, about, none, left_out: count.saturating_sub(items.len()), items, add }
    });
    many.collect()
}

/// The rules of every kind, each in words where there is a form for it.
fn rule_items(text: &str, l: Locale) -> Vec<Item> {
    let of_list = |key: &str| {
        let list = Place::root().key(key);
        let said = |(index, item): (usize, Item)| {
            let at = list.item(index);
            let says = rules::words(text, &at, "", l).unwrap_or(item.says);
            Item { name: item.name, says, href: rules::edit_at(text, &at) }
        };
        fields::items(text, &list, l).into_iter().enumerate().map(said).collect::<Vec<_>>()
    };
    ["check", "anomaly"].into_iter().flat_map(of_list).collect()
}
