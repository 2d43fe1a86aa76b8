//! Appends, widening and the seal, without a wire format.
//!
//! `gather/append/*` puts rows of ten floats into warm builders by predicted keys; its floor,
//! `gather/append/vec`, pushes the same values into ten plain vectors. `gather/seal/*` turns
//! 64 Ki rows into a record batch. `gather/widen` gives one row each of 1,000 columns.

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use peristyle::gather::{
    Atomicity, Database, KEY_WINDOW, Registry, SeriesIndex, TableBuilder, Tables,
};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FIELDS: usize = 10;
const ROWS: u32 = 5_000;
const CHUNK_ROWS: u32 = 64 << 10;
const HOSTS: u32 = 1_000;

fn tables() -> Tables {
    Tables::new(Arc::new(Registry::new(Limits::DEFAULT, Unsigned::Int64, Vec::new())))
}

/// The keys of a row as a decoder shows them.
fn windows() -> [[u8; KEY_WINDOW]; FIELDS] {
    std::array::from_fn(|field| {
        let mut window = [b' '; KEY_WINDOW];
        let key = format!("field_{field}=");
        window.get_mut(..key.len()).unwrap().copy_from_slice(key.as_bytes());
        window
    })
}

/// Appends one row of ten floats the way a decoder does.
#[inline]
fn append(table: &mut TableBuilder, windows: &[[u8; KEY_WINDOW]; FIELDS], row: u32) {
    for window in windows {
        let column = if let Some(predicted) = table.predict(window) {
            predicted.column
        } else {
            let len = window.iter().position(|byte| *byte == b'=').unwrap();
            let name = std::str::from_utf8(window.get(..len).unwrap()).unwrap();
            let column = table.field(name).unwrap();
            table.learn(window.get(..=len).unwrap(), column);
            column
        };
        table.append_f64(column, f64::from(row)).unwrap();
    }
}

fn fill(database: &mut Database, rows: u32) {
    let windows = windows();
    let mut series = [SeriesIndex::NONE; HOSTS as usize];
    database.begin_write(Atomicity::Rows);
    let index = database.table("m").unwrap();
    let table = database.table_mut(index);
    for row in 0..rows {
        append(table, &windows, row);
        let known = series.get_mut((row % HOSTS) as usize).unwrap();
        if *known == SeriesIndex::NONE {
            table.append_tag("host", &format!("host_{}", row % HOSTS)).unwrap();
            table.append_tag("region", &format!("region_{}", row % 4)).unwrap();
        } else {
            table.set_series(*known);
        }
        *known = table.commit_row(Timestamp::from_ns(i64::from(row))).unwrap();
    }
}

fn append_rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gather/append");
    group.throughput(Throughput::Elements(ROWS.into()));
    let mut warm = tables();
    group.bench_function("rows", |bencher| {
        assert_eq!(warm_up(&mut warm), 1);
        bencher.iter_custom(|rounds| {
            let mut time = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let database = warm.database("db").unwrap();
                #[expect(clippy::disallowed_methods, reason = "a bench is what clocks are for")]
                let start = std::time::Instant::now();
                fill(database, ROWS);
                time += start.elapsed();
                database.end_write().unwrap();
                let rows: usize =
                    database.take_chunks(false).iter().map(|it| it.batch.num_rows()).sum();
                assert_eq!(rows, ROWS as usize);
            }
            time
        });
    });
    group.bench_function("vec", |bencher| {
        let mut columns: [Vec<f64>; FIELDS] = Default::default();
        bencher.iter(|| {
            for row in 0..ROWS {
                for column in &mut columns {
                    column.push(f64::from(row));
                }
            }
            assert_eq!(
                black_box(&columns).iter().map(Vec::len).sum::<usize>(),
                FIELDS * ROWS as usize
            );
            columns.iter_mut().for_each(Vec::clear);
        });
    });
    group.finish();
}

/// Tables that know every key and series of [`fill`].
fn warm_up(tables: &mut Tables) -> usize {
    let database = tables.database("db").unwrap();
    fill(database, HOSTS);
    database.end_write().unwrap();
    database.take_chunks(false).len()
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gather/seal");
    group.throughput(Throughput::Elements(CHUNK_ROWS.into()));
    let mut warm = tables();
    group.bench_function("two_tags_ten_floats", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut time = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let database = warm.database("db").unwrap();
                fill(database, CHUNK_ROWS - 1);
                database.end_write().unwrap();
                #[expect(clippy::disallowed_methods, reason = "a bench is what clocks are for")]
                let start = std::time::Instant::now();
                let chunks = black_box(database.take_chunks(false));
                time += start.elapsed();
                assert_eq!(chunks.first().unwrap().batch.num_rows(), CHUNK_ROWS as usize - 1);
            }
            time
        });
    });
    group.finish();
}

fn widen(criterion: &mut Criterion) {
    const COLUMNS: u32 = 1_000;
    let mut group = criterion.benchmark_group("gather/widen");
    group.throughput(Throughput::Elements(COLUMNS.into()));
    let names: Vec<String> = (0..COLUMNS).map(|column| format!("f{column}")).collect();
    group.bench_function("a_thousand_columns_one_by_one", |bencher| {
        bencher.iter(|| {
            let mut tables = tables();
            let database = tables.database("db").unwrap();
            database.begin_write(Atomicity::Rows);
            let index = database.table("m").unwrap();
            let table = database.table_mut(index);
            for name in &names {
                let column = table.field(name).unwrap();
                table.append_f64(column, 1.0).unwrap();
                table.commit_row(Timestamp::default()).unwrap();
            }
            database.end_write().unwrap();
            let chunks = database.take_chunks(false);
            assert_eq!(chunks.first().unwrap().batch.num_columns(), 1 + COLUMNS as usize);
        });
    });
    group.finish();
}

criterion_group!(benches, append_rows, seal, widen);
criterion_main!(benches);
