//! Says what happens, plainly: a line a second, and a line of its own for every event.
#![expect(clippy::print_stdout, reason = "the demo talks to a person")]

use super::fault::Fault;
use super::verdict::{Verdict, dead_letters, grouped, on_disk};
use crate::reading::Stream;
use crate::status::{HasHealth as _, State, Status};

/// Below this, what waits is on its way; above, the buffer is draining.
const WAITING_ORDINARY: u64 = 250;

/// What the line of a second says.
#[derive(Debug)]
pub(super) struct Now<'a> {
    /// Since the plant started.
    pub(super) at_s: u64,
    /// Readings sent, by the plant's count.
    pub(super) sent: u64,
    /// The gateway.
    pub(super) status: &'a Status,
    /// Readings that the endpoint holds.
    pub(super) received: u64,
    /// Whether the endpoint is there.
    pub(super) is_there: bool,
}

/// The demo begins.
pub(super) fn begin(lines: &[(&str, String)]) {
    println!("Forebay demo: a simulated plant, the gateway and an ingest endpoint, all on this machine\n");
    for (what, where_to) in lines {
        println!("  {what:<10}{where_to}");
    }
    println!();
}

/// A second has passed.
pub(super) fn second(now: &Now<'_>) {
    let Now { at_s, sent, status, received, .. } = now;
    let waiting = status.backlog(Stream::Readings);
    let [sent, disk, received, shown] = [*sent, on_disk(status), *received, waiting].map(grouped);
    let letters = dead_letters(status);
    let remark = remark(now, waiting);
    println!(
        "{at_s:>4} s  sent {sent:>6}  on disk {disk:>6}  received {received:>6}  waiting {shown:>6}  \
         dead letters {letters:>2}  | {remark}"
    );
}

fn remark(now: &Now<'_>, waiting: u64) -> String {
    if !now.is_there {
        return "endpoint down, the buffer holds".to_owned();
    }
    let is_down = now.status.sinks().first().is_some_and(|sink| sink.health().state == State::Down);
    if is_down {
        return "the gateway tries again with growing pauses".to_owned();
    }
    if waiting > WAITING_ORDINARY {
        return "the buffer drains".to_owned();
    }
    // The gravest trouble comes first.
    now.status.troubles().into_iter().next().map_or_else(|| "all well".to_owned(), |trouble| trouble.what)
}

/// Something goes wrong in the plant.
pub(super) fn fault(fault: Fault) {
    event(&fault.words());
}

/// Something happens.
pub(super) fn event(words: &str) {
    println!("     >    {words}");
}

/// The demo is over.
pub(super) fn end(verdict: &Verdict) {
    println!("\n{verdict}");
}
