//! The options of one source or sink as they are sent: looked at as the same options in a file are, so that nothing is taken here
//! that a file could not say.

use crate::config::{ConfigErrors, Loaded, parse};
use crate::sinks::SinkOptions;
use crate::sources::SourceOptions;
use crate::web::change;
use crate::web::failure::{Failure, FieldError};
use serde_json::{Value, json};

/// The options of a source.
pub(super) async fn one_source(options: Value) -> Result<SourceOptions, Failure> {
    let found = one("source", options).await?.config.source.into_iter().next();
    found.ok_or_else(|| change::unfit_at("source", "give the options of a source".to_owned()))
}

/// The options of a sink.
pub(super) async fn one_sink(options: Value) -> Result<SinkOptions, Failure> {
    let found = one("sink", options).await?.config.sink.into_iter().next();
    found.ok_or_else(|| change::unfit_at("sink", "give the options of a sink".to_owned()))
}

/// A configuration of it alone.
async fn one(list: &'static str, options: Value) -> Result<Loaded, Failure> {
    let text = toml::to_string(&json!({ "gateway": { "id": "try-out" }, list: [options] }));
    let text = text.map_err(|error| change::unfit_at(list, format!("these are no options: {error}")))?;
    match change::apart(move || parse(list, text)).await? {
        Ok(loaded) => Ok(loaded),
        Err(ConfigErrors::Invalid(problems)) => {
            let first = format!("{list}[0]");
            let at =
                |path: &str| path.strip_prefix(&first).map_or_else(|| path.to_owned(), |rest| format!("{list}{rest}"));
            let fields = problems.errors.iter().map(|problem| FieldError {
                path: at(&problem.path),
                message: problem.message.clone(),
                line: 0,
                column: 0,
            });
            let fields: Vec<_> = fields.collect();
            let detail = fields.first().map(|field| field.message.clone()).unwrap_or_default();
            Err(Failure::unfit(detail, fields))
        }
        Err(error) => Err(change::unfit_at(list, error.to_string())),
    }
}
