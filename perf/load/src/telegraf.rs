//! The shape `telegraf`: what its inputs cpu, mem, disk, diskio, net, system and processes report
//! of a host with eight cores; 24 rows a report, host after host.

use crate::random::Random;
use crate::shape::{Name, Row, Value, offset};

/// Hosts that report, in turn.
const HOSTS: usize = 100;
/// Rows of a report.
const REPORT_ROWS: usize = 24;

const GIB: u32 = 1 << 30;
const MEM: [&str; 31] = [
    "active",
    "available",
    "buffered",
    "cached",
    "commit_limit",
    "committed_as",
    "dirty",
    "free",
    "high_free",
    "high_total",
    "huge_page_size",
    "huge_pages_free",
    "huge_pages_total",
    "inactive",
    "low_free",
    "low_total",
    "mapped",
    "page_tables",
    "shared",
    "slab",
    "sreclaimable",
    "sunreclaim",
    "swap_cached",
    "swap_free",
    "swap_total",
    "used",
    "vmalloc_chunk",
    "vmalloc_total",
    "vmalloc_used",
    "write_back",
    "write_back_tmp",
];
const DISKS: [(&str, &str, &str); 3] =
    [("sda1", "ext4", "/"), ("sda2", "xfs", "/var"), ("sdb1", "ext4", "/srv/data")];
const DISKIO: [&str; 11] = [
    "io_time",
    "iops_in_progress",
    "merged_reads",
    "merged_writes",
    "read_bytes",
    "read_time",
    "reads",
    "weighted_io_time",
    "write_bytes",
    "write_time",
    "writes",
];
const NET: [&str; 8] = [
    "bytes_recv",
    "bytes_sent",
    "drop_in",
    "drop_out",
    "err_in",
    "err_out",
    "packets_recv",
    "packets_sent",
];
const PROCESSES: [&str; 12] = [
    "blocked",
    "dead",
    "idle",
    "paging",
    "parked",
    "running",
    "sleeping",
    "stopped",
    "total",
    "total_threads",
    "unknown",
    "zombies",
];

/// A row without its host and time.
type Part = (&'static str, Vec<(&'static str, String)>, Vec<(&'static str, Value)>);

/// Rows of body `index`, which begins with a report of its own.
pub(crate) fn rows(random: &mut Random, index: usize, count: usize) -> Vec<Row> {
    let reports = count.div_ceil(REPORT_ROWS);
    let mut rows = Vec::with_capacity(reports * REPORT_ROWS);
    for report in 0..reports {
        let number = index * reports + report;
        let host = format!("web-{:03}.example.com", number % HOSTS);
        for (measurement, tags, fields) in parts(random, number) {
            let own = [("host".into(), host.clone())];
            let tags = tags.into_iter().map(|(name, value)| (Name::from(name), value));
            rows.push(Row {
                measurement: measurement.into(),
                tags: own.into_iter().chain(tags).collect(),
                fields: fields.into_iter().map(|(name, value)| (name.into(), value)).collect(),
                offset_us: offset(report, HOSTS),
            });
        }
    }
    rows.truncate(count);
    rows
}

fn parts(random: &mut Random, number: usize) -> Vec<Part> {
    let mut parts = Vec::with_capacity(REPORT_ROWS);
    for cpu in 0..9 {
        let name = if cpu < 8 { format!("cpu{cpu}") } else { "cpu-total".to_owned() };
        parts.push(("cpu", vec![("cpu", name)], cpu_fields(random)));
    }
    parts.push(("mem", Vec::new(), mem_fields(random)));
    for (device, fstype, path) in DISKS {
        let tags = [("device", device), ("fstype", fstype), ("mode", "rw"), ("path", path)];
        let tags = tags.map(|(name, value)| (name, value.to_owned())).to_vec();
        parts.push(("disk", tags, disk_fields(random)));
    }
    for name in ["sda", "sda1", "sda2", "sdb"] {
        let mut fields = integers(random, &DISKIO, 1_000_000);
        fields.push(("io_util", Value::Float(random.float(100))));
        parts.push(("diskio", vec![("name", name.to_owned())], fields));
    }
    for name in ["eth0", "eth1", "lo"] {
        let mut fields = integers(random, &NET, 100_000_000);
        fields.push(("speed", Value::Integer(if name == "lo" { -1 } else { 10_000 })));
        parts.push(("net", vec![("interface", name.to_owned())], fields));
    }
    parts.extend(system(random, number));
    parts.push(("processes", Vec::new(), integers(random, &PROCESSES, 500)));
    parts
}

fn integers(random: &mut Random, names: &[&'static str], end: u32) -> Vec<(&'static str, Value)> {
    names.iter().map(|name| (*name, Value::Integer(random.integer(end)))).collect()
}

fn cpu_fields(random: &mut Random) -> Vec<(&'static str, Value)> {
    let (user, system, iowait) = (random.float(40), random.float(10), random.float(1));
    let values = [
        ("usage_guest", 0.0),
        ("usage_guest_nice", 0.0),
        ("usage_idle", 100.0 - user - system - iowait),
        ("usage_iowait", iowait),
        ("usage_irq", 0.0),
        ("usage_nice", 0.0),
        ("usage_softirq", random.decimals(3)),
        ("usage_steal", 0.0),
        ("usage_system", system),
        ("usage_user", user),
    ];
    values.map(|(name, value)| (name, Value::Float(value))).to_vec()
}

fn mem_fields(random: &mut Random) -> Vec<(&'static str, Value)> {
    let mut fields = integers(random, &MEM, GIB);
    fields.push(("total", Value::Integer(32 * i64::from(GIB))));
    fields.push(("available_percent", Value::Float(random.float(100))));
    fields.push(("used_percent", Value::Float(random.float(100))));
    fields
}

fn disk_fields(random: &mut Random) -> Vec<(&'static str, Value)> {
    let total = 500 * i64::from(GIB);
    let used = 100 * i64::from(GIB) + random.integer(GIB);
    let (inodes, inodes_used) = (32_768_000, random.integer(1_000_000));
    vec![
        ("free", Value::Integer(total - used)),
        ("inodes_free", Value::Integer(inodes - inodes_used)),
        ("inodes_total", Value::Integer(inodes)),
        ("inodes_used", Value::Integer(inodes_used)),
        ("inodes_used_percent", Value::Float(random.float(100))),
        ("total", Value::Integer(total)),
        ("used", Value::Integer(used)),
        ("used_percent", Value::Float(random.float(100))),
    ]
}

/// `system` reports in three rows.
fn system(random: &mut Random, number: usize) -> [Part; 3] {
    let uptime = 86_400 * (number % HOSTS + 1) + number / HOSTS * 10;
    let (days, hours, minutes) = (uptime / 86_400, uptime / 3_600 % 24, uptime / 60 % 60);
    let loads = vec![
        ("load1", Value::Float(random.decimals(8))),
        ("load15", Value::Float(random.decimals(8))),
        ("load5", Value::Float(random.decimals(8))),
        ("n_cpus", Value::Integer(8)),
        ("n_physical_cpus", Value::Integer(4)),
        ("n_unique_users", Value::Integer(1)),
        ("n_users", Value::Integer(random.integer(4))),
    ];
    let uptime = i64::try_from(uptime).unwrap_or_default();
    let text = format!("{days} days, {hours:2}:{minutes:02}");
    [
        ("system", Vec::new(), loads),
        ("system", Vec::new(), vec![("uptime", Value::Integer(uptime))]),
        ("system", Vec::new(), vec![("uptime_format", Value::Text(text))]),
    ]
}
