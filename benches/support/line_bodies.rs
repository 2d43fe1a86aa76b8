//! Seeded line-protocol bodies, as the Time Series Benchmark Suite makes them: the same bytes in
//! every run.

use std::fmt::Write as _;

use super::random::Random;

const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

/// Ten tags, as the Time Series Benchmark Suite gives its `cpu` rows.
fn head(host: u64) -> String {
    format!(
        "cpu,hostname=host_{host},region=eu-central-1,datacenter=eu-central-1a,rack={},\
         os=Ubuntu15.10,arch=x86,team=SF,service={},service_version={},\
         service_environment=production",
        host % 100,
        host % 20,
        host % 2
    )
}

/// `lines` lines: ten tags, ten fields whose values and order `field` decides.
fn body(
    lines: u64,
    mut host: impl FnMut(u64, &mut Random) -> String,
    mut value: impl FnMut(&mut Random) -> String,
    shuffled: bool,
) -> Vec<u8> {
    let mut random = Random(1);
    let mut body = String::new();
    for line in 0..lines {
        body.push_str(&host(line, &mut random));
        let mut fields = FIELDS;
        if shuffled {
            for place in 1..fields.len() {
                let other = random.next() % (place as u64 + 1);
                fields.swap(place, usize::try_from(other).unwrap());
            }
        }
        for (place, field) in fields.iter().enumerate() {
            let separator = if place == 0 { ' ' } else { ',' };
            let _ = write!(body, "{separator}{field}={}", value(&mut random));
        }
        let _ = writeln!(body, " {}", 1_451_606_400_000_000_000 + (line / 4_000) * 10_000_000_000);
    }
    body.into_bytes()
}

fn integer(random: &mut Random) -> String {
    format!("{}i", random.next() % 101)
}

#[expect(clippy::cast_precision_loss, reason = "any float will do")]
fn float(random: &mut Random) -> String {
    format!("{:.2}", (random.next() % 10_000) as f64 / 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "any float will do")]
fn long_float(random: &mut Random) -> String {
    (random.next() as f64 / u64::MAX as f64 * 100.0).to_string()
}

fn string(random: &mut Random) -> String {
    format!("\"say \\\"{}\\\", twice\"", random.next() % 1_000)
}

fn host_of_4000(line: u64, _: &mut Random) -> String {
    head(line % 4_000)
}

/// Ten tags of 4,000 hosts and ten integers, in stable order: the suite's `cpu-only`.
pub(crate) fn tsbs(lines: u64) -> Vec<u8> {
    body(lines, host_of_4000, integer, false)
}

/// Lines whose series nobody has seen: their hosts are numbered from `first` on.
pub(crate) fn unseen(lines: u64, first: u64) -> Vec<u8> {
    body(lines, |line, _| head(first + line), integer, false)
}

/// Each line has two of a hundred fields, or, with `alternating`, the five that the line before
/// it has not.
pub(crate) fn sparse(lines: u64, alternating: bool) -> Vec<u8> {
    let mut random = Random(1);
    let mut body = String::new();
    for line in 0..lines {
        let first = random.next() % 99;
        let fields = if alternating { line % 2 * 5..line % 2 * 5 + 5 } else { first..first + 2 };
        let start = fields.start;
        body.push_str(&head(line % 4_000));
        for field in fields {
            let separator = if field == start { ' ' } else { ',' };
            let _ = write!(body, "{separator}field_{field}={}", integer(&mut random));
        }
        let _ = writeln!(body, " {}", 1_451_606_400_000_000_000 + (line / 4_000) * 10_000_000_000);
    }
    body.into_bytes()
}

/// [`tsbs`] with a thousand measurements in turn.
pub(crate) fn measurements(lines: u64) -> Vec<u8> {
    let host = |line: u64, _: &mut Random| {
        head(line % 4_000).replacen("cpu", &format!("cpu_{}", line % 1_000), 1)
    };
    body(lines, host, integer, false)
}

/// Bodies that differ in one thing each from [`tsbs`], by name.
pub(crate) fn shapes(lines: u64) -> Vec<(&'static str, Vec<u8>)> {
    let escaped = |line: u64, _: &mut Random| head(line % 4_000).replace("eu-", "eu\\ ");
    let random_host = |_: u64, random: &mut Random| head(random.next());
    vec![
        ("tsbs", tsbs(lines)),
        ("floats", body(lines, host_of_4000, float, false)),
        ("long_floats", body(lines, host_of_4000, long_float, false)),
        ("escapes", body(lines, escaped, string, false)),
        ("random_order", body(lines, host_of_4000, integer, true)),
        ("new_series", body(lines, random_host, integer, false)),
        ("sparse", sparse(lines, false)),
        ("alternating", sparse(lines, true)),
        ("measurements", measurements(lines)),
    ]
}
