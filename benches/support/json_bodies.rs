//! Seeded JSON bodies: the same bytes in every run.

#![expect(clippy::expect_used, reason = "a bench stops at the first surprise")]

use std::fmt::Write;

use super::random::Random;

/// First time, in seconds.
const START: u64 = 1_700_000_000;

/// A percentage with two decimals.
fn percentage(random: &mut Random) -> f64 {
    f64::from(u16::try_from(random.next() % 10_000).expect("it is below")) / 100.0
}

/// What Telegraf's serializer writes for one metric of `cpu`, its keys sorted as Go sorts them.
fn metric(text: &mut String, random: &mut Random, row: u64) {
    let host = random.next() % 100;
    let region = if host.is_multiple_of(2) { "eu-west-1" } else { "us-east-2" };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        r#"{{"fields":{{"cpu_idle":{:?},"cpu_user":{:?},"n":{},"value":{:?}}},"name":"cpu","#,
        percentage(random),
        percentage(random),
        random.next() % 1_000_000,
        percentage(random),
    );
    let _ = write!(
        text,
        r#""tags":{{"host":"server{host:03}","region":"{region}"}},"timestamp":{}}}"#,
        START + row
    );
}

/// One document `{"metrics": [..]}`, as `outputs.http` sends a batch.
pub(crate) fn telegraf_batch(rows: u64) -> Vec<u8> {
    let (mut text, mut random) = (r#"{"metrics":["#.to_owned(), Random(4));
    for row in 0..rows {
        if row > 0 {
            text.push(',');
        }
        metric(&mut text, &mut random, row);
    }
    text.push_str("]}\n");
    text.into_bytes()
}

/// [`telegraf_batch`] with every value on a line of its own.
pub(crate) fn telegraf_indented(rows: u64) -> Vec<u8> {
    let (mut text, mut depth) = (Vec::new(), 0);
    for byte in telegraf_batch(rows) {
        depth += usize::from(matches!(byte, b'{' | b'['));
        depth -= usize::from(matches!(byte, b'}' | b']'));
        let is_closing = matches!(byte, b'}' | b']');
        let line = format!("\n{:1$}", "", depth * 2);
        if is_closing {
            text.extend(line.bytes());
        }
        text.push(byte);
        if matches!(byte, b'{' | b'[' | b',') {
            text.extend(line.bytes());
        }
    }
    text
}

/// A document on each line, as `outputs.file` writes them.
pub(crate) fn telegraf_lines(rows: u64) -> Vec<u8> {
    let (mut text, mut random) = (String::new(), Random(5));
    for row in 0..rows {
        metric(&mut text, &mut random, row);
        text.push('\n');
    }
    text.into_bytes()
}

/// One columnar item of five columns, `rows` rows of 1000 hosts.
pub(crate) fn columnar_iot(rows: u64) -> Vec<u8> {
    let (mut text, mut random) = (r#"{"m":"cpu","columns":{"#.to_owned(), Random(6));
    for (index, name) in ["time", "host", "value", "cpu_idle", "cpu_user"].iter().enumerate() {
        let _ = write!(text, "{}\"{name}\":[", if index > 0 { "," } else { "" });
        for row in 0..rows {
            if row > 0 {
                text.push(',');
            }
            // Writing to a string does not fail.
            let _ = match *name {
                "time" => write!(text, "{}", START * 1_000_000 + row),
                "host" => write!(text, "\"server{:03}\"", random.next() % 1_000),
                _ => write!(text, "{:?}", percentage(&mut random)),
            };
        }
        text.push(']');
    }
    text.push_str("}}");
    text.into_bytes()
}
