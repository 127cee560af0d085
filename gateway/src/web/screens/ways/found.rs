//! What a try-out or a search has found so far, as a part of a page that asks again until it is over.

use super::draft::Side;
use super::jobs::{Findings, Job};
use super::searching::{use_heard, use_reading, use_topic};
use crate::sources::discover::{Guess, Heard, TopicSeen, WordReading};
use crate::sources::modbus::{Kind, Table};
use crate::tryout::{Step, StepOutcome, TriedValue, Verdict, absence_words};
use crate::web::locale::Locale;
use crate::web::words::{sentence, sentences};
use askama::Template;
use std::fmt::Write as _;

/// Most topics that are shown; the search's filter narrows them.
const TOPICS_SHOWN_MAX: usize = 100;

/// Most numbers of one payload that can be tapped.
const NUMBERS_SHOWN_MAX: usize = 12;

/// Most registers or bits of an answer that are shown one by one; a person looks at few at a time.
const ROWS_SHOWN_MAX: usize = 60;

/// Numbers that a device measures lie within these far more often than bits that were read in a wrong way.
const LIKELY: std::ops::RangeInclusive<f64> = 1e-3..=1e6;

/// Most values of a try-out that are shown.
const VALUES_SHOWN_MAX: usize = 50;

/// What was found.
#[derive(Template)]
#[template(path = "ways/found.html")]
pub(in crate::web) struct Found {
    l: Locale,
    /// Where it is asked for again; empty once it is over.
    again: String,
    headline: String,
    tone: &'static str,
    steps: Vec<StepView>,
    values: Vec<ValueView>,
    topics: Vec<TopicView>,
    heard: Vec<HeardView>,
    rows: Vec<RowView>,
    /// What is not in the rows.
    left_out: Vec<String>,
    /// What went wrong, and what to do.
    error: Option<(String, String)>,
}

struct StepView {
    what: String,
    took: String,
    word: &'static str,
    tone: &'static str,
    detail: String,
    advice: String,
}

struct ValueView {
    name: String,
    value: String,
    origin: String,
    raw: String,
    error: String,
}

struct TopicView {
    topic: String,
    payload: String,
    rate: String,
    /// What takes it over, and its words: the whole, or one number in it.
    uses: Vec<(String, String)>,
}

struct HeardView {
    baud: u32,
    bytes: String,
    excerpt: String,
    guess: &'static str,
    good: bool,
    take: String,
}

/// A register or bit: the likeliest ways to read it, and the others.
struct RowView {
    address: u16,
    likely: Vec<ReadingView>,
    others: Vec<ReadingView>,
}

struct ReadingView {
    how: String,
    value: String,
    take: String,
}

impl Found {
    /// What was found so far; in a form it can be taken over.
    pub(in crate::web) fn new(side: Side, job: &Job, in_form: bool, l: Locale) -> Self {
        let findings = job.findings();
        let form = if in_form { "?form=1" } else { "" };
        let again = if findings.over { String::new() } else { format!("{}/jobs/{}{form}", side.root(), job.id) };
        let (headline, tone) = headline(job, &findings, l);
        let error = findings.error.as_ref().map(|e| (sentences(&l.say(&e.what)), sentences(&l.say(&e.advice))));
        let (rows, left_out) = rows(&findings, in_form, l);
        Self {
            l,
            again,
            headline,
            tone,
            steps: findings.steps.iter().map(|step| step_view(step, l)).collect(),
            values: findings
                .report
                .iter()
                .flat_map(|r| &r.values)
                .take(VALUES_SHOWN_MAX)
                .map(|value| value_view(value, l))
                .collect(),
            topics: topics(&findings, in_form, l),
            heard: findings.heard.iter().map(|heard| heard_view(heard, in_form, l)).collect(),
            rows,
            left_out,
            error,
        }
    }

    /// Nothing was tried: the form is wrong.
    pub(in crate::web) fn nothing_tried(whole: &str, count: usize, l: Locale) -> Self {
        let headline = if count == 1 {
            l.t("Nothing was tested: one field needs something else.").to_owned()
        } else {
            l.f1("Nothing was tested: {} fields need something else.", count)
        };
        let error = (!whole.is_empty()).then(|| (sentence(&l.say(whole)), String::new()));
        Self {
            l,
            again: String::new(),
            headline,
            tone: "warn",
            steps: Vec::new(),
            values: Vec::new(),
            topics: Vec::new(),
            heard: Vec::new(),
            rows: Vec::new(),
            left_out: Vec::new(),
            error,
        }
    }
}

fn headline(job: &Job, findings: &Findings, l: Locale) -> (String, &'static str) {
    let seconds = job.elapsed().as_secs();
    let took = |ms: u64| if ms < 1_000 { format!("{ms} ms") } else { format!("{} s", l.number(ms as f64 / 1e3)) };
    if let Some(report) = &findings.report {
        let took = took(report.took_ms);
        return match report.verdict {
            Verdict::Works => (l.f1("It works. That took {}.", took), "good"),
            Verdict::Partly => (l.f1("Some of it works; look at the steps. That took {}.", took), "warn"),
            Verdict::Fails => (l.f1("It does not work yet. That took {}.", took), "bad"),
            Verdict::InUse => {
                let owner = report.in_use_by.clone().unwrap_or_default();
                (l.f1("Source {} of the running gateway reads this port; look at its values.", owner), "idle")
            }
        };
    }
    match job.kind {
        _ if findings.error.is_some() => (l.t("Nothing could be found out.").to_owned(), "bad"),
        "topics" if findings.over && findings.topics.is_empty() => {
            (l.t("Nobody published anything meanwhile. Is a device connected to this broker?").to_owned(), "idle")
        }
        "topics" if findings.over => {
            (l.f1("{} topics were heard. Tap a number to read it.", findings.topics.len()), "good")
        }
        "topics" if findings.topics.is_empty() => (l.f1("Listening to the broker, for {} s so far …", seconds), "idle"),
        "topics" => (l.f1("{} topics so far. Tap a number to read it.", findings.topics.len()), "idle"),
        "serial" if findings.over && !findings.heard.iter().any(|heard| heard.suggestion.is_some()) => (
            l.t("Nothing that makes sense was heard. Check wiring, and whether the device sends by itself.").to_owned(),
            "warn",
        ),
        "serial" if findings.over => (l.t("This is what it sends.").to_owned(), "good"),
        "serial" => (l.t("Listening at one speed after the other …").to_owned(), "idle"),
        "modbus" if findings.over => (l.t("The device answered. Tap what looks right.").to_owned(), "good"),
        "modbus" => (l.t("Asking the device …").to_owned(), "idle"),
        _ => (l.f1("Testing, for {} s so far …", seconds), "idle"),
    }
}

fn step_view(step: &Step, l: Locale) -> StepView {
    let (word, tone, detail, advice) = match &step.outcome {
        StepOutcome::Running => ("under way", "idle", String::new(), String::new()),
        StepOutcome::Ok { detail } => ("done", "good", l.say(detail).into_owned(), String::new()),
        StepOutcome::Failed { what, advice } => ("failed", "bad", sentences(&l.say(what)), sentences(&l.say(advice))),
    };
    let took = if tone == "idle" { String::new() } else { format!("{} ms", step.took_ms) };
    let what = sentence(&l.say(&step.what)).trim_end_matches('.').to_owned();
    StepView { what, took, word, tone, detail, advice }
}

fn value_view(value: &TriedValue, l: Locale) -> ValueView {
    let shown = match &value.value {
        // A float of four bytes has digits behind the seventh that nobody measured.
        Some(serde_json::Value::Number(number)) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), |number| l.number(number))
        }
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => l.say(absence_words(value.no_data.as_deref().unwrap_or_default())).into_owned(),
    };
    let unit = if value.unit.is_empty() || value.value.is_none() { String::new() } else { format!(" {}", value.unit) };
    ValueView {
        name: if value.device.is_empty() { String::new() } else { format!("{} · {}", value.device, value.point) },
        value: format!("{shown}{unit}"),
        origin: value.origin.clone(),
        raw: value.raw.clone(),
        error: value.error.clone().unwrap_or_default(),
    }
}

fn topics(findings: &Findings, in_form: bool, l: Locale) -> Vec<TopicView> {
    let view = |seen: &TopicSeen| TopicView {
        topic: seen.topic.clone(),
        payload: seen.payload.clone(),
        rate: if seen.is_retained { l.t("kept by the broker").to_owned() } else { l.rate(seen.per_second) },
        uses: if in_form { uses(seen, findings, l) } else { Vec::new() },
    };
    findings.topics.values().take(TOPICS_SHOWN_MAX).map(view).collect()
}

/// What can be tapped: each number of exactly this topic, then the topics of its kind, if there are others.
fn uses(seen: &TopicSeen, findings: &Findings, l: Locale) -> Vec<(String, String)> {
    let Some(suggestion) = &seen.suggestion else { return Vec::new() };

    let number = |at: &crate::sources::discover::NumberAt| {
        let name = at.pointer.trim_start_matches('/').to_owned();
        let said = if name.is_empty() { l.number(at.number) } else { format!("{name} = {}", l.number(at.number)) };
        let pointer = (!at.pointer.is_empty()).then_some(at.pointer.as_str());
        (use_topic(seen, suggestion, &seen.topic, pointer), said)
    };
    let mut uses: Vec<(String, String)> = seen.numbers.iter().take(NUMBERS_SHOWN_MAX).map(number).collect();
    if uses.is_empty() {
        uses.push((use_topic(seen, suggestion, &seen.topic, None), l.t("Read this").to_owned()));
    }
    let kind: Vec<bool> = findings.topics.values().filter_map(|other| other.read_by(suggestion)).collect();
    let (all, read) = (kind.len(), kind.iter().filter(|is_read| **is_read).count());
    if read > 1 {
        let filter = suggestion.filter.as_str();
        let said = if read == all {
            l.f("All {} of its kind: {}", &[&all, &filter])
        } else {
            l.f("All {} of its kind: {}; {} of them cannot be read this way", &[&all, &filter, &(all - read)])
        };
        uses.push((use_topic(seen, suggestion, filter, None), said));
    }
    uses
}

fn heard_view(heard: &Heard, in_form: bool, l: Locale) -> HeardView {
    let guess = match heard.guess {
        Guess::Nothing => "nothing",
        Guess::Noise => "bytes without an order: most likely the wrong speed",
        Guess::Firmware => "frames of firmware-protocols",
        Guess::Numbers => "one number a line",
        Guess::Columns => "values between separators",
        Guess::Nmea => "NMEA 0183 sentences",
        Guess::Json => "JSON documents",
        Guess::Text => "lines of text",
        Guess::TextWithoutEnd => "text that no line ends",
    };
    HeardView {
        baud: heard.baud,
        bytes: l.bytes(heard.bytes as u64),
        excerpt: heard.excerpt.clone(),
        guess,
        good: heard.suggestion.is_some(),
        take: heard.suggestion.as_ref().filter(|_| in_form).map(use_heard).unwrap_or_default(),
    }
}

/// The answer of a device, a row for each register; those that are 0 are one line.
fn rows(findings: &Findings, in_form: bool, l: Locale) -> (Vec<RowView>, Vec<String>) {
    let (Some(answer), Some(question)) = (&findings.answer, &findings.question) else { return Default::default() };
    let view = |reading: &WordReading| reading_view(reading, findings, question.table, in_form, l);
    let (mut rows, mut zeros, mut all) = (Vec::new(), Vec::new(), 0);
    for readings in answer.readings.chunk_by(|one, next| one.address == next.address) {
        let Some(address) = readings.first().map(|reading| reading.address) else { continue };
        let float = likeliest_float(readings);
        let whole = |reading: &&WordReading| {
            let is_negative = reading.value.as_f64().is_some_and(|number| number < 0.0);
            match reading.kind {
                Kind::U16 => (reading.scale - 1.0).abs() < 1e-9,
                Kind::I16 => (reading.scale - 1.0).abs() < 1e-9 && is_negative,
                Kind::Bool => true,
                _ => false,
            }
        };
        let is_bits = matches!(question.table, Table::Coil | Table::Discrete);
        let is_zero =
            !is_bits && readings.iter().find(whole).is_some_and(|reading| reading.value.as_f64() == Some(0.0));
        if is_zero && float.is_none() {
            zeros.push(address);
            continue;
        }
        all += 1;
        if rows.len() >= ROWS_SHOWN_MAX {
            continue;
        }
        let likely: Vec<&WordReading> = float.into_iter().chain(readings.iter().filter(whole)).collect();
        let is_other = |reading: &&WordReading| {
            reading.is_plausible && !likely.iter().any(|likely| std::ptr::eq(*likely, *reading))
        };
        let others = readings.iter().filter(is_other).map(view).collect();
        rows.push(RowView { address, likely: likely.iter().map(|reading| view(reading)).collect(), others });
    }
    let mut left_out = Vec::new();
    if all > rows.len() {
        left_out.push(l.f2("The first {} of {} are shown; ask from a later address for the others.", rows.len(), all));
    }
    if !zeros.is_empty() {
        left_out.push(l.f1("0 stands at {}", stretches(&zeros)));
    }
    (rows, left_out)
}

/// The floating point number that a device most likely means: of likely size, and the one with the fewest digits.
fn likeliest_float(readings: &[WordReading]) -> Option<&WordReading> {
    #[expect(clippy::cast_possible_truncation, reason = "it was one of 32 bits, which says what its digits are")]
    let digits = |reading: &WordReading| reading.value.as_f64().map_or(0, |number| (number as f32).to_string().len());
    let is_likely = |reading: &&WordReading| {
        matches!(reading.kind, Kind::F32)
            && reading.is_plausible
            && reading.value.as_f64().is_some_and(|number| LIKELY.contains(&number.abs()))
    };
    readings.iter().filter(is_likely).min_by_key(|reading| digits(reading))
}

/// Addresses in words: `2–5, 7, 9–11`.
fn stretches(addresses: &[u16]) -> String {
    let stretch = |run: &[u16]| match (run.first(), run.last()) {
        (Some(first), Some(last)) if first != last => format!("{first}–{last}"),
        (Some(first), _) => first.to_string(),
        (None, _) => String::new(),
    };
    let runs = addresses.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    runs.map(stretch).collect::<Vec<_>>().join(", ")
}

fn reading_view(reading: &WordReading, findings: &Findings, table: Table, in_form: bool, l: Locale) -> ReadingView {
    let value = match reading.value.as_f64() {
        Some(number) => l.number(number),
        None => reading.value.to_string(),
    };
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let kind = word(serde_json::to_value(reading.kind));
    let order = word(serde_json::to_value(reading.order));
    let double = matches!(kind.as_str(), "f32" | "i32" | "u32");
    let mut how = if double { format!("{kind}, {order}") } else { kind };
    if (reading.scale - 1.0).abs() > 1e-9 {
        // Writing into a string does not fail.
        _ = write!(how, " × {}", l.number(reading.scale));
    }
    let list = &findings.list;
    let take = if in_form && !list.is_empty() { use_reading(list, table, reading) } else { String::new() };
    ReadingView { how, value, take }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::sources::modbus::WordOrder;

    #[test]
    fn addresses_that_follow_each_other_are_one_stretch() {
        assert_eq!(stretches(&[2, 3, 4, 5, 7, 9, 10]), "2–5, 7, 9–10");
        assert_eq!(stretches(&[65_535]), "65535");
    }

    #[test]
    fn of_floats_in_four_orders_the_one_with_few_digits_is_likeliest() {
        let float = |order, number: f32| WordReading {
            address: 6,
            kind: Kind::F32,
            order,
            scale: 1.0,
            value: f64::from(number).into(),
            is_plausible: true,
        };
        let readings =
            [float(WordOrder::Badc, 0.003_112_7), float(WordOrder::Abcd, 4.2), float(WordOrder::Dcba, 2.7e8)];
        assert_eq!(likeliest_float(&readings).unwrap().order, WordOrder::Abcd);
    }
}
