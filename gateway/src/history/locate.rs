//! Where a time lies in a stretch of sequences: by halving, so that a window of an hour does not read the day before it.

use crate::block::Block;
use crate::buffer::{Buffer, BufferError};
use crate::reading::{Sequence, SequenceRange, Stream, TimeQuality, UnixMicros};

/// Blocks looked through for one whose clock was set, before a place counts as of any time.
const LOOK_ON_BLOCKS: usize = 16;

/// The part of a stretch that may hold records of the time from `from_us` to `to_us`; `None` if no part does.
///
/// Times are taken to rise along the stretch. Blocks of a clock that was not set are passed over. Where a clock was set
/// back, records of that little time may be left out or the part be larger than it had to be.
pub(super) async fn part_between(
    buffer: &Buffer,
    stream: Stream,
    stretch: SequenceRange,
    from_us: UnixMicros,
    to_us: UnixMicros,
) -> Result<Option<SequenceRange>, BufferError> {
    let first = boundary(buffer, stream, stretch, false, |block| block.meta.last_time_us < from_us).await?;
    let rest = SequenceRange { first, last: stretch.last };
    if first > stretch.last {
        return Ok(None);
    }
    let end = boundary(buffer, stream, rest, true, |block| block.meta.first_time_us <= to_us).await?;
    Ok((end > first).then(|| SequenceRange { first, last: end - 1 }))
}

/// The first sequence of a stretch whose block is not `below`, or the one after the stretch. `timeless` is what blocks count as
/// whose clock was not set, where no other is near.
async fn boundary(
    buffer: &Buffer,
    stream: Stream,
    stretch: SequenceRange,
    timeless: bool,
    below: impl Fn(&Block) -> bool,
) -> Result<Sequence, BufferError> {
    let (mut low, mut high) = (stretch.first, stretch.last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let mut blocks = buffer.blocks(stream, middle, 1).await?;
        if blocks.first().is_some_and(|block| block.meta.time_quality == TimeQuality::Unset) {
            blocks = buffer.blocks(stream, middle, LOOK_ON_BLOCKS).await?;
        }
        let inside = || blocks.iter().take_while(|block| block.range.first < high);
        let Some(nearest) = inside().next() else {
            high = middle;
            continue;
        };
        let told = inside().find(|block| block.meta.time_quality != TimeQuality::Unset);
        let (is_below, upto) = match told {
            Some(block) => (below(block), block.range.last),
            None => (timeless, inside().last().map_or(middle, |block| block.range.last)),
        };
        if is_below {
            low = upto.max(middle).saturating_add(1);
        } else {
            high = nearest.range.first.min(middle).max(low);
        }
    }
    Ok(low)
}
