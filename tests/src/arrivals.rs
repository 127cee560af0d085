//! What arrived at a sink, by the gateway's own numbers: no hole, nothing twice, and the same at every sink.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kafka::Record;

/// Differences that a message names.
const EXAMPLES_MAX: usize = 5;

/// The records of a topic as JSON, in the order of partition and offset.
#[must_use]
pub fn of_topic(records: &[Record]) -> Vec<Value> {
    let value = |record: &Record| record.value.clone().expect("no tombstones on a topic of records");
    records.iter().map(|record| serde_json::from_slice(&value(record)).expect("a record is JSON")).collect()
}

/// Fails unless the records are of one epoch and their sequences go from 0 to the last without a hole or a repetition.
pub fn assert_whole(where_to: &str, records: &[Value]) {
    let mut epochs: Vec<&str> = records.iter().filter_map(|record| record["epoch"].as_str()).collect();
    epochs.sort_unstable();
    epochs.dedup();
    assert!(epochs.len() <= 1, "{where_to} holds records of several epochs: {epochs:?}");
    let mut sequences: Vec<u64> = records.iter().map(sequence).collect();
    sequences.sort_unstable();
    let broken = sequences.iter().zip(0..).find(|(sequence, position)| *sequence != position);
    assert!(
        broken.is_none(),
        "{where_to} holds {} records, but not each sequence once: {:?} stands where the second is due",
        sequences.len(),
        broken,
    );
}

/// Fails unless both hold the same records, whatever the order and the batch they came in.
pub fn assert_alike(one_name: &str, one: &[Value], other_name: &str, other: &[Value]) {
    let (one, other) = (by_sequence(one), by_sequence(other));
    let mut differences: Vec<String> = Vec::new();
    for (sequence, record) in &one {
        match other.get(sequence) {
            None => differences.push(format!("{sequence} is not at {other_name}: {record}")),
            Some(twin) if twin != record => differences.push(format!("{sequence} differs: {record} and {twin}")),
            Some(_) => {}
        }
    }
    let missing = other.iter().filter(|(sequence, _)| !one.contains_key(sequence));
    differences.extend(missing.map(|(sequence, record)| format!("{sequence} is not at {one_name}: {record}")));
    let examples = &differences[..differences.len().min(EXAMPLES_MAX)];
    assert!(
        differences.is_empty(),
        "{one_name} and {other_name} differ in {} records: {examples:#?}",
        differences.len()
    );
}

fn by_sequence(records: &[Value]) -> BTreeMap<u64, Value> {
    let without_batch = |record: &Value| {
        let mut record = record.clone();
        // Each sink cuts its own runs.
        for key in ["batch", "batch_records"] {
            record.as_object_mut().expect("a record is an object").remove(key);
        }
        record
    };
    records.iter().map(|record| (sequence(record), without_batch(record))).collect()
}

fn sequence(record: &Value) -> u64 {
    record["seq"].as_u64().unwrap_or_else(|| panic!("a record without a sequence: {record}"))
}
