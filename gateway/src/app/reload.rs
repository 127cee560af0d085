//! Reload: another configuration for the running process. What can fail is done first and undone if it must be; then what changed,
//! and only that, is stopped and started.

use super::parts::Parts;
use super::plan::Plan;
use super::{AppError, Running, SOURCES_STOP, build_sinks, pace_options, rules, start_page};
use crate::buffer::BufferError;
use crate::config::Config;
use crate::delivery::Rendering;
use crate::ingest::{Change, Feed};
use crate::judge::Rules;
use crate::sinks::SinkOptions;
use crate::sources::SourceOptions;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long an attempt under way may take before a sink that changed is ended where it stands; what it was about to deliver
/// is offered again under the same key.
const SINKS_STOP: Duration = Duration::from_secs(5);
/// How long the old page may take: answers under way.
const PAGE_STOP: Duration = Duration::from_secs(4);
/// What is told where nothing is another.
const NOTHING: &str = "nothing changed";

/// Why the old configuration stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// What cannot change in a running process has changed.
    #[error("{0} has changed, which needs a restart of forebay; everything else waits with it")]
    NeedsRestart(String),
    /// A sink, or the options of the buffer, cannot work.
    #[error(transparent)]
    Part(#[from] AppError),
    /// The buffer did not take it.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The new address of the page cannot be had.
    #[error("web.listen: the page cannot listen on {listen}: {error}")]
    Page {
        /// The address.
        listen: String,
        /// What the system said.
        error: io::Error,
    },
    /// Too many names of sources.
    #[error("this process has seen too many names of sources; restart forebay")]
    Slots,
    /// Ingest has ended.
    #[error("ingest does not answer; the gateway is about to end")]
    Ingest,
}

/// What is another in a new configuration.
#[derive(Debug, Default)]
struct Difference<'a> {
    sources: Parted<'a, SourceOptions>,
    sinks: Parted<'a, SinkOptions>,
    rules: bool,
    tags: bool,
    buffer: bool,
    page: bool,
    https: bool,
}

/// Parts of one kind, by what becomes of them.
#[derive(Debug)]
struct Parted<'a, T> {
    added: Vec<&'a T>,
    changed: Vec<&'a T>,
    removed: Vec<&'a str>,
}

impl<T> Default for Parted<'_, T> {
    fn default() -> Self {
        Self { added: Vec::new(), changed: Vec::new(), removed: Vec::new() }
    }
}

impl<'a, T: PartialEq> Parted<'a, T> {
    fn new(old: &'a [T], new: &'a [T], name: fn(&T) -> &str) -> Self {
        let mut parted = Self::default();
        for part in new {
            match old.iter().find(|known| name(known) == name(part)) {
                None => parted.added.push(part),
                Some(known) if known != part => parted.changed.push(part),
                Some(_) => {}
            }
        }
        let is_gone = |known: &&T| !new.iter().any(|part| name(part) == name(known));
        parted.removed.extend(old.iter().filter(is_gone).map(name));
        parted
    }

    /// Takes parts that `is_changed` by something else than their options.
    fn also(&mut self, new: &'a [T], name: fn(&T) -> &str, is_changed: impl Fn(&str) -> bool) {
        for part in new.iter().filter(|part| is_changed(name(part))) {
            if !self.starting().any(|known| name(known) == name(part)) {
                self.changed.push(part);
            }
        }
    }

    fn starting(&self) -> impl Iterator<Item = &'a T> {
        self.added.iter().chain(&self.changed).copied()
    }

    fn stopping(&self, name: fn(&T) -> &str) -> Vec<&'a str> {
        self.changed.iter().map(|part| name(part)).chain(self.removed.iter().copied()).collect()
    }

    fn tell(&self, kind: &str, name: fn(&T) -> &str, lines: &mut Vec<String>) {
        lines.extend(self.added.iter().map(|part| format!("{kind} {:?} added", name(part))));
        lines.extend(self.changed.iter().map(|part| format!("{kind} {:?} changed and started anew", name(part))));
        lines.extend(self.removed.iter().map(|name| format!("{kind} {name:?} removed")));
    }
}

impl<'a> Difference<'a> {
    fn new(old: &'a Config, new: &'a Config) -> Self {
        Self {
            sources: Parted::new(&old.source, &new.source, SourceOptions::name),
            sinks: Parted::new(&old.sink, &new.sink, SinkOptions::name),
            rules: old.check != new.check || old.anomaly != new.anomaly,
            tags: old.device != new.device,
            buffer: old.buffer != new.buffer,
            page: old.web.listen != new.web.listen,
            https: old.web != new.web && old.web.listen == new.web.listen,
        }
    }

    /// What changed, a line each.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.sources.tell("source", SourceOptions::name, &mut lines);
        self.sinks.tell("sink", SinkOptions::name, &mut lines);
        let flags = [
            (self.rules, "checks and anomaly rules changed"),
            (self.tags, "devices and tags changed"),
            (self.buffer, "limits of the buffer changed"),
            (self.page, "the page moved"),
            (self.https, "HTTPS of the page changed"),
        ];
        lines.extend(flags.into_iter().filter(|(changed, _)| *changed).map(|(_, line)| line.to_owned()));
        if lines.is_empty() {
            lines.push(NOTHING.to_owned());
        }
        lines
    }
}

/// What changed that only a start can take in.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Option<&'static str> {
    let fixed = [
        (old.gateway.id != new.gateway.id, "gateway.id"),
        (old.gateway.data_dir != new.gateway.data_dir, "gateway.data_dir"),
        (old.gateway != new.gateway, "[gateway]"),
        (old.buffer.encryption != new.buffer.encryption, "buffer.encryption"),
    ];
    fixed.into_iter().find(|(changed, _)| *changed).map(|(_, what)| what)
}

impl Running {
    /// Goes on by another configuration. On an error the old one stays in all its parts.
    ///
    /// # Errors
    /// If what has changed needs a restart, or cannot work.
    pub(super) async fn go_by(&mut self, plan: Plan) -> Result<(), ReloadError> {
        let config = &plan.config;
        if let Some(what) = needs_restart(&self.plan.config, config) {
            return Err(ReloadError::NeedsRestart(what.to_owned()));
        }
        let old = self.plan.clone();
        let mut difference = Difference::new(&old.config, config);
        difference
            .sinks
            .also(&config.sink, SinkOptions::name, |name| old.held.contains(name) != plan.held.contains(name));
        if !self.parts.has_slots(difference.sources.added.len()) {
            return Err(ReloadError::Slots);
        }
        let sinks = build_sinks(&config.gateway.id, difference.sinks.starting())?;
        let own_port = self.page.map(|page| page.port());
        let listener = if difference.page { Some(listen(&config.web.listen, own_port).await?) } else { None };
        let buffer = self.parts.wiring.buffer.clone();
        let config_version = buffer.keep_config(&plan.text).await?;
        // The last thing that can fail.
        if let Err(error) = buffer.reconfigure(plan.store_options()?).await {
            buffer.reconfigure(old.store_options()?).await?;
            return Err(error.into());
        }

        let parts = &mut self.parts;
        parts.stop_sources(&difference.sources.stopping(SourceOptions::name), SOURCES_STOP).await;
        let (feeds, sources) = parts.admit_sources(difference.sources.starting());
        let gone = difference.sources.removed.iter().filter_map(|name| parts.slot(name)).collect();
        change_ingest(parts, rules(config, config_version), config, feeds, gone).await?;
        parts.stop_sinks(&difference.sinks.stopping(SinkOptions::name), SINKS_STOP).await;
        parts.rendering.send_replace(Rendering { config_version, tags: Arc::new(config.device_tags()) });
        parts.start_sinks(sinks, &plan.held).await;
        parts.show(config);
        parts.end_replays(&plan).await;
        parts.start_sources(sources);
        self.web_state.tls.configure(&config.web);
        if let Some(listener) = listener {
            self.web.stop_parts(&[&old.config.web.listen], PAGE_STOP).await;
            let listener = match listener {
                Some(listener) => Ok(listener),
                None => TcpListener::bind(&config.web.listen).await,
            };
            self.page = listener.as_ref().ok().and_then(|listener| listener.local_addr().ok());
            start_page(&mut self.web, config, listener, &self.web_state);
        }
        self.plan = plan;
        Ok(())
    }
}

/// What changed from one configuration to another, a line each.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Difference::new(old, new).lines();
    if let Some(what) = needs_restart(old, new) {
        lines.retain(|line| line != NOTHING);
        lines.push(format!("{what} changed: everything is started anew"));
    }
    lines
}

/// Whether the page can have a new address, without taking it yet.
pub(super) async fn can_listen(address: &str, own_port: Option<u16>) -> Result<(), ReloadError> {
    listen(address, own_port).await.map(drop)
}

/// Has the page's new address, so that a reload that cannot have it changes nothing. None where the old page itself is in the
/// way, on another address of the same port: it goes first.
async fn listen(listen: &str, own_port: Option<u16>) -> Result<Option<TcpListener>, ReloadError> {
    let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    match TcpListener::bind(listen).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && port.is_some() && port == own_port => Ok(None),
        Err(error) => Err(ReloadError::Page { listen: listen.to_owned(), error }),
    }
}

/// Has ingest go on by the new configuration; what comes in from here on is judged by it.
async fn change_ingest(
    parts: &Parts,
    rules: Rules,
    config: &Config,
    feeds: Vec<Feed>,
    gone: Vec<u16>,
) -> Result<(), ReloadError> {
    let (done, is_done) = oneshot::channel();
    let change = Change { rules, pace: pace_options(config), feeds, gone, done };
    parts.changes.send(change).await.map_err(|_| ReloadError::Ingest)?;
    is_done.await.map_err(|_| ReloadError::Ingest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config;

    fn config(text: &str) -> Config {
        config::parse("test", format!("[gateway]\nid = \"plant-7\"\n{text}")).unwrap().config
    }

    fn sink(name: &str, url: &str) -> String {
        format!("[[sink]]\ntype = \"http\"\nname = \"{name}\"\nurl = \"http://{url}\"\n")
    }

    #[test]
    fn only_what_is_another_is_told() {
        let old =
            config(&(sink("stays", "127.0.0.1:1") + &sink("moves", "127.0.0.1:2") + &sink("goes", "127.0.0.1:3")));
        let new =
            config(&(sink("comes", "127.0.0.1:4") + &sink("moves", "127.0.0.1:5") + &sink("stays", "127.0.0.1:1")));
        let difference = Difference::new(&old, &new);
        assert_eq!(
            difference.lines(),
            ["sink \"comes\" added", "sink \"moves\" changed and started anew", "sink \"goes\" removed"]
        );
        assert_eq!(difference.sinks.stopping(SinkOptions::name), ["moves", "goes"]);
        assert_eq!(Difference::new(&old, &old).lines(), ["nothing changed"]);
    }

    #[tokio::test]
    async fn the_page_may_move_to_another_address_of_its_own_port_but_not_to_one_of_another_program() {
        let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = old.local_addr().unwrap().port();
        let all = format!("0.0.0.0:{port}");
        assert!(listen(&all, Some(port)).await.unwrap().is_none());
        assert!(matches!(listen(&all, None).await, Err(ReloadError::Page { .. })));
        assert!(listen("127.0.0.1:0", Some(port)).await.unwrap().is_some());
    }

    #[test]
    fn names_and_places_that_all_data_hangs_on_need_a_restart() {
        let old = config("");
        let mut new = old.clone();
        new.gateway.id = "plant-8".to_owned();
        assert_eq!(needs_restart(&old, &new), Some("gateway.id"));
        let mut new = old.clone();
        new.gateway.data_dir = "/elsewhere".into();
        assert_eq!(needs_restart(&old, &new), Some("gateway.data_dir"));
        assert_eq!(needs_restart(&old, &old.clone()), None);
    }
}
