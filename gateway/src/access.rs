//! Who may enter and what they may do: people, roles, passwords, sessions, API tokens, the set-up token, and the audit log.
//!
//! No HTTP here: the page asks [`Access`] who someone is and whether they may. What is on disk lies in the private directory
//! `access` of the data directory, and the command line may change it under a running gateway.

mod audit;
mod book;
mod devices;
mod entering;
mod error;
mod files;
mod kept_sessions;
mod passwords;
mod people;
mod random;
mod rights;
mod sessions;
mod set_up;
#[cfg(test)]
mod tests;
mod throttle;
mod tokens;

pub use audit::{Action, AuditFilter, AuditPage, DETAIL_BYTES_MAX, Deed, Entry, PAGE_ENTRIES_MAX, PutAside};
pub use entering::SignedIn;
pub use error::{AccessError, NameProblem, PasswordProblem, SetUpError, SignInError};
pub use kept_sessions::TEND_EVERY;
pub use people::{PEOPLE_MAX, Person};
pub use rights::{Kind, Right, Rights, Role, UnknownName, Who};
pub use sessions::{SESSION_AGE_MAX, SESSION_IDLE_MAX};
pub use tokens::{MadeToken, TOKENS_MAX, Token};

use crate::clock::Clock;
use audit::Audit;
use book::BookFile;
use devices::Devices;
use passwords::Passwords;
use sessions::Sessions;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use throttle::Throttle;
use tokens::LastUsed;

/// The private directory in the data directory.
const DIR: &str = "access";

/// Who does something, and from where: goes into the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub who: Who,
    /// From which address; none on the machine itself.
    pub from: Option<IpAddr>,
}

impl By {
    /// Someone at an address.
    #[must_use]
    pub fn new(who: Who, from: IpAddr) -> Self {
        Self { who, from: Some(from) }
    }

    /// The command line on the machine itself.
    #[must_use]
    pub fn tool() -> Self {
        Self { who: Who::tool(), from: None }
    }
}

/// Who may enter. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    clock: Clock,
    book: BookFile,
    passwords: Passwords,
    sessions: Sessions,
    devices: Devices,
    throttle: Throttle,
    /// Of wrong API tokens: a program with an old one keeps nobody beside it from signing in.
    token_throttle: Throttle,
    last_used: LastUsed,
    audit: Audit,
}

impl Access {
    /// Opens the private directory in the data directory, makes it if there is none, and a set-up token if nobody may enter yet.
    ///
    /// A file of people that cannot be understood is no reason to fail: nobody gets in until it is mended, and
    /// [`Access::problem`] says so.
    ///
    /// # Errors
    /// If the directory or the set-up token cannot be made or read.
    pub fn open(data_dir: &Path, clock: Clock) -> Result<Self, AccessError> {
        let access = Self::at(data_dir, clock);
        access.prepare()?;
        Ok(access)
    }

    /// The same for a gateway that must run in any case: if the directory cannot be used, nobody new can be let in until the next
    /// start, and the error says why.
    #[must_use]
    pub fn open_in_any_case(data_dir: &Path, clock: Clock) -> (Self, Option<AccessError>) {
        let access = Self::at(data_dir, clock);
        let error = access.prepare().err();
        (access, error)
    }

    fn at(data_dir: &Path, clock: Clock) -> Self {
        let dir = data_dir.join(DIR);
        Self(Arc::new(Inner {
            book: BookFile::open(&dir),
            passwords: Passwords::new(),
            sessions: Sessions::default(),
            devices: Devices::of(&dir),
            throttle: Throttle::default(),
            token_throttle: Throttle::default(),
            last_used: LastUsed::default(),
            audit: Audit::new(&dir),
            dir,
            clock,
        }))
    }

    fn prepare(&self) -> Result<(), AccessError> {
        files::private_dir(&self.0.dir)?;
        self.prepare_set_up()
    }

    /// What is wrong with the file of people, if anything is: nobody can enter then.
    #[must_use]
    pub fn problem(&self) -> Option<AccessError> {
        self.0.book.current().err()
    }

    /// The private directory, for what else is private: the certificate's key.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Writes an entry into the audit log; it is on disk on return.
    ///
    /// # Errors
    /// If it cannot be written; that is logged as well.
    pub async fn record(&self, deed: Deed) -> Result<(), AccessError> {
        let what = format!("{:?} of {:?} by {:?}", deed.action, deed.subject, deed.who.name);
        let written = self.apart(move |inner| inner.audit.append(deed, inner.clock.tick().wall_us)).await;
        written.map(|_| ()).inspect_err(|error| tracing::error!("not in the audit log: {what}: {error}"))
    }

    /// Entries of the audit log with a number below `before`, newest first.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn audit(
        &self,
        before: Option<u64>,
        limit: usize,
        filter: AuditFilter,
    ) -> Result<AuditPage, AccessError> {
        self.apart(move |inner| inner.audit.page(before, limit, &filter)).await
    }

    /// That a file of the audit log was full and was put aside, if it was since this was last asked.
    #[must_use]
    pub fn take_put_aside(&self) -> Option<PutAside> {
        self.0.audit.take_put_aside()
    }

    /// Writes down what stands already. That it cannot be written is logged, and undoes nothing: a full disk must not keep out
    /// whoever comes to make room.
    async fn note(&self, by: &By, action: Action, subject: &str, detail: String) {
        let (who, from) = (by.who.clone(), by.from);
        // Logged where it failed.
        self.record(Deed { who, from, action, subject: subject.to_owned(), detail }).await.ok();
    }

    /// Does what waits for the disk on a thread that may wait. It is done to its end even if nobody waits for it any more.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, AccessError> + Send + 'static,
    ) -> Result<T, AccessError> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| AccessError::Ending)?
    }
}
