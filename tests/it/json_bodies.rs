//! Bodies for the JSON tests: trees to text in any legal style, with values that are no JSON.

#![expect(clippy::indexing_slicing, unreachable_pub, reason = "a wrong index fails the test")]

use rmpv::Value as Tree;

use crate::msgpack_bodies::{self, Random};

/// How a document is written.
#[derive(Clone, Copy)]
pub enum Style {
    /// Without white space.
    Compact,
    /// With spaces behind commas and colons.
    Spaced,
    /// On many lines, indented.
    Pretty,
    /// On many lines, not indented.
    Ragged,
}

const STYLES: [Style; 6] =
    [Style::Compact, Style::Compact, Style::Compact, Style::Spaced, Style::Pretty, Style::Ragged];

/// Text of `tree` as serializers write it.
pub fn compact(tree: &Tree) -> Vec<u8> {
    let mut text = Vec::new();
    // Nothing is left to chance in a compact tree of JSON's own values.
    write(tree, Style::Compact, None, 0, &mut text);
    text
}

/// A body of some documents, some of them with values that cannot be read.
pub fn body(random: &mut Random) -> Vec<u8> {
    let mut body = Vec::new();
    if random.once_in(4) {
        let rows = msgpack_bodies::steady_rows(random);
        let tree = match random.below(3) {
            0 => Tree::Array(rows),
            1 => msgpack_bodies::map([("metrics", Tree::Array(rows))]),
            _ => {
                for row in &rows {
                    write(row, Style::Compact, None, 0, &mut body);
                    body.push(b'\n');
                }
                msgpack_bodies::map([("batch", Tree::Array(Vec::new()))])
            }
        };
        write(&tree, Style::Compact, None, 0, &mut body);
        body.push(b'\n');
    }
    for _ in 0..random.below(8) {
        let item = msgpack_bodies::item(random, 0);
        let style = random.of(&STYLES);
        write(&item, style, Some(random), 0, &mut body);
        body.extend(random.of(&["\n", "\n", "\r\n", " ", "", "\n\n ", " \n"]).bytes());
    }
    body
}

/// Changes a few bytes.
pub fn damage(body: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        if body.is_empty() {
            return;
        }
        let at = random.below(body.len());
        match random.below(4) {
            0 => _ = body.remove(at),
            1 => body.insert(at, random.of(b"{}[],:\"\\\n 1-eNtu")),
            2 => body[at] = random.byte(),
            _ => body[at] = random.of(b"{}[],:\"\\\n 1-eNtu"),
        }
    }
    if random.once_in(3) {
        body.truncate(random.below(body.len() + 1));
    }
}

fn line(style: Style, depth: usize, to: &mut Vec<u8>) {
    match style {
        Style::Compact | Style::Spaced => {}
        Style::Pretty => to.extend(format!("\n{:1$}", "", depth * 2).bytes()),
        Style::Ragged => to.push(b'\n'),
    }
}

fn write(
    tree: &Tree,
    style: Style,
    mut random: Option<&mut Random>,
    depth: usize,
    to: &mut Vec<u8>,
) {
    let comma: &[u8] = if matches!(style, Style::Spaced) { b", " } else { b"," };
    if let Some(random) = random.as_deref_mut()
        && random.once_in(250)
    {
        let values = [
            "NaN",
            "-Infinity",
            "1e400",
            "18446744073709551616",
            "-9223372036854775809",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\x\"",
            "\"a\tb\"",
            "\"2023-11-14T22:13:20.25+01:30\"",
            "{}",
            "{\"a\":{\"b\":1,\"\":null},\"c\":[]}",
            "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]",
            "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":\
             {\"a\":{\"a\":1}}}}}}}}}}}}}}",
        ];
        return to.extend(random.of(&values).bytes());
    }
    match tree {
        Tree::Nil => to.extend(b"null"),
        Tree::Boolean(value) => to.extend(value.to_string().bytes()),
        Tree::Integer(value) => to.extend(value.to_string().bytes()),
        Tree::F64(value) if value.is_nan() => to.extend(b"NaN"),
        Tree::F64(value) if value.is_infinite() => to.extend(b"Infinity"),
        Tree::F64(value) => to.extend(format!("{value:?}").bytes()),
        Tree::F32(value) => to.extend(format!("{value:?}").bytes()),
        Tree::String(text) => string(text.as_bytes(), random, to),
        Tree::Binary(bytes) => string(bytes, random, to),
        Tree::Ext(_, data) => {
            let second = data.first().map_or(0, |it| it % 60);
            to.extend(format!("\"2023-11-14T22:13:{second:02}.123456789Z\"").bytes());
        }
        Tree::Array(values) => {
            to.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    to.extend(comma);
                }
                line(style, depth + 1, to);
                write(value, style, random.as_deref_mut(), depth + 1, to);
            }
            line(style, depth, to);
            to.push(b']');
        }
        Tree::Map(pairs) => {
            to.push(b'{');
            for (index, (key, value)) in pairs.iter().enumerate() {
                if index > 0 {
                    to.extend(comma);
                }
                line(style, depth + 1, to);
                self::key(key, random.as_deref_mut(), to);
                to.extend(if comma.len() > 1 { &b": "[..] } else { b":" });
                write(value, style, random.as_deref_mut(), depth + 1, to);
            }
            line(style, depth, to);
            to.push(b'}');
        }
    }
}

fn key(key: &Tree, random: Option<&mut Random>, to: &mut Vec<u8>) {
    match (key, random) {
        (Tree::String(text), Some(random)) => match text.as_str() {
            Some("batch") if random.once_in(2) => to.extend(b"\"metrics\""),
            Some("time" | "t") if random.once_in(8) => to.extend(b"\"timestamp\""),
            _ => string(text.as_bytes(), Some(random), to),
        },
        (Tree::String(text), None) => string(text.as_bytes(), None, to),
        (Tree::Binary(bytes), random) => string(bytes, random, to),
        (other, _) => to.extend(format!("\"{other}\"").bytes()),
    }
}

fn string(bytes: &[u8], mut random: Option<&mut Random>, to: &mut Vec<u8>) {
    to.push(b'"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => to.extend([b'\\', *byte]),
            b'\n' => to.extend(b"\\n"),
            ..0x20 => to.extend(format!("\\u{byte:04x}").bytes()),
            b' '..=b'~' if random.as_deref_mut().is_some_and(|it| it.once_in(60)) => {
                to.extend(format!("\\u{byte:04X}").bytes());
            }
            _ => to.push(*byte),
        }
    }
    to.push(b'"');
}
