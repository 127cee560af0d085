//! Little-endian fields of a payload: reading that cannot fail but by an error, writing that cannot overflow.

use crate::cobs::NoRoom;
use crate::frame::MAX_PAYLOAD_BYTES;
use crate::message::MessageError;
use heapless::{String, Vec};

/// A payload while it is written.
pub(crate) type Payload = Vec<u8, MAX_PAYLOAD_BYTES>;

/// Appends the bytes of a field.
pub(crate) fn put(field: &[u8], out: &mut Payload) -> Result<(), NoRoom> {
    Ok(out.extend_from_slice(field)?)
}

/// Appends a text of at most 255 bytes: its size in bytes, then UTF-8.
pub(crate) fn put_text<const N: usize>(text: &String<N>, out: &mut Payload) -> Result<(), NoRoom> {
    let size = u8::try_from(text.len()).map_err(|_| NoRoom)?;
    put(&[size], out)?;
    put(text.as_bytes(), out)
}

/// Appends the number of items of a list.
pub(crate) fn put_count(count: usize, out: &mut Payload) -> Result<(), NoRoom> {
    let count = u8::try_from(count).map_err(|_| NoRoom)?;
    put(&[count], out)
}

/// The bytes of a payload that have not been read yet.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// The next `N` bytes; `field` is named when they are missing.
    pub(crate) fn bytes<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(MessageError::Missing { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, MessageError> {
        self.bytes(field).map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, MessageError> {
        self.bytes(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, MessageError> {
        self.bytes(field).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, MessageError> {
        self.bytes(field).map(i64::from_le_bytes)
    }

    /// The number of items of a list that has at most `max`.
    pub(crate) fn count(&mut self, field: &'static str, max: usize) -> Result<u8, MessageError> {
        let count = self.u8(field)?;
        if usize::from(count) > max {
            return Err(MessageError::TooMany { field, count, max });
        }
        Ok(count)
    }

    /// A text of at most `N` bytes.
    pub(crate) fn text<const N: usize>(&mut self, field: &'static str) -> Result<String<N>, MessageError> {
        let count = self.count(field, N)?;
        let missing = MessageError::Missing { field };
        let (taken, rest) = self.rest.split_at_checked(usize::from(count)).ok_or(missing)?;
        self.rest = rest;
        let text = Vec::from_slice(taken).map_err(|_| missing)?;
        String::from_utf8(text).map_err(|_| MessageError::NotUtf8 { field })
    }
}
