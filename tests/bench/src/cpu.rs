//! Processor time and memory of processes, as Linux tells them.

use std::time::Duration;

use crate::Failure;

/// `USER_HZ`: what `/proc/<pid>/stat` counts in, on every architecture that Russet runs on.
const TICKS_PER_SECOND: u64 = 100;

/// The processor time that processes have used, in user and kernel mode, all their threads together. One that is gone
/// counts nothing.
pub(crate) fn used(processes: &[u32]) -> Result<Duration, Failure> {
    let mut ticks = 0;
    for process in processes {
        let path = format!("/proc/{process}/stat");
        match std::fs::read_to_string(&path) {
            Ok(stat) => ticks += ticks_of(&stat).ok_or_else(|| format!("{path} cannot be read: {stat}"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{path}: {error}").into()),
        }
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Fields 14 and 15, `utime` and `stime`. The second field is a name in brackets that may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 100 1 1";
        assert_eq!(ticks_of(stat), Some(175));
        assert_eq!(ticks_of("42 no brackets"), None);
    }

    #[test]
    fn this_process_uses_memory_and_a_gone_one_no_time() {
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
        assert!(used(&[std::process::id()]).is_ok());
        // Larger than any process number of Linux.
        assert_eq!(used(&[u32::MAX]).unwrap(), Duration::ZERO);
    }
}
