//! `/board/letters/{sequence}`: a dead letter looked into: what came as text and as bytes, what was wrong with it, by which
//! configuration; and what came as a file.

use crate::history::RecordWhat;
use crate::reading::{Sequence, Stream};
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::{Moment, sentence};
use askama::Template;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::fmt::Write as _;
use std::sync::Arc;

/// Bytes on a line of the view: what fits a phone's width with both sides.
const LINE_BYTES: usize = 8;

#[derive(Template)]
#[template(path = "see/letter.html")]
struct Page {
    frame: Frame,
    sequence: Sequence,
    at: Moment,
    error: String,
    source: String,
    source_address: String,
    facts: Vec<(&'static str, String)>,
    text: Option<String>,
    lines: Vec<Line>,
    shown: String,
    whole: String,
    cut: bool,
    sha256: Option<String>,
}

/// A line of the view: where it begins, its bytes, and what of them can be read.
struct Line {
    at: String,
    hex: String,
    text: String,
}

/// `GET /board/letters/{sequence}`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(sequence): Path<String>,
) -> Result<Response, Failure> {
    let sequence = number(&sequence)?;
    let found = shared.state.history.record(Stream::DeadLetters, sequence).await?;
    let record = found.ok_or_else(|| gone(sequence))?;
    let l = visit.l;
    let RecordWhat::DeadLetter { source, position, error, rule, config_version, raw, .. } = record.what else {
        return Err(gone(sequence));
    };
    let page = Page {
        frame: Frame::new(&shared, &visit, Nav::Board).tab("/board/letters"),
        sequence,
        at: Moment::new(record.at_us, shared.state.clock.tick().wall_us, l),
        error: sentence(&l.say(&error)),
        source_address: pages::path("/sources/", &source),
        source,
        facts: vec![
            ("Where in it", position),
            ("Refused by", rule),
            ("Version of the configuration", config_version.to_string()),
            ("Number", sequence.to_string()),
            ("Size", l.bytes(raw.bytes)),
        ],
        lines: lines(&hex::decode(&raw.hex).unwrap_or_default()),
        text: raw.text,
        shown: l.bytes(raw.shown_bytes),
        whole: l.bytes(raw.bytes),
        cut: raw.shown_bytes < raw.bytes,
        sha256: raw.sha256,
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

/// `GET /board/letters/{sequence}/raw`: all that is kept of what came, as a file that no browser opens.
pub(in crate::web) async fn raw(
    State(shared): State<Arc<Shared>>,
    Path(sequence): Path<String>,
) -> Result<Response, Failure> {
    let sequence = number(&sequence)?;
    let kept = shared.state.history.raw_bytes(sequence).await?.ok_or_else(|| gone(sequence))?;
    let head = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"dead-letter-{sequence}.bin\"")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((head, kept).into_response())
}

fn number(text: &str) -> Result<Sequence, Failure> {
    text.parse().map_err(|_| Failure::missing(format!("there is no dead letter {text:?}; its number counts from 0")))
}

fn gone(sequence: Sequence) -> Failure {
    Failure::missing(format!("there is no dead letter {sequence}; it may have given way to newer ones"))
}

fn lines(bytes: &[u8]) -> Vec<Line> {
    let line = |(index, bytes): (usize, &[u8])| {
        let mut hex = String::with_capacity(LINE_BYTES * 3);
        for byte in bytes {
            // Writing into a text does not fail.
            write!(hex, "{byte:02x} ").unwrap_or_default();
        }
        let text =
            bytes.iter().map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '·' }).collect();
        Line { at: format!("{:04x}", index * LINE_BYTES), hex: hex.trim_end().to_owned(), text }
    };
    bytes.chunks(LINE_BYTES).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_beside_what_can_be_read_of_them() {
        let lines = lines(b"{\"v\": \x00\xff<b>");
        let shown: Vec<_> = lines.iter().map(|line| format!("{}|{}|{}", line.at, line.hex, line.text)).collect();
        assert_eq!(shown, ["0000|7b 22 76 22 3a 20 00 ff|{\"v\": ··", "0008|3c 62 3e|<b>"]);
    }
}
