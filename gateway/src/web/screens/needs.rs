//! The first card of the overview: does anything need a person? If nothing does, one calm line says so.

use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::snapshot::{Snapshot, SourceView, TroubleView};
use crate::web::words::{Moment, sentence, sentences};
use askama::Template;

/// Troubles that the card spells out; more are counted. A person takes one at a time.
const TROUBLES_SHOWN_MAX: usize = 5;

/// What needs a person.
#[derive(Template)]
#[template(path = "needs.html")]
pub(in crate::web) struct Needs {
    l: Locale,
    tone: &'static str,
    headline: String,
    list: Vec<Need>,
    calm: String,
    more: usize,
    /// Sources of which more than a little cannot be read: in words, and where it is kept.
    unread: Vec<(String, String)>,
    /// Where to begin, on a gateway that reads nothing yet.
    first_steps: bool,
}

struct Need {
    subject: String,
    what: String,
    advice: String,
    since: Moment,
    /// Where one looks into it, or mends it: the words of the button, and its address.
    open: Option<(&'static str, String)>,
    /// Whether only those who may configure can use it.
    mends: bool,
}

/// What a screen reader says when the card changes: without ages, which would make it speak every minute.
#[derive(Template)]
#[template(source = "{{ headline }}.{% if let Some(first) = first %} {{ first }}{% endif %}", ext = "html")]
struct Announcement<'a> {
    headline: &'a str,
    first: Option<&'a str>,
}

impl Needs {
    /// The card at one moment.
    pub(in crate::web) fn new(snapshot: &Snapshot, shared: &Shared, l: Locale) -> Self {
        let troubles = told(snapshot);
        let count = troubles.iter().filter(|trouble| trouble.severity != "info").count();
        let worst = troubles.first().map_or("", |trouble| trouble.severity);
        let idle = !snapshot.ready || snapshot.sources.is_empty();
        let headline = match count {
            0 if !snapshot.ready => l.t("Forebay is starting").to_owned(),
            0 if snapshot.sources.is_empty() => l.t("There is no source yet").to_owned(),
            0 if snapshot.sources.iter().any(SourceView::is_rejecting) => {
                l.t("Messages come that cannot be read").to_owned()
            }
            0 => l.t("Nothing needs you").to_owned(),
            1 => l.t("One thing needs you").to_owned(),
            many => sentence(&l.f1("{} things need you", l.number_word(many))).trim_end_matches('.').to_owned(),
        };
        let need = |trouble: &&TroubleView| Need::new(trouble, snapshot, l);
        Self {
            l,
            tone: match worst {
                "error" => "bad",
                "warning" => "warn",
                _ if idle => "idle",
                _ if snapshot.sources.iter().any(SourceView::is_rejecting) => "warn",
                _ => "good",
            },
            headline,
            list: troubles.iter().take(TROUBLES_SHOWN_MAX).map(need).collect(),
            calm: if count == 0 && snapshot.ready { calm(snapshot, l) } else { String::new() },
            more: troubles.len().saturating_sub(TROUBLES_SHOWN_MAX),
            unread: snapshot.sources.iter().filter_map(|source| unread(source, l)).collect(),
            first_steps: snapshot.ready
                && snapshot.sources.is_empty()
                && shared.state.desk.state().borrow().trial.is_none(),
        }
    }

    /// The same as a screen reader says it.
    pub(in crate::web) fn announcement(&self) -> askama::Result<String> {
        Announcement { headline: &self.headline, first: self.list.first().map(|need| need.what.as_str()) }.render()
    }
}

impl Need {
    fn new(trouble: &TroubleView, snapshot: &Snapshot, l: Locale) -> Self {
        let subject = trouble.subject.as_str();
        let is_source = snapshot.sources.iter().any(|source| source.name == subject);
        let is_sink = snapshot.sinks.iter().any(|sink| sink.name == subject);
        let own = match subject {
            name if is_source => Some(crate::web::pages::path("/sources/", name)),
            name if is_sink => Some(crate::web::pages::path("/upstream/", name)),
            "buffer" => Some("/board".to_owned()),
            "configuration" => Some("/settings/file".to_owned()),
            _ => None,
        };
        let mend = own.as_ref().filter(|_| is_source || is_sink).and_then(|own| {
            let (words, field) = mend_of(trouble)?;
            Some((words, format!("{own}/edit?{}", crate::web::pages::query(&[("_focus", field)]))))
        });
        Self {
            subject: l.say(subject).into_owned(),
            what: sentences(&l.say(&trouble.what)),
            advice: sentences(&l.say(&trouble.advice)),
            since: Moment::new(trouble.since_us, snapshot.now_us, l),
            mends: mend.is_some(),
            open: mend.or_else(|| Some(("Open", own?))),
        }
    }
}

/// The field that mends a trouble, if one does: the words of the button, and the field's name in the form.
fn mend_of(trouble: &TroubleView) -> Option<(&'static str, &'static str)> {
    let said = |part: &str| trouble.what.contains(part) || trouble.advice.contains(part);
    match () {
        () if said("auth.bearer_file") => Some(("Change the token", "_token")),
        () if said("username, password_file") || said("The password for the broker") => {
            Some(("Change user and password", "username"))
        }
        () if said("change format or compression") => Some(("Change the format", "format")),
        () if said("the path of url") || said("set url to") || said("check that url") => {
            Some(("Change the address", "url"))
        }
        () => None,
    }
}

/// What a person is told: one trouble for each thing that is broken, the gravest first.
pub(in crate::web) fn told(snapshot: &Snapshot) -> Vec<&TroubleView> {
    let mut told: Vec<&TroubleView> = Vec::new();
    for trouble in &snapshot.troubles {
        if !is_said_otherwise(trouble, snapshot) && !told.iter().any(|other| is_same(other, trouble)) {
            told.push(trouble);
        }
    }
    told
}

/// Whether a sink's trouble with one of its streams is said by that with its readings, or with all of it: a person mends it
/// once.
fn is_said_otherwise(trouble: &TroubleView, snapshot: &Snapshot) -> bool {
    let is_whole = |other: &TroubleView| {
        other.subject == trouble.subject
            && ["Paused: ", "Nothing arrives: "].iter().any(|verb| other.what.starts_with(verb))
    };
    of_stream(trouble).is_some() && snapshot.troubles.iter().any(is_whole)
}

/// Whether two troubles are the same one with different streams of a sink.
fn is_same(one: &TroubleView, other: &TroubleView) -> bool {
    let same = of_stream(one).zip(of_stream(other)).is_some_and(|(one, other)| one == other);
    same && one.subject == other.subject
}

/// What a trouble says of one stream of a sink: what it does not do, and why.
fn of_stream(trouble: &TroubleView) -> Option<(&str, &str)> {
    let (what, reason) = trouble.what.split_once(": ")?;
    let (verb, _) = what.split_once(" of the ")?;
    ["Paused", "Nothing arrives"].contains(&verb).then_some((verb, reason))
}

/// What of a source cannot be read, if that is more than one message in a hundred: hardly a blip, rather a subscription that
/// takes too much, or a payload that is read in the wrong way.
fn unread(source: &SourceView, l: Locale) -> Option<(String, String)> {
    let (rejected, received) = (source.rejected, source.received);
    if rejected.saturating_mul(100) <= received {
        return None;
    }
    let words = l.f(
        "{} of {} messages of {} could not be read; they are kept as dead letters",
        &[&l.count(rejected), &l.count(received), &source.name],
    );
    Some((words, super::ways::letters_of(&source.name)))
}

/// The one line of a quiet day.
fn calm(snapshot: &Snapshot, l: Locale) -> String {
    if snapshot.sources.is_empty() {
        return l.t("Tell it where readings come from; they flow from then on.").to_owned();
    }
    let live = |states: &[&str]| (states.iter().filter(|state| **state == "live").count(), states.len());
    let sources: Vec<&str> = snapshot.sources.iter().map(|source| source.health.state).collect();
    let sinks: Vec<&str> = snapshot.sinks.iter().map(|sink| sink.health.state).collect();
    let sources = match live(&sources) {
        (1, 1) => l.t("the source is live").to_owned(),
        (2, 2) => l.t("both sources are live").to_owned(),
        (live, all) if live == all => l.f1("all {} sources are live", l.number_word(all)),
        (live, all) => l.f2("{} of {} sources are live", live, all),
    };
    let sinks = match live(&sinks) {
        (_, 0) => l.t("no way upstream is configured").to_owned(),
        (1, 1) => l.t("the way upstream is in step").to_owned(),
        (2, 2) => l.t("both ways upstream are in step").to_owned(),
        (live, all) if live == all => l.f1("all {} ways upstream are in step", l.number_word(all)),
        (live, all) => l.f2("{} of {} ways upstream are in step", live, all),
    };
    sentence(&format!("{sources}, {sinks}"))
}
