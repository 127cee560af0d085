//! What went wrong with a request: one type for pages and the interface. A handler returns a [`Failure`]; how it looks is
//! decided on the way out, by who asked: a page in the viewer's language, or a problem document (RFC 9457).

use crate::access::AccessError;
use crate::config::Problem;
use crate::history::HistoryError;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// Seconds after which a gateway that is busy with passwords or charts may be asked again.
const BUSY_S: u64 = 5;

/// Most field errors that are answered; a text that is wrong throughout is not read to its end by anyone.
const FIELDS_MAX: usize = 100;

/// The title of what someone may not do.
const NOT_YOURS: &str = "This is not yours to do";

/// Why a request was not done, for a person or a program.
#[derive(Clone, Debug)]
pub(in crate::web) struct Failure {
    /// The status.
    pub(in crate::web) status: StatusCode,
    /// What kind of problem, in a few words that stay the same.
    pub(in crate::web) title: &'static str,
    /// What is wrong here and what to do.
    pub(in crate::web) detail: String,
    /// What is wrong with which field.
    pub(in crate::web) fields: Vec<FieldError>,
    /// Seconds after which it may be tried again.
    pub(in crate::web) retry_after_s: Option<u64>,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::web) struct FieldError {
    /// Its place, as `source[1].unit[0].registers[2].kind`; empty for the whole.
    pub(in crate::web) path: String,
    /// What is wrong and what to do.
    pub(in crate::web) message: String,
    /// Line in the text, counted from 1; 0 where there is no text.
    pub(in crate::web) line: usize,
    /// Character in the line, counted from 1.
    pub(in crate::web) column: usize,
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::web) struct ProblemDocument {
    /// Names the kind of problem; `about:blank` where the status says all.
    #[serde(rename = "type")]
    pub(in crate::web) kind: String,
    /// The kind of problem in words.
    pub(in crate::web) title: String,
    /// The status of the answer.
    pub(in crate::web) status: u16,
    /// What is wrong here and what to do.
    pub(in crate::web) detail: String,
    /// What is wrong with which field; left out where no field is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::web) errors: Vec<FieldError>,
}

impl Failure {
    /// A failure of this kind.
    pub(in crate::web) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), fields: Vec::new(), retry_after_s: None }
    }

    /// Something in the request is wrong.
    pub(in crate::web) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The request is wrong", detail)
    }

    /// Well formed, but nothing that can be done.
    pub(in crate::web) fn unfit(detail: impl Into<String>, fields: Vec<FieldError>) -> Self {
        Self { fields, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Something does not fit", detail) }
    }

    /// There is no such thing.
    pub(in crate::web) fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is nothing here", detail)
    }

    /// Someone else was faster, or something is in the way.
    pub(in crate::web) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Something else has changed meanwhile", detail)
    }

    /// Whoever asks may not do it, or nobody may in this way.
    pub(in crate::web) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, NOT_YOURS, detail)
    }

    /// The gateway cannot do it now.
    pub(in crate::web) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The gateway cannot do this now", detail)
    }

    /// The document for programs.
    pub(in crate::web) fn document(&self) -> ProblemDocument {
        // The title speaks to a person, the kind to a program.
        let kind =
            if self.title == NOT_YOURS { "forbidden".into() } else { self.title.to_lowercase().replace(' ', "-") };
        ProblemDocument {
            kind: format!("urn:forebay:problem:{kind}"),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            errors: self.fields.iter().take(FIELDS_MAX).cloned().collect(),
        }
    }
}

impl From<&Problem> for FieldError {
    fn from(problem: &Problem) -> Self {
        Self {
            path: problem.path.clone(),
            message: problem.message.clone(),
            line: problem.line,
            column: problem.column,
        }
    }
}

impl From<AccessError> for Failure {
    /// What is wrong with people and tokens, at its field where it has one.
    fn from(error: AccessError) -> Self {
        let said = error.to_string();
        let field = |path: &str| FieldError { path: path.to_owned(), message: said.clone(), line: 0, column: 0 };
        match &error {
            AccessError::NoSuchPerson(_) | AccessError::NoSuchToken(_) => Self::missing(said),
            AccessError::Taken(_) | AccessError::LastAdministrator | AccessError::Full(..) | AccessError::OwnToken => {
                let fields = error.field().map(field).into_iter().collect();
                Self { fields, ..Self::new(StatusCode::CONFLICT, "This is in the way", said) }
            }
            AccessError::Beyond => Self::forbidden(said),
            AccessError::Disk(_) | AccessError::Damaged(_) | AccessError::Ending => Self::unavailable(said),
            AccessError::Busy => Self { retry_after_s: Some(BUSY_S), ..Self::unavailable(said) },
            _ => {
                let fields = error.field().map(field).into_iter().collect();
                Self::unfit(said, fields)
            }
        }
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        let said = error.to_string();
        match error {
            HistoryError::Request(_) => Self::unfit(said, Vec::new()),
            HistoryError::NoPoint { .. } => Self::missing(said),
            HistoryError::Busy => Self { retry_after_s: Some(BUSY_S), ..Self::unavailable(said) },
            HistoryError::Buffer(_) | HistoryError::Render(_) | HistoryError::Cancelled => Self::unavailable(said),
        }
    }
}

impl IntoResponse for Failure {
    /// The status alone; `guard::present` puts the rest onto it.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
