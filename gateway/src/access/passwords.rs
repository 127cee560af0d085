//! Passwords and names: what will do, and Argon2id with the parameters that OWASP advises, a few at once.

use super::AccessError;
use super::error::{NameProblem, PasswordProblem};
use super::rights::{GATEWAY_NAME, TOOL_NAME};
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, PasswordHash, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest name, in characters: it fits a line on a phone.
const NAME_CHARS_MAX: usize = 64;

/// Shortest password, in characters: beyond what is guessed at the throttle's speed, and short enough to be accepted by people.
const PASSWORD_CHARS_MIN: usize = 10;

/// Longest password, in characters: longer ones come from attackers.
const PASSWORD_CHARS_MAX: usize = 256;

/// Argon2id as the OWASP Password Storage Cheat Sheet advises: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Random bytes beside each password, as RFC 9106 advises.
const SALT_BYTES: usize = 16;

/// Passwords hashed at the same time: together they take 38 MiB of a board that may have 256.
const AT_ONCE_MAX: usize = 2;

/// Passwords that wait to be hashed; more are sent away.
const WAITING_MAX: usize = 16;

/// Longest that one waits: people go away after that.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What stands in for the hash of a name that is not known, so that both take as long. Nobody knows a password for it.
const NOBODYS_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Rm9yZWJheU5vYm9keTAwMQ$qJ3PVFzcBXQ7hW1m2yTnYkRZb0Lx8DsGvEa5Uo9KfIg";

/// The first passwords anyone tries, of those that are long enough; from the lists of leaked ones.
const COMMON: &[&str] = &[
    "0123456789",
    "1234567890",
    "12345678910",
    "0987654321",
    "9876543210",
    "1234567891",
    "123123123123",
    "1234554321",
    "1q2w3e4r5t",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "1qazxsw23edc",
    "q1w2e3r4t5",
    "qwertyuiop",
    "qwerty1234",
    "qwerty12345",
    "qwerty123456",
    "qwertz1234",
    "qwertzuiop",
    "qwertzuiopü",
    "asdfghjkl1",
    "asdfghjklö",
    "zxcvbnm123",
    "password12",
    "password123",
    "password1234",
    "password12345",
    "passwort12",
    "passwort123",
    "passwort1234",
    "mypassword",
    "passw0rd123",
    "p@ssw0rd123",
    "p@ssword123",
    "admin12345",
    "admin123456",
    "adminadmin",
    "administrator",
    "administrator1",
    "changeme123",
    "letmein123",
    "welcome123",
    "welcome1234",
    "willkommen",
    "willkommen1",
    "iloveyou123",
    "abc123456789",
    "abcdefghij",
    "abcdefghijk",
    "raspberrypi",
    "raspberry1",
    "forebay123",
    "forebay1234",
    "forebayforebay",
    "gateway123",
    "gateway1234",
    "default123",
    "technician",
    "maintenance",
    "industrial",
    "superadmin",
    "testtest123",
    "test123456",
    "1111122222",
    "sommer2024",
    "sommer2025",
    "sommer2026",
    "summer2024!",
    "summer2025!",
    "summer2026!",
    "winter2024",
    "winter2025",
    "winter2026",
    "hallohallo",
    "internet123",
    "unbekannt1",
    "liverpool1",
    "manchester",
    "starwars123",
    "basketball",
    "volkswagen",
];

/// A name as it is kept.
///
/// # Errors
/// If it is empty, too long, or would look like another one.
pub(super) fn sound_name(name: &str) -> Result<String, NameProblem> {
    // As it was typed: the interface describes its length so, spaces around it included.
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(NameProblem::Long);
    }
    let name = name.trim();
    if name.is_empty() {
        return Err(NameProblem::Empty);
    }
    if name.chars().any(is_invisible) || name.contains("  ") {
        return Err(NameProblem::Invisible);
    }
    if [TOOL_NAME, GATEWAY_NAME].contains(&name.to_lowercase().as_str()) {
        return Err(NameProblem::Reserved);
    }
    Ok(name.to_owned())
}

/// Control characters, spaces that are no plain space, and marks that change how others are shown.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Whether a password will do for this name.
///
/// # Errors
/// If it is too short, too long, or among the first guesses.
pub(super) fn sound_password(name: &str, password: &str) -> Result<(), PasswordProblem> {
    let chars = password.chars().count();
    if chars < PASSWORD_CHARS_MIN {
        return Err(PasswordProblem::Short);
    }
    if chars > PASSWORD_CHARS_MAX {
        return Err(PasswordProblem::Long);
    }
    let plain = password.trim().to_lowercase();
    let name = name.trim().to_lowercase();
    if plain == name || plain == format!("{name}{name}") {
        return Err(PasswordProblem::LikeName);
    }
    let mut different: Vec<char> = plain.chars().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() <= 2 || COMMON.contains(&plain.as_str()) {
        return Err(PasswordProblem::Common);
    }
    Ok(())
}

/// Hashes passwords, and compares them; on threads of their own, a few at once.
#[derive(Debug)]
pub(super) struct Passwords {
    slots: Arc<Semaphore>,
    waiting: Semaphore,
    /// How many were computed, so that a test sees that none is left out.
    computed: Arc<AtomicU64>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
            computed: Arc::default(),
        }
    }

    /// The hash of a new password, in the PHC string format.
    pub(super) async fn hash(&self, password: &str) -> Result<String, AccessError> {
        let password = password.to_owned();
        self.compute(move || {
            let mut salt = [0; SALT_BYTES];
            getrandom::fill(&mut salt).map_err(|e| failed(&e))?;
            Ok(argon2()?.hash_password_with_salt(password.as_bytes(), &salt).map_err(|e| failed(&e))?.to_string())
        })
        .await?
    }

    /// Whether a password is the one of this hash. Without a hash it never is, and takes as long.
    pub(super) async fn is(&self, password: &str, hash: Option<&str>) -> Result<bool, AccessError> {
        let too_long = password.chars().count() > PASSWORD_CHARS_MAX;
        let password = if too_long { String::new() } else { password.to_owned() };
        let known = hash.is_some();
        let hash = hash.unwrap_or(NOBODYS_HASH).to_owned();
        let same = self
            .compute(move || {
                let hash = PasswordHash::new(&hash).map_err(|e| failed(&e))?;
                Ok::<_, AccessError>(argon2()?.verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await??;
        Ok(same && known && !too_long)
    }

    #[cfg(test)]
    pub(super) fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AccessError> {
        let place = self.waiting.try_acquire().map_err(|_| AccessError::Busy)?;
        let slot = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.slots).acquire_owned()).await;
        let slot = slot.map_err(|_| AccessError::Busy)?.map_err(|_| AccessError::Ending)?;
        drop(place);
        self.computed.fetch_add(1, Ordering::Relaxed);
        // The slot goes along: whoever stops waiting does not make room before the memory is free again.
        let hashed = tokio::task::spawn_blocking(move || {
            let answer = work();
            drop(slot);
            answer
        });
        hashed.await.map_err(|_| AccessError::Ending)
    }
}

fn argon2() -> Result<Argon2<'static>, AccessError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|e| failed(&e))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn failed(error: &dyn std::fmt::Display) -> AccessError {
    AccessError::Disk(format!("a password could not be hashed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_measured_as_it_was_typed_with_the_spaces_around_it() {
        let longest = "x".repeat(NAME_CHARS_MAX);
        assert_eq!(sound_name(&longest).ok(), Some(longest.clone()));
        assert!(matches!(sound_name(&format!(" {longest}")), Err(NameProblem::Long)));
        assert_eq!(sound_name(" anna ").ok().as_deref(), Some("anna"));
    }
}
