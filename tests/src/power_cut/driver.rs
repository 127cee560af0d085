//! Commits random blocks and moves a cursor, marking what it tries and what was acknowledged: the recorded program of the
//! power-cut test. Arguments: data directory, file for the marks, seed, number of rounds.

use anyhow::{Context, Result};
use e2e::power_cut::marks::{Mark, block_hash, bytes_hash};
use e2e::power_cut::{RECORD_TIME_US, options, random_drafts};
use forebay::block::records::{Alert, Record, RecordBody, Severity};
use forebay::buffer::{Buffer, Commit, LaneChange, Run};
use forebay::clock::Clock;
use forebay::reading::{PointId, SequenceRange, Stream};
use forebay::site::PointKey;
use std::io::Write;
use std::sync::Arc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().context("data directory, marks, seed, rounds");
    let (data_dir, marks, seed, rounds) = (argument()?, argument()?, argument()?, argument()?);
    let mut random = fastrand::Rng::with_seed(seed.parse()?);
    let mut marks = std::fs::File::create(marks)?;
    let mut mark = |mark: Mark| marks.write_all(mark.line().as_bytes());
    let (buffer, opened) = Buffer::open(options(data_dir.as_ref()), Clock::system()).await?;
    let epoch = opened.epoch.context("an open store has an epoch")?;
    mark(Mark::Epoch(epoch))?;

    // The sink takes every stream, though it moves on in one of them only: nothing else may be given up before readings.
    for stream in Stream::DELIVERED {
        buffer.lane("cloud", stream).await?;
    }

    let rounds = rounds.parse::<u32>()?;
    let mut buffer = buffer;
    let mut next = [0; 6];
    for round in 0..rounds {
        if round == rounds / 2 {
            // A start is also a time of writing.
            buffer.close().await;
            buffer = Buffer::open(options(data_dir.as_ref()), Clock::system()).await?.0;
        }
        let mut commit = Commit { drafts: random_drafts(&mut random), ..Commit::default() };
        let unit = format!("unit-{round}");
        commit.points = vec![(PointId(round), Arc::new(point(&unit)))];
        for draft in &mut commit.drafts {
            draft.points = vec![PointId(round)];
        }
        if round % 7 == 0 {
            commit.snapshot = Some(unit.clone().into_bytes());
        }
        let ends = *buffer.ends().borrow();
        for (index, end) in ends.iter().enumerate() {
            next[index] = end.next;
        }
        let mut hashes = Vec::new();
        for draft in &commit.drafts {
            let next = &mut next[draft.meta.stream.index()];
            let first = *next;
            *next += u64::from(draft.meta.count);
            let hash = block_hash(&draft.seal(epoch, first));
            mark(Mark::Tried { stream: draft.meta.stream, first, hash })?;
            hashes.push(hash);
        }
        let streams: Vec<Stream> = commit.drafts.iter().map(|draft| draft.meta.stream).collect();
        let snapshot = commit.snapshot.clone();
        let committed = buffer.commit(commit).await?;
        for ((stream, range), hash) in streams.iter().zip(committed.ranges).zip(hashes) {
            mark(Mark::Acknowledged { stream: *stream, range, hash })?;
        }
        if let Some(state) = snapshot {
            mark(Mark::Snapshot { sequence: next[Stream::Readings.index()], hash: bytes_hash(&state) })?;
        }
        if round % 3 == 0 {
            move_lane(&buffer, round, &mut mark).await?;
        }
        if round % 20 == 0 {
            let text = format!("# version of round {round}\n");
            let version = buffer.keep_config(&text).await?;
            mark(Mark::Config { version, hash: bytes_hash(text.as_bytes()) })?;
        }
    }
    buffer.close().await;
    Ok(())
}

/// Pins a run, then resolves it with an alert, as a delivery does.
async fn move_lane(buffer: &Buffer, round: u32, mark: &mut impl FnMut(Mark) -> std::io::Result<()>) -> Result<()> {
    let stream = Stream::Readings;
    let mut lane = buffer.lane("cloud", stream).await?;
    let blocks = buffer.blocks(stream, lane.cursor.from, 2).await?;
    let Some(last) = blocks.last().map(|block| block.range.last) else { return Ok(()) };
    let range = SequenceRange { first: lane.cursor.from, last };
    lane.run = Some(Run::new(range, 1, 1));
    let change = |lane, records| LaneChange { sink: "cloud".to_owned(), stream, lane, records };
    let mut lane = buffer.change_lane(change(lane, Vec::new())).await?;
    mark(Mark::Pinned { stream, range })?;
    lane.run = None;
    lane.delivered += range.count();
    lane.cursor.from = range.last + 1;
    let alert = Alert {
        rule: "sink".to_owned(),
        severity: Severity::Info,
        subject: "cloud".to_owned(),
        message: format!("round {round}"),
        value: None,
        raised: true,
    };
    let record = Record { id: u64::from(round), time_us: RECORD_TIME_US, body: RecordBody::Alert(alert) };
    let lane = buffer.change_lane(change(lane, vec![record])).await?;
    mark(Mark::Resolved { stream, delivered: lane.delivered, alert: u64::from(round) })?;
    Ok(())
}

fn point(name: &str) -> PointKey {
    PointKey { device: name.into(), point: "flow".into(), unit: "m³/h".into(), source: "driver".into() }
}
