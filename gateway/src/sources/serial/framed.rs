//! One face for both kinds of framing.

use super::firmware::FirmwareLine;
use super::lines::{LineDecoder, Splitter};
use super::{Framing, SerialOptions};
use crate::sources::{Intake, Receipt, SourceContext};

/// The state of each kind of framing.
pub(super) enum Framed {
    Lines { splitter: Splitter, decoder: LineDecoder },
    Firmware(Box<FirmwareLine>),
}

impl Framed {
    pub(super) fn new(options: &SerialOptions, context: &SourceContext) -> Result<Self, String> {
        let Framing::Delimiter { delimiter, bytes_max } = &options.framing else {
            return Ok(Self::Firmware(Box::new(FirmwareLine::new(&options.device, &options.name))));
        };
        let payload = options.payload.as_ref().ok_or("delimited messages need a `payload`")?;
        let decoder = LineDecoder::new(payload, &options.device, &options.name, &context.registry);
        let decoder = decoder.map_err(|error| error.to_string())?;
        Ok(Self::Lines { splitter: Splitter::new(delimiter, *bytes_max), decoder })
    }

    /// Forgets what is half in.
    pub(super) fn restart(&mut self, is_busy: bool) {
        match self {
            Self::Lines { splitter, .. } => splitter.restart(is_busy),
            Self::Firmware(firmware) => firmware.restart(),
        }
    }

    /// Takes bytes; returns how many messages found no room.
    pub(super) fn feed(&mut self, bytes: &[u8], context: &SourceContext, pending: &mut Intake) -> u64 {
        let mut overruns = 0;
        match self {
            Self::Firmware(firmware) => firmware.feed(bytes, context, pending),
            Self::Lines { splitter, decoder } => splitter.feed(bytes, |cut| {
                let (message, samples) = decoder.decode(&cut, context.clock.mono_us());
                if pending.is_full() {
                    overruns += 1;
                } else {
                    pending.push(message, samples);
                }
            }),
        }
        overruns
    }

    pub(super) fn receipts(&mut self, receipts: &[Receipt]) {
        if let Self::Firmware(firmware) = self {
            firmware.receipts(receipts);
        }
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        match self {
            Self::Firmware(firmware) => firmware.take_output(),
            Self::Lines { .. } => Vec::new(),
        }
    }

    pub(super) fn take_gave_up(&mut self) -> u64 {
        match self {
            Self::Firmware(firmware) => firmware.take_gave_up(),
            Self::Lines { .. } => 0,
        }
    }
}
