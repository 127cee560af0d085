//! The banner of a configuration on trial: on every page, with the time that is left, until someone keeps it or takes it back.

use crate::config::desk::{Doubts, NAMED_MAX, Reverted, Trial};
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::words::Moment;
use askama::Template;

/// How long the banner tells that a trial was taken back.
const TOLD_US: i64 = 10 * 60 * 1_000_000;

#[derive(Template)]
#[template(path = "trial.html")]
struct Banner {
    l: Locale,
    trial: Option<Running>,
    reverted: Option<Over>,
}

struct Running {
    by: String,
    revision: String,
    flows: bool,
    doubted: Option<Doubted>,
    changes: Vec<String>,
    until: Moment,
    /// The same by the monotonic clock, in milliseconds: a wall clock that is set meanwhile changes nothing.
    until_mono_ms: u64,
}

/// What speaks against keeping a change, as the page says it.
pub(in crate::web) struct Doubted {
    /// A sentence each.
    pub(in crate::web) words: Vec<String>,
    /// What the button says that keeps it all the same.
    pub(in crate::web) keep: String,
}

impl Doubted {
    /// Nothing if nothing speaks against it.
    pub(in crate::web) fn of(doubts: &Doubts, l: Locale) -> Option<Self> {
        let Doubts { no_reading, no_source, silent, stuck } = doubts;
        let (mut words, mut keep) = (Vec::new(), Vec::new());
        if *no_reading {
            words.push(l.t("no reading yet").to_owned());
            keep.push(l.t("Keep it, though nothing flows").to_owned());
        }
        if *no_source {
            words.push(l.t("no source is left").to_owned());
            keep.push(l.t("Keep it without any source").to_owned());
        }
        if !silent.is_empty() {
            let names = listed(silent, l);
            keep.push(l.f1("Keep it without a value of {}", &names));
            words.push(match silent.len() {
                1 => l.f1("{} has not brought a value yet", &names),
                _ => l.f1("{} have not brought a value yet", &names),
            });
        }
        if !stuck.is_empty() {
            let names: Vec<String> = stuck.iter().map(|stuck| stuck.sink.clone()).collect();
            let names = listed(&names, l);
            keep.push(match stuck.len() {
                1 => l.f1("Keep it, though {} takes nothing", &names),
                _ => l.f1("Keep it, though {} take nothing", &names),
            });
            words.extend(stuck.iter().map(|stuck| l.f2("{} takes nothing: {}", &stuck.sink, l.say(&stuck.why))));
        }
        let one = keep.pop()?;
        let keep = if keep.is_empty() { one } else { l.t("Keep it all the same").to_owned() };
        Some(Self { words, keep })
    }
}

/// Names as one says them; the first few of many.
fn listed(names: &[String], l: Locale) -> String {
    let (told, more) = if names.len() > NAMED_MAX + 1 { names.split_at(NAMED_MAX) } else { (names, [].as_slice()) };
    match told {
        told if !more.is_empty() => l.f2("{} and {} others", told.join(", "), more.len()),
        [most @ .., last] if !most.is_empty() => format!("{} {} {last}", most.join(", "), l.t("and")),
        told => told.concat(),
    }
}

struct Over {
    by: String,
    why: String,
    /// Whether the gateway ended meanwhile, so that what ran is not known as a text any more.
    is_lost: bool,
    changes: Vec<String>,
    at: Moment,
}

/// The names of those who made a trial, as one says them.
fn together(by: &str, l: Locale) -> String {
    match by.rsplit_once(", ") {
        Some((most, last)) => format!("{most} {} {}", l.t("and"), l.say(last)),
        None => by.to_owned(),
    }
}

/// The banner; empty if nothing is on trial and nothing was taken back a moment ago.
pub(in crate::web) fn banner(shared: &Shared, l: Locale) -> askama::Result<String> {
    let now_us = shared.state.clock.tick().wall_us;
    let desk = shared.state.desk.state();
    let desk = desk.borrow();
    let running = |trial: &Trial| Running {
        by: together(&trial.by, l),
        revision: desk.revision.to_string(),
        flows: trial.doubts.flows(),
        doubted: Doubted::of(&trial.doubts, l),
        changes: trial.changes.iter().map(|change| l.say(change).into_owned()).collect(),
        until: Moment::new(trial.until_us, now_us, l),
        until_mono_ms: trial.until_mono_us / 1_000,
    };
    let over = |reverted: &Reverted| Over {
        by: reverted.by.clone(),
        why: l.say(&reverted.why).into_owned(),
        is_lost: reverted.text.is_none(),
        changes: reverted.changes.iter().map(|change| l.say(change).into_owned()).collect(),
        at: Moment::new(reverted.at_us, now_us, l),
    };
    let reverted = desk.reverted.as_ref().filter(|reverted| now_us.saturating_sub(reverted.at_us) < TOLD_US);
    let banner = Banner { l, trial: desk.trial.as_ref().map(running), reverted: reverted.map(over) };
    if banner.trial.is_none() && banner.reverted.is_none() { Ok(String::new()) } else { banner.render() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn whoever_had_a_hand_in_it_is_named() {
        assert_eq!(together("anna", Locale::ENGLISH), "anna");
        assert_eq!(together("anna, ben, cleo", Locale::ENGLISH), "anna, ben and cleo");
    }

    #[test]
    fn whoever_is_silent_is_named_on_the_button_too() {
        let said = |names: &[&str]| {
            let silent = names.iter().map(|name| (*name).to_owned()).collect();
            let doubted = Doubted::of(&Doubts { silent, ..Doubts::default() }, Locale::ENGLISH)?;
            Some((doubted.words.concat(), doubted.keep))
        };
        assert_eq!(said(&[]), None);
        let (words, keep) = said(&["meter-bus"]).unwrap();
        assert_eq!(words, "meter-bus has not brought a value yet");
        assert_eq!(keep, "Keep it without a value of meter-bus");
        let (words, _) = said(&["meter-bus", "line-2"]).unwrap();
        assert_eq!(words, "meter-bus and line-2 have not brought a value yet");
        let (_, keep) = said(&["a", "b", "c", "d", "e"]).unwrap();
        assert_eq!(keep, "Keep it without a value of a, b, c and 2 others");
    }
}
