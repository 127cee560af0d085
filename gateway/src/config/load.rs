//! Reads a file: its syntax (`toml`); then its structure (the tree against the schema of the option types, so that every
//! error has its place) together with its meaning (names, limits, what the parts say of themselves), so that all of what
//! is wrong is named at once. Only wrong syntax hides the rest.

use super::mend::{self, is_doubtful};
use super::problem::{ConfigErrors, Findings, Lines, Problem, Problems};
use super::{Config, credentials, meaning, shape, structure, tree};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use toml::de::DeTable;

/// Largest file that is read, in bytes: ten thousand registers fit, a data file named by mistake does not.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A configuration that can be run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// The file as it stands, for the page; see [`redacted_toml`](super::redacted_toml).
    pub text: String,
    /// What may be meant, but should be known.
    pub warnings: Vec<Problem>,
}

/// Reads a file and checks all of it, and whether its secrets can be read.
///
/// # Errors
/// If the file cannot be read, or with everything that is wrong in it.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let file = path.display().to_string();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(ConfigErrors::Unreadable { file, error }),
        Ok(length) if length as u64 > FILE_BYTES_MAX => Err(ConfigErrors::TooLarge { file }),
        Ok(_) => {
            let text = String::from_utf8(bytes)
                .map_err(|error| ConfigErrors::NotText { file: file.clone(), at: error.utf8_error().valid_up_to() })?;
            parse_with_secrets(&file, text)
        }
    }
}

/// Checks a text and reads it as [`load`] does, with the files of its secrets; `file` is its name in messages.
///
/// # Errors
/// With everything that is wrong in it.
pub fn parse_with_secrets(file: &str, text: String) -> Result<Loaded, ConfigErrors> {
    let mut loaded = parse(file, text)?;
    let secrets = credentials::look(&loaded.text, &loaded.config);
    if !secrets.errors.is_empty() {
        return Err(ConfigErrors::Invalid(Problems { file: file.to_owned(), errors: secrets.errors }));
    }
    loaded.warnings.extend(secrets.warnings);
    Ok(loaded)
}

/// Checks a text and reads it; `file` is its name in messages.
///
/// # Errors
/// With everything that is wrong in it.
pub fn parse(file: &str, text: String) -> Result<Loaded, ConfigErrors> {
    let lines = Lines::new(&text);
    let invalid = |findings: Findings| {
        Err(ConfigErrors::Invalid(Problems { file: file.to_owned(), errors: findings.into_sorted() }))
    };
    let mut findings = Findings::default();

    let (tree, syntax_errors) = DeTable::parse_recoverable(&text);
    for error in syntax_errors {
        findings.add(lines.problem(&error.span().unwrap_or_default(), "", syntax_message(error.message())));
    }
    let shape = shape::of_config();
    if !findings.is_empty() {
        structure::check_top(&tree, &shape, &lines, &mut findings);
        return invalid(findings);
    }
    let unjudged = structure::check(&tree, &shape, &lines, &mut findings);
    let mut readable = tree.clone();
    if !findings.is_empty() {
        mend::table(readable.get_mut(), &shape);
    }
    let config = match Config::deserialize(toml::Deserializer::from(readable)) {
        Ok(config) => config,
        Err(error) => {
            if findings.is_empty() {
                findings.add(lines.problem(&error.span().unwrap_or_default(), "", error.message().to_owned()));
            }
            return invalid(findings);
        }
    };
    let meaning = meaning::check(&config);
    let placed = |(path, message): (String, String)| lines.problem(&tree::locate(&tree, &path), &path, message);
    let errors =
        meaning.errors.into_iter().filter(|(path, _)| !is_doubtful(path, &tree, findings.as_slice(), &unjudged));
    let errors: Vec<Problem> = errors.map(placed).collect();
    for problem in errors {
        findings.add(problem);
    }
    if !findings.is_empty() {
        return invalid(findings);
    }
    let warnings = meaning.warnings.into_iter().map(placed).collect();
    Ok(Loaded { config, text, warnings })
}

/// What the parser says, in words for someone who has not read the TOML specification.
fn syntax_message(said: &str) -> String {
    let plain = match said.split(',').next().unwrap_or_default() {
        "string values must be quoted" => "text must be in quotes",
        "invalid float" | "invalid integer" | "invalid datetime" => "this is neither a number nor text in quotes",
        "key with no value" => "expected key = value",
        "duplicate key" => {
            "this name is taken already; a table that may be repeated has double brackets, as [[source]]"
        }
        _ => said.trim_end_matches(", expected nothing"),
    };
    plain.to_owned()
}
