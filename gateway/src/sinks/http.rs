//! HTTP: one POST for one run, with an Idempotency-Key.

mod answer;
pub(super) mod tryout;

use super::pace::PaceOptions;
use super::route::RouteOptions;
use super::{Offer, Outcome, RemoteCursor, Rendered, Sink, SinkError, run_problems};
use crate::fault;
use crate::reading::Stream;
use crate::secret::{Secret, SecretFile};
use crate::units::ByteSize;
use flate2::{Compression, GzBuilder};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest that a connection may take to come up, TLS included: more means that nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Least and most that an answer may be waited for, in milliseconds: below, a mobile link never answers in time; above, a
/// dead link is noticed too late.
const TIMEOUT_MS: RangeInclusive<u64> = 100..=300_000;

/// Idle connections are closed after this: shorter than the 60 s at which common proxies close theirs, so that a run is seldom
/// sent into a connection that is just going away.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Level of gzip: flate2's default, where readings shrink to about a twelfth.
const GZIP_LEVEL: u32 = 6;

/// "Unknown" in the header of gzip (RFC 1952, section 2.3.1): the same bytes on every system.
const GZIP_SYSTEM_UNKNOWN: u8 = 255;

/// What a request sends beside its body: the usual headers and what TLS adds.
const HEAD_BYTES_USUAL: u64 = 600;

/// Tells an endpoint that takes all streams at one URL what it gets.
const STREAM_HEADER: &str = "forebay-stream";

/// The same on every retry and after every restart (draft-ietf-httpapi-idempotency-key-header).
const KEY_HEADER: &str = "idempotency-key";

/// Where `{stream}` stands in a URL.
const STREAM_PLACEHOLDER: &str = "{stream}";

/// An HTTP ingest endpoint to deliver to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpOptions {
    /// Name of the sink, unique in the file.
    pub name: String,
    /// Where to POST; `{stream}` becomes `readings`, `alerts`, `dead-letters` or `gaps`.
    pub url: String,
    /// How records are put into the body.
    #[serde(default)]
    pub format: HttpFormat,
    /// How the body is compressed.
    #[serde(default)]
    pub compression: HttpCompression,
    /// How Forebay proves who it is.
    #[serde(default)]
    pub auth: Option<HttpAuth>,
    /// How long a run may wait to fill, in milliseconds.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
    /// Most bytes of a run before compression.
    #[serde(default = "batch_max")]
    pub batch_max: ByteSize,
    /// How long an answer may take, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// What goes to it.
    #[serde(flatten)]
    pub route: RouteOptions,
    /// In which order a backlog goes to it, and what the link may carry.
    #[serde(flatten)]
    pub pace: PaceOptions,
}

/// How records are put into the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpFormat {
    /// One JSON object a line (`application/x-ndjson`).
    #[default]
    Ndjson,
    /// One JSON array (`application/json`).
    Json,
}

/// How the body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpCompression {
    /// As it is.
    None,
    /// `Content-Encoding: gzip`.
    #[default]
    Gzip,
}

/// How Forebay proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpAuth {
    /// File (or systemd credential) with a bearer token.
    #[serde(default)]
    pub bearer_file: Option<SecretFile>,
}

impl HttpOptions {
    /// What cannot work, as the option's path below the sink and a sentence.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = run_problems(self.linger_ms, self.batch_max);
        problems.extend(self.route.problems());
        problems.extend(self.pace.problems());
        if let Err(problem) = stream_url(&self.url, Stream::Readings) {
            problems.push(("url", problem));
        }
        if !TIMEOUT_MS.contains(&self.timeout_ms) {
            let (least, most) = (TIMEOUT_MS.start(), TIMEOUT_MS.end());
            problems.push(("timeout_ms", format!("{} ms is not between {least} and {most}", self.timeout_ms)));
        }
        problems
    }
}

/// One HTTP endpoint.
#[derive(Debug)]
pub struct HttpSink {
    client: Client,
    options: HttpOptions,
    /// The token as it was last read; it prints as `***`.
    token: Option<Secret>,
    must_recover: bool,
    bytes_sent: u64,
}

impl HttpSink {
    /// A sink that has no connection yet.
    ///
    /// # Errors
    /// If the options cannot work.
    pub fn new(options: &HttpOptions) -> Result<Self, SinkError> {
        if let Some((path, problem)) = options.problems().into_iter().next() {
            return Err(SinkError::Misconfigured(format!("sink {:?}, {path}: {problem}", options.name)));
        }
        // The client bounds the head of an answer by itself: 100 fields and 400 KiB (hyper), 16 KiB with HTTP/2 (h2).
        let client = Client::builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(Duration::from_millis(options.timeout_ms))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| SinkError::Misconfigured(format!("sink {:?}: {}", options.name, chain(&error))))?;
        Ok(Self { client, options: options.clone(), token: None, must_recover: true, bytes_sent: 0 })
    }

    /// Reads the token again; says whether it is another one now.
    fn read_token(&mut self) -> Result<bool, String> {
        let file = self.options.auth.as_ref().and_then(|auth| auth.bearer_file.as_ref());
        let token = file.map(SecretFile::read_line).transpose().map_err(|error| error.to_string())?;
        let changed = token != self.token;
        self.token = token;
        Ok(changed)
    }

    fn headers(&self, offer: &Offer<'_>) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let content_type = match self.options.format {
            HttpFormat::Ndjson => "application/x-ndjson",
            HttpFormat::Json => "application/json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.options.compression == HttpCompression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(STREAM_HEADER, HeaderValue::from_static(offer.stream.name()));
        let key = HeaderValue::from_str(&offer.key)
            .map_err(|_| format!("the key {:?} cannot stand in a header; rename the gateway or the sink", offer.key))?;
        headers.insert(KEY_HEADER, key);
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| "the token in bearer_file has characters that a header cannot carry".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// Sends an offer; an error is what came of it without an answer.
    async fn post(&mut self, offer: &Offer<'_>) -> Result<Response, Outcome> {
        let prepared = stream_url(&self.options.url, offer.stream).and_then(|url| Ok((url, self.headers(offer)?)));
        let (url, headers) = prepared.map_err(|reason| Outcome::Pause { reason })?;
        let body = join(offer.records, self.options.format);
        let body = match self.options.compression {
            HttpCompression::None => body,
            HttpCompression::Gzip => match tokio::task::spawn_blocking(move || gzip(&body)).await {
                Ok(Ok(body)) => body,
                Ok(Err(error)) => return Err(retry(format!("the body cannot be compressed: {error}"))),
                Err(error) => return Err(retry(format!("the body cannot be compressed: {error}"))),
            },
        };
        fault::point("http.before_send");
        let bytes = body.len() as u64 + HEAD_BYTES_USUAL;
        let response = match self.client.post(url).headers(headers).body(body).send().await {
            Ok(response) => response,
            Err(error) => {
                // Without a connection nothing was sent; otherwise it may have been all of it.
                self.bytes_sent += if error.is_connect() { 0 } else { bytes };
                return Err(retry(answer::failure(&error, self.options.timeout_ms)));
            }
        };
        self.bytes_sent += bytes;
        fault::point("http.answer_begun");
        Ok(response)
    }

    /// A refused token may only be an old one: if the file has a new one by now, the next attempt uses it.
    fn unauthorized(&mut self, pause: Outcome) -> Outcome {
        match self.read_token() {
            Ok(true) => Outcome::Retry {
                after: None,
                reason: "401 Unauthorized, but bearer_file has another token now; trying with it".to_owned(),
            },
            Ok(false) => pause,
            Err(reason) => Outcome::Pause { reason },
        }
    }
}

impl Sink for HttpSink {
    /// Reads the token; an HTTP endpoint keeps no cursors.
    async fn recover(&mut self, _from_position: Option<i64>) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        self.read_token()
            .map_err(|error| SinkError::Misconfigured(format!("sink {:?}: {error}", self.options.name)))?;
        self.must_recover = false;
        Ok(Vec::new())
    }

    async fn deliver(&mut self, offer: &Offer<'_>) -> Outcome {
        if offer.records.is_empty() {
            return Outcome::Delivered { remote_position: None };
        }
        let response = match self.post(offer).await {
            Ok(response) => response,
            Err(outcome) => return outcome,
        };
        let status = response.status();
        let outcome = answer::outcome(response).await;
        fault::point("http.answer_read");
        if status == StatusCode::UNAUTHORIZED {
            self.must_recover = true;
            return self.unauthorized(outcome);
        }
        outcome
    }

    fn must_recover(&self) -> bool {
        self.must_recover
    }

    fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }
}

fn retry(reason: String) -> Outcome {
    Outcome::Retry { after: None, reason }
}

/// An error with all its causes: the first alone says only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Where the records of a stream go.
fn stream_url(template: &str, stream: Stream) -> Result<Url, String> {
    let text = template.replace(STREAM_PLACEHOLDER, stream.name());
    let url = Url::parse(&text).map_err(|error| format!("{template:?} is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{template:?} must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a password does not belong in the URL; use auth = { bearer_file = \"…\" }".to_owned());
    }
    Ok(url)
}

/// The records as one body.
fn join(records: &[Rendered], format: HttpFormat) -> Vec<u8> {
    // One byte a record for what stands between them, two for what stands around them.
    let bytes = records.iter().map(|record| record.json.len() + 1).sum::<usize>() + 2;
    let mut body = Vec::with_capacity(bytes);
    match format {
        HttpFormat::Ndjson => {
            for record in records {
                body.extend_from_slice(&record.json);
                body.push(b'\n');
            }
        }
        HttpFormat::Json => {
            let mut separator = b'[';
            for record in records {
                body.push(separator);
                body.extend_from_slice(&record.json);
                separator = b',';
            }
            body.push(b']');
        }
    }
    body
}

/// The body compressed: the same bytes every time, without a time or the system's name.
fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(GZIP_SYSTEM_UNKNOWN)
        .write(Vec::with_capacity(body.len() / 4), Compression::new(GZIP_LEVEL));
    encoder.write_all(body)?;
    encoder.finish()
}

fn linger_ms() -> u64 {
    1_000
}

fn batch_max() -> ByteSize {
    ByteSize(256 * 1024)
}

fn timeout_ms() -> u64 {
    10_000
}
