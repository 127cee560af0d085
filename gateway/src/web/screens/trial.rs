//! The banner of a configuration on trial: on every page, with the time that is left, until someone keeps it or takes it back.

use crate::config::desk::{Reverted, Trial};
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
    changes: Vec<String>,
    until: Moment,
    /// The same by the monotonic clock, in milliseconds: a wall clock that is set meanwhile changes nothing.
    until_mono_ms: u64,
}

struct Over {
    by: String,
    why: String,
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
        flows: trial.flows,
        changes: trial.changes.iter().map(|change| l.say(change).into_owned()).collect(),
        until: Moment::new(trial.until_us, now_us, l),
        until_mono_ms: trial.until_mono_us / 1_000,
    };
    let over = |reverted: &Reverted| Over {
        by: reverted.by.clone(),
        why: l.say(&reverted.why).into_owned(),
        at: Moment::new(reverted.at_us, now_us, l),
    };
    let reverted = desk.reverted.as_ref().filter(|reverted| now_us.saturating_sub(reverted.at_us) < TOLD_US);
    let banner = Banner { l, trial: desk.trial.as_ref().map(running), reverted: reverted.map(over) };
    if banner.trial.is_none() && banner.reverted.is_none() { Ok(String::new()) } else { banner.render() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_had_a_hand_in_it_is_named() {
        assert_eq!(together("anna", Locale::ENGLISH), "anna");
        assert_eq!(together("anna, ben, cleo", Locale::ENGLISH), "anna, ben and cleo");
    }
}
