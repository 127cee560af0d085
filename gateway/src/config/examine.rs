//! What the page asks of a text before it is handed in: all that is wrong with it, and all that should be known.

use super::load::parse;
use super::problem::{ConfigErrors, Problem};
use super::{Config, credentials};

/// The name of a text that is not in a file yet.
const NAME: &str = "configuration";

/// What is known of a text.
#[derive(Debug)]
pub struct Examined {
    /// What is wrong, in the order of the lines; nothing runs by such a text.
    pub problems: Vec<Problem>,
    /// What may be meant, but should be known; secrets that cannot be read now are among them.
    pub warnings: Vec<Problem>,
    /// What it says; `None` if something is wrong.
    pub config: Option<Config>,
}

/// Looks at a text as `forebay check` looks at a file.
#[must_use]
pub fn examine(text: &str) -> Examined {
    let refused = |problems| Examined { problems, warnings: Vec::new(), config: None };
    if text.len() as u64 > super::FILE_BYTES_MAX {
        let message = format!("the text is larger than {} KiB", super::FILE_BYTES_MAX / 1024);
        return refused(vec![Problem { line: 1, column: 1, path: String::new(), message }]);
    }
    match parse(NAME, text.to_owned()) {
        Ok(loaded) => {
            let secrets = credentials::look(text, &loaded.config);
            if !secrets.errors.is_empty() {
                return refused(secrets.errors);
            }
            let warnings = loaded.warnings.into_iter().chain(secrets.warnings).collect();
            Examined { problems: Vec::new(), warnings, config: Some(loaded.config) }
        }
        Err(ConfigErrors::Invalid(problems)) => refused(problems.errors),
        Err(error) => refused(vec![Problem { line: 1, column: 1, path: String::new(), message: error.to_string() }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_looked_at_as_the_check_looks_at_a_file() {
        let sound = examine(
            "[gateway]\nid = \"a\"\n[[sink]]\ntype = \"http\"\nname = \"up\"\nurl = \"https://a\"\nauth = { bearer_file = \"/no/such\" }\n",
        );
        assert!(sound.config.is_some() && sound.problems.is_empty(), "{sound:?}");
        assert!(sound.warnings.iter().any(|warning| warning.path == "sink[0].auth.bearer_file"), "{sound:?}");
        let wrong = examine("[gateway]\nid = 5\n");
        assert_eq!(wrong.problems[0].path, "gateway.id");
        assert!(wrong.config.is_none());
        assert_eq!(examine(&" ".repeat(2 << 20)).problems.len(), 1);
    }
}
