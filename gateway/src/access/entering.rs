//! Signing in and out: from a name and a password to a session, and from a session to who it is.

use super::book::PersonRow;
use super::passwords::sound_password;
use super::throttle::Attempt;
use super::{Access, AccessError, Action, By, Kind, Rights, SignInError, Who};
use std::net::IpAddr;
use std::time::Duration;

/// Someone who has just signed in.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// Who.
    pub who: Who,
    /// The session's secret id, for the cookie.
    pub cookie_value: String,
    /// What makes the browser known, for another cookie: strangers' guesses do not keep it waiting. None if none can be made.
    pub device_value: Option<String>,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignedIn({:?}, ***)", self.who.name)
    }
}

impl Access {
    /// Signs someone in. A name that is not known takes as long as one that is.
    ///
    /// # Errors
    /// If name and password do not belong together, too many attempts failed, or nobody can sign in.
    pub async fn sign_in(&self, name: &str, password: &str, from: IpAddr) -> Result<SignedIn, SignInError> {
        self.sign_in_with(name, password, from, None).await
    }

    /// The same for a browser that may be known: what it was given when the person last signed in with it.
    ///
    /// # Errors
    /// As [`Access::sign_in`].
    pub async fn sign_in_with(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        device: Option<&str>,
    ) -> Result<SignedIn, SignInError> {
        let person = self.prove(name, password, from, device).await?;
        let who = Who::person(&person.name, person.role);
        let cookie_value = self.0.sessions.begin(&person.name, &person.key, self.0.clock.mono_us())?;
        self.save_sessions().await;
        let device_value = self.0.devices.make(&person.name);
        self.note(&By::new(who.clone(), from), Action::SignedIn, &person.name, String::new()).await;
        tracing::info!("{} signed in from {from}", person.name);
        Ok(SignedIn { who, cookie_value, device_value })
    }

    /// Gives a person another password who proves to know the old one. All their sessions end; this is the new one.
    ///
    /// # Errors
    /// If the old password is wrong, the new one will not do, or too many attempts failed.
    pub async fn change_own_password(
        &self,
        name: &str,
        old: &str,
        new: &str,
        from: IpAddr,
    ) -> Result<SignedIn, SignInError> {
        sound_password(name, new).map_err(AccessError::from)?;
        let person = self.prove(name, old, from, None).await?;
        let by = By::new(Who::person(&person.name, person.role), from);
        self.set_password(&by, &person.name, new).await?;
        let book = self.0.book.current()?;
        let person = book.person(&person.name).ok_or(SignInError::Wrong)?;
        let cookie_value = self.0.sessions.begin(&person.name, &person.key, self.0.clock.mono_us())?;
        self.save_sessions().await;
        Ok(SignedIn { who: by.who, cookie_value, device_value: self.0.devices.make(&person.name) })
    }

    /// Who the session of this cookie belongs to, with the role they have now; counts as a use.
    #[must_use]
    pub fn session(&self, cookie_value: &str) -> Option<Who> {
        self.person_of(self.0.sessions.find(cookie_value, self.0.clock.mono_us())?)
    }

    /// The same for what goes on while nobody does anything: it counts as no use.
    #[must_use]
    pub fn session_goes_on(&self, cookie_value: &str) -> Option<Who> {
        self.person_of(self.0.sessions.peek(cookie_value, self.0.clock.mono_us())?)
    }

    fn person_of(&self, (name, key): (String, String)) -> Option<Who> {
        let book = self.0.book.current().ok()?;
        // Removed, or another password since: over, wherever that was done.
        let person = book.person(&name).filter(|person| person.key == key)?;
        Some(Who::person(&person.name, person.role))
    }

    /// Ends the session of this cookie.
    pub async fn sign_out(&self, cookie_value: &str, from: IpAddr) {
        let who = self.session(cookie_value);
        if self.0.sessions.end(cookie_value).is_some() {
            self.save_sessions().await;
        }
        if let Some(who) = who {
            let name = who.name.clone();
            self.note(&By::new(who, from), Action::SignedOut, &name, String::new()).await;
        }
    }

    /// Ends all sessions of a person; tells how many.
    pub async fn sign_out_everywhere(&self, by: &By, name: &str) -> usize {
        let ended = self.0.sessions.end_all_of(name);
        if ended > 0 {
            self.save_sessions().await;
            self.note(by, Action::SignedOutEverywhere, name, format!("{ended} sessions")).await;
        }
        ended
    }

    /// The person, if this is their password.
    async fn prove(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        device: Option<&str>,
    ) -> Result<PersonRow, SignInError> {
        let book = self.0.book.current()?;
        if book.people.is_empty() {
            return Err(SignInError::NotSetUp);
        }
        let device = device.and_then(|device| self.0.devices.of_note(device, name));
        let attempt = match self.0.throttle.begin_with(Some(name), from, device, self.0.clock.mono_us()) {
            Ok(attempt) => attempt,
            Err(after) => {
                self.refused(book.person(name), from, "too many attempts").await;
                return Err(SignInError::TooMany { after });
            }
        };
        let person = book.person(name);
        let right = self.0.passwords.is(password, person.map(|person| person.password.as_str())).await;
        let right = right.inspect_err(|_| self.0.throttle.undecided(&attempt))?;
        match person {
            Some(person) if right => self.proved(person, attempt),
            person => {
                self.refused(person, from, "wrong name or password").await;
                Err(SignInError::Wrong)
            }
        }
    }

    /// The person may have been removed, or got another password, while this one was checked.
    fn proved(&self, person: &PersonRow, attempt: Attempt) -> Result<PersonRow, SignInError> {
        let book = self.0.book.current()?;
        let person = book.person(&person.name).filter(|now| now.key == person.key).ok_or(SignInError::Wrong)?;
        self.0.throttle.succeeded(attempt);
        Ok(person.clone())
    }

    /// Notes that a wrong API token came from an address. A right one is never kept waiting; whoever sends wrong ones is.
    ///
    /// # Errors
    /// If too many came from there: how long to wait.
    pub async fn wrong_token(&self, from: IpAddr) -> Result<(), Duration> {
        let now_us = self.0.clock.mono_us();
        let begun = self.0.token_throttle.begin(None, from, now_us).map(drop);
        if let Some(unreported) = self.0.token_throttle.report(now_us) {
            let detail = format!("wrong API token{}", others(unreported));
            tracing::warn!("a program could not enter from {from}: {detail}");
            self.note(&By::new(stranger(), from), Action::SignInRefused, "an API token that is not known", detail)
                .await;
        }
        begun
    }

    /// Writes down who was not let in. A name that is not known is not told: people type passwords into the wrong field.
    async fn refused(&self, person: Option<&PersonRow>, from: IpAddr, why: &str) {
        let Some(unreported) = self.0.throttle.report(self.0.clock.mono_us()) else { return };
        let name = person.map_or("a name that is not known", |person| person.name.as_str());
        let detail = format!("{why}{}", others(unreported));
        tracing::warn!("{name} could not sign in from {from}: {detail}");
        self.note(&By::new(stranger(), from), Action::SignInRefused, name, detail).await;
    }
}

/// Someone of whom nothing is known but the address.
pub(super) fn stranger() -> Who {
    Who { name: String::new(), kind: Kind::Person, rights: Rights::default(), role: None }
}

/// How many refusals were not written down.
pub(super) fn others(unreported: u64) -> String {
    if unreported == 0 { String::new() } else { format!("; {unreported} more were not written down") }
}
