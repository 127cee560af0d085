//! Loss: what was dropped or damaged since the start before the sink had it, and what a person is told of it.

use super::Delivery;
use super::lane_work::LaneWork;
use crate::block::records::Severity;
use crate::reading::Stream;
use crate::sinks::Sink;
use std::time::Duration;
use tokio::time::Instant;

/// A loss is told until there was no further one for so long: a person looks at the page once a day.
const TOLD_FOR: Duration = Duration::from_hours(24);

/// What was told of losses.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Records lost since the start, over all lanes.
    told: u64,
    /// When the last of them were noticed, while that is told.
    last: Option<Instant>,
}

impl<S: Sink> Delivery<S> {
    /// Says so if records were lost before the sink had them, and ends that when it is long ago.
    pub(super) fn tell_losses(&mut self) {
        let lost: u64 = self.lanes.iter().map(LaneWork::lost).sum();
        let key = format!("{}/lost", self.sink_key());
        let now = Instant::now();
        if lost > self.losses.told {
            self.losses = Losses { told: lost, last: Some(now) };
            let name = &self.options.name;
            let what = format!("{} lost before {name} had them", were(&self.lost_of_each()));
            let advice = format!(
                "The buffer was full before {name} took them, or the disk has damaged them: records of the stream gaps say which and \
                 why. Find out why {name} was away, or raise buffer.disk_max or buffer.limits"
            );
            self.raise(&key, &what, &advice, Severity::Error);
        } else if self.losses.last.is_some_and(|last| now.saturating_duration_since(last) >= TOLD_FOR) {
            self.losses.last = None;
            self.options.gateway_status.clear(&key, self.now_us());
        }
    }

    /// What becomes of the records of a lane, or of all, while the sink takes none: nothing is lost, unless something was.
    pub(super) fn waiting_advice(&self, lane: Option<usize>, then: &str) -> String {
        let lost: u64 = match lane {
            Some(index) => self.lanes.get(index).map_or(0, LaneWork::lost),
            None => self.lanes.iter().map(LaneWork::lost).sum(),
        };
        match lost {
            0 => format!("Nothing is lost: it waits on the board and {then}"),
            1 => format!("1 record was lost since the start; the rest waits on the board and {then}"),
            lost => {
                format!("{} records were lost since the start; the rest waits on the board and {then}", grouped(lost))
            }
        }
    }

    fn lost_of_each(&self) -> Vec<(Stream, u64)> {
        self.lanes.iter().map(|work| (work.stream, work.lost())).filter(|(_, lost)| *lost > 0).collect()
    }
}

/// `1 204 readings and 1 alert were`.
fn were(lost: &[(Stream, u64)]) -> String {
    let name = |(stream, count): &(Stream, u64)| {
        let many = match stream {
            Stream::DeadLetters => "dead letters",
            other => other.name(),
        };
        let noun = if *count == 1 { many.trim_end_matches('s') } else { many };
        format!("{} {noun}", grouped(*count))
    };
    let verb = if matches!(lost, [(_, 1)]) { "was" } else { "were" };
    format!("{} {verb}", lost.iter().map(name).collect::<Vec<_>>().join(" and "))
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_in_plain_words() {
        assert_eq!(were(&[(Stream::Readings, 120_141)]), "120 141 readings were");
        assert_eq!(were(&[(Stream::DeadLetters, 1)]), "1 dead letter was");
        assert_eq!(were(&[(Stream::Readings, 999), (Stream::Alerts, 1)]), "999 readings and 1 alert were");
    }
}
