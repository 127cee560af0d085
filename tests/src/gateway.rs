//! The gateway under test: the real binary with a configuration of the test, killed and started at will.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use tempfile::TempDir;
use toml::{Table, Value};

use crate::door::Door;
use crate::process::Process;
use crate::wait;

/// Opening a buffer with a backlog on a busy machine.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// Longer than the gateway's own deadline for ending in order.
const EXIT_LIMIT: Duration = Duration::from_mins(1);
/// A tool on a small buffer, on a busy machine.
const TOOL_LIMIT: Duration = Duration::from_mins(2);
/// One request to the page.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Names another binary to test than the one that was built beside the tests.
const BINARY_VARIABLE: &str = "FOREBAY_BIN";

/// What a tool said, and its exit status.
#[derive(Debug)]
pub struct ToolOutput {
    /// The exit status; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl ToolOutput {
    /// Standard output of a tool that must have succeeded.
    #[must_use]
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }
}

/// A gateway and its data directory. Dropping it kills it and removes everything.
#[derive(Debug)]
pub struct Gateway {
    /// Absent while it is not running. First, so that it ends before its files go.
    process: Option<Process>,
    binary: PathBuf,
    client: reqwest::Client,
    /// Where it ends itself: see `forebay::fault`.
    fault: Option<String>,
    /// Further arguments of the next start.
    arguments: Vec<OsString>,
    data_dir: PathBuf,
    directory: TempDir,
}

impl Gateway {
    /// Starts the gateway and waits until it is ready. `config` is TOML; see [`Gateway::prepare`].
    pub async fn start(config: &str) -> Self {
        let mut gateway = Self::prepare(config);
        gateway.start_again().await;
        gateway
    }

    /// Writes the configuration without starting anything.
    ///
    /// Where `config` does not say otherwise, the gateway's id is `e2e`, its data directory is the test's own and its page is on a
    /// free port of loopback.
    #[must_use]
    pub fn prepare(config: &str) -> Self {
        Self::prepare_binary(plain_binary(), config)
    }

    /// Like [`Gateway::prepare`], with another program in the place of the gateway.
    #[must_use]
    pub fn prepare_binary(binary: PathBuf, config: &str) -> Self {
        // Its client refuses to be built without a TLS provider; an error says that there is one already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut headers = HeaderMap::new();
        let token = format!("Bearer {}", Door::shared().token);
        headers.insert(AUTHORIZATION, token.parse().expect("a token is a header's value"));
        let client = reqwest::Client::builder().timeout(REQUEST_LIMIT).default_headers(headers).build();
        let client = client.expect("an HTTP client");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut gateway = Self {
            process: None,
            binary,
            client,
            fault: None,
            arguments: Vec::new(),
            data_dir: PathBuf::new(),
            directory,
        };
        gateway.configure(config);
        gateway
    }

    /// Like [`Gateway::prepare`], with the build that has fault points: see [`Gateway::end_at`].
    #[must_use]
    pub fn prepare_faulty(config: &str) -> Self {
        Self::prepare_binary(faulty_binary(), config)
    }

    /// From its next start on it ends itself at the `pass`-th pass of a fault point; never, if there is none.
    pub fn end_at(&mut self, point: Option<(&str, u64)>) {
        self.fault = point.map(|(point, pass)| format!("{point}:{pass}"));
    }

    /// Writes another configuration, for the next start.
    pub fn configure(&mut self, config: &str) {
        let mut table: Table = config.parse().expect("the test's configuration is TOML");
        let data_dir = self.directory.path().join("data");
        set_default(&mut table, "gateway", "id", "e2e");
        self.data_dir = PathBuf::from(set_default(&mut table, "gateway", "data_dir", &data_dir.to_string_lossy()));
        set_default(&mut table, "web", "listen", "127.0.0.1:0");
        self.configure_verbatim(&table.to_string());
    }

    /// Writes a configuration as it stands, however broken.
    pub fn configure_verbatim(&self, text: &str) {
        fs::write(self.config_path(), text).expect("the configuration is written");
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("forebay.toml")
    }

    /// The data directory of the latest configuration.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Starts it without waiting for anything, for tests of what happens before it is ready.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "the gateway is running already");
        // The file of an earlier run names a port that may be another's by now.
        fs::remove_file(self.address_path()).ok();
        Door::shared().open_for(self.data_dir());
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(self.config_path()).args(&self.arguments);
        if let Some(fault) = &self.fault {
            command.env("FOREBAY_FAULT", fault);
        }
        self.process = Some(Process::start("the gateway", &command, &self.log_path()));
    }

    /// Starts it on what it has on disk and waits until it is ready.
    pub async fn start_again(&mut self) {
        self.spawn();
        wait::until_some("the gateway to be ready", READY_LIMIT, || {
            self.process().assert_running();
            let ready = self.page_address().map(|address| self.client.get(format!("http://{address}/ready")).send());
            async move { ready?.await.ok().filter(|answer| answer.status().is_success()).map(|_| ()) }
        })
        .await;
    }

    /// Starts it without a configuration file, with its data where they would be, and waits until it is ready. Its
    /// page is on a free port of loopback.
    pub async fn start_without_file(&mut self) {
        self.arguments =
            vec!["--data-dir".into(), self.data_dir.clone().into(), "--listen".into(), "127.0.0.1:0".into()];
        self.start_again().await;
        self.arguments = Vec::new();
    }

    /// Kills it (SIGKILL), as a power cut would, but for the disk.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Asks it to end (SIGTERM) and returns how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        let status = self.process().terminate(EXIT_LIMIT).await;
        self.process = None;
        status
    }

    /// Has it read its configuration again by a signal (SIGHUP).
    pub fn hang_up(&mut self) {
        self.process().signal(rustix::process::Signal::HUP);
    }

    /// Waits until it ends by itself and returns how.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let status = self.process().wait_exit(EXIT_LIMIT).await;
        self.process = None;
        status
    }

    /// Waits until it ends by itself, but not longer than `patience`; returns how it ended, if it did.
    pub async fn wait_exit_for(&mut self, patience: Duration) -> Option<ExitStatus> {
        let status = self.process().wait_exit_for(patience).await?;
        self.process = None;
        Some(status)
    }

    /// Kills it and starts it again.
    pub async fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again().await;
    }

    /// Runs one of the binary's tools on this gateway's configuration (`["buffer", "stats"]`), and returns how it ended.
    ///
    /// # Panics
    ///
    /// If the tool cannot be started.
    pub async fn tool(&self, arguments: &[&str]) -> ToolOutput {
        let mut command = tokio::process::Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(self.config_path());
        run_tool(command).await
    }

    /// Its process id.
    pub fn id(&mut self) -> u32 {
        self.process().id()
    }

    /// What it has logged, over all its starts.
    #[must_use]
    pub fn logs(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where its page is, once it has said so: host and port.
    #[must_use]
    pub fn page_address(&self) -> Option<String> {
        let text = fs::read_to_string(self.address_path()).ok()?;
        let address = text.trim().trim_start_matches("http://").trim_end_matches('/');
        (!address.is_empty()).then(|| address.to_owned())
    }

    /// Asks its page for `path` ("/metrics") and returns the status and the body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let address = self.page_address().expect("the gateway has said where its page is");
        let answer = self.client.get(format!("http://{address}{path}")).send().await.expect("the page answers");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("the page answers to the end"))
    }

    /// Sends its page a body of a kind, and follows nowhere; the status, unless the gateway ends before it answers.
    pub async fn send(&self, method: reqwest::Method, path: &str, kind: &str, body: &str) -> Option<u16> {
        let address = self.page_address().expect("the gateway has said where its page is");
        let request = self.client.request(method, format!("http://{address}{path}"));
        let answer = request.header("content-type", kind).body(body.to_owned()).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    /// What its page says about the gateway, if it answers: while it is started anew in place there is none for a moment.
    pub async fn status_if_any(&self) -> Option<serde_json::Value> {
        let address = self.page_address()?;
        let answer = self.client.get(format!("http://{address}/api/v1/status")).send().await.ok()?;
        serde_json::from_str(&answer.text().await.ok()?).ok()
    }

    /// What it says about itself: `/api/v1/status`.
    pub async fn status(&self) -> serde_json::Value {
        let (code, text) = self.get("/api/v1/status").await;
        assert_eq!(code, 200, "{text}");
        serde_json::from_str(&text).expect("the status is JSON")
    }

    /// What it says about one source ("sources") or sink ("sinks").
    pub async fn status_of(&self, kind: &str, name: &str) -> serde_json::Value {
        let status = self.status().await;
        let parts = status[kind].as_array().expect("the status lists sources and sinks");
        let found = parts.iter().find(|part| part["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} among the {kind} of {status}")).clone()
    }

    /// The sink, once its books say that it is done with every record there is: delivered, filtered, refused or lost.
    ///
    /// That nothing is undelivered would not do: it is so before the sink has looked at what a restart finds on disk.
    pub async fn sink_at_the_end(&self, name: &str) -> Option<serde_json::Value> {
        let status = self.status().await;
        let sink = status["sinks"].as_array()?.iter().find(|sink| sink["name"] == name)?;
        let is_done = |(stream, books): (&String, &serde_json::Value)| {
            let resolved = ["delivered", "filtered", "refused", "gaps"].map(|kind| books[kind].as_u64());
            let resolved: Option<u64> = resolved.into_iter().sum();
            books["undelivered"] == 0 && resolved == status["buffer"]["streams"][stream]["next"].as_u64()
        };
        sink["streams"].as_object()?.iter().all(is_done).then(|| sink.clone())
    }

    /// The sum of a metric's series whose labels contain all of `labels` (`sink="cloud"`); `None` if there is no such series.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        metric_sum(&text, name, labels)
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the gateway is not running")
    }

    fn address_path(&self) -> PathBuf {
        self.data_dir().join("page.addr")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("gateway.log")
    }
}

/// Runs a tool that needs no gateway, and returns how it ended.
///
/// # Panics
///
/// If the tool cannot be started.
pub async fn tool(arguments: &[&str]) -> ToolOutput {
    let mut command = tokio::process::Command::new(plain_binary());
    command.args(arguments);
    run_tool(command).await
}

async fn run_tool(mut command: tokio::process::Command) -> ToolOutput {
    let output = tokio::time::timeout(TOOL_LIMIT, command.kill_on_drop(true).output()).await;
    let output = output.expect("a tool ends within its time").expect("the tool is started");
    ToolOutput {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The gateway as it is shipped.
#[must_use]
pub fn plain_binary() -> PathBuf {
    std::env::var_os(BINARY_VARIABLE).map_or_else(|| built("forebay", "cargo build -p forebay"), PathBuf::from)
}

/// The gateway with fault points.
#[must_use]
pub fn faulty_binary() -> PathBuf {
    built("forebay-faulty", "cargo build -p e2e --features fault-points --bin forebay-faulty")
}

/// A binary that cargo built beside the test's executable or into the directory above it.
fn built(name: &str, command: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("a test knows its executable");
    let mut candidates = executable.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    candidates
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is not built: run {command}, or name a gateway in {BINARY_VARIABLE}"))
}

/// Sets a text where the configuration has none, and returns the one that holds.
fn set_default(table: &mut Table, section: &str, key: &str, value: &str) -> String {
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    let section = section.as_table_mut().expect("a section is a table");
    let value = section.entry(key).or_insert_with(|| Value::String(value.to_owned()));
    value.as_str().expect("this key holds a text").to_owned()
}

/// Sums the series of a metric in Prometheus' text format.
fn metric_sum(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (series_labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let is_wanted = labels.iter().all(|label| series_labels.contains(label));
        is_wanted.then(|| value.split_whitespace().next()?.parse::<f64>().ok())?
    });
    values.reduce(|sum, value| sum + value)
}
