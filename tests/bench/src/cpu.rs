//! Processor time and memory of processes, as Linux tells them.

use std::time::Duration;

use crate::Failure;

/// `USER_HZ`: what `/proc/<pid>/stat` counts in, on every architecture that Russet runs on.
const TICKS_PER_SECOND: u64 = 100;

/// The processor time that a process has used, in user and kernel mode, all its threads together.
pub(crate) fn used(process: u32) -> Result<Duration, Failure> {
    Ok(in_ticks(stat(process)?.own))
}

/// The processor time that a process and its children have used, those that have ended included: a database server with a
/// process for each connection.
pub(crate) fn used_by_family(parent: u32) -> Result<Duration, Failure> {
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that ends meanwhile is counted by its parent, which is asked last.
        if let Ok(stat) = stat(child)
            && stat.parent == parent
        {
            ticks += stat.own;
        }
    }
    let stat = stat(parent)?;
    Ok(in_ticks(ticks + stat.own + stat.ended_children))
}

/// The process that started this one.
pub(crate) fn parent(process: u32) -> Result<u32, Failure> {
    Ok(stat(process)?.parent)
}

fn in_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// What `/proc/<pid>/stat` says that matters here; times in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: u64,
    ended_children: u64,
}

fn stat(process: u32) -> Result<Stat, Failure> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(Stat::parse(&text).ok_or_else(|| format!("{path} cannot be read: {text}"))?)
}

impl Stat {
    /// Field 4 is `ppid`, 14 to 17 are `utime`, `stime`, `cutime` and `cstime`. The second field is a name in brackets that
    /// may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(1)?).ok()?,
            own: number(11)? + number(12)?,
            ended_children: number(13)? + number(14)?,
        })
    }
}

/// The memory of a process that is in RAM, in bytes.
pub(crate) fn resident(process: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|size| size.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .ok_or_else(|| format!("{path} has no VmRSS"))?;
    Ok(kibibytes * 1024)
}

/// What a process has had the disk write so far, in bytes; what goes to sockets is not among it.
pub(crate) fn written(process: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{process}/io");
    let io = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let bytes = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
    Ok(bytes.ok_or_else(|| format!("{path} has no write_bytes"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 150 25 30 3 20 0 1 0 100 1 1";
        let expected = Stat {
            parent: 7,
            own: 175,
            ended_children: 33,
        };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("42 no brackets"), None);
        assert_eq!(Stat::parse("42 (short) S 7"), None);
    }

    #[test]
    fn this_process_has_a_parent_memory_and_a_family() {
        let this = std::process::id();
        assert!(resident(this).unwrap() > 1 << 20);
        let before = written(this).unwrap();
        // On the disk that the build is on: the folder for temporary files may be in memory.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        std::io::Write::write_all(&mut file, &[1; 1 << 16]).unwrap();
        assert!(written(this).unwrap() >= before + (1 << 16));
        assert!(used_by_family(this).unwrap() >= used(this).unwrap());
        assert_eq!(parent(this).unwrap(), std::os::unix::process::parent_id());
        // Larger than any process number of Linux.
        assert!(used(u32::MAX).is_err());
    }
}
