//! Tries an HTTP sink: name, connection, one POST with a test record, and what its answer means.

use super::{HttpOptions, HttpSink, answer, stream_url};
use crate::buffer::Cursor;
use crate::reading::{SequenceRange, Stream};
use crate::sinks::tryout::TestRecord;
use crate::sinks::{Offer, Outcome, Sink as _};
use crate::tryout::{EXCERPT_BYTES_MAX, Steps, excerpt, reach};
use reqwest::header::LOCATION;
use std::time::Duration;
use tokio::time::timeout;

/// How long the body of an answer is read: its beginning comes with the head, and some never end.
const BODY_LIMIT: Duration = Duration::from_secs(2);
/// With one of these set, connections go through a proxy: whether the endpoint itself can be reached proves nothing.
const PROXY_VARIABLES: [&str; 6] = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Takes the steps.
pub(in crate::sinks) async fn take_steps(options: &HttpOptions, test: &TestRecord, steps: &mut Steps) {
    let streams = options.route.streams();
    // The way of the readings, or of what goes there instead: a right or a path may differ.
    let stream = streams.iter().find(|stream| **stream == Stream::Readings).or(streams.first());
    let stream = stream.copied().unwrap_or(Stream::Readings);
    let url = match stream_url(&options.url, stream) {
        Ok(url) => url,
        Err(problem) => {
            steps.begin("read the address of the endpoint");
            return steps.failed(problem, "change url, then try again");
        }
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    if !PROXY_VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        let Some(addresses) = reach::resolve(steps, &host, port).await else { return };
        if !reach::connect(steps, &format!("{host}:{port}"), &addresses).await {
            return;
        }
    }
    let mut sink = match HttpSink::new(options) {
        Ok(sink) => sink,
        Err(error) => {
            steps.begin("make a client");
            return steps.failed(error.to_string(), "change it, then try again");
        }
    };
    if options.auth.is_some() {
        steps.begin("read the token");
        if let Err(error) = sink.recover(None).await {
            return steps.failed(error.to_string(), "put the token into that file, and let the service read it");
        }
        steps.ok("");
    }
    // A query may hold a token.
    let shown = url.as_str().split('?').next().unwrap_or_default().to_owned();
    steps.begin(format!("send one test record to {shown}"));
    let cursor = Cursor { ranges: Vec::new(), from: 1 };
    let records = [test.record.clone()];
    let offer = Offer {
        key: test.key.clone(),
        stream,
        replay: None,
        range: SequenceRange { first: 0, last: 0 },
        records: &records,
        epoch: test.epoch,
        run_mark: 0,
        cursor_after: &cursor,
    };
    let mut response = match sink.post(&offer).await {
        Ok(response) => response,
        Err(outcome) => {
            let why = match outcome {
                Outcome::Retry { reason, .. } | Outcome::Refused { reason } | Outcome::Pause { reason } => reason,
                Outcome::Delivered { .. } => String::new(),
            };
            let advice = if url.scheme() == "https" {
                "check that the endpoint speaks HTTPS there, and that its certificate is of a known authority and of this name"
            } else {
                "check that an HTTP endpoint listens there, and not a service of another kind or one with TLS"
            };
            return steps.failed(why, advice);
        }
    };
    let body = timeout(BODY_LIMIT, answer::read_beginning(&mut response, EXCERPT_BYTES_MAX)).await;
    let said = excerpt(&body.unwrap_or_default());
    let status = response.status();
    let words = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
    match answer::judge(status, response.headers(), &said) {
        Outcome::Delivered { .. } => steps.ok(format!("{words}; the endpoint took it (key {})", test.key)),
        Outcome::Retry { after: Some(after), .. } => steps.failed(
            words,
            format!("the endpoint is busy: readings would wait and be sent again after {} s", after.as_secs()),
        ),
        Outcome::Retry { after: None, .. } => steps.failed(
            words,
            "the endpoint has a fault of its own: readings would wait and be sent again, later and later",
        ),
        Outcome::Refused { .. } => steps.failed(
            words,
            "the endpoint does not take this record: check that it knows the format, and format and compression of the sink",
        ),
        Outcome::Pause { .. } => {
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            steps.failed(words, answer::advice(status, location));
        }
    }
}
