//! The reference of the configuration in Markdown, made from the same types that read it.

use super::shape::{self, Choice, Key, Shape, Table};
use std::fmt::{self, Write};

/// The example that the reference quotes from.
const EXAMPLE: &str = include_str!("../../forebay.example.toml");

/// The tables in the order in which a file is written: the gateway itself, then the way of a reading.
const ORDER: [&str; 8] = ["gateway", "web", "buffer", "device", "source", "check", "anomaly", "sink"];

const INTRODUCTION: &str = "\
# Configuration

One TOML file, by default `/etc/forebay/forebay.toml`. `forebay check --config FILE` names everything that is wrong in it with line
and column; `forebay run` refuses a file with errors (exit status 78). Unknown keys are errors.

- A **duration** or **size** is text with its unit: `\"200 ms\"`, `\"10 min\"`, `\"7 days\"`; `\"256 KiB\"`, `\"2 GiB\"`.
- A **secret file** is an absolute path, or the name of a systemd credential (`LoadCredential=`). Secrets never stand in the file itself.
- **points** are named as `device/point`; `*` stands for any run of characters but `/`.

This page is the output of `forebay reference`. The whole example is `gateway/forebay.example.toml`.
";

/// The reference, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    let root = shape::of_config();
    let rank = |key: &Key| ORDER.iter().position(|name| *name == key.name).unwrap_or(ORDER.len());
    let mut sections: Vec<&Key> = root.keys.iter().collect();
    sections.sort_by_key(|key| rank(key));
    for key in sections {
        // Writing to a String cannot fail.
        section(&mut text, key).ok();
    }
    text
}

/// A table at the top of the file.
fn section(text: &mut String, key: &Key) -> fmt::Result {
    let (header, shape) = match &key.shape {
        Shape::List { item, .. } => (format!("[[{}]]", key.name), item.as_ref()),
        shape => (format!("[{}]", key.name), shape),
    };
    let necessity = if key.required { " Required." } else { "" };
    writeln!(text, "\n## `{header}`\n\n{}{necessity}", key.description)?;
    match shape {
        Shape::Tagged { tag, variants, .. } => {
            for (choice, table) in variants {
                writeln!(text, "\n### `{header}` with `{tag} = \"{}\"`\n\n{}", choice.word, choice.description)?;
                keys(text, &key.name, table)?;
                example(text, &key.name, Some(&format!("{tag} = \"{}\"", choice.word)))?;
            }
        }
        Shape::Table(table) => {
            keys(text, &key.name, table)?;
            example(text, &key.name, None)?;
        }
        _ => {}
    }
    Ok(())
}

/// The keys of a table, then the words and tables that they lead to.
fn keys(text: &mut String, path: &str, table: &Table) -> fmt::Result {
    if table.keys.is_empty() {
        return writeln!(text, "\nNo further keys.");
    }
    writeln!(text, "\n| key | type | default | meaning |\n|---|---|---|---|")?;
    for key in &table.keys {
        let default = match &key.default {
            _ if key.required => "**required**".to_owned(),
            Some(_) if matches!(key.shape, Shape::Table(_)) => "see below".to_owned(),
            Some(default) => format!("`{}`", cell(&default.to_string())),
            None => "none".to_owned(),
        };
        writeln!(text, "| `{}` | {} | {default} | {} |", key.name, type_name(&key.shape), cell(&key.description))?;
    }
    // Words first: after the heading of a table below they would seem to be its own.
    let (words, tables): (Vec<&Key>, Vec<&Key>) =
        table.keys.iter().partition(|key| matches!(key.shape, Shape::Choice(_)));
    words.iter().chain(&tables).try_for_each(|key| below(text, &format!("{path}.{}", key.name), &key.shape))
}

/// What a key's type has to tell beyond its line in the table.
fn below(text: &mut String, path: &str, shape: &Shape) -> fmt::Result {
    match shape {
        Shape::Choice(words) => {
            writeln!(text, "\n`{path}` is one of:\n")?;
            words.iter().try_for_each(|choice| writeln!(text, "- `\"{}\"`: {}", choice.word, choice.description))
        }
        Shape::Tagged { tag, description, variants } => {
            writeln!(text, "\n#### `{path}`\n\n{description} Decided by `{tag}`.")?;
            for (Choice { word, description }, table) in variants {
                writeln!(text, "\n`{tag} = \"{word}\"`: {description}")?;
                keys(text, path, table)?;
            }
            Ok(())
        }
        Shape::Table(table) => {
            writeln!(text, "\n#### `{path}`\n\n{}", table.description)?;
            keys(text, path, table)
        }
        Shape::List { item, .. } => below(text, path, item),
        _ => Ok(()),
    }
}

/// The blocks of the example that begin with `[name]` or `[[name]]` and hold the line `with`.
fn example(text: &mut String, name: &str, with: Option<&str>) -> fmt::Result {
    let blocks = blocks(name).into_iter().filter(|block| with.is_none_or(|line| block.contains(&line)));
    let blocks: Vec<String> = blocks.map(|block| block.join("\n")).collect();
    writeln!(text, "\nExample:\n\n```toml\n{}\n```", blocks.join("\n\n"))
}

/// The example's lines below each `[name]` or `[[name]]`, up to the next table at the top.
fn blocks(name: &str) -> Vec<Vec<&'static str>> {
    let headers = [format!("[{name}]"), format!("[[{name}]]")];
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut inside = false;
    for line in EXAMPLE.lines() {
        let top = line.starts_with('[') && !line.contains('.');
        if top {
            inside = headers.iter().any(|header| header == line);
            if inside {
                blocks.push(Vec::new());
            }
        }
        if let (true, Some(block)) = (inside, blocks.last_mut()) {
            block.push(line);
        }
    }
    for block in &mut blocks {
        // Comments above a header belong to the table that follows.
        while block.last().is_some_and(|line| line.is_empty() || line.starts_with('#')) {
            block.pop();
        }
    }
    blocks
}

fn type_name(shape: &Shape) -> String {
    match shape {
        Shape::Table(_) | Shape::Tagged { .. } => "table".to_owned(),
        Shape::Map(item) => format!("table of {}s", type_name(item)),
        Shape::List { item, length: Some(length) } => format!("list of {length} {}s", type_name(item)),
        Shape::List { item, length: None } => format!("list of {}s", type_name(item)),
        Shape::Choice(_) => "choice".to_owned(),
        Shape::Text { one_character: true } => "one character".to_owned(),
        Shape::Text { one_character: false } | Shape::Unknown => "text".to_owned(),
        Shape::SecretFile => "secret file".to_owned(),
        Shape::Duration => "duration".to_owned(),
        Shape::Size => "size".to_owned(),
        Shape::Integer { min: i64::MIN, max: i64::MAX } => "whole number".to_owned(),
        Shape::Integer { min, max: i64::MAX } => format!("whole number from {min}"),
        Shape::Integer { min, max } => format!("whole number, {min} to {max}"),
        Shape::Number => "number".to_owned(),
        Shape::Boolean => "`true` or `false`".to_owned(),
    }
}

/// Text as it may stand in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_the_reference() {
        let page = include_str!("../../../docs/configuration.md");
        assert!(page == reference(), "docs/configuration.md differs: run `forebay reference > docs/configuration.md`");
    }

    #[test]
    fn every_table_has_its_place_and_its_example() {
        for key in shape::of_config().keys {
            assert!(ORDER.contains(&key.name.as_str()), "{} has no place in the reference", key.name);
            assert!(!blocks(&key.name).is_empty(), "{} is not in the example", key.name);
        }
    }
}
