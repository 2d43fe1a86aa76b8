//! What rows look like: kinds of load, each from a seed.
//!
//! | shape      | rows                                                                  | a body |
//! |------------|-----------------------------------------------------------------------|--------|
//! | `simple`   | 1 tag of 1,000 values, 1 float                                        | 5,000  |
//! | `tsbs`     | 10 tags of 4,000 hosts, 10 integers, as the Time Series Benchmark Suite | 5,000 |
//! | `telegraf` | what seven of its inputs report of a host: 24 rows, 3 to 37 fields    | 5,000  |
//! | `iot`      | 1,000 hosts, 3 floats of 2 decimals; Arc's published load             | 1,000  |
//! | `wide`     | 2 tags, 500 fields of four kinds                                      | 100    |
//! | `churn`    | 8 measurements; every body drops one of 10 fields and brings another  | 1,000  |
//!
//! A body never has two rows of one series and one time, and no two bodies have, once their times
//! are moved to different slots.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use crate::clock::SLOT_US;
use crate::random::Random;
use crate::telegraf;

/// A name of a measurement, tag or field.
pub type Name = Cow<'static, str>;

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Finite.
    Float(f64),
    /// Any.
    Integer(i64),
    /// Any.
    Bool(bool),
    /// Without quotes, backslashes and line feeds.
    Text(String),
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its measurement.
    pub measurement: Name,
    /// Names and values, none empty.
    pub tags: Vec<(Name, String)>,
    /// Names and values, at least one.
    pub fields: Vec<(Name, Value)>,
    /// `offset_us < SLOT_US`: microseconds after the first time of the slot.
    pub offset_us: u32,
}

/// Rows of one tag and integers, by how many there are of what: for what work should cost alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Measurements, in turn; above 0.
    pub measurements: usize,
    /// Values of the tag, in turn; above 0.
    pub series: usize,
    /// Fields of a row.
    pub columns: usize,
}

/// `M,S,F`, each above 0.
impl FromStr for Grid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Option<Vec<usize>> =
            text.split(',').map(|it| it.parse().ok().filter(|it| *it > 0)).collect();
        match numbers.as_deref() {
            Some([measurements, series, columns]) => {
                Ok(Self { measurements: *measurements, series: *series, columns: *columns })
            }
            _ => Err("expected three numbers above 0: measurements,series,fields".to_owned()),
        }
    }
}

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// 1 tag, 1 field.
    Simple,
    /// 10 tags, 10 integer fields, 4,000 hosts.
    Tsbs,
    /// Seven of Telegraf's inputs: cpu, mem, disk, diskio, net, system, processes.
    Telegraf,
    /// A host of 1,000 and 3 floats of 2 decimals.
    Iot,
    /// 500 fields.
    Wide,
    /// Fields that come and go.
    Churn,
    /// As a scenario asks for.
    #[value(skip)]
    Grid(Grid),
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grid(Grid { measurements, series, columns }) => {
                write!(f, "grid of {measurements} measurements, {series} series, {columns} fields")
            }
            named => f.write_str(named.to_possible_value().as_ref().map_or("", |it| it.get_name())),
        }
    }
}

/// Hosts of `tsbs`.
const TSBS_HOSTS: usize = 4_000;
/// Hosts of `simple`, `iot`, `wide` and `churn`.
const HOSTS: usize = 1_000;
/// Fields of `wide`.
const WIDE_FIELDS: usize = 500;
/// Fields that a body of `churn` has.
const CHURN_FIELDS: usize = 10;
/// Measurements of `churn`.
const CHURN_MEASUREMENTS: usize = 8;
/// Values of a body of a grid.
const GRID_VALUES: usize = 50_000;

const IOT_MEASUREMENTS: [&str; 4] = ["cpu", "mem", "disk", "net"];
const REGIONS: [&str; 4] = ["eu-central-1", "us-east-1", "us-west-2", "ap-south-1"];
const TSBS_FIELDS: [&str; 10] = [
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

impl Shape {
    /// Rows of a body where nothing else is asked for.
    pub fn rows_per_body(self) -> usize {
        match self {
            Self::Simple | Self::Tsbs | Self::Telegraf => 5_000,
            Self::Iot | Self::Churn => 1_000,
            Self::Wide => 100,
            Self::Grid(grid) => (GRID_VALUES / grid.columns.max(1)).max(1),
        }
    }

    /// Whether columnar bodies say which columns are tags; Arc's published load does not.
    pub fn names_tags(self) -> bool {
        self != Self::Iot
    }

    /// The rows of body `index`: the same ones for the same seed.
    pub fn rows(self, seed: u64, index: usize, count: usize) -> Vec<Row> {
        // A body's numbers depend on its index only, so that bodies can be made side by side.
        let mut random = Random(seed ^ (index as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
        match self {
            Self::Telegraf => telegraf::rows(&mut random, index, count),
            Self::Iot => iot(&mut random, count),
            _ => (0..count).map(|row| self.row(&mut random, index, count, row)).collect(),
        }
    }

    fn row(self, random: &mut Random, index: usize, count: usize, row: usize) -> Row {
        let first = index * count;
        match self {
            Self::Tsbs => tsbs(random, first + row, offset(row, TSBS_HOSTS)),
            Self::Wide => wide(random, row),
            Self::Churn => churn(random, index, row),
            Self::Grid(of) => grid(random, of, first + row, offset(row, of.series)),
            _ => Row {
                measurement: "simple".into(),
                tags: vec![("host".into(), format!("host_{}", (first + row) % HOSTS))],
                fields: vec![("value".into(), Value::Float(random.decimals(100)))],
                offset_us: offset(row, HOSTS),
            },
        }
    }
}

/// The time of a row where `series` rows share one.
pub(crate) fn offset(row: usize, series: usize) -> u32 {
    let offset = u32::try_from(row / series).unwrap_or(u32::MAX);
    assert!(offset < SLOT_US, "a body of {row} rows is too long for its shape");
    offset
}

fn tsbs(random: &mut Random, series: usize, offset_us: u32) -> Row {
    let host = series % TSBS_HOSTS;
    // What a host is does not change.
    let mut own = Random(host as u64);
    let region = REGIONS.get(host % REGIONS.len()).copied().unwrap_or_default();
    let tags = [
        ("hostname", format!("host_{host}")),
        ("region", region.to_owned()),
        ("datacenter", format!("{region}{}", if own.below(2) == 0 { 'a' } else { 'b' })),
        ("rack", own.below(100).to_string()),
        ("os", if own.below(2) == 0 { "Ubuntu15.10" } else { "Ubuntu16.04LTS" }.to_owned()),
        ("arch", if own.below(2) == 0 { "x86" } else { "x64" }.to_owned()),
        ("team", if own.below(2) == 0 { "SF" } else { "NYC" }.to_owned()),
        ("service", own.below(20).to_string()),
        ("service_version", own.below(2).to_string()),
        ("service_environment", "production".to_owned()),
    ];
    Row {
        measurement: "cpu".into(),
        tags: tags.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        fields: TSBS_FIELDS
            .iter()
            .map(|name| ((*name).into(), Value::Integer(random.integer(101))))
            .collect(),
        offset_us,
    }
}

fn grid(random: &mut Random, of: Grid, row: usize, offset_us: u32) -> Row {
    let field = |at: usize| (format!("field_{at}").into(), Value::Integer(random.integer(1_000)));
    Row {
        measurement: format!("grid_{}", row % of.measurements).into(),
        tags: vec![("host".into(), format!("host_{}", row % of.series))],
        fields: (0..of.columns).map(field).collect(),
        offset_us,
    }
}

fn iot(random: &mut Random, count: usize) -> Vec<Row> {
    let measurement = IOT_MEASUREMENTS.get(random.below(4) as usize).copied().unwrap_or_default();
    let names = ["value", "cpu_idle", "cpu_user"];
    (0..count)
        .map(|row| Row {
            measurement: measurement.into(),
            tags: vec![("host".into(), format!("server{:03}", random.below(1_000)))],
            fields: names.map(|it| (it.into(), Value::Float(random.decimals(100)))).to_vec(),
            // Hosts are drawn, so that every row has a time of its own.
            offset_us: offset(row, 1),
        })
        .collect()
}

fn wide(random: &mut Random, row: usize) -> Row {
    let fields = (0..WIDE_FIELDS).map(|field| {
        let value = match field % 4 {
            0 => Value::Float(random.decimals(1_000)),
            1 => Value::Integer(random.integer(1_000_000)),
            2 => Value::Float(random.float(100)),
            _ => Value::Bool(random.below(2) == 0),
        };
        (format!("field_{field:03}").into(), value)
    });
    Row {
        measurement: "wide".into(),
        fields: fields.collect(),
        tags: vec![
            ("machine".into(), format!("machine_{:03}", row % HOSTS)),
            ("line".into(), format!("line_{}", row % 7)),
        ],
        offset_us: offset(row, HOSTS),
    }
}

fn churn(random: &mut Random, index: usize, row: usize) -> Row {
    // Each row has about half of the body's fields, and always the first one.
    let fields = (0..CHURN_FIELDS)
        .filter(|field| *field == 0 || random.below(2) == 0)
        .map(|field| (format!("field_{:04}", index + field).into(), field))
        .collect::<Vec<(Name, usize)>>();
    let value = |random: &mut Random| Value::Float(random.decimals(100));
    Row {
        measurement: format!("churn_{}", row % CHURN_MEASUREMENTS).into(),
        tags: vec![("host".into(), format!("host_{}", row % HOSTS))],
        fields: fields.into_iter().map(|(name, _)| (name, value(random))).collect(),
        offset_us: offset(row, HOSTS),
    }
}
