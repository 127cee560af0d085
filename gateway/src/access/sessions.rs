//! Who is signed in: random ids, kept as digests alone, with an end.

use super::AccessError;
use super::book::folded;
use super::random::{Hash, WORD_CHARS, digest, word};
use crate::clock::Tick;
use crate::reading::{MonoMicros, TimeQuality, UnixMicros};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A session ends when it was not used for so long: a shift.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(8 * 3_600);

/// A session ends after so long, used or not.
pub const SESSION_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Sessions kept, with some 200 bytes each; the one that was not used for longest makes room.
pub(super) const SESSIONS_MAX: usize = 256;

/// Sessions of one person, so that nobody's browsers push the others out.
const PER_PERSON_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: String,
    /// The person's key when it began.
    pub(super) key: String,
    /// By the monotonic clock of this boot; below zero, if it was before.
    pub(super) began_us: i64,
    pub(super) used_us: i64,
}

impl Session {
    fn is_over(&self, now_us: i64) -> bool {
        let over = |since_us: i64, max: Duration| now_us.saturating_sub(since_us) >= micros(max);
        over(self.used_us, SESSION_IDLE_MAX) || over(self.began_us, SESSION_AGE_MAX)
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Mutex<All>,
    /// Held while they are written.
    saving: Mutex<()>,
}

#[derive(Debug, Default)]
struct All {
    sessions: HashMap<Hash, Session>,
    /// Whether they are kept on disk.
    is_kept: bool,
    /// Whether one began or ended that is not written yet.
    is_changed: bool,
    /// Whether one was used since they were written.
    is_used: bool,
    saved_us: i64,
    /// Sessions were taken up while the clock was not set: when they had been written, and when they were taken up.
    unsettled: Option<(UnixMicros, i64)>,
}

impl Sessions {
    /// Begins a session and hands out its id, which is new each time: nobody can choose it for somebody else.
    pub(super) fn begin(&self, name: &str, key: &str, now_us: MonoMicros) -> Result<String, AccessError> {
        let (id, now_us) = (word()?, signed(now_us));
        let mut all = self.lock();
        let sessions = &mut all.sessions;
        sessions.retain(|_, session| !session.is_over(now_us));
        let own = |session: &Session| session.name == name;
        if sessions.values().filter(|session| own(session)).count() >= PER_PERSON_MAX {
            remove_oldest(sessions, own);
        }
        if sessions.len() >= SESSIONS_MAX {
            remove_oldest(sessions, |_| true);
        }
        let session = Session { name: name.to_owned(), key: key.to_owned(), began_us: now_us, used_us: now_us };
        sessions.insert(digest(&id), session);
        all.is_changed = true;
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
        let (hash, now_us) = (digest(id), signed(now_us));
        let mut all = self.lock();
        let session = all.sessions.get_mut(&hash)?;
        if session.is_over(now_us) {
            all.sessions.remove(&hash);
            return None;
        }
        if is_use {
            session.used_us = now_us;
        }
        let found = (session.name.clone(), session.key.clone());
        all.is_used |= is_use;
        Some(found)
    }

    /// Ends one session; tells whose it was.
    pub(super) fn end(&self, id: &str) -> Option<String> {
        let mut all = self.lock();
        let ended = all.sessions.remove(&digest(id)).map(|session| session.name);
        all.is_changed |= ended.is_some();
        ended
    }

    /// Ends all sessions of a person; tells how many.
    pub(super) fn end_all_of(&self, name: &str) -> usize {
        let name = folded(name);
        let mut all = self.lock();
        let before = all.sessions.len();
        all.sessions.retain(|_, session| folded(&session.name) != name);
        let ended = before - all.sessions.len();
        all.is_changed |= ended > 0;
        ended
    }

    /// How many sessions a person has.
    pub(super) fn count_of(&self, name: &str, now_us: MonoMicros) -> usize {
        let now_us = signed(now_us);
        self.lock().sessions.values().filter(|session| session.name == name && !session.is_over(now_us)).count()
    }

    /// Takes up sessions with their ages and how long they were not used, in place of all others, and keeps them from now on.
    pub(super) fn restore(
        &self,
        written_us: Option<UnixMicros>,
        sessions: impl Iterator<Item = (Hash, Session, i64, i64)>,
        now: Tick,
    ) {
        let now_us = signed(now.mono_us);
        let since = |(hash, session, age_us, idle_us): (Hash, Session, i64, i64)| {
            let (began_us, used_us) = (now_us.saturating_sub(age_us), now_us.saturating_sub(idle_us));
            (hash, Session { began_us, used_us, ..session })
        };
        let mut all = self.lock();
        all.sessions = sessions.map(since).collect();
        all.is_kept = true;
        all.saved_us = now_us;
        all.unsettled = written_us.map(|written_us| (written_us, now_us));
        all.settle(now);
    }

    /// Settles what hangs on the clocks; tells whether it is time to write. Uses wait for `uses_every_us`.
    pub(super) fn tend(&self, now: Tick, uses_every_us: i64) -> bool {
        let mut all = self.lock();
        all.settle(now);
        let uses = all.is_used && signed(now.mono_us).saturating_sub(all.saved_us) >= uses_every_us;
        all.is_kept && (all.is_changed || uses)
    }

    /// Keeps other writers out; none if nothing is kept.
    pub(super) fn begin_saving(&self) -> Option<MutexGuard<'_, ()>> {
        self.lock().is_kept.then(|| self.saving.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is to be written: each with its age and how long it was not used. From here on it counts as written.
    pub(super) fn rows<T>(&self, now_us: MonoMicros, row: impl Fn(&Hash, &Session, i64, i64) -> T) -> Vec<T> {
        let now_us = signed(now_us);
        let mut all = self.lock();
        (all.is_changed, all.is_used, all.saved_us) = (false, false, now_us);
        let living = all.sessions.iter().filter(|(_, session)| !session.is_over(now_us));
        let since = |since_us: i64| now_us.saturating_sub(since_us);
        living.map(|(hash, session)| row(hash, session, since(session.began_us), since(session.used_us))).collect()
    }

    /// What could not be written is to be written later.
    pub(super) fn remember_to_save(&self) {
        self.lock().is_changed = true;
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    /// Adds the time in which the gateway was off to what was taken up, once the clock tells it. A clock that went back tells
    /// nothing.
    fn settle(&mut self, now: Tick) {
        if now.quality == TimeQuality::Unset {
            return;
        }
        let Some((written_us, restored_us)) = self.unsettled.take() else { return };
        let counted_us = signed(now.mono_us).saturating_sub(restored_us);
        let off_us = now.wall_us.saturating_sub(written_us).saturating_sub(counted_us).max(0);
        for session in self.sessions.values_mut().filter(|session| session.began_us <= restored_us) {
            session.began_us = session.began_us.saturating_sub(off_us);
            // What was used since is known to be in use.
            if session.used_us <= restored_us {
                session.used_us = session.used_us.saturating_sub(off_us);
            }
        }
    }
}

fn signed(mono_us: MonoMicros) -> i64 {
    i64::try_from(mono_us).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
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
        assert_eq!(sessions.lock().sessions.len(), SESSIONS_MAX);
    }
}
