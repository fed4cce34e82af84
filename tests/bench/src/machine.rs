//! What the figures were measured on, without a name that would say where.

use std::fmt;

use serde::Serialize;

use crate::Failure;

/// The machine and the build.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_gib: f64,
    kernel: String,
    optimised: bool,
    /// Processes that wanted to run in the minute before, on average: what else the machine had to do.
    other_load: f64,
}

/// Reads what Linux says of itself.
pub(crate) fn describe() -> Result<Machine, Failure> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let field = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let kibibytes = field(&read("/proc/meminfo")?, "MemTotal")
        .and_then(|size| size.split_whitespace().next()?.parse::<f64>().ok())
        .ok_or("/proc/meminfo has no MemTotal")?;
    // Only the version: what follows may name who built it.
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let kernel = kernel
        .trim()
        .split(|c: char| c != '.' && !c.is_ascii_digit())
        .next()
        .unwrap_or_default()
        .to_owned();
    Ok(Machine {
        cores: std::thread::available_parallelism()?.get(),
        processor: field(&read("/proc/cpuinfo")?, "model name").unwrap_or_else(|| "unknown processor".to_owned()),
        memory_gib: kibibytes / f64::from(1 << 20),
        kernel,
        optimised: !cfg!(debug_assertions),
        other_load: read("/proc/loadavg")?
            .split(' ')
            .next()
            .and_then(|load| load.parse().ok())
            .ok_or("/proc/loadavg cannot be read")?,
    })
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.optimised { "release" } else { "DEBUG" };
        write!(
            f,
            "{} cores ({}), {:.0} GiB of memory, Linux {}; {build} build; load average {:.1} before the start",
            self.cores, self.processor, self.memory_gib, self.kernel, self.other_load
        )
    }
}

#[cfg(test)]
impl Machine {
    pub(crate) fn of_tests() -> Self {
        Self {
            cores: 2,
            processor: "a processor".to_owned(),
            memory_gib: 8.0,
            kernel: "6.18.0".to_owned(),
            optimised: false,
            other_load: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described_without_its_name() {
        let machine = describe().unwrap();
        assert!(machine.cores > 0);
        assert!(machine.memory_gib > 0.0);
        assert!(
            machine.kernel.chars().all(|c| c == '.' || c.is_ascii_digit()) && !machine.kernel.is_empty(),
            "{}",
            machine.kernel
        );
    }
}
