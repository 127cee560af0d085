//! API tokens: shown once, kept as digests, with rights of their own and an end.

use super::book::{TokenRow, folded};
use super::passwords::sound_name;
use super::people::within;
use super::random::{WORD_CHARS, digest, word};
use super::{Access, AccessError, Action, By, Kind, Rights, Who};
use crate::reading::{TimeQuality, UnixMicros};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Tokens that fit: one for each program that asks.
pub const TOKENS_MAX: usize = 64;

/// What a token begins with, so that people and scanners of leaked secrets recognise it.
const PREFIX: &str = "fbt_";

/// The last use is told to the minute.
const USED_STEP_US: i64 = 60_000_000;

/// A token, as others see it: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub rights: Rights,
    /// When it was made.
    pub made_us: UnixMicros,
    /// By whom.
    pub made_by: String,
    /// When it ends; never, if there is none.
    pub expires_us: Option<UnixMicros>,
    /// When it was used last, to the minute, since the gateway started.
    pub used_us: Option<UnixMicros>,
}

/// A token just made: the only time that it can be read.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MadeToken {
    /// Its name.
    pub name: String,
    /// The token, for `Authorization: Bearer`.
    pub token: String,
}

impl std::fmt::Debug for MadeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MadeToken({:?}, ***)", self.name)
    }
}

/// When tokens were used last, by their digests; no more than there are tokens.
#[derive(Debug, Default)]
pub(super) struct LastUsed(Mutex<HashMap<String, UnixMicros>>);

impl LastUsed {
    fn note(&self, sha256: &str, now_us: UnixMicros) {
        let minute_us = now_us - now_us.rem_euclid(USED_STEP_US);
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match used.get_mut(sha256) {
            Some(last_us) => *last_us = minute_us,
            None => {
                used.insert(sha256.to_owned(), minute_us);
            }
        }
    }

    fn of(&self, sha256: &str) -> Option<UnixMicros> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sha256).copied()
    }

    fn forget(&self, sha256: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(sha256);
    }
}

impl Access {
    /// All tokens, in the order in which they were made.
    ///
    /// # Errors
    /// If the file of people cannot be read.
    pub fn tokens(&self) -> Result<Vec<Token>, AccessError> {
        let book = self.0.book.current()?;
        let token = |row: &TokenRow| Token {
            name: row.name.clone(),
            rights: row.rights.clone(),
            made_us: row.made_us,
            made_by: row.made_by.clone(),
            expires_us: row.expires_us,
            used_us: self.0.last_used.of(&row.sha256),
        };
        Ok(book.tokens.iter().map(token).collect())
    }

    /// Makes a token; this is the only time that it is told.
    ///
    /// # Errors
    /// If the name will not do or is taken, there are no rights or more than whoever makes it has, it would have expired, or
    /// none more fits. With an end also while the clock is not set.
    pub async fn make_token(
        &self,
        by: &By,
        name: &str,
        rights: Rights,
        expires_us: Option<UnixMicros>,
    ) -> Result<MadeToken, AccessError> {
        let name = sound_name(name)?;
        let now = self.0.clock.tick();
        let now_us = now.wall_us;
        if rights.is_empty() {
            return Err(AccessError::NoRights);
        }
        within(&by.who.rights, &rights)?;
        if expires_us.is_some() && now.quality == TimeQuality::Unset {
            return Err(AccessError::ClockUnset);
        }
        if expires_us.is_some_and(|expires_us| expires_us <= now_us) {
            return Err(AccessError::Expired);
        }
        let token = format!("{PREFIX}{}", word()?);
        let detail = match expires_us.map(jiff::Timestamp::from_microsecond) {
            Some(Ok(end)) => format!("{rights}; until {end:.0}"),
            _ => rights.to_string(),
        };
        let row = TokenRow {
            name: name.clone(),
            rights,
            sha256: hex::encode(digest(&token)),
            made_us: now_us,
            made_by: by.who.name.clone(),
            expires_us,
        };
        let made = self.apart(move |inner| {
            inner.book.change(|book| {
                if book.tokens.iter().any(|token| folded(&token.name) == folded(&row.name)) {
                    return Err(AccessError::Taken(row.name));
                }
                if book.tokens.len() >= TOKENS_MAX {
                    return Err(AccessError::Full(TOKENS_MAX, "API tokens"));
                }
                book.tokens.push(row);
                Ok(())
            })
        });
        made.await?;
        self.note(by, Action::TokenMade, &name, detail).await;
        Ok(MadeToken { name, token })
    }

    /// Puts a token out of force at once.
    ///
    /// # Errors
    /// If there is none of that name, it is the one that asks, or it allows more than whoever does this may do.
    pub async fn revoke_token(&self, by: &By, name: &str) -> Result<(), AccessError> {
        let (wanted, who) = (name.trim().to_owned(), by.who.clone());
        let revoked = self.apart(move |inner| {
            inner.book.change(|book| {
                let at = book.tokens.iter().position(|token| folded(&token.name) == folded(&wanted));
                let found = at.and_then(|at| Some((at, book.tokens.get(at)?)));
                let Some((at, row)) = found else { return Err(AccessError::NoSuchToken(wanted)) };
                if who.kind == Kind::Token && who.name == row.name {
                    return Err(AccessError::OwnToken);
                }
                within(&who.rights, &row.rights)?;
                Ok(book.tokens.remove(at))
            })
        });
        let row = revoked.await?;
        self.0.last_used.forget(&row.sha256);
        self.note(by, Action::TokenRevoked, &row.name, String::new()).await;
        Ok(())
    }

    /// Who bears this token, if it is in force. A token with an end is not while the clock was never set: nobody could tell
    /// whether it has ended.
    #[must_use]
    pub fn token(&self, bearer: &str) -> Option<Who> {
        let (who, sha256) = self.bearer(bearer)?;
        self.0.last_used.note(&sha256, self.0.clock.tick().wall_us);
        Some(who)
    }

    /// The same for what goes on while nobody asks anything: it counts as no use.
    #[must_use]
    pub fn token_goes_on(&self, bearer: &str) -> Option<Who> {
        self.bearer(bearer).map(|(who, _)| who)
    }

    fn bearer(&self, bearer: &str) -> Option<(Who, String)> {
        if !is_token(bearer) {
            return None;
        }
        let sha256 = hex::encode(digest(bearer));
        let book = self.0.book.current().ok()?;
        let row = book.tokens.iter().find(|row| row.sha256 == sha256)?;
        let now = self.0.clock.tick();
        let over = |expires_us| now.wall_us >= expires_us || now.quality == TimeQuality::Unset;
        if row.expires_us.is_some_and(over) {
            return None;
        }
        Some((Who::token(&row.name, row.rights.clone()), sha256))
    }
}

/// Whether a text has the form of a token.
fn is_token(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    text.strip_prefix(PREFIX).is_some_and(|word| word.len() == WORD_CHARS && word.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_sent_as_a_token_is_no_token_unless_it_has_the_form(text in ".{0,80}") {
            prop_assert!(!is_token(&text) || (text.len() == PREFIX.len() + WORD_CHARS && text.starts_with(PREFIX)));
        }

        #[test]
        fn what_has_the_form_is_looked_up(text in "fbt_[A-Za-z0-9_-]{43}") {
            prop_assert!(is_token(&text));
            prop_assert!(!is_token(&text[..text.len() - 1]));
            let longer = format!("{text}A");
            prop_assert!(!is_token(&longer));
        }
    }
}
