//! What the plant has sent, counted by the plant itself: the other side of the gateway's books.

use crate::status::Counter;

/// Names of the gateway's sources, in the order of its configuration and of [`Tally::sent`].
pub(super) const SOURCES: [&str; 3] = [MQTT, MODBUS, SERIAL];
pub(super) const MQTT: &str = "plant-broker";
pub(super) const MODBUS: &str = "boiler-bus";
pub(super) const SERIAL: &str = "probe-line";

/// Readings that have left the plant for good.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// MQTT messages of one reading each that the broker has acknowledged.
    pub(super) published: Counter,
    /// Values in the answers of the Modbus device.
    pub(super) answered: Counter,
    /// Samples that the gateway has acknowledged to the microcontroller.
    pub(super) acknowledged: Counter,
}

impl Tally {
    /// What was sent to each source.
    pub(super) fn sent(&self) -> [u64; 3] {
        [self.published.get(), self.answered.get(), self.acknowledged.get()]
    }
}
