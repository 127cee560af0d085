//! What was typed into a form, and the text that comes of it.

use super::edit::SECRET;
use crate::config::edit::{self, Edit, Place, Step};
use crate::config::form::{self, Kind};
use crate::config::secrets::{Secrets, SecretsError};
use crate::web::change;
use crate::web::failure::{Failure, FieldError};
use crate::web::live::Shared;
use crate::web::pages;
use std::path::PathBuf;

/// Most kinds that one form lets choose.
const TAGS_MAX: usize = 64;

/// Most fields of one form.
const FIELDS_MAX: usize = 2_000;

/// Most secrets of the same name; one more is refused.
const SAME_NAME_MAX: usize = 100;

/// What came with a form. Names that begin with a colon are the form's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// The place.
    pub(super) at: Place,
    /// The revision that was shown.
    pub(super) base: String,
    /// How long it waits to be confirmed, in minutes.
    pub(super) within: String,
    /// What is to be done.
    pub(super) action: String,
    /// The fields that decide which others there are.
    pub(super) tags: Vec<String>,
    /// Each field with what was typed, and secrets as `secret:` and the field's name.
    pub(super) typed: Vec<(String, String)>,
}

impl Entry {
    /// Reads the fields of a form; one that came several times has a line for each that is not empty.
    pub(super) fn read(pairs: Vec<(String, String)>) -> Result<Self, Failure> {
        let mut entry = Self::default();
        if pairs.len() > FIELDS_MAX {
            return Err(Failure::bad(format!("a form has at most {FIELDS_MAX} fields")));
        }
        for (name, typed) in pairs {
            match name.as_str() {
                ":at" => entry.at = super::edit::place(&typed)?,
                ":base" => entry.base = typed,
                ":within" => entry.within = typed,
                ":do" => entry.action = typed,
                ":tag" if entry.tags.len() < TAGS_MAX => entry.tags.push(typed),
                _ if name.starts_with(':') => {}
                _ => entry.put(name, typed),
            }
        }
        if entry.at.steps().is_empty() {
            return Err(Failure::bad("the form does not say which place it is for (:at)"));
        }
        Ok(entry)
    }

    fn put(&mut self, name: String, typed: String) {
        match self.typed.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if known.is_empty() => *known = typed,
            Some((_, known)) if !typed.is_empty() => {
                known.push('\n');
                known.push_str(&typed);
            }
            Some(_) => {}
            None => self.typed.push((name, typed)),
        }
    }

    /// The fields without secrets, and without those of tables that were chosen not to be; and the places of these.
    fn fields(&self) -> (Vec<(String, String)>, Vec<Place>) {
        let none = |tag: &&String| self.typed.iter().any(|(name, typed)| name == *tag && typed.trim().is_empty());
        let gone = self.tags.iter().filter(none).filter_map(|tag| around(&self.at.below(tag).ok()?));
        let gone: Vec<Place> = gone.filter(|around| *around != self.at).collect();
        let kept = self.typed.iter().filter(|(name, _)| {
            let within = |path: &Place| gone.iter().any(|gone| path.is_within(gone));
            !name.starts_with(SECRET) && !self.at.below(name).is_ok_and(|path| within(&path))
        });
        (kept.cloned().collect(), gone)
    }
}

/// What a place is in.
fn around(path: &Place) -> Option<Place> {
    path.split_last().map(|(around, _)| around)
}

/// The text as far as it decides which fields there are.
pub(super) fn draft(text: &str, entry: &Entry) -> String {
    let mut draft = text.to_owned();
    for tag in &entry.tags {
        let Some((_, word)) = entry.typed.iter().find(|(name, _)| name == tag) else { continue };
        let edits = if word.trim().is_empty() {
            let around = entry.at.below(tag).ok().and_then(|path| around(&path)).filter(|around| *around != entry.at);
            around.map(|around| vec![Edit::remove(&around)]).unwrap_or_default()
        } else {
            let one = [(tag.clone(), word.clone())];
            form::from_fields(&draft, &entry.at, &one).unwrap_or_default()
        };
        // What cannot be decided stays undecided.
        draft = edit::apply(&draft, &edits).unwrap_or(draft);
    }
    draft
}

/// The text that comes of a form.
pub(super) fn new_text(text: &str, entry: &Entry, shared: &Shared) -> Result<String, Vec<FieldError>> {
    let (mut fields, gone) = entry.fields();
    for (name, secret) in &entry.typed {
        // As it will be named, so that the rest can be looked at.
        if let Some(name) = name.strip_prefix(SECRET)
            && !secret.is_empty()
        {
            let (stem, secrets) = (secret_name(text, entry, name), secrets(shared));
            let path = secrets.path(&stem).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
            fields.retain(|(known, _)| known != name);
            fields.push((name.to_owned(), path));
        }
    }
    if entry.tags.iter().any(|tag| fields.iter().any(|(name, typed)| name == tag && typed.trim().is_empty())) {
        let path = entry.tags.first().and_then(|tag| entry.at.below(tag).ok()).unwrap_or_default();
        return Err(vec![said(&path, "choose what it is".to_owned())]);
    }
    let edits = form::from_fields(text, &entry.at, &fields)
        .map_err(|problems| problems.iter().map(FieldError::from).collect::<Vec<_>>())?;
    let there = gone.iter().filter(|path| form::at(text, path, None).is_some_and(|form| form.exists));
    let edits: Vec<Edit> = there.map(Edit::remove).chain(edits).collect();
    let exists = form::at(text, &entry.at, None).is_some_and(|form| form.exists);
    if edits.is_empty() && !exists {
        return Err(vec![said(&entry.at, "nothing is filled in yet".to_owned())]);
    }
    edit::apply(text, &edits).map_err(|error| vec![said(&entry.at, error.to_string())])
}

fn said(path: &Place, message: String) -> FieldError {
    FieldError { path: path.to_string(), message, line: 0, column: 0 }
}

/// The secrets that are kept by the gateway.
pub(super) fn secrets(shared: &Shared) -> Secrets {
    Secrets::of(&data_dir(shared))
}

/// The data directory.
pub(super) fn data_dir(shared: &Shared) -> PathBuf {
    let access = shared.state.access.dir();
    access.parent().unwrap_or(access).to_owned()
}

/// Writes the secrets that were typed, and puts the names of their files into their fields; answers with their names.
pub(super) async fn write_secrets(
    shared: &Shared,
    text: &str,
    entry: &mut Entry,
) -> Result<Vec<String>, Vec<FieldError>> {
    let mut written = Vec::new();
    let typed = entry.typed.clone();
    for (field, secret) in typed.iter().filter(|(name, secret)| name.starts_with(SECRET) && !secret.is_empty()) {
        let name = field.strip_prefix(SECRET).unwrap_or_default().to_owned();
        let (secrets, stem, secret) = (secrets(shared), secret_name(text, entry, &name), secret.clone());
        let kept = change::apart(move || {
            // Another one of that name may be what runs now, or what comes back.
            let known = secrets.list();
            let free = |name: &String| !known.contains(name);
            let numbered = (2..SAME_NAME_MAX).map(|number| format!("{stem}-{number}"));
            let name = std::iter::once(stem.clone()).chain(numbered).find(free).ok_or(SecretsError::Full)?;
            secrets.write(&name, &secret).map(|path| (name, path))
        });
        let path = entry.at.below(&name).unwrap_or_default();
        match kept.await {
            Ok(Ok((known, file))) => {
                entry.typed.retain(|(other, _)| *other != name && other != field);
                entry.typed.push((name, file.to_string_lossy().into_owned()));
                written.push(known);
            }
            Ok(Err(error)) => return Err(vec![said(&path, error.to_string())]),
            Err(failure) => return Err(vec![said(&path, failure.detail)]),
        }
    }
    Ok(written)
}

/// Removes secrets that nothing names.
pub(super) async fn forget_secrets(shared: &Shared, names: Vec<String>) {
    let secrets = secrets(shared);
    // One that stays is listed with the others and can be removed there.
    let removed = change::apart(move || names.iter().find_map(|name| secrets.remove(name).err())).await;
    if let Ok(Some(error)) = removed {
        tracing::warn!(%error, "a secret that is not used could not be removed");
    }
}

/// `plant-broker-password` for the password of the source plant-broker.
fn secret_name(text: &str, entry: &Entry, field: &str) -> String {
    let typed = entry.typed.iter().find(|(name, _)| name == "name").map(|(_, typed)| typed.clone());
    let named = || {
        let form = form::at(text, &entry.at, None)?;
        form.fields.into_iter().find(|field| field.name == "name").map(|field| field.typed)
    };
    let owner = typed.or_else(named).unwrap_or_else(|| entry.at.to_string());
    let key = field.rsplit('.').next().unwrap_or(field);
    let whole = format!("{owner}-{}", key.strip_suffix("_file").unwrap_or(key)).to_lowercase();
    let plain = whole.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    let plain: String = plain.take(56).collect();
    plain.trim_matches('-').to_owned()
}

/// The place whose form shows a place: the table that it is in, or the list of tables that it is.
pub(super) fn home(text: &str, place: &Place) -> Place {
    let mut at = place.clone();
    while let Some((around, _)) = at.split_last() {
        let kind = kind_of(text, &at);
        let own = kind.is_some_and(|kind| match kind {
            Kind::Table | Kind::Variants { .. } => true,
            Kind::List { of, .. } => matches!(*of, Kind::Table | Kind::Variants { .. }),
            _ => false,
        });
        if own {
            break;
        }
        at = around;
    }
    at
}

/// Whether a place is a list of tables.
pub(super) fn is_list(text: &str, place: &Place) -> bool {
    matches!(kind_of(text, place), Some(Kind::List { .. }))
}

/// Whether what stands there may be taken out.
pub(super) fn is_removable(text: &str, place: &Place) -> bool {
    match place.split_last() {
        Some((_, Step::Item(_))) => true,
        // The parts of the gateway itself are always there, with what is usual.
        Some((around, Step::Key(_))) if around.steps().is_empty() => false,
        Some((around, Step::Key(key))) => {
            let form = form::at(text, &around, None);
            form.is_some_and(|form| form.fields.iter().any(|field| field.name == *key && !field.required))
        }
        None => false,
    }
}

/// What stands at a place, or may stand there.
fn kind_of(text: &str, place: &Place) -> Option<Kind> {
    let (around, step) = place.split_last()?;
    match step {
        Step::Key(key) => {
            let form = form::at(text, &around, None)?;
            form.fields.into_iter().find(|field| field.name == *key).map(|field| field.kind)
        }
        Step::Item(_) => match kind_of(text, &around)? {
            Kind::List { of, .. } | Kind::Map { of } => Some(*of),
            _ => None,
        },
    }
}

/// Where one sees what a change at a place does.
pub(super) fn effect(text: &str, place: &Place) -> String {
    let mut steps = place.steps().iter();
    let (Some(Step::Key(list)), Some(Step::Item(index))) = (steps.next(), steps.next()) else {
        return "/settings".to_owned();
    };
    let root = match list.as_str() {
        "source" => "/sources/",
        "sink" => "/upstream/",
        "check" | "anomaly" => return super::rules::HERE.to_owned(),
        _ => return "/settings".to_owned(),
    };
    let form = form::at(text, &Place::root().key(list).item(*index), None);
    let name = form.and_then(|form| form.fields.into_iter().find(|field| field.name == "name"));
    name.map_or_else(|| "/settings".to_owned(), |name| pages::path(root, &name.typed))
}
