//! What can go wrong with people, passwords, tokens and their files, in words for the person at the form.

use std::time::Duration;

/// Why something about people, tokens or the audit log was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A file could not be read or written.
    #[error("{0}")]
    Disk(String),
    /// The file of people is there and cannot be understood: nobody gets in until it is mended.
    #[error("{0}")]
    Damaged(String),
    /// The name will not do.
    #[error(transparent)]
    Name(#[from] NameProblem),
    /// The password will not do.
    #[error(transparent)]
    Password(#[from] PasswordProblem),
    /// The name is in use.
    #[error("the name {0:?} is in use already; choose another one")]
    Taken(String),
    /// There is nobody of that name.
    #[error("there is nobody called {0:?} here")]
    NoSuchPerson(String),
    /// There is no such API token.
    #[error("there is no API token called {0:?}")]
    NoSuchToken(String),
    /// It would leave nobody who may do everything.
    #[error("this is the last administrator; make someone else an administrator first")]
    LastAdministrator,
    /// The first person has to be able to do everything.
    #[error("the first person must be an administrator; nobody could add others otherwise")]
    FirstIsAdministrator,
    /// No more people or tokens fit.
    #[error("there are {0} {1} already, which is the most; remove one first")]
    Full(usize, &'static str),
    /// A token that may do nothing is of no use.
    #[error("an API token needs at least one right")]
    NoRights,
    /// The token would never be valid.
    #[error("the API token would have expired already; choose a time to come")]
    Expired,
    /// Nobody gives, changes or takes away more than they may do themselves.
    #[error("this takes rights that you do not have yourself; ask an administrator")]
    Beyond,
    /// A program that takes back what lets it in stands outside at once, and nobody there can mend it.
    #[error("an API token cannot revoke itself; revoke it on the page, or with another token")]
    OwnToken,
    /// Nobody can tell when a token would end.
    #[error("the board's clock is not set yet, so no end can be told; wait until it is, or choose no end")]
    ClockUnset,
    /// Too many passwords are being checked.
    #[error("too many passwords are being checked at this moment; try again in a few seconds")]
    Busy,
    /// The gateway is about to end.
    #[error("the gateway is about to end; try again when it is back")]
    Ending,
}

impl AccessError {
    /// The field of a form that the error belongs to: `name`, `password`, `role`, `rights` or `expires`.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Name(_) | Self::Taken(_) | Self::NoSuchPerson(_) | Self::NoSuchToken(_) => Some("name"),
            Self::Password(_) => Some("password"),
            Self::LastAdministrator | Self::FirstIsAdministrator => Some("role"),
            Self::NoRights => Some("rights"),
            Self::Expired | Self::ClockUnset => Some("expires"),
            Self::Disk(_)
            | Self::Damaged(_)
            | Self::Full(..)
            | Self::Beyond
            | Self::OwnToken
            | Self::Busy
            | Self::Ending => None,
        }
    }
}

/// Why a name will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Nothing but spaces.
    #[error("give a name")]
    Empty,
    /// Too long to read on a phone.
    #[error("a name has at most 64 characters")]
    Long,
    /// It would look like another name.
    #[error("a name consists of visible characters and single spaces; remove tabs, line breaks and invisible marks")]
    Invisible,
    /// The audit log uses it.
    #[error("this name is what the gateway or its command line is called in the audit log; choose another one")]
    Reserved,
}

/// Why a password will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordProblem {
    /// Short ones are guessed.
    #[error("a password has at least 10 characters; three or four words make a good one")]
    Short,
    /// Nobody types that.
    #[error("a password has at most 256 characters")]
    Long,
    /// The first guess.
    #[error("the password must not be the name, or nearly")]
    LikeName,
    /// The next guesses.
    #[error("this password is among the first that anyone tries; three or four words make a good one")]
    Common,
}

/// Why someone could not sign in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// Name and password do not belong together; which of them is wrong is not told.
    #[error("name and password do not belong together; check both")]
    Wrong,
    /// Too many failures of this name or from this address.
    #[error("too many attempts failed; try again in {} s", seconds(*after))]
    TooMany {
        /// How long to wait.
        after: Duration,
    },
    /// Nobody can sign in yet.
    #[error("this gateway is not set up yet; open its page and enter the set-up token")]
    NotSetUp,
    /// Something else went wrong.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Why the gateway was not set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetUpError {
    /// It was done before.
    #[error("this gateway is set up already; sign in")]
    Already,
    /// Not the token.
    #[error("this is not the set-up token; it is printed on the console and in the log when the gateway starts")]
    WrongToken,
    /// Too many failures from this address.
    #[error("too many attempts failed; try again in {} s", seconds(*after))]
    TooMany {
        /// How long to wait.
        after: Duration,
    },
    /// Something else went wrong.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Whole seconds, rounded up: whoever waits as long as told is let in.
fn seconds(after: Duration) -> u64 {
    after.as_secs() + u64::from(after.subsec_nanos() > 0)
}
