//! The forms for sources and ways upstream: chosen, filled, tried, handed in. Both ends share them; [`Draft`] knows the difference.

use super::draft::{Draft, Side};
use super::fields::{self, Section};
use super::found::Found;
use super::jobs::{Job, Task};
use super::pasting;
use super::posted::{add, begin, capped, complete, posted};
use super::searching;
use super::typed::{Borrowed, keep_secret, secret_of};
use crate::config::Config;
use crate::config::secrets::TRY_OUT;
use crate::config::sheet;
use crate::sources::SourceOptions;
use crate::sources::discover::{self, Port};
use crate::sources::line::Parity;
use crate::tryout::Verdict;
use crate::web::assets::ASSETS;
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::screens::first_steps::{self, BACK, Mark};
use crate::web::visit::Visit;
use crate::web::words::sentence;
use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;
use std::time::Duration;

/// How long a page without script waits for a search: a bit longer than a try-out may take.
const WAIT: Duration = Duration::from_secs(17);

/// What an address may fill in: what the page's own links do. Never a secret's file, which would be sent to wherever it says.
const ASKABLE: [&str; 7] = ["type", "url", "port", "_look", "_line", "_reach", "_to"];

/// What runs, read once for a request.
pub(in crate::web) struct Running {
    /// The text, with its secrets.
    pub(in crate::web) text: Arc<str>,
    /// Its revision.
    pub(in crate::web) revision: String,
    /// What it says.
    pub(in crate::web) config: Config,
}

impl Running {
    /// What runs now.
    pub(in crate::web) async fn read(shared: &Shared) -> Result<Self, Failure> {
        let (text, revision) = {
            let desk = shared.state.desk.state();
            let desk = desk.borrow();
            (desk.text.clone(), desk.revision.to_string())
        };
        let examined = change::look_at(text.to_string()).await?;
        let config = examined.config.ok_or_else(|| {
            let problem = examined.problems.first().map_or("", |problem| problem.message.as_str());
            Failure::unavailable(format!(
                "the running configuration cannot be read again ({problem}); look at the file"
            ))
        })?;
        Ok(Self { text, revision, config })
    }

    /// The form of one that is there.
    pub(in crate::web) fn draft(&self, side: Side, name: &str) -> Result<Draft, Failure> {
        Draft::of(side, &self.text, &self.config, name)
            .ok_or_else(|| Failure::missing(format!("there is no {} {name:?} (any more)", side.key())))
    }
}

#[derive(Template)]
#[template(path = "ways/form.html")]
struct Page {
    frame: Frame,
    side: Side,
    kind: String,
    was: String,
    base: String,
    title: String,
    sections: Vec<Section>,
    /// What is wrong with the whole, as the draft notes it, and in words.
    wrong: String,
    said: String,
    /// Whether anything is.
    problems: usize,
    /// The fields that need something else, by id and what they are called.
    mend: Vec<(String, String)>,
    found: String,
    ports: Vec<Port>,
    /// Where further options are.
    more: String,
    /// Fields that the form only carries.
    carried: Vec<(String, String)>,
    /// Whether it looks for what there is by itself once it is shown.
    looks: bool,
    /// The line of the first steps, on their way.
    steps: Vec<Mark>,
    /// Whether one may go on without a test that passed.
    untested: bool,
    /// Where one goes who leaves it.
    leave: &'static str,
}

impl Page {
    fn l(&self) -> Locale {
        self.frame.l
    }

    /// Says that nothing runs yet, and how much is to be mended.
    fn not_yet(&self) -> String {
        match self.mend.len() {
            0 => self.l().t("Not running yet.").to_owned(),
            1 => self.l().t("Not running yet: one field needs something else.").to_owned(),
            many => self.l().f1("Not running yet: {} fields need something else.", many),
        }
    }
}

/// What is wrong, for the places of a form that is on the screen.
#[derive(Template)]
#[template(path = "ways/checked.html")]
struct Checked {
    l: Locale,
    sections: Vec<Section>,
}

#[derive(Template)]
#[template(path = "ways/choose.html")]
struct Choose {
    frame: Frame,
    side: Side,
    ports: Vec<Port>,
    /// Whether a broker answers on this machine.
    broker: bool,
    to: &'static str,
    carry: &'static str,
}

/// `GET …/new`: which kind, or the empty form of a kind; what the query says is filled in.
pub(in crate::web) async fn new(
    side: Side,
    shared: &Shared,
    visit: &Visit,
    fields: Vec<(String, String)>,
) -> Result<Response, Failure> {
    let running = Running::read(shared).await?;
    let asked = fields.into_iter().filter(|(name, _)| ASKABLE.contains(&name.as_str())).collect();
    let mut draft = Draft::new(side, &running.config).filled(capped(asked)?);
    if !visit.is_from_here {
        // A link of someone else fills in an address at most; nothing goes there before someone asks for it.
        draft.set("_look", String::new());
    }
    if !kinds(side).contains(&draft.kind()) {
        return choose(side, shared, visit, &running).await;
    }
    begin(&mut draft, &running.config);
    complete(&mut draft);
    let base = running.revision.clone();
    show(StatusCode::OK, shared, visit, draft, base, String::new(), &running).await
}

/// `GET …/{name}/edit`.
pub(in crate::web) async fn edit(
    side: Side,
    shared: &Shared,
    visit: &Visit,
    name: &str,
    asked: &[(String, String)],
) -> Result<Response, Failure> {
    let running = Running::read(shared).await?;
    let mut draft = running.draft(side, name)?;
    if asked.iter().any(|(name, value)| name == "_to" && value == BACK) {
        draft.set("_to", BACK);
    }
    if let Some((_, field)) = asked.iter().find(|(name, _)| name == "_focus") {
        draft.set("_focus", field.clone());
    }
    let base = running.revision.clone();
    show(StatusCode::OK, shared, visit, draft, base, String::new(), &running).await
}

/// `POST …/new` and `POST …/{name}/edit`: whatever the button says.
pub(in crate::web) async fn submit(
    side: Side,
    shared: &Shared,
    visit: &Visit,
    fields: Vec<(String, String)>,
) -> Result<Response, Failure> {
    let running = Running::read(shared).await?;
    let mut draft = posted(side, &running, fields)?;
    let asked = draft.fields.remove("_do").unwrap_or_default();
    let base = draft.get("_base").to_owned();
    let (what, rest) = asked.split_once(':').unwrap_or((&asked, ""));
    let mut found = String::new();
    let mut status = StatusCode::OK;
    match what {
        "save" => {
            let guided = draft.get("_to") == BACK;
            if guided && side == Side::Sink && draft.get("_untested").is_empty() {
                // The guided way goes on by a test record that arrived, or by someone who knows that none did.
                if let Some(job) = begin_try(shared, visit, &mut draft, &running).await? {
                    job.wait(WAIT).await;
                    if job.findings().report.is_none_or(|report| report.verdict != Verdict::Works) {
                        found = rendered(Found::new(side, &job, false, visit.l).render())?;
                        let status = StatusCode::UNPROCESSABLE_ENTITY;
                        return show(status, shared, visit, draft, base, found, &running).await;
                    }
                }
            }
            match save(side, shared, visit, &running, &mut draft, &base).await? {
                Some(_) if guided => return Ok(Redirect::to(first_steps::after(side)).into_response()),
                Some(name) => {
                    return Ok(Redirect::to(&pages::path(&format!("{}/", side.root()), &name)).into_response());
                }
                None => status = StatusCode::UNPROCESSABLE_ENTITY,
            }
        }
        "try" | "listen" | "hear" | "ask" => {
            let begun = if what == "try" {
                begin_try(shared, visit, &mut draft, &running).await?
            } else {
                Some(searching::begin(what, rest, shared, visit, &draft, &running).await?)
            };
            match begun {
                Some(job) if visit.htmx => return Ok(found_part(side, visit, &job, true)),
                Some(job) => {
                    job.wait(WAIT).await;
                    found = rendered(Found::new(side, &job, true, visit.l).render())?;
                }
                None if visit.htmx => {
                    // The fields say what is wrong; the place of the findings says that nothing was tried.
                    let whole = draft.wrong("").to_owned();
                    let part = rendered(Found::nothing_tried(&whole, draft.wrong.len(), visit.l).render())?;
                    let checked = Checked { l: visit.l, sections: fields::sections(&draft, visit.l) };
                    let both = part + &rendered(checked.render())?;
                    return Ok(pages::html(StatusCode::OK, visit, Ok(both)));
                }
                None => status = StatusCode::UNPROCESSABLE_ENTITY,
            }
        }
        "use" => searching::take(&mut draft, rest),
        "add" => add(&mut draft, rest),
        "drop" => {
            if let Some((list, index)) = rest.rsplit_once(':') {
                draft.drop_row(list, index.parse().unwrap_or(usize::MAX));
            }
        }
        "paste" => pasting::paste(&mut draft, rest),
        _ => {}
    }
    show(status, shared, visit, draft, base, found, &running).await
}

/// `POST …/check`: what is wrong with what is typed so far.
pub(in crate::web) async fn check(
    side: Side,
    shared: &Shared,
    visit: &Visit,
    fields: Vec<(String, String)>,
) -> Result<Response, Failure> {
    let running = Running::read(shared).await?;
    let draft = posted(side, &running, fields)?;
    let (draft, _) = examined(draft, &running).await?;
    let checked = Checked { l: visit.l, sections: fields::checked(&draft, visit.l) };
    Ok(pages::html(StatusCode::OK, visit, checked.render()))
}

/// `GET …/jobs/{id}`: how far a try-out or a search is.
pub(in crate::web) fn job(
    side: Side,
    shared: &Shared,
    visit: &Visit,
    id: u64,
    in_form: bool,
) -> Result<Response, Failure> {
    let job = shared.jobs.job(id);
    let job = job.ok_or_else(|| Failure::missing("this try-out was over some minutes ago; begin it again"))?;
    Ok(found_part(side, visit, &job, in_form))
}

/// Begins to try one that is saved.
pub(in crate::web) async fn try_saved(
    side: Side,
    shared: &Shared,
    visit: &Visit,
    name: &str,
) -> Result<Arc<Job>, Failure> {
    let running = Running::read(shared).await?;
    let mut draft = running.draft(side, name)?;
    begin_try(shared, visit, &mut draft, &running)
        .await?
        .ok_or_else(|| Failure::unavailable("it cannot be tested: look at its form"))
}

/// `GET …/{name}/export`: the registers of a source, for a spreadsheet.
pub(in crate::web) fn registers_csv(running: &Running, name: &str, unit: usize) -> Result<String, Failure> {
    let draft = running.draft(Side::Source, name)?;
    let rows = draft.whole_sheet(&format!("unit[{unit}].registers"));
    if rows.is_empty() {
        return Err(Failure::missing(format!("source {name:?} has no unit number {unit} with registers")));
    }
    Ok(sheet::export(&rows, ';'))
}

/// Takes one out of the configuration.
pub(in crate::web) async fn remove(
    side: Side,
    shared: &Shared,
    visit: &Visit,
    name: &str,
    base: &str,
) -> Result<(), Failure> {
    use crate::config::edit::{Edit, apply};
    let running = Running::read(shared).await?;
    let draft = running.draft(side, name)?;
    let text = apply(&running.text, &[Edit::remove(&draft.place())])
        .map_err(|error| Failure::unfit(error.to_string(), Vec::new()))?;
    change::hand_in(shared, visit, base, text, &format!("{} {name}", side.key())).await?;
    Ok(())
}

/// Hands in what a form says; `None` if something is wrong, which is noted in the draft.
pub(in crate::web) async fn save(
    side: Side,
    shared: &Shared,
    visit: &Visit,
    running: &Running,
    draft: &mut Draft,
    base: &str,
) -> Result<Option<String>, Failure> {
    let name = draft.get("name").trim().to_owned();
    draft.set("name", name.clone());
    let mut typed = None;
    if let Some((field, secret)) = secret_of(draft) {
        // A name of its own each time: what goes back by itself must find the secret that it had.
        let path = keep_secret(running, &name, &secret).await?;
        typed = Some((field, draft.get(field).to_owned(), Borrowed(path.clone())));
        draft.set(field, path.display().to_string());
    }
    let (after, text) = examined(draft.clone(), running).await?;
    *draft = after;
    let Some((text, _)) = text else {
        if let Some((field, before, _)) = typed {
            draft.set(field, before);
        }
        return Ok(None);
    };
    change::hand_in(shared, visit, base, text, &format!("{} {name}", side.key())).await?;
    if let Some((_, _, file)) = typed {
        file.stays();
    }
    Ok(Some(name))
}

/// Begins to try what a form says; `None` if something is wrong with it.
pub(in crate::web) async fn begin_try(
    shared: &Shared,
    visit: &Visit,
    draft: &mut Draft,
    running: &Running,
) -> Result<Option<Arc<Job>>, Failure> {
    let mut borrowed = Vec::new();
    let mut trial = draft.clone();
    if let Some((field, secret)) = secret_of(draft) {
        let path = keep_secret(running, TRY_OUT, &secret).await?;
        trial.set(field, path.display().to_string());
        borrowed.push(Borrowed(path));
    }
    let (trial, examined) = examined(trial, running).await?;
    draft.wrong = trial.wrong;
    let Some((_, config)) = examined else { return Ok(None) };
    let task = match draft.side {
        Side::Source => config.source.get(draft.at).map(|source| Task::Source(Box::new(source.clone()))),
        Side::Sink => {
            config.sink.get(draft.at).map(|sink| Task::Sink(config.gateway.id.clone(), Box::new(sink.clone())))
        }
    };
    let Some(task) = task else { return Ok(None) };
    change::record_look(shared, visit, task.look()).await;
    Ok(Some(shared.jobs.begin(visit, task, running.config.source.clone(), borrowed)?))
}

/// Looks at what a form says, on a thread that may take its time.
async fn examined(mut draft: Draft, running: &Running) -> Result<(Draft, Option<(String, Config)>), Failure> {
    let text = running.text.clone();
    change::apart(move || {
        let examined = draft.examined(&text);
        (draft, examined)
    })
    .await
}

/// The kinds of an end.
fn kinds(side: Side) -> &'static [&'static str] {
    match side {
        Side::Source => &["mqtt", "modbus", "serial"],
        Side::Sink => &["http", "kafka"],
    }
}

async fn choose(side: Side, shared: &Shared, visit: &Visit, running: &Running) -> Result<Response, Failure> {
    let (ports, broker) = if side == Side::Source {
        (ports(&running.config.source).await?, searching::local_broker().await)
    } else {
        (Vec::new(), false)
    };
    let frame = Frame::new(shared, visit, nav(side));
    Ok(pages::html(StatusCode::OK, visit, Choose { frame, side, ports, broker, to: "", carry: "" }.render()))
}

/// The serial ports of this machine.
pub(in crate::web) async fn ports(running: &[SourceOptions]) -> Result<Vec<Port>, Failure> {
    let running = running.to_vec();
    change::apart(move || discover::serial_ports(&running)).await
}

/// Where the navigation stands.
pub(in crate::web) fn nav(side: Side) -> Nav {
    match side {
        Side::Source => Nav::Sources,
        Side::Sink => Nav::Upstream,
    }
}

async fn show(
    status: StatusCode,
    shared: &Shared,
    visit: &Visit,
    draft: Draft,
    base: String,
    found: String,
    running: &Running,
) -> Result<Response, Failure> {
    let l = visit.l;
    let kind = super::kind_name(draft.kind()).to_owned();
    let title = if draft.was.is_empty() {
        let what = if draft.side == Side::Source { "New source: {}" } else { "New way upstream: {}" };
        l.f1(what, l.say(&kind))
    } else {
        l.f1("Change {}", &draft.was)
    };
    let on_line = matches!(draft.kind(), "serial" | "modbus");
    let carried = ["type", "_to"].into_iter().filter(|name| !draft.get(name).is_empty());
    let mut carried: Vec<(String, String)> =
        carried.map(|name| (name.to_owned(), draft.get(name).to_owned())).collect();
    carried.extend(
        draft.fields.iter().filter(|(name, _)| name.starts_with("_seen.")).map(|(n, v)| (n.clone(), v.clone())),
    );
    let (guided, found_is_empty) = (draft.get("_to") == BACK, found.is_empty());
    // On the guided way the next button keeps what is on trial: no banner asks for it.
    let frame = if guided {
        Frame::bare(shared, visit, nav(draft.side)).live(BACK)
    } else {
        Frame::new(shared, visit, nav(draft.side))
    };
    let frame = frame.script(&ASSETS.form.url);
    let sections = fields::sections(&draft, l);
    let page = Page {
        frame,
        side: draft.side,
        kind: draft.kind().to_owned(),
        was: draft.was.clone(),
        base,
        title,
        mend: fields::wrong(&sections, l),
        sections,
        said: sentence(&l.say(draft.wrong(""))),
        wrong: draft.wrong("").to_owned(),
        // Whoever has just pasted has not handed anything in.
        problems: if draft.pasted.is_empty() { draft.wrong.len() } else { 0 },
        found,
        ports: if on_line { ports(&running.config.source).await? } else { Vec::new() },
        more: if draft.was.is_empty() { String::new() } else { format!("{}", draft.place()) },
        carried,
        looks: draft.get("_look") == "1",
        steps: if guided { first_steps::marks(shared, first_steps::step_of(draft.side)) } else { Vec::new() },
        untested: guided && draft.side == Side::Sink && !found_is_empty && status != StatusCode::OK,
        leave: match draft.side {
            Side::Source if guided => "/first-steps/source",
            Side::Sink if guided => "/first-steps/sink",
            side => side.root(),
        },
    };
    Ok(pages::html(status, visit, page.render()))
}

fn found_part(side: Side, visit: &Visit, job: &Job, in_form: bool) -> Response {
    pages::html(StatusCode::OK, visit, Found::new(side, job, in_form, visit.l).render())
}

/// A part as text.
pub(in crate::web) fn rendered<T>(part: askama::Result<T>) -> Result<T, Failure> {
    part.map_err(|error| {
        tracing::error!(%error, "a part of a page could not be rendered");
        Failure::unavailable("the page could not be rendered; the log says why")
    })
}

/// A parity as the file says it.
pub(in crate::web) fn parity_word(parity: Parity) -> &'static str {
    match parity {
        Parity::None => "none",
        Parity::Even => "even",
        Parity::Odd => "odd",
    }
}
