//! The books on the overview: what came in and what became of it, what is to go out and what became of that.

use crate::web::locale::Locale;
use crate::web::snapshot::{SinkView, Snapshot, SourceView};
use askama::Template;

/// A row: whose books, and its numbers in the order of the head; those that ask for a look are strong.
struct Row {
    name: String,
    numbers: Vec<(String, bool)>,
}

struct Sheet {
    caption: &'static str,
    head: &'static [&'static str],
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "books.html")]
pub(in crate::web) struct Books {
    l: Locale,
    close: bool,
    recovered: String,
    sheets: Vec<Sheet>,
}

impl Books {
    /// The books of one moment.
    pub(in crate::web) fn new(snapshot: &Snapshot, l: Locale) -> Self {
        let lanes_close = snapshot.sinks.iter().flat_map(|sink| sink.streams.values()).all(|lane| lane.closes);
        let sources = Sheet {
            caption: "Came in",
            head: &["received", "accepted", "came again", "rejected"],
            rows: snapshot.sources.iter().map(|source| source_row(source, l)).collect(),
        };
        let sinks = Sheet {
            caption: "Readings to go out",
            head: &["accepted", "delivered", "not for it", "waiting", "refused", "lost"],
            rows: snapshot.sinks.iter().map(|sink| sink_row(sink, l)).collect(),
        };
        let recovered: u64 = snapshot.recovered.values().sum();
        Self {
            l,
            close: snapshot.ingest_books_close && lanes_close,
            recovered: if recovered > 0 { l.count(recovered) } else { String::new() },
            sheets: [sources, sinks].into_iter().filter(|sheet| !sheet.rows.is_empty()).collect(),
        }
    }
}

fn source_row(source: &SourceView, l: Locale) -> Row {
    let calm = [source.received, source.accepted, source.duplicate].map(|count| (l.count(count), false));
    let rejected = (l.count(source.rejected), source.rejected > 0);
    Row { name: source.name.clone(), numbers: calm.into_iter().chain([rejected]).collect() }
}

fn sink_row(sink: &SinkView, l: Locale) -> Row {
    let lane = sink.readings();
    let calm = [lane.accepted, lane.delivered, lane.filtered, lane.undelivered];
    let calm = calm.map(|count| (l.count(count), false));
    let strong = [lane.refused, lane.gaps].map(|count| (l.count(count), count > 0));
    Row { name: sink.name.clone(), numbers: calm.into_iter().chain(strong).collect() }
}
