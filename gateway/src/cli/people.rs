//! `forebay people`, `forebay token`, `forebay set-up-token`: who may enter, from the machine itself. For whoever has lost a
//! password, and for scripts; a running gateway takes it over at once.

mod token;
mod typed;

pub(super) use token::{TokenCommand, execute as execute_token, show_set_up_token};

use super::{CONFIG_FILE, when};
use crate::access::{Access, By, Person, Role};
use crate::clock::Clock;
use crate::config;
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The data directory of a gateway without a configuration.
const DATA_DIR: &str = "/var/lib/forebay";

/// Whose people are meant.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The gateway's configuration; if there is none yet, the data directory is /var/lib/forebay.
    #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
    /// The gateway's data directory, instead of what the configuration says.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl Where {
    fn data_dir(&self) -> Result<PathBuf> {
        if let Some(data_dir) = &self.data_dir {
            return Ok(data_dir.clone());
        }
        if !self.config.try_exists().with_context(|| format!("cannot look for {}", self.config.display()))? {
            return Ok(PathBuf::from(DATA_DIR));
        }
        let loaded = config::load(&self.config)
            .context("the data directory is not known; mend the configuration, or name it with --data-dir")?;
        Ok(loaded.config.gateway.data_dir)
    }

    fn open(&self) -> Result<Access> {
        let data_dir = self.data_dir()?;
        // A directory made here would belong to the wrong user, and a gateway elsewhere would never look into it.
        ensure!(
            data_dir.is_dir(),
            "there is no data directory {}; start the gateway once, or name the right one with --config or --data-dir",
            data_dir.display()
        );
        Ok(Access::open(&data_dir, Clock::system())?)
    }
}

/// Where a password comes from; never from the arguments, which every user of the machine can read.
#[derive(Debug, Args)]
pub(super) struct PasswordSource {
    /// Read the password from the first line of this file [default: standard input].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordSource {
    fn read(&self) -> Result<String> {
        let file: Option<&Path> = self.password_file.as_deref();
        typed::password(file)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum PeopleCommand {
    /// Lists who may sign in.
    List(Where),
    /// Adds a person; the password comes from standard input or a file.
    Add {
        /// What they sign in with.
        name: String,
        /// viewer, operator or administrator; the first person must be an administrator.
        #[arg(long, default_value_t = Role::Viewer)]
        role: Role,
        #[command(flatten)]
        password: PasswordSource,
        #[command(flatten)]
        place: Where,
    },
    /// Removes a person and ends their sessions; the last administrator stays.
    Remove {
        /// Whom.
        name: String,
        #[command(flatten)]
        place: Where,
    },
    /// Gives a person another password and ends their sessions.
    Password {
        /// Whom.
        name: String,
        #[command(flatten)]
        password: PasswordSource,
        #[command(flatten)]
        place: Where,
    },
    /// Gives a person another role.
    Role {
        /// Whom.
        name: String,
        /// viewer, operator or administrator.
        role: Role,
        #[command(flatten)]
        place: Where,
    },
}

/// Does what is asked.
pub(super) fn execute(command: PeopleCommand) -> Result<()> {
    let by = By::tool();
    let mut out = std::io::stdout();
    match command {
        PeopleCommand::List(place) => list(&place.open()?.people()?)?,
        PeopleCommand::Add { name, role, password, place } => {
            let (access, password) = (place.open()?, password.read()?);
            wait(access.add_person(&by, &name, role, &password))?;
            writeln!(out, "{} can sign in as {role}", name.trim())?;
        }
        PeopleCommand::Remove { name, place } => {
            wait(place.open()?.remove_person(&by, &name))?;
            writeln!(out, "{name} cannot sign in any more")?;
        }
        PeopleCommand::Password { name, password, place } => {
            let (access, password) = (place.open()?, password.read()?);
            wait(access.set_password(&by, &name, &password))?;
            writeln!(out, "{name} has another password and is signed out everywhere")?;
        }
        PeopleCommand::Role { name, role, place } => {
            wait(place.open()?.set_role(&by, &name, role))?;
            writeln!(out, "{name} is {role} now")?;
        }
    }
    Ok(())
}

fn list(people: &[Person]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if people.is_empty() {
        writeln!(out, "nobody can sign in yet; forebay set-up-token shows what the page asks for")?;
    }
    let widest = people.iter().map(|person| person.name.chars().count()).max().unwrap_or(0);
    for Person { name, role, made_us, made_by, password_us, .. } in people {
        let (made, password) = (when::show_second(*made_us), when::show_second(*password_us));
        writeln!(out, "{name:widest$}  {role:13}  added {made} by {made_by}, password of {password}")?;
    }
    Ok(())
}

/// Waits for what the room does.
fn wait<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work)?)
}
