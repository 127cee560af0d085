//! An address of the interface and what there is to know about it, told in one go.

use crate::web::live::Shared;
use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::MethodFilter;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::sync::Arc;

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The interface as it is put together.
#[derive(Default)]
pub(in crate::web) struct Api {
    router: Router<Arc<Shared>>,
    operations: Vec<Operation>,
}

/// What can be done at an address.
#[derive(Clone, Debug)]
pub(in crate::web) struct Operation {
    /// The method.
    pub(in crate::web) method: Method,
    /// The address, with `{name}` where something is filled in.
    pub(in crate::web) path: &'static str,
    /// What it does, in a sentence.
    pub(in crate::web) summary: &'static str,
    /// What is asked in the address.
    pub(in crate::web) query: Option<SchemaOf>,
    /// What is sent.
    pub(in crate::web) body: Option<SchemaOf>,
    /// The status of success, and what is answered then.
    pub(in crate::web) answer: (StatusCode, Answer),
    /// What of the address is a whole number, and the greatest that it can be; the rest is text.
    pub(in crate::web) numbers: &'static [(&'static str, u64)],
    /// Whether what is sent may be left out.
    pub(in crate::web) may_be_empty: bool,
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) enum Answer {
    /// Nothing but the status.
    Nothing,
    /// JSON.
    Json(SchemaOf),
    /// Something else: its media types.
    Other(&'static [&'static str]),
}

/// Reads.
pub(in crate::web) fn get(summary: &'static str) -> Operation {
    Operation::new(Method::GET, summary)
}

/// Does something.
pub(in crate::web) fn post(summary: &'static str) -> Operation {
    Operation::new(Method::POST, summary)
}

/// Puts something in place.
pub(in crate::web) fn put(summary: &'static str) -> Operation {
    Operation::new(Method::PUT, summary)
}

/// Changes a part of something.
pub(in crate::web) fn patch(summary: &'static str) -> Operation {
    Operation::new(Method::PATCH, summary)
}

/// Removes something.
pub(in crate::web) fn delete(summary: &'static str) -> Operation {
    Operation::new(Method::DELETE, summary)
}

impl Operation {
    fn new(method: Method, summary: &'static str) -> Self {
        let answer = (StatusCode::NO_CONTENT, Answer::Nothing);
        Self { method, path: "", summary, query: None, body: None, answer, numbers: &[], may_be_empty: false }
    }

    /// What is asked in the address.
    pub(in crate::web) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(T::json_schema), ..self }
    }

    /// What is sent, as JSON.
    pub(in crate::web) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// What is sent, as JSON, if anything is.
    pub(in crate::web) fn may_take<T: JsonSchema>(self) -> Self {
        Self { may_be_empty: true, ..self.takes::<T>() }
    }

    /// What is answered, as JSON, with status 200.
    pub(in crate::web) fn answers<T: JsonSchema>(self) -> Self {
        Self { answer: (StatusCode::OK, Answer::Json(SchemaGenerator::subschema_for::<T>)), ..self }
    }

    /// The same with another status.
    pub(in crate::web) fn with(self, status: StatusCode) -> Self {
        Self { answer: (status, self.answer.1), ..self }
    }

    /// What is answered is no JSON, but one of these.
    pub(in crate::web) fn answers_as(self, media_types: &'static [&'static str]) -> Self {
        Self { answer: (StatusCode::OK, Answer::Other(media_types)), ..self }
    }

    /// These of what stands in the address are whole numbers, each with the greatest that it can be.
    pub(in crate::web) fn numbers(self, numbers: &'static [(&'static str, u64)]) -> Self {
        Self { numbers, ..self }
    }
}

impl Api {
    /// Adds an address: what does it, and what there is to know about it.
    pub(in crate::web) fn at<H, T>(mut self, path: &'static str, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, Arc<Shared>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(operation.method.clone()).unwrap_or(MethodFilter::GET);
        self.router = self.router.route(path, axum::routing::on(filter, handler));
        self.operations.push(Operation { path, ..operation });
        self
    }

    /// Tells of an address that is the page's own.
    pub(in crate::web) fn tells(mut self, path: &'static str, operation: Operation) -> Self {
        self.operations.push(Operation { path, ..operation });
        self
    }

    /// Everything that can be done.
    pub(in crate::web) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The routes.
    pub(in crate::web) fn into_router(self) -> Router<Arc<Shared>> {
        self.router
    }
}
