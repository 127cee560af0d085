//! Searches within a form: listening to the broker, the port or the device that the form speaks of, and taking over what was found.

use super::draft::Draft;
use super::edit::{Running, parity_word};
use super::jobs::{Job, Task};
use crate::config::secrets::TRY_OUT;
use crate::config::sheet::{COLUMNS, Row};
use crate::decode::Payload;
use crate::secret::SecretFile;
use crate::sources::SourceOptions;
use crate::sources::discover::{ListenRequest, ModbusQuestion, TopicSearch, TopicSeen, WordReading};
use crate::sources::line::Parity;
use crate::sources::modbus::Table;
use crate::sources::mqtt::Subscription;
use crate::sources::serial::{Framing, LinePayload};
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::visit::Visit;
use axum::extract::Query;
use axum::http::Uri;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest unit that is taken over from a payload, in characters: `kg/(m²·s)` is long already.
const UNIT_CHARS_MAX: usize = 16;

/// How long a search in a form listens to a broker: most devices speak within it, and a person waits.
const LISTEN_S: u64 = 60;

/// How long a broker on this machine may take to answer.
const LOCAL: Duration = Duration::from_millis(300);

/// Where a broker on this machine listens.
pub(in crate::web) const LOCAL_BROKER: &str = "127.0.0.1:1883";

/// Whether a broker answers on this machine.
pub(in crate::web) async fn local_broker() -> bool {
    matches!(timeout(LOCAL, TcpStream::connect(LOCAL_BROKER)).await, Ok(Ok(_)))
}

/// Begins a search for what the form speaks of.
pub(in crate::web) async fn begin(
    what: &str,
    rest: &str,
    shared: &Shared,
    visit: &Visit,
    draft: &Draft,
    running: &Running,
) -> Result<Arc<Job>, Failure> {
    let wrong = |sentence: &str| Failure::unfit(sentence, Vec::new());
    let mut borrowed = Vec::new();
    let task = match what {
        "listen" => {
            let url = draft.get("url").trim();
            if url.is_empty() {
                return Err(wrong("type the address of the broker first, as mqtt://host:port"));
            }
            let typed = draft.get("_password");
            let password_file = if typed.is_empty() {
                draft.get("password_file").to_owned()
            } else {
                let path = super::typed::keep_secret(running, TRY_OUT, typed).await?;
                let file = path.display().to_string();
                borrowed.push(super::typed::Borrowed(path));
                file
            };
            let password_file = (!password_file.is_empty()).then_some(SecretFile(password_file));
            let secret = password_file.as_ref().map(|file| ("password_file", file));
            change::refuse_reserved(&running.config, secret).await?;
            let user = draft.get("username").trim();
            Task::Topics(TopicSearch {
                url: unredacted(draft, running),
                username: (!user.is_empty()).then(|| user.to_owned()),
                password_file,
                filter: "#".to_owned(),
                seconds: LISTEN_S,
            })
        }
        "hear" => {
            let port = draft.get("port").trim();
            if !port.starts_with('/') {
                return Err(wrong("choose the port first"));
            }
            let parity = match draft.get("parity") {
                "even" => Parity::Even,
                "odd" => Parity::Odd,
                _ => Parity::None,
            };
            Task::Serial(ListenRequest { port: port.to_owned(), bauds: Vec::new(), parity, seconds: 2.0 })
        }
        _ => {
            let get = |name: &str| draft.get(&format!("_ask.{rest}.{name}")).trim().to_owned();
            let number = |text: String, what: &str| {
                text.parse::<u16>().map_err(|_| wrong(&format!("{what} must be a whole number from 0 to 65535")))
            };
            let table = match get("table").as_str() {
                "input" => Table::Input,
                "coil" => Table::Coil,
                "discrete" => Table::Discrete,
                _ => Table::Holding,
            };
            let unit = draft.get(&format!("{rest}.id")).trim().parse();
            let question = ModbusQuestion {
                url: draft.get("url").to_owned(),
                unit: unit.map_err(|_| wrong("type the unit id first: a number from 0 to 255"))?,
                table,
                address: number(get("address"), "the first address")?,
                count: number(get("count"), "how many")?,
                timeout_ms: 1_000,
                quiet_ms: 0,
            };
            Task::Modbus(question, format!("{rest}.registers"))
        }
    };
    change::record_look(shared, visit, task.look()).await;
    shared.jobs.begin(visit, task, running.config.source.clone(), borrowed)
}

/// The address of a broker: what the file says, where the form shows it with a secret hidden.
fn unredacted(draft: &Draft, running: &Running) -> String {
    let shown = draft.get("url").trim();
    let known = running.config.source.get(draft.at).filter(|_| !draft.was.is_empty()).map(SourceOptions::address);
    match known {
        Some(known) if crate::config::redacted_toml(known) == shown => known.to_owned(),
        _ => shown.to_owned(),
    }
}

/// Takes over what was found: `subscribe?filter=…`, `unit[0].registers?address=…`, `?baud=…`.
pub(in crate::web) fn take(draft: &mut Draft, found: &str) {
    let (list, query) = found.split_once('?').unwrap_or(("", found));
    let Ok(uri) = format!("/?{query}").parse::<Uri>() else { return };
    let Ok(Query(fields)) = Query::<Vec<(String, String)>>::try_from_uri(&uri) else { return };
    if list == "subscribe" {
        let (own, row): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name.starts_with('_'));
        let empty = draft.rows(list).into_iter().find(|at| draft.get(&format!("subscribe[{at}].filter")).is_empty());
        let at = match empty {
            Some(at) => {
                for (name, value) in &row {
                    draft.set(&format!("subscribe[{at}].{name}"), value.clone());
                }
                at
            }
            None => draft.add_row(list, &row),
        };
        // Whoever tapped it looks at what became of it.
        draft.set("_focus", format!("subscribe[{at}].device"));
        for (_, value) in own {
            draft.set(&format!("_seen.subscribe[{at}]"), value);
        }
    } else if list.ends_with(".registers") {
        let cell = |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, v)| v.clone()).unwrap_or_default();
        let mut rows = draft.sheet(list);
        rows.retain(|row| row.0.iter().any(|cell| !cell.is_empty()));
        rows.push(Row(COLUMNS.map(|column| cell(column.key))));
        draft.put_sheet(list, &rows);
    } else {
        draft.fields.retain(|name, _| !name.starts_with("payload."));
        for (name, value) in fields {
            draft.set(&name, value);
        }
    }
}

/// What takes a topic over: a subscription to it or to its kind, and the number in the payload that was tapped.
pub(in crate::web) fn use_topic(
    seen: &TopicSeen,
    suggestion: &Subscription,
    filter: &str,
    pointer: Option<&str>,
) -> String {
    let (format, value, time) = match &suggestion.payload {
        Payload::Json { value, time } => ("json", pointer.unwrap_or(value), time.clone().unwrap_or_default()),
        Payload::Number {} => ("number", "", String::new()),
    };
    // Numbers of one payload are told apart by where they stand.
    let point = match pointer {
        Some(pointer) if Some(pointer) != own_pointer(&suggestion.payload) => {
            pointer.rsplit('/').next().unwrap_or_default().to_owned()
        }
        _ => suggestion.point.clone(),
    };
    // The unit that stands beside the value is that of this topic; others of its kind may have another one.
    let unit = (filter == seen.topic && format == "json").then(|| unit_beside(&seen.payload, value)).flatten();
    let fields = [
        ("filter", filter),
        ("device", &suggestion.device),
        ("point", &point),
        ("unit", unit.as_deref().unwrap_or(&suggestion.unit)),
        ("payload.format", format),
        ("payload.value", value),
        ("payload.time", &time),
        ("_seen", &seen.topic),
    ];
    format!("use:subscribe?{}", pages::query(&fields))
}

/// The text at `unit` beside a value in a payload.
fn unit_beside(payload: &str, pointer: &str) -> Option<String> {
    let around = pointer.rsplit_once('/').map_or("", |(around, _)| around);
    let payload: serde_json::Value = serde_json::from_str(payload).ok()?;
    let unit = payload.pointer(&format!("{around}/unit"))?.as_str()?.trim();
    let fits = !unit.is_empty() && unit.chars().count() <= UNIT_CHARS_MAX && !unit.contains(['{', '}']);
    fits.then(|| unit.to_owned())
}

fn own_pointer(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::Json { value, .. } => Some(value),
        Payload::Number {} => None,
    }
}

/// What takes over how a register was read.
pub(in crate::web) fn use_reading(list: &str, table: Table, reading: &WordReading) -> String {
    let (table, kind, order) = (word(&table), word(&reading.kind), word(&reading.order));
    let double = matches!(kind.as_str(), "f32" | "i32" | "u32");
    let scale = if (reading.scale - 1.0).abs() < 1e-9 { String::new() } else { reading.scale.to_string() };
    let fields = [
        ("point", format!("{table}_{}", reading.address)),
        ("table", table.clone()),
        ("address", reading.address.to_string()),
        ("kind", if matches!(table.as_str(), "coil" | "discrete") { String::new() } else { kind }),
        ("order", if double && order != "abcd" { order } else { String::new() }),
        ("scale", scale),
    ];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    format!("use:{list}?{}", pages::query(&fields))
}

/// What takes over how a serial line was heard.
pub(in crate::web) fn use_heard(suggestion: &SourceOptions) -> String {
    let SourceOptions::Serial(line) = suggestion else { return String::new() };
    let mut fields = vec![("baud".to_owned(), line.baud.to_string())];
    if line.parity != Parity::None {
        fields.push(("parity".to_owned(), parity_word(line.parity).to_owned()));
    }
    match &line.framing {
        Framing::Firmware {} => fields.push(("framing.kind".to_owned(), "firmware".to_owned())),
        Framing::Delimiter { delimiter, .. } => {
            fields.push(("framing.kind".to_owned(), "delimiter".to_owned()));
            if delimiter != "\n" {
                fields.push(("framing.delimiter".to_owned(), delimiter.clone()));
            }
        }
    }
    match &line.payload {
        Some(LinePayload::Number { point, unit }) => {
            let texts = [("format", "number"), ("point", point), ("unit", unit)];
            fields.extend(texts.map(|(name, value)| (format!("payload.{name}"), value.to_owned())));
        }
        Some(LinePayload::Csv { separator, columns }) => {
            fields.push(("payload.format".to_owned(), "csv".to_owned()));
            fields.push(("payload.separator".to_owned(), separator.to_string()));
            for (index, column) in columns.iter().enumerate() {
                fields.push((format!("payload.columns[{index}].point"), column.point.clone()));
                fields.push((format!("payload.columns[{index}].unit"), column.unit.clone()));
            }
        }
        None => {}
    }
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    format!("use:?{}", pages::query(&fields))
}

/// A word of the file for a value.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_that_stands_beside_a_value_is_taken_over() {
        assert_eq!(unit_beside(r#"{"value":7,"unit":"°C"}"#, "/value").as_deref(), Some("°C"));
        assert_eq!(unit_beside(r#"{"a":{"value":7},"unit":"°C"}"#, "/a/value"), None);
        assert_eq!(unit_beside(r#"{"value":7,"unit":"{1}"}"#, "/value"), None);
        assert_eq!(unit_beside("7", ""), None);
    }
}
