//! What a process has used, from `/proc` (proc(5)).

use std::fs;

/// Clock ticks in a second: `USER_HZ` is 100 wherever Linux runs this.
const TICKS_PER_SECOND: f64 = 100.0;
/// Kibibytes in a mebibyte.
const KIB_PER_MIB: f64 = 1024.0;

/// Processor time used so far, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// In the program itself.
    pub(crate) user: f64,
    /// In the kernel for it.
    pub(crate) system: f64,
}

impl Cpu {
    /// That of a process, all threads taken together.
    pub(crate) fn of(id: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("the process is running");
        // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let mut ticks = fields.split_whitespace().skip(11).map(|field| field.parse::<f64>().expect("ticks"));
        let mut seconds = || ticks.next().expect("both times are there") / TICKS_PER_SECOND;
        Self { user: seconds(), system: seconds() }
    }

    /// What was used since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }

    /// Both together.
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

/// Memory of a process, in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: f64,
    /// The most that ever was.
    pub(crate) peak: f64,
}

impl Memory {
    /// That of a process.
    pub(crate) fn of(id: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process is running");
        let mebibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("proc(5) names it");
            let kibibytes = line.trim_start_matches(':').trim().trim_end_matches("kB").trim();
            kibibytes.parse::<f64>().expect("a number of kB") / KIB_PER_MIB
        };
        Self { resident: mebibytes("VmRSS"), peak: mebibytes("VmHWM") }
    }
}
