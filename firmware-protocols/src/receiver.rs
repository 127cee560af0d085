//! The gateway's side of delivery: which numbered frames of a device are new.
//!
//! An acknowledgement means "everything up to here", so frames are accepted strictly in order: one that comes after a
//! hole is left to be sent again. That keeps this state at two numbers and the readings of a device in order.

/// What one device's frames were accepted up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receiver {
    accepted: Option<Accepted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Accepted {
    boot: u32,
    up_to: u32,
}

/// What to do with a numbered frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one: take it, and acknowledge it when it is on disk.
    Fresh,
    /// It was accepted before, so an acknowledgement was late or lost: acknowledge again what is on disk.
    Repeat,
    /// One before it is missing: leave it, the device sends both again.
    AfterHole,
    /// The boot has not said [`crate::message::Hello`] yet: leave it, the device says so before it sends it again.
    Stranger,
}

/// What a [`crate::message::Hello`] told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// The device has started since it was last heard.
    pub is_new_boot: bool,
    /// Messages of this boot that the device gave up before they were accepted.
    pub missed: u32,
}

impl Receiver {
    /// A receiver that knows nothing of the device.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A receiver that goes on after what is on disk.
    #[must_use]
    pub fn resume(boot: u32, up_to: u32) -> Self {
        Self { accepted: Some(Accepted { boot, up_to }) }
    }

    /// Takes the boot and `oldest` of a [`crate::message::Hello`].
    pub fn greet(&mut self, boot: u32, oldest: u32) -> Greeting {
        let before_oldest = oldest.saturating_sub(1);
        match &mut self.accepted {
            Some(accepted) if accepted.boot == boot => {
                let missed = before_oldest.saturating_sub(accepted.up_to);
                accepted.up_to = accepted.up_to.max(before_oldest);
                Greeting { is_new_boot: false, missed }
            }
            _ => {
                *self = Self::resume(boot, before_oldest);
                Greeting { is_new_boot: true, missed: 0 }
            }
        }
    }

    /// Judges a numbered frame by its boot and sequence; a fresh one counts as accepted from now on.
    pub fn judge(&mut self, boot: u32, sequence: u32) -> Verdict {
        match &mut self.accepted {
            Some(accepted) if accepted.boot == boot => {
                if sequence <= accepted.up_to {
                    Verdict::Repeat
                } else if Some(sequence) == accepted.up_to.checked_add(1) {
                    accepted.up_to = sequence;
                    Verdict::Fresh
                } else {
                    Verdict::AfterHole
                }
            }
            _ => Verdict::Stranger,
        }
    }
}
