//! Seeded MessagePack bodies: the same bytes in every run.

#![expect(clippy::expect_used, reason = "a bench stops at the first surprise")]

use super::random::Random;

/// First time, in milliseconds.
const START_MS: u64 = 1_700_000_000_000;

/// A percentage with two decimals.
fn percentage(random: &mut Random) -> f64 {
    f64::from(u16::try_from(random.next() % 10_000).expect("it is below")) / 100.0
}

fn string(body: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).expect("a short text");
    assert!(length < 32);
    body.push(0xa0 | length);
    body.extend_from_slice(text.as_bytes());
}

fn float(body: &mut Vec<u8>, value: f64) {
    body.push(0xcb);
    body.extend_from_slice(&value.to_be_bytes());
}

fn integer(body: &mut Vec<u8>, value: u64) {
    body.push(0xd3);
    body.extend_from_slice(&value.to_be_bytes());
}

fn tags(body: &mut Vec<u8>, host: u64) {
    string(body, "tags");
    body.push(0x82);
    string(body, "host");
    string(body, &format!("server{host:03}"));
    string(body, "region");
    string(body, if host.is_multiple_of(2) { "eu-west-1" } else { "us-east-2" });
}

fn fields(body: &mut Vec<u8>, random: &mut Random) {
    string(body, "fields");
    body.push(0x83);
    for name in ["value", "cpu_idle", "cpu_user"] {
        string(body, name);
        float(body, percentage(random));
    }
}

/// `rows` rows of `{m, t, tags: {2}, fields: {3}}`, one behind the other, of 100 hosts.
pub(crate) fn row_arc(rows: usize) -> Vec<u8> {
    let (mut body, mut random) = (Vec::new(), Random(1));
    for row in 0..rows as u64 {
        body.push(0x84);
        string(&mut body, "m");
        string(&mut body, "cpu");
        string(&mut body, "t");
        integer(&mut body, START_MS + row);
        tags(&mut body, random.next() % 100);
        fields(&mut body, &mut random);
    }
    body
}

/// [`row_arc`] with the keys of each map in an order of its own, as maps of Go are written.
pub(crate) fn row_shuffled(rows: usize) -> Vec<u8> {
    let (mut body, mut random) = (Vec::new(), Random(1));
    for row in 0..rows as u64 {
        let host = random.next() % 100;
        body.push(0x84);
        for key in shuffled(["m", "t", "tags", "fields"], &mut random) {
            string(&mut body, key);
            match key {
                "m" => string(&mut body, "cpu"),
                "t" => integer(&mut body, START_MS + row),
                "tags" => {
                    body.push(0x82);
                    for name in shuffled(["host", "region"], &mut random) {
                        string(&mut body, name);
                        match name {
                            "host" => string(&mut body, &format!("server{host:03}")),
                            _ if host.is_multiple_of(2) => string(&mut body, "eu-west-1"),
                            _ => string(&mut body, "us-east-2"),
                        }
                    }
                }
                _ => {
                    body.push(0x83);
                    for name in shuffled(["value", "cpu_idle", "cpu_user"], &mut random) {
                        string(&mut body, name);
                        float(&mut body, percentage(&mut random));
                    }
                }
            }
        }
    }
    body
}

/// The keys in any order.
fn shuffled<const N: usize>(mut keys: [&'static str; N], random: &mut Random) -> [&'static str; N] {
    for place in 1..N {
        let other = usize::try_from(random.next() % (place as u64 + 1)).expect("it is below");
        keys.swap(place, other);
    }
    keys
}

/// `rows` rows as Telegraf's serializer writes them: `{name, time, tags, fields}`.
pub(crate) fn row_telegraf(rows: usize) -> Vec<u8> {
    let (mut body, mut random) = (Vec::new(), Random(2));
    for row in 0..rows as u64 {
        body.push(0x84);
        string(&mut body, "name");
        string(&mut body, "cpu");
        string(&mut body, "time");
        body.extend_from_slice(&[0xd7, 0xff]);
        let seconds = (START_MS + row) / 1_000;
        let ns = (START_MS + row) % 1_000 * 1_000_000;
        body.extend_from_slice(&(ns << 34 | seconds).to_be_bytes());
        tags(&mut body, random.next() % 100);
        fields(&mut body, &mut random);
    }
    body
}

/// One columnar item of five columns: Arc's published load, `rows` rows of 1000 hosts.
pub(crate) fn columnar_iot(rows: usize) -> Vec<u8> {
    columnar_iot_after(0, rows)
}

/// [`columnar_iot`] with other values, and times that begin where those of `before` rows end.
pub(crate) fn columnar_iot_after(before: usize, rows: usize) -> Vec<u8> {
    let (mut body, mut random) = (Vec::new(), Random(3 + before as u64));
    let length = u16::try_from(rows).expect("a short item").to_be_bytes();
    body.push(0x82);
    string(&mut body, "m");
    string(&mut body, "cpu");
    string(&mut body, "columns");
    body.push(0x85);
    for name in ["time", "host", "value", "cpu_idle", "cpu_user"] {
        string(&mut body, name);
        body.push(0xdc);
        body.extend_from_slice(&length);
        for row in 0..rows as u64 {
            match name {
                "time" => integer(&mut body, START_MS * 1_000 + before as u64 + row),
                "host" => string(&mut body, &format!("server{:03}", random.next() % 1_000)),
                _ => float(&mut body, percentage(&mut random)),
            }
        }
    }
    body
}
