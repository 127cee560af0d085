//! `/settings/tokens`: API tokens, which let programs in. One is shown once, when it is made.

use super::people::at_field;
use super::said::{self, Wrong};
use crate::access::{MadeToken, Right, Rights, TOKENS_MAX, Token};
use crate::reading::UnixMicros;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// The screen's address.
const HERE: &str = "/settings/tokens";

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// How long a token may be valid, in days, as the form offers it; 0 for no end.
const LIVES: [(i64, &str); 4] = [(30, "30 days"), (90, "90 days"), (365, "a year"), (0, "until it is revoked")];

/// What is chosen at first.
const LIFE_FIRST: i64 = 365;

/// What was done a moment ago, as the address says it after a redirect.
#[derive(Debug, Default, Deserialize)]
pub(in crate::web) struct Ask {
    #[serde(default)]
    done: String,
}

/// A token to make. A check box that is not ticked is not sent.
#[derive(Default, Deserialize)]
pub(in crate::web) struct Given {
    #[serde(default)]
    name: String,
    days: i64,
    see: Option<String>,
    metrics: Option<String>,
    operate: Option<String>,
    configure: Option<String>,
    people: Option<String>,
}

impl Given {
    /// What the form shows at first.
    fn first() -> Self {
        Self { days: LIFE_FIRST, see: Some("on".to_owned()), ..Self::default() }
    }

    fn ticks(&self, right: Right) -> bool {
        let field = match right {
            Right::See => &self.see,
            Right::Metrics => &self.metrics,
            Right::Operate => &self.operate,
            Right::Configure => &self.configure,
            Right::People => &self.people,
        };
        field.is_some()
    }
}

/// A token to revoke.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Revoked {
    name: String,
}

/// A right to tick.
struct RightView {
    value: &'static str,
    name: &'static str,
    meaning: &'static str,
    ticked: bool,
    /// Whether whoever looks may hand it out.
    own: bool,
}

struct LifeView {
    days: i64,
    words: &'static str,
    chosen: bool,
}

/// A line of the list.
struct Row {
    name: String,
    rights: String,
    made: Moment,
    made_by: String,
    expires: Option<Moment>,
    is_over: bool,
    used: Option<Moment>,
    ask: String,
}

#[derive(Template)]
#[template(path = "tokens.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    rights: Vec<RightView>,
    lives: Vec<LifeView>,
    name: String,
    made: Option<MadeToken>,
    is_full: bool,
    done: &'static str,
    wrong: Wrong,
}

/// `GET /settings/tokens`.
pub(in crate::web) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(Ask { done }): Query<Ask>,
) -> Result<Response, Failure> {
    let done = if done == "revoked" { "The token is revoked: it lets nobody in any more." } else { "" };
    show(&shared, &visit, StatusCode::OK, done, &Given::first(), None, Wrong::nothing())
}

fn show(
    shared: &Shared,
    visit: &Visit,
    status: StatusCode,
    done: &'static str,
    given: &Given,
    made: Option<MadeToken>,
    wrong: Wrong,
) -> Result<Response, Failure> {
    let tokens = shared.state.access.tokens()?;
    let now_us = shared.state.clock.tick().wall_us;
    let right = |right: Right| {
        let (name, meaning) = said::right(right);
        RightView { value: right.name(), name, meaning, ticked: given.ticks(right), own: visit.may(right) }
    };
    let life = |(days, words)| LifeView { days, words, chosen: days == given.days };
    let page = Page {
        frame: Frame::new(shared, visit, Nav::Settings).tab(HERE),
        is_full: tokens.len() >= TOKENS_MAX,
        rows: tokens.into_iter().map(|token| row(token, now_us, visit.l)).collect(),
        rights: Right::ALL.into_iter().map(right).collect(),
        lives: LIVES.into_iter().map(life).collect(),
        name: given.name.clone(),
        made,
        done,
        wrong,
    };
    Ok(pages::html(status, visit, page.render()))
}

fn row(token: Token, now_us: UnixMicros, l: Locale) -> Row {
    let names: Vec<&str> = token.rights.iter().map(|right| l.t(said::right(right).0)).collect();
    Row {
        rights: names.join(", "),
        made: Moment::new(token.made_us, now_us, l),
        made_by: token.made_by,
        is_over: token.expires_us.is_some_and(|expires_us| expires_us <= now_us),
        expires: token.expires_us.map(|expires_us| Moment::new(expires_us, now_us, l)),
        used: token.used_us.map(|used_us| Moment::new(used_us, now_us, l)),
        ask: l.f1("Revoke {}? The program that uses it is refused from then on.", &token.name),
        name: token.name,
    }
}

/// `POST /settings/tokens`: makes a token and shows it, this once.
pub(in crate::web) async fn make(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Given>,
) -> Result<Response, Failure> {
    let unfit = StatusCode::UNPROCESSABLE_ENTITY;
    if !LIVES.iter().any(|(days, _)| *days == given.days) {
        return Err(Failure::bad("choose how long the token is valid from the list"));
    }
    let ends = given.days > 0;
    let now_us = shared.state.clock.tick().wall_us;
    let expires_us = ends.then(|| now_us.saturating_add(given.days.saturating_mul(DAY_US)));
    let rights: Rights = Right::ALL.into_iter().filter(|right| given.ticks(*right)).collect();
    match shared.state.access.make_token(&visit.by()?, &given.name, rights, expires_us).await {
        Ok(made) => show(&shared, &visit, StatusCode::OK, "", &Given::first(), Some(made), Wrong::nothing()),
        Err(error) => {
            let wrong = at_field(error, &visit)?;
            show(&shared, &visit, unfit, "", &given, None, wrong)
        }
    }
}

/// `POST /settings/tokens/revoke`.
pub(in crate::web) async fn revoke(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(Revoked { name }): Form<Revoked>,
) -> Result<Response, Failure> {
    shared.state.access.revoke_token(&visit.by()?, &name).await?;
    Ok(Redirect::to("/settings/tokens?done=revoked").into_response())
}
