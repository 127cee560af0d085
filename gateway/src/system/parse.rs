//! The kernel's words: every parser takes any text and says nothing where it makes no sense.

/// Times of a processor in ticks: all of them, and those in which it had nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    pub(super) all: u64,
    pub(super) idle: u64,
}

/// The first line of /proc/stat (`proc_stat(5)`): user, nice, system, idle, iowait, irq, softirq, steal.
pub(super) fn machine_ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // Time of guests is in user time already.
    let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let idle = fields.get(3)?.saturating_add(fields.get(4).copied().unwrap_or(0));
    Some(Ticks { all: fields.iter().fold(0, |sum, field| sum.saturating_add(*field)), idle })
}

/// How many processors /proc/stat lists.
pub(super) fn processors(stat: &str) -> u64 {
    let is_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    stat.lines().filter(is_one).count() as u64
}

/// Ticks that a process used, from /proc/self/stat (`proc_pid_stat(5)`, fields 14 and 15); its name may hold anything.
pub(super) fn process_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user.saturating_add(system))
}

/// The bytes of a line such as `MemAvailable:  123 kB`.
pub(super) fn kib_line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The three load averages of /proc/loadavg.
pub(super) fn load(text: &str) -> Option<[f64; 3]> {
    let mut fields = text.split_whitespace().map(|field| field.parse::<f64>().ok().filter(|load| load.is_finite()));
    Some([fields.next()??, fields.next()??, fields.next()??])
}

/// The seconds of /proc/uptime.
pub(super) fn uptime(text: &str) -> Option<u64> {
    let seconds = text.split_whitespace().next()?.split('.').next()?;
    seconds.parse().ok()
}

/// A temperature in thousandths of a degree; what no board can have is none.
pub(super) fn temperature(text: &str) -> Option<f64> {
    let thousandths: i32 = text.trim().parse().ok()?;
    Some(f64::from(thousandths) / 1000.0).filter(|celsius| (-60.0..=200.0).contains(celsius))
}

/// A name from a device tree or from DMI: printable, without the zero at its end, not too long.
pub(super) fn name(text: &str) -> Option<String> {
    let name: String = text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Longest name of a board or system, in characters.
const NAME_CHARS_MAX: usize = 120;

/// `PRETTY_NAME` of /etc/os-release (os-release(5)).
pub(super) fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    name(value.trim().trim_matches(['"', '\'']))
}

/// The bits of a Raspberry Pi's `get_throttled`, written in hexadecimal.
pub(super) fn throttled(text: &str) -> Option<u32> {
    let text = text.trim();
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat =
            "cpu  100 1 50 800 40 2 3 4 9 9\ncpu0 50 0 25 400 20 1 1 2 0 0\ncpu1 50 1 25 400 20 1 2 2 0 0\nintr 5\n";
        assert_eq!(machine_ticks(stat), Some(Ticks { all: 1000, idle: 840 }));
        assert_eq!(processors(stat), 2);
        assert_eq!(process_ticks("7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0"), Some(150));
        assert_eq!(kib_line("MemTotal:  2048 kB\nMemAvailable:   1024 kB\n", "MemAvailable"), Some(1 << 20));
        assert_eq!(load("0.52 0.10 1.00 1/80 900\n"), Some([0.52, 0.10, 1.0]));
        assert_eq!(uptime("3600.45 7000.1\n"), Some(3600));
        assert_eq!(temperature("48312\n"), Some(48.312));
        assert_eq!(temperature("-273150"), None);
        assert_eq!(name("Raspberry Pi 4 Model B Rev 1.4\0").as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
        let release = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n";
        assert_eq!(pretty_name(release).as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(throttled("0x50005\n"), Some(0x5_0005));
        assert_eq!(throttled("0"), Some(0));
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC{0,200}|(cpu|Mem|[0-9 .:()xkB\n-]){0,80}") {
            machine_ticks(&text);
            processors(&text);
            process_ticks(&text);
            kib_line(&text, "Mem");
            load(&text);
            uptime(&text);
            throttled(&text);
            pretty_name(&text);
            prop_assert!(temperature(&text).is_none_or(f64::is_finite));
            prop_assert!(name(&text).is_none_or(|name| name.chars().count() <= NAME_CHARS_MAX));
        }
    }
}
