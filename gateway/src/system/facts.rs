//! What the board says about itself at one moment, for a page and for programs.

use super::network::{Address, addresses};
use super::parse::{self, Ticks};
use crate::clock::{Clock, Tick};
use crate::reading::UnixMicros;
use schemars::JsonSchema;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Most bytes read of a file of the kernel; /proc/stat of a board is a few KiB, its table of routes may be long.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Most temperatures that are told.
const TEMPERATURES_MAX: usize = 16;

/// Where a Raspberry Pi tells of low voltage and heat without its own tool.
const THROTTLED_FILES: [&str; 2] = [
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc/soc:firmware/raspberrypi-hwmon/get_throttled",
];

/// The board at one moment. What the kernel does not say is left out.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Board {
    /// This moment, by the gateway's wall clock, in microseconds since 1970.
    pub at_us: UnixMicros,
    /// The model of the board or machine: `Raspberry Pi 4 Model B Rev 1.4`.
    pub model: Option<String>,
    /// The host's name.
    pub host: Option<String>,
    /// The operating system: `Debian GNU/Linux 13 (trixie)`.
    pub system: Option<String>,
    /// The kernel's version.
    pub kernel: Option<String>,
    /// The processor's architecture: `aarch64`.
    pub architecture: &'static str,
    /// For how many seconds the machine runs.
    pub uptime_seconds: Option<u64>,
    /// For how many seconds the gateway runs.
    pub gateway_uptime_seconds: Option<u64>,
    /// How busy it is.
    pub processor: Processor,
    /// Its memory.
    pub memory: Memory,
    /// The file system with the gateway's data.
    pub disk: Disk,
    /// What its sensors say, the warmest first.
    pub temperatures: Vec<Temperature>,
    /// Whether it was slowed down for want of voltage or for heat; only a Raspberry Pi says it.
    pub throttling: Option<Throttling>,
    /// Its clock.
    pub time: TimeState,
    /// Where others reach it.
    pub addresses: Vec<Address>,
}

/// How busy the processor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Processor {
    /// How many cores there are.
    pub cores: u64,
    /// Percent of all cores that all programs used since the look before, at least a second long; nothing at the first look.
    pub machine_percent: Option<f64>,
    /// Percent of one core that the gateway used since the look before; more than 100 is more than one core.
    pub process_percent: Option<f64>,
    /// Load averages of 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Memory {
    /// All of it.
    pub total_bytes: Option<u64>,
    /// What programs could still get.
    pub available_bytes: Option<u64>,
    /// What the gateway occupies.
    pub process_bytes: Option<u64>,
    /// The most that the gateway ever occupied.
    pub process_peak_bytes: Option<u64>,
    /// Swap in use.
    pub swap_used_bytes: Option<u64>,
}

/// The file system with the gateway's data, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Disk {
    /// All of it.
    pub total_bytes: Option<u64>,
    /// What the gateway could still write.
    pub available_bytes: Option<u64>,
    /// Whether it is mounted read-only.
    pub read_only: Option<bool>,
}

/// What a sensor says.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Temperature {
    /// What is measured: `cpu-thermal`.
    pub name: String,
    /// Degrees Celsius.
    pub celsius: f64,
}

/// Whether the board was slowed down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Throttling {
    /// Its voltage is too low now: a weak supply or cable.
    pub under_voltage: bool,
    /// It is slowed down now.
    pub throttled: bool,
    /// It is near its hottest now and slowed a little.
    pub hot: bool,
    /// Its voltage was too low since the machine started.
    pub under_voltage_before: bool,
    /// It was slowed down since the machine started.
    pub throttled_before: bool,
    /// It was near its hottest since the machine started.
    pub hot_before: bool,
}

/// How far the clock can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TimeState {
    /// `unset`, `unverified`, `ntp`.
    pub quality: &'static str,
    /// Whether the machine has a clock that goes on without power.
    pub has_battery_clock: bool,
}

impl Throttling {
    /// The bits of the firmware's `get_throttled`.
    #[must_use]
    pub fn of(bits: u32) -> Self {
        let has = |bit: u32| bits & (1 << bit) != 0;
        Self {
            under_voltage: has(0),
            throttled: has(1) || has(2),
            hot: has(3),
            under_voltage_before: has(16),
            throttled_before: has(17) || has(18),
            hot_before: has(19),
        }
    }
}

/// Looks at the board; it remembers the look before, for what is a rate.
#[derive(Debug)]
pub struct System {
    root: PathBuf,
    data_dir: PathBuf,
    clock: Clock,
    started_mono_us: u64,
    looks: Mutex<Looks>,
}

/// The counters of two looks: a page that asks twice in a second gets the rates of the second before.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    before: Option<Look>,
    machine_percent: Option<f64>,
    process_percent: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    mono_us: u64,
    machine: Option<Ticks>,
    process: Option<u64>,
}

/// Between two looks that a rate is made of; ticks are a hundredth of a second.
const LOOK_US: u64 = 1_000_000;

impl System {
    /// The board that this program runs on; `data_dir` says which disk is meant.
    #[must_use]
    pub fn new(data_dir: &Path, clock: Clock) -> Self {
        Self::under(Path::new("/"), data_dir, clock)
    }

    /// A board whose /proc, /sys and /etc lie under `root`: for tests.
    #[must_use]
    pub fn under(root: &Path, data_dir: &Path, clock: Clock) -> Self {
        let started_mono_us = clock.mono_us();
        let (root, data_dir) = (root.to_owned(), data_dir.to_owned());
        Self { root, data_dir, clock, started_mono_us, looks: Mutex::default() }
    }

    /// The board now: about twenty small files, none of them on the card; a millisecond. The first call tells no rates.
    #[must_use]
    pub fn board(&self) -> Board {
        let tick = self.clock.tick();
        let stat = self.read("proc/stat");
        let (machine_percent, process_percent) = self.rates(&tick, &stat);
        Board {
            at_us: tick.wall_us,
            model: self.model(),
            host: parse::name(&self.read("proc/sys/kernel/hostname")),
            system: parse::pretty_name(&self.read("etc/os-release")),
            kernel: parse::name(&self.read("proc/sys/kernel/osrelease")),
            architecture: std::env::consts::ARCH,
            uptime_seconds: parse::uptime(&self.read("proc/uptime")),
            gateway_uptime_seconds: Some(tick.mono_us.saturating_sub(self.started_mono_us) / 1_000_000),
            processor: Processor {
                cores: parse::processors(&stat),
                machine_percent,
                process_percent,
                load: parse::load(&self.read("proc/loadavg")),
            },
            memory: self.memory(),
            disk: self.disk(),
            temperatures: self.temperatures(),
            throttling: THROTTLED_FILES.iter().find_map(|file| parse::throttled(&self.read(file))).map(Throttling::of),
            time: TimeState {
                quality: tick.quality.name(),
                has_battery_clock: self.root.join("sys/class/rtc/rtc0").exists(),
            },
            addresses: addresses(
                &self.read("proc/net/fib_trie"),
                &self.read("proc/net/route"),
                &self.read("proc/net/if_inet6"),
            ),
        }
    }

    fn read(&self, path: &str) -> String {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        // What is not there says nothing.
        if let Ok(file) = fs::File::open(self.root.join(path)) {
            file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).unwrap_or_default();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn model(&self) -> Option<String> {
        let files = ["proc/device-tree/model", "sys/firmware/devicetree/base/model", "sys/class/dmi/id/product_name"];
        files.iter().find_map(|file| parse::name(&self.read(file)))
    }

    fn memory(&self) -> Memory {
        let (info, status) = (self.read("proc/meminfo"), self.read("proc/self/status"));
        let swap = parse::kib_line(&info, "SwapTotal").zip(parse::kib_line(&info, "SwapFree"));
        Memory {
            total_bytes: parse::kib_line(&info, "MemTotal"),
            available_bytes: parse::kib_line(&info, "MemAvailable"),
            process_bytes: parse::kib_line(&status, "VmRSS"),
            process_peak_bytes: parse::kib_line(&status, "VmHWM"),
            swap_used_bytes: swap.map(|(total, free)| total.saturating_sub(free)),
        }
    }

    fn disk(&self) -> Disk {
        let Ok(stat) = rustix::fs::statvfs(&self.data_dir) else { return Disk::default() };
        Disk {
            total_bytes: Some(stat.f_blocks.saturating_mul(stat.f_frsize)),
            available_bytes: Some(stat.f_bavail.saturating_mul(stat.f_frsize)),
            read_only: Some(stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)),
        }
    }

    fn temperatures(&self) -> Vec<Temperature> {
        let mut found = Vec::new();
        for zone in 0..TEMPERATURES_MAX {
            let folder = format!("sys/class/thermal/thermal_zone{zone}");
            let Some(celsius) = parse::temperature(&self.read(&format!("{folder}/temp"))) else { continue };
            let name = parse::name(&self.read(&format!("{folder}/type"))).unwrap_or_else(|| format!("zone {zone}"));
            found.push(Temperature { name, celsius });
        }
        found.sort_by(|a, b| b.celsius.total_cmp(&a.celsius));
        found
    }

    fn rates(&self, tick: &Tick, stat: &str) -> (Option<f64>, Option<f64>) {
        let now = Look {
            mono_us: tick.mono_us,
            machine: parse::machine_ticks(stat),
            process: parse::process_ticks(&self.read("proc/self/stat")),
        };
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = looks.before else {
            looks.before = Some(now);
            return (None, None);
        };
        let passed_us = now.mono_us.saturating_sub(before.mono_us);
        if passed_us >= LOOK_US {
            let grown = |now: Ticks, before: Ticks| {
                let (all, idle) = (now.all.saturating_sub(before.all), now.idle.saturating_sub(before.idle));
                (all > 0).then(|| percent(all.saturating_sub(idle) as f64, all as f64))
            };
            let used = |now: u64, before: u64| {
                percent(now.saturating_sub(before) as f64 / ticks_per_second as f64, passed_us as f64 / 1e6)
            };
            looks.machine_percent = now.machine.zip(before.machine).and_then(|(now, before)| grown(now, before));
            looks.process_percent = now.process.zip(before.process).map(|(now, before)| used(now, before));
            looks.before = Some(now);
        }
        (looks.machine_percent, looks.process_percent)
    }
}

/// Percent with one decimal.
fn percent(part: f64, whole: f64) -> f64 {
    (part / whole * 1000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const NOW_US: i64 = 1_800_000_000_000_000;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_board_is_told_from_its_kernels_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        put(root, "proc/stat", "cpu  100 0 0 900 0 0 0 0 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\n");
        put(root, "proc/self/stat", "7 (forebay) S 1 2 3 4 5 6 7 8 9 10 100 0 0 0");
        put(root, "proc/meminfo", "MemTotal: 4096 kB\nMemAvailable: 1024 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n");
        put(root, "proc/self/status", "Name: forebay\nVmHWM: 90 kB\nVmRSS: 60 kB\n");
        put(root, "sys/class/thermal/thermal_zone0/temp", "48312\n");
        put(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        put(root, "sys/class/thermal/thermal_zone1/temp", "61000\n");
        put(root, THROTTLED_FILES[0], "50001\n");
        let clock = Clock::manual(1, 1_000_000, NOW_US);
        let system = System::under(root, root, clock.clone());
        let first = system.board();
        assert_eq!(first.model.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
        assert_eq!((first.processor.cores, first.processor.machine_percent), (2, None));
        assert_eq!(first.memory.available_bytes, Some(1 << 20));
        assert_eq!((first.memory.process_bytes, first.memory.swap_used_bytes), (Some(60 << 10), Some(6 << 10)));
        let warmest = &first.temperatures[0];
        assert_eq!((warmest.name.as_str(), warmest.celsius), ("zone 1", 61.0));
        let throttling = first.throttling.unwrap();
        assert!(throttling.under_voltage && throttling.under_voltage_before && throttling.throttled_before);
        assert!(!throttling.throttled && first.disk.total_bytes.unwrap() > 0);

        // Two seconds later the machine was a quarter busy, and the gateway used half of a core.
        put(root, "proc/stat", "cpu  200 0 0 1200 0 0 0 0 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\n");
        let ticks = 100 + rustix::param::clock_ticks_per_second();
        put(root, "proc/self/stat", &format!("7 (forebay) S 1 2 3 4 5 6 7 8 9 10 {ticks} 0 0 0"));
        clock.set(3_000_000, NOW_US + 2_000_000);
        let later = system.board();
        assert_eq!(later.processor.machine_percent, Some(25.0));
        assert_eq!(later.processor.process_percent, Some(50.0));
        assert_eq!(later.gateway_uptime_seconds, Some(2));
        clock.set(3_100_000, NOW_US + 2_100_000);
        assert_eq!(system.board().processor.machine_percent, Some(25.0), "the last rate stays for a second");
    }

    #[test]
    fn a_kernel_that_says_nothing_leaves_a_board_without_facts() {
        let dir = tempfile::tempdir().unwrap();
        let system = System::under(dir.path(), Path::new("/nowhere/at/all"), Clock::manual(1, 1, NOW_US));
        let board = system.board();
        assert_eq!((board.model, board.uptime_seconds, board.memory), (None, None, Memory::default()));
        assert_eq!((board.disk, board.addresses, board.throttling), (Disk::default(), Vec::new(), None));
    }

    #[test]
    fn the_machine_of_this_test_says_something() {
        let board = System::new(Path::new("."), Clock::system()).board();
        assert!(board.processor.cores > 0 && board.memory.process_bytes.is_some_and(|bytes| bytes > 1024));
        assert!(board.kernel.is_some() && board.disk.total_bytes.is_some());
    }
}
