//! Reading the audit log, newest first. Lines that are torn or of no known form are passed over.

use super::{Audit, AuditFilter, AuditPage, Entry, FILE_BYTES_MAX, FILES_MAX, LINE_BYTES_MAX, PAGE_ENTRIES_MAX};
use crate::access::AccessError;
use crate::access::files;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

/// What is read of a file's end first, in bytes, to find its last entry.
const TAIL_BYTES: u64 = 16 * 1024;

impl Audit {
    /// Entries with a number below `before`, newest first.
    pub(in crate::access) fn page(
        &self,
        before: Option<u64>,
        limit: usize,
        filter: &AuditFilter,
    ) -> Result<AuditPage, AccessError> {
        let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
        let wanted = Wanted::new(filter);
        let mut page = AuditPage::default();
        // Falls with each entry, so that a file that is put aside meanwhile is not read twice.
        let mut below = before;
        for age in 0..FILES_MAX {
            let Some(bytes) = self.end_of(age, FILE_BYTES_MAX + LINE_BYTES_MAX)? else { continue };
            for entry in entries_backwards(&bytes) {
                if below.is_some_and(|below| entry.number >= below) {
                    continue;
                }
                below = Some(entry.number);
                if !wanted.is(&entry) {
                    continue;
                }
                if page.entries.len() == limit {
                    page.before = page.entries.last().map(|entry| entry.number);
                    return Ok(page);
                }
                page.entries.push(entry);
            }
        }
        Ok(page)
    }

    /// The number of the newest entry, or 0.
    pub(super) fn last_number(&self) -> Result<u64, AccessError> {
        for age in 0..FILES_MAX {
            let mut length = TAIL_BYTES;
            // Doubled until it holds an entry or the whole file; at most 11 times.
            while let Some(bytes) = self.end_of(age, length)? {
                if let Some(entry) = entries_backwards(&bytes).next() {
                    return Ok(entry.number);
                }
                if (bytes.len() as u64) < length || length > FILE_BYTES_MAX + LINE_BYTES_MAX {
                    break;
                }
                length *= 2;
            }
        }
        Ok(0)
    }

    /// The last bytes of a file; `None` if there is none.
    fn end_of(&self, age: usize, bytes_max: u64) -> Result<Option<Vec<u8>>, AccessError> {
        let path = self.path(age);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = files::open_to_read(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
            let mut bytes = Vec::new();
            file.take(bytes_max).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(files::error("read", &path, &e)),
        }
    }
}

/// The entries of some lines, the last one first.
pub(super) fn entries_backwards(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes
        .rsplit(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| serde_json::from_slice(line).ok())
}

/// A filter, prepared for comparing.
struct Wanted<'a> {
    filter: &'a AuditFilter,
    who: Option<String>,
    text: Option<String>,
}

impl<'a> Wanted<'a> {
    fn new(filter: &'a AuditFilter) -> Self {
        let lower = |text: &Option<String>| text.as_deref().map(str::to_lowercase).filter(|text| !text.is_empty());
        Self { filter, who: lower(&filter.who), text: lower(&filter.text) }
    }

    fn is(&self, entry: &Entry) -> bool {
        let filter = self.filter;
        let has = |text: &str| {
            [&entry.who, &entry.subject, &entry.detail].into_iter().any(|field| field.to_lowercase().contains(text))
        };
        self.who.as_deref().is_none_or(|who| entry.who.to_lowercase() == who)
            && filter.action.is_none_or(|action| entry.action == action)
            && filter.since_us.is_none_or(|since| entry.at_us >= since)
            && filter.until_us.is_none_or(|until| entry.at_us < until)
            && self.text.as_deref().is_none_or(has)
    }
}
