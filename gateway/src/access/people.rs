//! People: added, removed, given a role and a password.

use super::book::PersonRow;
use super::passwords::{sound_name, sound_password};
use super::random::word;
use super::{Access, AccessError, Action, By, Rights, Role};
use crate::reading::UnixMicros;
use schemars::JsonSchema;
use serde::Serialize;

/// People who fit: a plant's, not a company's.
pub const PEOPLE_MAX: usize = 64;

/// A person, as others see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Person {
    /// What they sign in with.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When they were added.
    pub made_us: UnixMicros,
    /// By whom.
    pub made_by: String,
    /// When the password was set.
    pub password_us: UnixMicros,
    /// In how many browsers they are signed in.
    pub sessions: usize,
}

/// A new line of the book.
pub(super) fn row(
    name: &str,
    role: Role,
    password: String,
    by: &By,
    now_us: UnixMicros,
) -> Result<PersonRow, AccessError> {
    Ok(PersonRow {
        name: name.to_owned(),
        role,
        password,
        key: word()?,
        made_us: now_us,
        made_by: by.who.name.clone(),
        password_us: now_us,
    })
}

/// Nobody gives, changes or takes away more than they may do themselves: a token that manages people is no way to all rights.
///
/// # Errors
/// If the rights go beyond those of whoever does it.
pub(super) fn within(own: &Rights, rights: &Rights) -> Result<(), AccessError> {
    if rights.within(own) { Ok(()) } else { Err(AccessError::Beyond) }
}

impl Access {
    /// Everyone who may sign in, in the order in which they were added.
    ///
    /// # Errors
    /// If the file of people cannot be read.
    pub fn people(&self) -> Result<Vec<Person>, AccessError> {
        let now_us = self.0.clock.mono_us();
        let book = self.0.book.current()?;
        let person = |row: &PersonRow| Person {
            name: row.name.clone(),
            role: row.role,
            made_us: row.made_us,
            made_by: row.made_by.clone(),
            password_us: row.password_us,
            sessions: self.0.sessions.count_of(&row.name, now_us),
        };
        Ok(book.people.iter().map(person).collect())
    }

    /// Adds a person.
    ///
    /// # Errors
    /// If name or password will not do, the name is taken, nobody more fits, or the role allows more than whoever adds may do.
    pub async fn add_person(&self, by: &By, name: &str, role: Role, password: &str) -> Result<(), AccessError> {
        within(&by.who.rights, &role.rights())?;
        let (name, hash) = self.new_person(name, password).await?;
        let row = row(&name, role, hash, by, self.0.clock.tick().wall_us)?;
        let first = self.apart(move |inner| {
            inner.book.change(|book| {
                let first = book.people.is_empty();
                if first && role != Role::Administrator {
                    return Err(AccessError::FirstIsAdministrator);
                }
                if book.person(&row.name).is_some() {
                    return Err(AccessError::Taken(row.name));
                }
                if book.people.len() >= PEOPLE_MAX {
                    return Err(AccessError::Full(PEOPLE_MAX, "people"));
                }
                book.people.push(row);
                Ok(first)
            })
        });
        if first.await? {
            self.end_set_up().await;
        }
        self.note(by, Action::PersonAdded, &name, role.to_string()).await;
        Ok(())
    }

    /// Removes a person and ends their sessions; the last administrator stays.
    ///
    /// # Errors
    /// If there is nobody of that name, it is the last administrator, or they may do more than whoever does this.
    pub async fn remove_person(&self, by: &By, name: &str) -> Result<(), AccessError> {
        let (wanted, own) = (name.to_owned(), by.who.rights.clone());
        let removed = self.apart(move |inner| {
            inner.book.change(|book| {
                let person = book.person_mut(&wanted)?;
                within(&own, &person.role.rights())?;
                let name = person.name.clone();
                if !book.has_administrator_beside(&name) {
                    return Err(AccessError::LastAdministrator);
                }
                book.people.retain(|person| person.name != name);
                Ok(name)
            })
        });
        let name = removed.await?;
        self.end_sessions_of(&name).await;
        self.note(by, Action::PersonRemoved, &name, String::new()).await;
        Ok(())
    }

    /// Gives a person another role, at once also where they are signed in; one administrator stays.
    ///
    /// # Errors
    /// If there is nobody of that name, it is the last administrator, or they may do more than whoever does this.
    pub async fn set_role(&self, by: &By, name: &str, role: Role) -> Result<(), AccessError> {
        let (wanted, own) = (name.to_owned(), by.who.rights.clone());
        within(&own, &role.rights())?;
        let changed = self.apart(move |inner| {
            inner.book.change(|book| {
                let alone = !book.has_administrator_beside(&wanted);
                let person = book.person_mut(&wanted)?;
                within(&own, &person.role.rights())?;
                if role != Role::Administrator && alone {
                    return Err(AccessError::LastAdministrator);
                }
                let before = std::mem::replace(&mut person.role, role);
                Ok((person.name.clone(), before))
            })
        });
        let (name, before) = changed.await?;
        if before != role {
            self.note(by, Action::RoleChanged, &name, format!("{before} → {role}")).await;
        }
        Ok(())
    }

    /// Gives a person another password and ends their sessions.
    ///
    /// # Errors
    /// If there is nobody of that name, the password will not do, or they may do more than whoever does this.
    pub async fn set_password(&self, by: &By, name: &str, password: &str) -> Result<(), AccessError> {
        let known = self.0.book.current()?.person(name).map(|person| (person.name.clone(), person.role));
        let (name, role) = known.ok_or_else(|| AccessError::NoSuchPerson(name.to_owned()))?;
        within(&by.who.rights, &role.rights())?;
        sound_password(&name, password)?;
        let hash = self.0.passwords.hash(password).await?;
        let (key, now_us, wanted) = (word()?, self.0.clock.tick().wall_us, name.clone());
        let own = by.who.rights.clone();
        let changed = self.apart(move |inner| {
            inner.book.change(|book| {
                let person = book.person_mut(&wanted)?;
                within(&own, &person.role.rights())?;
                person.password = hash;
                person.key = key;
                person.password_us = now_us;
                Ok(())
            })
        });
        changed.await?;
        self.end_sessions_of(&name).await;
        self.note(by, Action::PasswordChanged, &name, String::new()).await;
        Ok(())
    }

    async fn end_sessions_of(&self, name: &str) {
        if self.0.sessions.end_all_of(name) > 0 {
            self.save_sessions().await;
        }
    }

    /// The sound name and the password's hash of a person to be.
    pub(super) async fn new_person(&self, name: &str, password: &str) -> Result<(String, String), AccessError> {
        let name = sound_name(name)?;
        sound_password(&name, password)?;
        let hash = self.0.passwords.hash(password).await?;
        Ok((name, hash))
    }
}
