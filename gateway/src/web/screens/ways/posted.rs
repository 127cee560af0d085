//! What was typed into a form, as a draft: what a new one begins with, what is sent, rows that are added.

use super::draft::{Draft, FIELDS_MAX, Side};
use super::edit::Running;
use crate::config::Config;
use crate::config::sheet::Row;
use crate::web::failure::Failure;

/// What was sent, on the ground of what is there.
pub(in crate::web) fn posted(side: Side, running: &Running, fields: Vec<(String, String)>) -> Result<Draft, Failure> {
    let fields = capped(fields)?;
    let was = fields.iter().find(|(name, _)| name == "_was").map(|(_, was)| was.clone()).unwrap_or_default();
    let draft = if was.is_empty() {
        Draft::new(side, &running.config)
    } else {
        Draft::of(side, &running.text, &running.config, &was).ok_or_else(|| {
            Failure::conflict(format!(
                "{} {was:?} was removed or renamed meanwhile; look at the list and begin again",
                side.key()
            ))
        })?
    };
    let kind = draft.kind().to_owned();
    let mut draft = draft.filled(fields);
    if !kind.is_empty() {
        draft.set("type", kind);
    }
    complete(&mut draft);
    Ok(draft)
}

/// Puts before a broker's host and port what people leave out, and nothing else can be meant.
pub(super) fn complete(draft: &mut Draft) {
    let url = draft.get("url").trim().to_owned();
    if draft.kind() == "mqtt" && !url.is_empty() && !url.contains("://") {
        draft.set("url", format!("mqtt://{url}"));
    }
}

/// The fields, if there are not more than a form may have.
pub(super) fn capped(fields: Vec<(String, String)>) -> Result<Vec<(String, String)>, Failure> {
    if fields.len() > FIELDS_MAX {
        let sentence =
            format!("the form has more than {FIELDS_MAX} fields; change a sheet as long as this in the file");
        return Err(Failure::unfit(sentence, Vec::new()));
    }
    Ok(fields)
}

/// What a new one begins with.
pub(in crate::web) fn begin(draft: &mut Draft, config: &Config) {
    let (name, rows): (_, &[&str]) = match draft.kind() {
        "mqtt" => ("broker", &["subscribe"]),
        "modbus" => ("modbus", &["unit"]),
        "serial" => ("line", &[]),
        "http" => ("upstream", &[]),
        _ => ("kafka", &[]),
    };
    let names = draft.side.names(config);
    if draft.get("name").is_empty() {
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !names.contains(name));
        draft.set("name", free.unwrap_or_default());
    }
    if draft.kind() == "modbus" && draft.get("_reach").is_empty() {
        draft.set("_reach", "tcp");
    }
    if draft.kind() == "serial" && draft.get("framing.kind").is_empty() {
        draft.set("framing.kind", "delimiter");
        draft.set("payload.format", "number");
    }
    for list in rows {
        if draft.rows(list).is_empty() {
            add(draft, list);
        }
    }
}

/// Adds a row to a list of the form.
pub(super) fn add(draft: &mut Draft, list: &str) {
    let text = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    match list {
        "subscribe" => {
            draft.add_row(list, &text(&[("filter", ""), ("device", ""), ("point", ""), ("payload.format", "number")]));
        }
        "unit" => {
            let at = draft.add_row(list, &text(&[("id", "1"), ("device", "")]));
            draft.put_sheet(&format!("unit[{at}].registers"), &[Row::default()]);
        }
        "payload.columns" => drop(draft.add_row(list, &text(&[("point", ""), ("unit", "")]))),
        list if list.ends_with(".registers") => {
            let mut rows = draft.sheet(list);
            rows.push(Row::default());
            draft.put_sheet(list, &rows);
        }
        _ => {}
    }
}
