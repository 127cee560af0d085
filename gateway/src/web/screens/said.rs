//! Rights, roles and deeds as the page says them, and what is wrong with the fields of a form.

use crate::access::{AccessError, Action, Kind, Right, Role};
use crate::web::locale::Locale;
use crate::web::words;

/// A right: its name on the page, and what it allows.
pub(in crate::web) fn right(right: Right) -> (&'static str, &'static str) {
    match right {
        Right::See => ("See", "every value, state and log line; never a secret"),
        Right::Metrics => ("Metrics", "read the metrics, as Prometheus does"),
        Right::Operate => ("Operate", "begin replays and call them off"),
        Right::Configure => ("Configure", "change the configuration, test sources and sinks, search for devices"),
        Right::People => ("Manage people", "people, API tokens and certificates, and read the audit log"),
    }
}

/// A role: its name on the page, and what it means.
pub(in crate::web) fn role(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Viewer => ("Viewer", "sees everything, changes nothing"),
        Role::Operator => ("Operator", "also begins replays and calls them off"),
        Role::Administrator => ("Administrator", "may do everything, also configure and manage people"),
    }
}

/// Whose name stands in the audit log; nothing for a person.
pub(in crate::web) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Person => "",
        Kind::Token => "API token",
        Kind::Tool => "command line",
        Kind::Gateway => "by itself",
    }
}

/// What was done.
pub(in crate::web) fn action(action: Action) -> &'static str {
    match action {
        Action::SetUp => "set up the gateway",
        Action::SetUpRefused => "wrong set-up token",
        Action::SignedIn => "signed in",
        Action::SignInRefused => "could not sign in",
        Action::SignedOut => "signed out",
        Action::SignedOutEverywhere => "signed out everywhere",
        Action::PersonAdded => "added a person",
        Action::PersonRemoved => "removed a person",
        Action::RoleChanged => "changed a role",
        Action::PasswordChanged => "set a password",
        Action::TokenMade => "made an API token",
        Action::TokenRevoked => "revoked an API token",
        Action::ConfigurationTried => "put a change on trial",
        Action::ConfigurationKept => "kept the change on trial",
        Action::ConfigurationTakenBack => "took back the change on trial",
        Action::CertificateChanged => "changed the certificate",
        Action::Operated => "operated",
        Action::Other => "did something that this version does not know",
    }
}

/// What is wrong with the fields of a form, each in the viewer's language.
#[derive(Debug, Default)]
pub(in crate::web) struct Wrong(Vec<(&'static str, String)>);

impl Wrong {
    /// Nothing is wrong.
    pub(in crate::web) fn nothing() -> Self {
        Self::default()
    }

    /// One field is.
    pub(in crate::web) fn at(field: &'static str, l: Locale, english: &str) -> Self {
        Self(vec![(field, words::sentence(&l.say(english)))])
    }

    /// What the access room says, at its field where it has one.
    pub(in crate::web) fn of(error: &AccessError, l: Locale) -> Self {
        Self::at(error.field().unwrap_or_default(), l, &error.to_string())
    }

    /// The same at another field, if it belongs to this one.
    pub(in crate::web) fn moved(mut self, from: &str, to: &'static str) -> Self {
        for (field, _) in self.0.iter_mut().filter(|(field, _)| *field == from) {
            *field = to;
        }
        self
    }

    /// Whether nothing is wrong.
    pub(in crate::web) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong with a field; with the whole, if the field has no name.
    pub(in crate::web) fn with(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| *found == field).map(|(_, said)| said.as_str())
    }
}
