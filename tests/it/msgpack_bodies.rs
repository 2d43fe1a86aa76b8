//! Bodies for the MessagePack tests: trees to bytes in any legal width, and random trees.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "random bytes may be cut to any width, and a wrong index fails the test"
)]

use rmpv::Value as Tree;

/// A small generator of numbers, so that a body follows from one seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn of<T: Clone>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())].clone()
    }

    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for at in (1..values.len()).rev() {
            values.swap(at, self.below(at + 1));
        }
    }
}

/// A map with string keys.
pub fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, Tree)>) -> Tree {
    Tree::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// An array.
pub fn array(values: impl IntoIterator<Item = impl Into<Tree>>) -> Tree {
    Tree::Array(values.into_iter().map(Into::into).collect())
}

/// Bytes in the shortest widths, as Rust's and Python's encoders write them.
pub fn encode(tree: &Tree) -> Vec<u8> {
    let mut body = Vec::new();
    rmpv::encode::write_value(&mut body, tree).unwrap();
    body
}

/// Bytes of `tree` with every marker chosen at random among those that can hold it.
pub fn encode_any(tree: &Tree, random: &mut Random, body: &mut Vec<u8>) {
    let mut head = |body: &mut Vec<u8>, len: usize, fix: Option<(usize, u8)>, markers: [u8; 3]| {
        let mut forms = Vec::new();
        if let Some((max, marker)) = fix
            && len <= max
        {
            forms.push(vec![marker | len as u8]);
        }
        let len = u32::try_from(len).unwrap().to_be_bytes();
        if markers[0] != 0 && len[..3] == [0, 0, 0] {
            forms.push(vec![markers[0], len[3]]);
        }
        if len[..2] == [0, 0] {
            forms.push([&[markers[1]], &len[2..]].concat());
        }
        forms.push([&[markers[2]], &len[..]].concat());
        let short = forms.len() - 1;
        body.extend_from_slice(&forms[random.below(short * 4 + 1) % (short + 1)]);
    };
    match tree {
        Tree::Integer(number) => encode_integer(number, random, body),
        Tree::F64(value) if f64::from(*value as f32).to_bits() == value.to_bits() => {
            if random.once_in(2) {
                body.push(0xca);
                body.extend((*value as f32).to_be_bytes());
            } else {
                body.push(0xcb);
                body.extend(value.to_be_bytes());
            }
        }
        Tree::String(text) => {
            head(body, text.as_bytes().len(), Some((31, 0xa0)), [0xd9, 0xda, 0xdb]);
            body.extend(text.as_bytes());
        }
        Tree::Binary(bytes) => {
            head(body, bytes.len(), None, [0xc4, 0xc5, 0xc6]);
            body.extend(bytes);
        }
        Tree::Array(values) => {
            head(body, values.len(), Some((15, 0x90)), [0, 0xdc, 0xdd]);
            for value in values {
                encode_any(value, random, body);
            }
        }
        Tree::Map(pairs) => {
            head(body, pairs.len(), Some((15, 0x80)), [0, 0xde, 0xdf]);
            for (key, value) in pairs {
                encode_any(key, random, body);
                encode_any(value, random, body);
            }
        }
        other => rmpv::encode::write_value(body, other).unwrap(),
    }
}

fn encode_integer(number: &rmpv::Integer, random: &mut Random, body: &mut Vec<u8>) {
    let mut forms: Vec<Vec<u8>> = Vec::new();
    if let Some(value) = number.as_u64() {
        let bytes = value.to_be_bytes();
        for (marker, width) in [(0xcc, 1), (0xcd, 2), (0xce, 4), (0xcf, 8)] {
            if bytes[..8 - width].iter().all(|byte| *byte == 0) {
                forms.push([&[marker], &bytes[8 - width..]].concat());
            }
        }
        if value < 128 {
            forms.push(vec![value as u8]);
        }
    }
    if let Some(value) = number.as_i64() {
        let bytes = value.to_be_bytes();
        for (marker, width) in [(0xd0, 1), (0xd1, 2), (0xd2, 4), (0xd3, 8)] {
            let bits = 64 - 8 * width as u32;
            if value << bits >> bits == value {
                forms.push([&[marker], &bytes[8 - width..]].concat());
            }
        }
        if (-32..0).contains(&value) {
            forms.push(vec![value as u8]);
        }
    }
    body.extend(random.of(&forms));
}

/// A string or, now and then, the same as binary; and now and then neither is UTF-8.
fn text(random: &mut Random, text: &str) -> Tree {
    match random.below(60) {
        0 => Tree::Binary(vec![0xff, b'a']),
        1 => {
            let text = rmpv::decode::read_value(&mut &[0xa2, 0xff, b'a'][..]).unwrap();
            assert!(text.is_str() || text.as_str().is_none());
            text
        }
        2..8 => Tree::Binary(text.as_bytes().to_vec()),
        _ => text.into(),
    }
}

fn name(random: &mut Random, names: &[&str]) -> Tree {
    let chosen = random.of(names);
    if random.once_in(80) { 7.into() } else { text(random, chosen) }
}

const FIELDS: &[&str] =
    &["usage", "usage", "load", "load", "n", "ok", "s", "a", "b", "", "time", "host", "field_0"];
const TAGS: &[&str] = &["host", "region", "a", "s", "host", "cpu", "", "time"];

fn timestamp_ext(random: &mut Random) -> Tree {
    let data = match random.below(8) {
        0..3 => 1_700_000_000_u32.to_be_bytes().to_vec(),
        3..6 => ((random.next() % 1_000_000_000) << 34 | 0x6553_f100).to_be_bytes().to_vec(),
        6 => [&123_000_u32.to_be_bytes()[..], &(-1_i64).to_be_bytes()].concat(),
        _ => (0..random.below(14)).map(|_| random.next() as u8).collect(),
    };
    Tree::Ext(-1, data)
}

fn float(random: &mut Random) -> f64 {
    match random.below(8) {
        0 => 0.0,
        1 => -0.0,
        2 => random.below(1000) as f64,
        3 => 9_007_199_254_740_993.0,
        4 => f64::from_bits(random.next()),
        _ => random.below(10_000) as f64 / 64.0,
    }
}

fn integer(random: &mut Random) -> Tree {
    match random.below(12) {
        0 => (random.next() | 1 << 63).into(),
        1 => i64::MIN.into(),
        2 => (random.next() as i64).into(),
        3 => i64::MAX.into(),
        4 => (-(random.below(40_000) as i64)).into(),
        _ => (random.below(70_000) as i64).into(),
    }
}

fn time(random: &mut Random) -> Tree {
    let base = 1_700_000_000_i64;
    match random.below(40) {
        0..6 => (base + random.below(100) as i64).into(),
        6..18 => (base * 1_000 + random.below(100) as i64).into(),
        18..22 => (base * 1_000_000 + random.below(100) as i64).into(),
        22..26 => (base * 1_000_000_000 + random.below(10_000) as i64).into(),
        26..30 => timestamp_ext(random),
        30 => Tree::Nil,
        31 => Tree::F64(base as f64 + random.below(1000) as f64 / 7.0),
        32 => Tree::F64(float(random) * random.of(&[1.0, -1.0, 1e9, -1e12, 1e17])),
        33 => Tree::F64(f64::NAN),
        34 => integer(random),
        35 => "soon".into(),
        _ => (base * 1_000).into(),
    }
}

/// A value for a field or column whose usual kind is `kind`.
fn value(random: &mut Random, kind: usize) -> Tree {
    if random.once_in(40) {
        return match random.below(6) {
            0 => map([("x", 1.into())]),
            1 => array([1, 2]),
            2 => Tree::Ext(5, vec![1]),
            3 => timestamp_ext(random),
            _ => Tree::Nil,
        };
    }
    match if random.once_in(25) { random.below(5) } else { kind % 5 } {
        0 | 1 => Tree::F64(float(random)),
        2 => integer(random),
        3 => Tree::Boolean(random.once_in(2)),
        _ => {
            let value = random.of(&["", "a", "idle", "a longer text with words"]);
            text(random, value)
        }
    }
}

fn tags(random: &mut Random) -> Tree {
    let mut pairs = Vec::new();
    let names = if random.once_in(6) { TAGS } else { &TAGS[..2] };
    for _ in 0..random.below(4) {
        let key = name(random, names);
        if pairs.iter().any(|(other, _)| *other == key) && !random.once_in(30) {
            continue;
        }
        let value = match random.below(30) {
            0 => value(random, 2),
            1 => value(random, 0),
            2 => true.into(),
            3 => Tree::Nil,
            4 => "".into(),
            _ => {
                let value = random.of(&["a", "b", "server007"]);
                text(random, value)
            }
        };
        pairs.push((key, value));
    }
    Tree::Map(pairs)
}

fn fields(random: &mut Random) -> Tree {
    if random.once_in(8) {
        return Tree::Array((0..random.below(4)).map(|at| value(random, at)).collect());
    }
    let mut pairs: Vec<(Tree, Tree)> = Vec::new();
    let names = if random.once_in(4) { FIELDS } else { &FIELDS[..6] };
    for _ in 0..=random.below(5) {
        let key = name(random, names);
        if pairs.iter().any(|(other, _)| *other == key) && !random.once_in(30) {
            continue;
        }
        let kind = key.as_str().and_then(|it| FIELDS.iter().position(|name| *name == it));
        pairs.push((key, value(random, kind.unwrap_or(4) / 2)));
    }
    Tree::Map(pairs)
}

fn measurement(random: &mut Random) -> Tree {
    match random.below(60) {
        0 => "".into(),
        1 => Tree::Nil,
        2 => 1.5.into(),
        3..6 => (random.below(3) as i64).into(),
        _ => {
            let name = random.of(&["cpu", "cpu", "mem", "a measurement of more than 31 bytes"]);
            text(random, name)
        }
    }
}

fn row(random: &mut Random) -> Tree {
    let mut pairs = Vec::new();
    let mut add = |random: &mut Random, seldom: usize, keys: &[&str], value: Tree| {
        if !random.once_in(seldom) {
            let key = random.of(keys);
            pairs.push((text(random, key), value));
        }
    };
    let it = measurement(random);
    add(random, 60, &["m", "m", "name", "measurement"], it);
    let it = time(random);
    add(random, 10, &["t", "time"], it);
    if random.once_in(3) {
        let it = random.of(&["a", "web", ""]).into();
        let it = random.of(&[it, 3.into(), Tree::Nil]);
        add(random, 60, &["h"], it);
    }
    let it = tags(random);
    add(random, 5, &["tags"], it);
    let it = fields(random);
    add(random, 40, &["fields", "fields", "f"], it);
    if random.once_in(12) {
        let it = value(random, 4);
        add(random, 60, &["x", "version", "t", "m", "f", "tags", "h"], it);
    }
    if random.once_in(4) {
        random.shuffle(&mut pairs);
    }
    Tree::Map(pairs)
}

fn columnar(random: &mut Random) -> Tree {
    let rows = random.of(&[0, 1, 2, 3, 5, 20]);
    let mut columns: Vec<(Tree, Tree)> = Vec::new();
    let is_clean = random.once_in(2);
    for _ in 0..random.below(6) {
        let names = if random.once_in(4) { FIELDS } else { &FIELDS[..8] };
        let key = name(random, names);
        if columns.iter().any(|(other, _)| *other == key) && !random.once_in(20) {
            continue;
        }
        let kind = key.as_str().and_then(|it| FIELDS.iter().position(|name| *name == it));
        let kind = kind.unwrap_or(4) / 2;
        let len = if random.once_in(60) { rows + 1 } else { rows };
        let values = (0..len).map(|_| match kind % 5 {
            0 | 1 if is_clean => Tree::F64(random.below(100) as f64 / 8.0),
            2 if is_clean => (random.below(100_000) as i64).into(),
            4 if is_clean => random.of(&["a", "b"]).into(),
            _ if random.once_in(5) => Tree::Nil,
            _ => value(random, kind),
        });
        let values = Tree::Array(values.collect());
        columns.push((key, if random.once_in(80) { 1.into() } else { values }));
    }
    if !random.once_in(8) {
        let unit = random.of(&[1, 1_000, 1_000_000, 1_000_000_000]);
        let times = (0..rows).map(|at| {
            if is_clean { ((1_700_000_000 + i64::from(at)) * unit).into() } else { time(random) }
        });
        let times = Tree::Array(times.collect());
        columns.push(("time".into(), times));
    }
    let mut pairs =
        vec![(text(random, "m"), measurement(random)), ("columns".into(), Tree::Map(columns))];
    if random.once_in(3) {
        let keys = (0..random.below(3)).map(|_| random.of(FIELDS).into()).collect();
        pairs.push(("tag_keys".into(), Tree::Array(keys)));
    }
    if random.once_in(30) {
        pairs.push(("tags".into(), tags(random)));
    }
    random.shuffle(&mut pairs);
    Tree::Map(pairs)
}

/// An item of any shape, sometimes a wrong one.
pub fn item(random: &mut Random, depth: usize) -> Tree {
    match random.below(40) {
        0 => value(random, depth),
        1..5 => Tree::Array((0..random.below(4)).map(|_| item(random, depth + 1)).collect()),
        5..8 => {
            let items = (0..random.below(4)).map(|_| item(random, depth + 1)).collect();
            let mut pairs: Vec<(Tree, Tree)> = vec![("batch".into(), Tree::Array(items))];
            if random.once_in(4) {
                pairs.push(("m".into(), measurement(random)));
                random.shuffle(&mut pairs);
            }
            Tree::Map(pairs)
        }
        8 if depth == 0 => {
            let deep = random.below(10);
            (0..deep).fold(row(random), |inner, _| Tree::Array(vec![inner]))
        }
        9 => {
            let mut row = row(random);
            let deep = random.below(10);
            let value = (0..deep).fold(1.into(), |inner, _| Tree::Array(vec![inner]));
            if let Tree::Map(pairs) = &mut row {
                pairs.push(("extra".into(), value));
            }
            row
        }
        10..22 => columnar(random),
        _ => row(random),
    }
}

/// Rows of one measurement in one shape, as a client sends them all day.
pub fn steady_rows(random: &mut Random) -> Vec<Tree> {
    (0..random.below(30))
        .map(|at| {
            let host = random.of(&["a", "b", "c"]);
            let fields = [("usage", (at as f64 / 4.0).into()), ("n", (at as i64).into())];
            map([
                ("m", "cpu".into()),
                ("t", (1_700_000_000_000_i64 + at as i64).into()),
                ("tags", map([("host", host.into())])),
                ("fields", map(fields)),
            ])
        })
        .collect()
}

/// A stream of rows whose values have eight bytes, all alike but for a few.
pub fn alike_rows(random: &mut Random) -> Vec<u8> {
    fn key(body: &mut Vec<u8>, text: &str) {
        body.push(0xa0 | text.len() as u8);
        body.extend_from_slice(text.as_bytes());
    }
    let mut body = Vec::new();
    let rarely = random.of(&[3, 40, 400, 100_000]);
    let has_tags = random.once_in(2);
    let columns = 1 + random.below(4);
    for row in 0..random.below(400) as u64 {
        let is_odd = random.once_in(rarely);
        body.push(0x83 + u8::from(has_tags));
        key(&mut body, "m");
        key(&mut body, if is_odd && random.once_in(4) { "mem" } else { "cpu" });
        key(&mut body, "t");
        let year_9999 = if is_odd && random.once_in(8) { 1 << 52 } else { 0 };
        body.push(if is_odd && random.once_in(4) { 0xcf } else { 0xd3 });
        body.extend((1_700_000_000_000 + row + year_9999).to_be_bytes());
        if has_tags {
            key(&mut body, "tags");
            body.push(0x81);
            key(&mut body, "host");
            key(&mut body, &format!("server{}", random.below(if is_odd { 1_000 } else { 5 })));
        }
        key(&mut body, "fields");
        body.push(0x80 | columns as u8);
        for column in 0..columns {
            key(&mut body, &format!("f{column}"));
            let number = random.below(1_000) as i64;
            match random.below(8) {
                0 if is_odd => body.push(random.of(&[0xc0, 0x07, 0xc3, 0xa0])),
                1 if is_odd => {
                    body.push(0xd3);
                    body.extend(random.of(&[number, i64::MAX]).to_be_bytes());
                }
                2 if is_odd => {
                    body.push(0xcb);
                    body.extend(random.of(&[number as f64, 0.5]).to_be_bytes());
                }
                _ if column == 0 => {
                    body.push(0xd3);
                    body.extend(number.to_be_bytes());
                }
                _ => {
                    body.push(0xcb);
                    body.extend((number as f64 / 10.0).to_be_bytes());
                }
            }
        }
    }
    body
}

/// Rows of one table, the keys of each map in an order of their own: more shapes than anybody
/// could foresee. Some have a value that their column refuses, or none, or a key twice.
pub fn unordered_rows(random: &mut Random) -> Vec<u8> {
    let mut body = Vec::new();
    for row in 0..200 {
        let mut fields: Vec<(Tree, Tree)> = Vec::new();
        for name in 0..10 {
            let value = match random.below(40) {
                0 => "text".into(),
                1 => Tree::Nil,
                2..=9 => continue,
                _ => Tree::from(f64::from(row) + 0.5),
            };
            fields.push((format!("field_{name}").into(), value));
        }
        if random.once_in(30) {
            fields.push(("field_0".into(), 1.5.into()));
        }
        let host = format!("host_{}", random.below(9));
        let mut tags: Vec<(Tree, Tree)> =
            vec![("host".into(), host.into()), ("rack".into(), "r".into())];
        tags.truncate(random.below(3));
        shuffle(&mut fields, random);
        shuffle(&mut tags, random);
        let mut pairs: Vec<(Tree, Tree)> = vec![
            ("m".into(), "cpu".into()),
            ("t".into(), (1_700_000_000_000_i64 + i64::from(row)).into()),
            ("fields".into(), Tree::Map(fields)),
        ];
        if !tags.is_empty() {
            pairs.push(("tags".into(), Tree::Map(tags)));
        }
        if random.once_in(30) {
            pairs.swap_remove(random.below(3));
        }
        shuffle(&mut pairs, random);
        body.extend(encode(&Tree::Map(pairs)));
    }
    body
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for place in 1..items.len() {
        items.swap(place, random.below(place + 1));
    }
}
