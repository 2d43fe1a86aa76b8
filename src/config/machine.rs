//! What the machine offers: memory, cores, file descriptors; within the limits that are set.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread;

/// Memory that is assumed where the system does not tell.
const MEMORY_BYTES_UNKNOWN: usize = 2 << 30;

/// Cores this process may use, by affinity and control group.
pub fn core_count() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Bytes of memory this process may use: the physical memory, or the limit of a control group
/// (version 2 or 1, any ancestor) when that is lower. `root` is `/` except in tests.
pub fn memory_bytes(root: &Path) -> usize {
    let physical = physical_bytes(root).unwrap_or(MEMORY_BYTES_UNKNOWN);
    control_group_bytes(root).map_or(physical, |limit| physical.min(limit))
}

/// File descriptors this process may have, where the system tells: the soft limit. `root` is `/`
/// except in tests.
pub fn file_descriptors(root: &Path) -> Option<usize> {
    let text = fs::read_to_string(root.join("proc/self/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB.
fn physical_bytes(root: &Path) -> Option<usize> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

/// The lowest limit on the way from this process's control group to the root of the hierarchy.
///
/// `/proc/self/cgroup` has one line for each hierarchy: `0::/path` is version 2,
/// `4:memory:/path` the memory controller of version 1.
fn control_group_bytes(root: &Path) -> Option<usize> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let (hierarchy, file) = match controllers {
                "" => ("sys/fs/cgroup", "memory.max"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
                }
                _ => return None,
            };
            lowest_limit(&root.join(hierarchy), Path::new(path.trim_start_matches('/')), file)
        })
        .min()
}

fn lowest_limit(hierarchy: &Path, group: &Path, file: &str) -> Option<usize> {
    group
        .ancestors()
        .filter_map(|group| fs::read_to_string(hierarchy.join(group).join(file)).ok())
        .filter_map(|text| text.trim().parse().ok()) // "max" is no number: no limit
        .min()
}
