//! The registry of devices and points: names to small numbers and back, with tags and patterns.

use crate::reading::PointId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// Most points a gateway knows; each costs about 300 bytes of names and state, so that 100 000 stay near 30 MB.
pub const POINTS_MAX: usize = 100_000;

/// Longest device, point or unit name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// What a [`PointId`] stands for, for ever: a changed unit or source is another point.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PointKey {
    /// The device's name.
    pub device: Arc<str>,
    /// The quantity's name.
    pub point: Arc<str>,
    /// The unit, empty if there is none.
    pub unit: Arc<str>,
    /// The name of the source that reads it.
    pub source: Arc<str>,
}

/// Why a name was not taken into the registry.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SiteError {
    /// Too many points.
    #[error("the gateway already knows {POINTS_MAX} points; narrow the source's filter")]
    TooManyPoints,
    /// A name is empty, too long or has control characters.
    #[error("{what} name {name:?} must have 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    BadName {
        /// Which name: device, point, unit.
        what: &'static str,
        /// The name, shortened.
        name: String,
    },
}

/// Every point ever seen in this data directory. Shared by all; written only when a new point appears.
#[derive(Debug, Default)]
pub struct Registry {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    keys: Vec<Arc<PointKey>>,
    ids: HashMap<Arc<PointKey>, PointId>,
    /// Points below this are in the ledger.
    saved: usize,
}

impl Registry {
    /// A registry that goes on from the ledger's points, in order of their ids, starting at 0.
    #[must_use]
    pub fn restore(keys: Vec<PointKey>) -> Self {
        let mut inner = Inner::default();
        for key in keys {
            inner.push(Arc::new(key));
        }
        inner.saved = inner.keys.len();
        Self { inner: RwLock::new(inner) }
    }

    /// The id of a point, taking it in if it is new.
    ///
    /// # Errors
    /// If a name is unfit or the registry is full.
    pub fn intern(&self, device: &str, point: &str, unit: &str, source: &str) -> Result<PointId, SiteError> {
        check_name("device", device, 1)?;
        check_name("point", point, 1)?;
        check_name("unit", unit, 0)?;
        let key = PointKey { device: device.into(), point: point.into(), unit: unit.into(), source: source.into() };
        if let Some(id) = self.inner.read().unwrap_or_else(PoisonError::into_inner).ids.get(&key) {
            return Ok(*id);
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = inner.ids.get(&key) {
            return Ok(*id);
        }
        if inner.keys.len() >= POINTS_MAX {
            return Err(SiteError::TooManyPoints);
        }
        Ok(inner.push(Arc::new(key)))
    }

    /// What an id stands for.
    #[must_use]
    pub fn key(&self, id: PointId) -> Option<Arc<PointKey>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).keys.get(id.0 as usize).cloned()
    }

    /// How many points are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).keys.len()
    }

    /// Whether no point is known yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All points from `first` on, for a reader that keeps its own copy up to date.
    #[must_use]
    pub fn since(&self, first: usize) -> Vec<Arc<PointKey>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.keys.get(first..).unwrap_or_default().to_vec()
    }

    /// The points that the ledger does not hold yet; a block that names them must not become durable before they are.
    #[must_use]
    pub fn unsaved(&self) -> Vec<(PointId, Arc<PointKey>)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = inner.keys.iter().enumerate().skip(inner.saved);
        fresh.filter_map(|(index, key)| Some((PointId(u32::try_from(index).ok()?), key.clone()))).collect()
    }

    /// Notes that the ledger now holds all points up to and including `last`.
    pub fn mark_saved(&self, last: PointId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.saved = inner.saved.max(last.0 as usize + 1);
    }
}

impl Inner {
    fn push(&mut self, key: Arc<PointKey>) -> PointId {
        // POINTS_MAX keeps the length far below u32::MAX.
        let id = PointId(u32::try_from(self.keys.len()).unwrap_or(u32::MAX));
        self.keys.push(key.clone());
        self.ids.insert(key, id);
        id
    }
}

fn check_name(what: &'static str, name: &str, bytes_min: usize) -> Result<(), SiteError> {
    if name.len() < bytes_min || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(SiteError::BadName { what, name: name.chars().take(40).collect() });
    }
    Ok(())
}

/// The tags of each configured device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceTags(pub HashMap<String, BTreeMap<String, String>>);

/// A pattern for points: `device/point`, where `*` stands for any run of characters but `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointPattern {
    device: String,
    point: String,
}

impl PointPattern {
    /// Reads `device/point`; `None` if there is not exactly one `/`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (device, point) = text.split_once('/')?;
        let fit = !device.is_empty() && !point.is_empty() && !point.contains('/');
        fit.then(|| Self { device: device.to_owned(), point: point.to_owned() })
    }

    /// Whether the point is meant.
    #[must_use]
    pub fn matches(&self, device: &str, point: &str) -> bool {
        glob(self.device.as_bytes(), device.as_bytes()) && glob(self.point.as_bytes(), point.as_bytes())
    }
}

/// Greedy matching with one step back: linear in `text` for each star, no recursion.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if text.get(t) == Some(byte) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_point_keeps_its_number_and_a_new_unit_is_a_new_point() {
        let registry = Registry::default();
        let celsius = registry.intern("boiler-1", "supply", "°C", "bus").unwrap();
        assert_eq!(registry.intern("boiler-1", "supply", "°C", "bus").unwrap(), celsius);
        assert_ne!(registry.intern("boiler-1", "supply", "K", "bus").unwrap(), celsius);
        assert_eq!(registry.unsaved().len(), 2);
        registry.mark_saved(celsius);
        assert_eq!(registry.unsaved().len(), 1);
    }

    #[test]
    fn patterns_match_within_a_level_only() {
        let pattern = PointPattern::parse("boiler-*/*temp").unwrap();
        assert!(pattern.matches("boiler-3", "supply_temp"));
        assert!(pattern.matches("boiler-", "temp"));
        assert!(!pattern.matches("pump-3", "supply_temp"));
        assert!(!pattern.matches("boiler-3", "temperature"));
        assert!(PointPattern::parse("boiler").is_none());
        assert!(PointPattern::parse("a/b/c").is_none());
    }

    #[test]
    fn unfit_names_are_refused() {
        let registry = Registry::default();
        assert!(registry.intern("", "p", "", "s").is_err());
        assert!(registry.intern("d", "p\n", "", "s").is_err());
        assert!(registry.intern("d", &"p".repeat(129), "", "s").is_err());
    }
}
