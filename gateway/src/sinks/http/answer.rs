//! What an HTTP answer means for a run: taken, later, never, or stop.

use super::chain;
use crate::clock::Clock;
use crate::sinks::Outcome;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::{Duration, SystemTime};

/// Most bytes of a body that are read to learn the reason.
const REASON_BYTES_MAX: usize = 4 * 1024;

/// Most characters of a reason that are shown.
const REASON_CHARS_MAX: usize = 200;

/// Longest wait that an endpoint can ask for: a wrong date must not stop deliveries for days.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// The meaning of an answer. Only its status decides; the body is read for people, and not at all when all is well.
pub(super) async fn outcome(mut response: Response) -> Outcome {
    let status = response.status();
    if status.is_success() {
        return Outcome::Delivered { remote_position: None };
    }
    let said = read_reason(&mut response).await;
    judge(status, response.headers(), &said)
}

/// What a status means, with what the endpoint said as the reason.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, said: &str) -> Outcome {
    if status.is_success() {
        return Outcome::Delivered { remote_position: None };
    }
    let after = retry_after(headers);
    let location = header_text(headers, LOCATION.as_str());
    let reason = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Retry { after, reason },
        // 408: the server gave up waiting for the request; it may be repeated as it is (RFC 9110, section 15.5.9).
        StatusCode::REQUEST_TIMEOUT => Outcome::Retry { after: None, reason },
        status if status.is_server_error() => Outcome::Retry { after: None, reason },
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            Outcome::Refused { reason }
        }
        status => Outcome::Pause { reason: format!("{reason}; {}", advice(status, location.as_deref())) },
    }
}

/// What a failed request means to a person.
pub(super) fn failure(error: &reqwest::Error, timeout_ms: u64) -> String {
    if error.is_timeout() && !error.is_connect() {
        return format!("no answer within {timeout_ms} ms");
    }
    if error.is_connect()
        && let Some(why) = plain_cause(error)
    {
        return why;
    }
    // The URL is in the configuration already and may carry a token in its query.
    let mut text = chain(error);
    if let Some(url) = error.url() {
        text = text.replace(&format!(" for url ({url})"), "");
    }
    text
}

/// Why there is no connection, in a sentence, where the system's error is one that people meet.
fn plain_cause(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let why = match io.kind() {
                ErrorKind::ConnectionRefused => "nothing listens at that address and port (connection refused)",
                ErrorKind::ConnectionReset => "the other end closed the connection",
                ErrorKind::HostUnreachable => "no way to that host (host unreachable)",
                ErrorKind::NetworkUnreachable => "no network (network unreachable)",
                ErrorKind::TimedOut => "no connection in time",
                _ if io.to_string().contains("lookup address") => "the host's name is not known (DNS)",
                _ => return None,
            };
            return Some(why.to_owned());
        }
        cause = error.source();
    }
    None
}

/// What to change when nothing will go until someone changes something.
pub(super) fn advice(status: StatusCode, location: Option<&str>) -> String {
    match status {
        StatusCode::UNAUTHORIZED => {
            "check the token in auth.bearer_file: the endpoint does not know it or it has expired".to_owned()
        }
        StatusCode::FORBIDDEN => "give this token the right to write there".to_owned(),
        StatusCode::NOT_FOUND => "check the path of url: there is nothing to POST to".to_owned(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            "the endpoint does not take this body; change format or compression".to_owned()
        }
        status if status.is_redirection() => match location {
            Some(location) => format!("redirects are not followed; set url to {location} if you trust it"),
            None => "redirects are not followed; set url to where the endpoint really is".to_owned(),
        },
        _ => "this status is not expected from an ingest endpoint; check that url leads to one".to_owned(),
    }
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110, section 10.2.3), capped at [`RETRY_AFTER_MAX`].
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = header_text(headers, RETRY_AFTER.as_str())?;
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => wait_until(httpdate::parse_http_date(&text).ok()?, headers),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The wait until a moment on the server's clock. It is measured from the answer's own `Date` where there is one, so that a
/// gateway whose clock is wrong waits as long as was meant.
fn wait_until(moment: SystemTime, headers: &HeaderMap) -> Duration {
    let date = header_text(headers, DATE.as_str()).and_then(|date| httpdate::parse_http_date(&date).ok());
    let own_clock = || {
        let wall_us = u64::try_from(Clock::system().tick().wall_us).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_micros(wall_us)
    };
    moment.duration_since(date.unwrap_or_else(own_clock)).unwrap_or_default()
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|text| text.trim().to_owned())
}

/// The beginning of the body as one printable line; empty if there is none, or if it does not come.
async fn read_reason(response: &mut Response) -> String {
    let body = read_beginning(response, REASON_BYTES_MAX).await;
    let text = String::from_utf8_lossy(&body);
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX);
    printable.collect::<String>().trim().to_owned()
}

/// The beginning of the body, as far as it comes.
pub(super) async fn read_beginning(response: &mut Response, bytes_max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = bytes_max - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() >= bytes_max {
            break;
        }
    }
    body
}
