//! Who is signed in: random ids, kept as digests in memory alone, with an end.

use super::AccessError;
use super::book::folded;
use super::random::{Hash, WORD_CHARS, digest, word};
use crate::reading::MonoMicros;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A session ends when it was not used for so long: a shift.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(8 * 3_600);

/// A session ends after so long, used or not.
pub const SESSION_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Sessions kept, with some 200 bytes each; the one that was not used for longest makes room.
const SESSIONS_MAX: usize = 256;

/// Sessions of one person, so that nobody's browsers push the others out.
const PER_PERSON_MAX: usize = 32;

#[derive(Debug)]
struct Session {
    name: String,
    /// The person's key when it began.
    key: String,
    began_us: MonoMicros,
    used_us: MonoMicros,
}

impl Session {
    fn is_over(&self, now_us: MonoMicros) -> bool {
        let over = |since_us: MonoMicros, max: Duration| u128::from(now_us.saturating_sub(since_us)) >= max.as_micros();
        over(self.used_us, SESSION_IDLE_MAX) || over(self.began_us, SESSION_AGE_MAX)
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Hash, Session>>);

impl Sessions {
    /// Begins a session and hands out its id, which is new each time: nobody can choose it for somebody else.
    pub(super) fn begin(&self, name: &str, key: &str, now_us: MonoMicros) -> Result<String, AccessError> {
        let id = word()?;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| !session.is_over(now_us));
        let own = |session: &Session| session.name == name;
        if sessions.values().filter(|session| own(session)).count() >= PER_PERSON_MAX {
            remove_oldest(&mut sessions, own);
        }
        if sessions.len() >= SESSIONS_MAX {
            remove_oldest(&mut sessions, |_| true);
        }
        let session = Session { name: name.to_owned(), key: key.to_owned(), began_us: now_us, used_us: now_us };
        sessions.insert(digest(&id), session);
        Ok(id)
    }

    /// Whose session it is and the key it began with, if it is not over; counts as a use.
    pub(super) fn find(&self, id: &str, now_us: MonoMicros) -> Option<(String, String)> {
        self.look(id, now_us, true)
    }

    /// The same, but it counts as no use.
    pub(super) fn peek(&self, id: &str, now_us: MonoMicros) -> Option<(String, String)> {
        self.look(id, now_us, false)
    }

    fn look(&self, id: &str, now_us: MonoMicros, is_use: bool) -> Option<(String, String)> {
        if id.len() != WORD_CHARS {
            return None;
        }
        let hash = digest(id);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&hash)?;
        if session.is_over(now_us) {
            sessions.remove(&hash);
            return None;
        }
        if is_use {
            session.used_us = now_us;
        }
        Some((session.name.clone(), session.key.clone()))
    }

    /// Ends one session; tells whose it was.
    pub(super) fn end(&self, id: &str) -> Option<String> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&digest(id)).map(|session| session.name)
    }

    /// Ends all sessions of a person; tells how many.
    pub(super) fn end_all_of(&self, name: &str) -> usize {
        let name = folded(name);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sessions.len();
        sessions.retain(|_, session| folded(&session.name) != name);
        before - sessions.len()
    }

    /// How many sessions a person has.
    pub(super) fn count_of(&self, name: &str, now_us: MonoMicros) -> usize {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.values().filter(|session| session.name == name && !session.is_over(now_us)).count()
    }
}

fn remove_oldest(sessions: &mut HashMap<Hash, Session>, of: impl Fn(&Session) -> bool) {
    let oldest = sessions.iter().filter(|(_, session)| of(session)).min_by_key(|(_, session)| session.used_us);
    if let Some(hash) = oldest.map(|(hash, _)| *hash) {
        sessions.remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(duration: Duration) -> MonoMicros {
        u64::try_from(duration.as_micros()).unwrap()
    }

    #[test]
    fn a_session_ends_when_it_is_not_used_for_a_shift() {
        let sessions = Sessions::default();
        let id = sessions.begin("Eva", "key", 0).unwrap();
        let nearly = after(SESSION_IDLE_MAX) - 1;
        assert!(sessions.find(&id, nearly).is_some());
        assert!(sessions.find(&id, 2 * nearly).is_some(), "each use lets it live on");
        assert!(sessions.peek(&id, 3 * nearly).is_some());
        assert!(sessions.find(&id, 2 * nearly + after(SESSION_IDLE_MAX)).is_none(), "a look was no use");
        assert!(sessions.find(&id, 0).is_none(), "what is over stays over");
    }

    #[test]
    fn a_session_ends_after_a_week_however_much_it_is_used() {
        let sessions = Sessions::default();
        let id = sessions.begin("Eva", "key", 0).unwrap();
        let (step, end) = (after(SESSION_IDLE_MAX) / 2, after(SESSION_AGE_MAX));
        let mut now_us = 0;
        while now_us + step < end {
            now_us += step;
            assert!(sessions.find(&id, now_us).is_some(), "at {now_us}");
        }
        assert!(sessions.find(&id, end).is_none());
    }

    #[test]
    fn many_sessions_of_one_person_push_out_their_own_and_nobody_elses() {
        let sessions = Sessions::default();
        let eva = sessions.begin("Eva", "key", 0).unwrap();
        let first = sessions.begin("Max", "key", 1).unwrap();
        for now_us in 2..1_000 {
            sessions.begin("Max", "key", now_us).unwrap();
        }
        assert!(sessions.find(&eva, 1_000).is_some());
        assert!(sessions.find(&first, 1_000).is_none());
        assert_eq!(sessions.count_of("Max", 1_000), PER_PERSON_MAX);
    }

    #[test]
    fn however_many_sign_in_no_more_sessions_are_kept_than_fit() {
        let sessions = Sessions::default();
        for person in 0..64 {
            for browser in 0..10 {
                sessions.begin(&format!("person {person}"), "key", person * 10 + browser).unwrap();
            }
        }
        assert_eq!(sessions.0.lock().unwrap().len(), SESSIONS_MAX);
    }
}
