//! What someone may do: rights, the roles that bundle them for people, and who is asking.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One thing that can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Read everything that the page shows, except secrets.
    See,
    /// Read the metrics.
    Metrics,
    /// Act on what runs: begin a replay, call it off.
    Operate,
    /// Change the configuration, try a source or sink, search for devices.
    Configure,
    /// Manage people, API tokens and certificates, and read the audit log.
    People,
}

impl Right {
    /// All rights, the weakest first.
    pub const ALL: [Self; 5] = [Self::See, Self::Metrics, Self::Operate, Self::Configure, Self::People];

    /// The name, as files and the API write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::See => "see",
            Self::Metrics => "metrics",
            Self::Operate => "operate",
            Self::Configure => "configure",
            Self::People => "people",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no right or role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what}; use one of {names}")]
pub struct UnknownName {
    word: String,
    what: &'static str,
    names: String,
}

impl FromStr for Right {
    type Err = UnknownName;

    fn from_str(word: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|right| right.name() == word).ok_or_else(|| UnknownName {
            word: word.to_owned(),
            what: "right",
            names: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// A set of rights; in files and the API a list of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Rights(BTreeSet<Right>);

impl Rights {
    /// Every right.
    #[must_use]
    pub fn all() -> Self {
        Right::ALL.into_iter().collect()
    }

    /// Whether a right is among them.
    #[must_use]
    pub fn has(&self, right: Right) -> bool {
        self.0.contains(&right)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of them are also among others: nobody hands out what they do not have.
    #[must_use]
    pub fn within(&self, others: &Self) -> bool {
        self.0.is_subset(&others.0)
    }

    /// The rights, the weakest first.
    pub fn iter(&self) -> impl Iterator<Item = Right> {
        self.0.iter().copied()
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().collect())
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Right::name).collect();
        f.write_str(&names.join(", "))
    }
}

/// What a person is here; it says what they may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Looks and acts on what runs.
    Operator,
    /// May do everything.
    Administrator,
}

impl Role {
    /// All roles, the weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Administrator];

    /// The name, as files and the API write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }

    /// What the role allows.
    #[must_use]
    pub fn rights(self) -> Rights {
        match self {
            Self::Viewer => [Right::See, Right::Metrics].into_iter().collect(),
            Self::Operator => [Right::See, Right::Metrics, Right::Operate].into_iter().collect(),
            Self::Administrator => Rights::all(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = UnknownName;

    fn from_str(word: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|role| role.name() == word).ok_or_else(|| UnknownName {
            word: word.to_owned(),
            what: "role",
            names: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// What kind of visitor someone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Someone who signed in, or tried to.
    Person,
    /// A program with an API token.
    Token,
    /// The command line on the machine itself.
    Tool,
    /// The gateway, of which nobody asked anything.
    Gateway,
}

/// Who is asking, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Who {
    /// The person's name, or the token's.
    pub name: String,
    /// Whose name that is.
    pub kind: Kind,
    /// What they may do.
    pub rights: Rights,
    /// A person's role.
    pub role: Option<Role>,
}

/// How the command line is named in the audit log; nobody else may be called so.
pub(super) const TOOL_NAME: &str = "root on this machine";

/// How the gateway itself is named there; nobody else may be called so.
pub(super) const GATEWAY_NAME: &str = "the gateway";

impl Who {
    /// Whether this is allowed.
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        self.rights.has(right)
    }

    /// A person in their role.
    #[must_use]
    pub fn person(name: &str, role: Role) -> Self {
        Self { name: name.to_owned(), kind: Kind::Person, rights: role.rights(), role: Some(role) }
    }

    /// A program with an API token.
    #[must_use]
    pub fn token(name: &str, rights: Rights) -> Self {
        Self { name: name.to_owned(), kind: Kind::Token, rights, role: None }
    }

    /// The command line on the machine itself.
    #[must_use]
    pub fn tool() -> Self {
        Self { name: TOOL_NAME.to_owned(), kind: Kind::Tool, rights: Rights::all(), role: None }
    }

    /// The gateway itself, where something happens because nobody did anything.
    #[must_use]
    pub fn gateway() -> Self {
        Self { name: GATEWAY_NAME.to_owned(), kind: Kind::Gateway, rights: Rights::default(), role: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_the_one_below_may_and_more() {
        for pair in Role::ALL.windows(2) {
            assert!(pair[0].rights().within(&pair[1].rights()), "{} within {}", pair[0], pair[1]);
            assert_ne!(pair[0].rights(), pair[1].rights());
        }
        assert!(!Who::person("Eva", Role::Operator).may(Right::Configure));
        assert!(Who::person("Eva", Role::Administrator).may(Right::People));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for right in Right::ALL {
            assert_eq!(right.name().parse(), Ok(right));
            assert_eq!(serde_json::to_string(&right).unwrap(), format!("{:?}", right.name()));
        }
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        let error = "admin".parse::<Role>().unwrap_err().to_string();
        assert_eq!(error, "\"admin\" is no role; use one of viewer, operator, administrator");
        assert_eq!(serde_json::to_string(&Role::Viewer.rights()).unwrap(), r#"["see","metrics"]"#);
    }
}
