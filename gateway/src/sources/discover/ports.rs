//! The serial ports of this machine: device files with a driver behind them, and their stable names.

use crate::sources::SourceOptions;
use crate::sources::tryout::owner;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Most ports that are told: more are on no board, and each costs a few reads.
const PORTS_MAX: usize = 64;
/// Most directory entries that are looked at: a kernel has some hundred terminals.
const ENTRIES_MAX: usize = 4_096;
/// Most bytes of a description's file: a USB text has at most 126 characters (USB 2.0, section 9.6.7).
const TEXT_BYTES_MAX: usize = 256;
/// How far above the port's own device a USB adapter's texts stand: interface, device, and a hub's port between.
const USB_LEVELS_MAX: usize = 4;

/// A serial port of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Port {
    /// The name to configure: stable over restarts and replugging where there is such a name.
    pub path: String,
    /// Whether `path` is such a stable name.
    pub is_stable: bool,
    /// The device file at the moment.
    pub device: String,
    /// The name by the place it is plugged into, if there is one: tells two equal adapters without serial numbers apart.
    pub by_place: Option<String>,
    /// What it is, for a person: maker and product of a USB adapter, or the driver.
    pub description: String,
    /// The running source that reads it, if one does.
    pub in_use: Option<String>,
    /// Whether the system's console is on it: it is not free for a device.
    pub is_console: bool,
}

/// Where the system keeps what it knows of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Device files: `/dev`.
    pub dev: PathBuf,
    /// The kernel's view: `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { dev: "/dev".into(), sys: "/sys".into() }
    }
}

/// All ports, by device file.
pub(super) fn find(roots: &Roots, running: &[SourceOptions]) -> Vec<Port> {
    let by_id = links(&roots.dev.join("serial/by-id"));
    let by_place = links(&roots.dev.join("serial/by-path"));
    let console = fs::read_to_string(roots.sys.join("class/tty/console/active")).unwrap_or_default();
    let mut names = terminals(&roots.sys);
    names.truncate(PORTS_MAX);
    let port = |name: String| {
        let file = roots.dev.join(&name);
        let device = file.display().to_string();
        let real = fs::canonicalize(&file).unwrap_or(file);
        let (id, place) = (by_id.get(&real).cloned(), by_place.get(&real).cloned());
        let stable = id.or_else(|| place.clone());
        Port {
            description: description(&roots.sys.join("class/tty").join(&name)),
            in_use: owner(&device, running),
            is_console: console.split_whitespace().any(|active| active == name),
            is_stable: stable.is_some(),
            path: stable.unwrap_or_else(|| device.clone()),
            by_place: place,
            device,
        }
    };
    names.into_iter().map(port).collect()
}

/// Terminals that are real ports: with a device and a driver behind them, and for 8250 ports a chip that was found.
fn terminals(sys: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(sys.join("class/tty")) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .take(ENTRIES_MAX)
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            path.join("device/driver").exists().then_some(())?;
            // The kernel makes terminals for ports that may be there; type 0 is "unknown": nobody answered.
            let is_ghost = fs::read_to_string(path.join("type")).is_ok_and(|kind| kind.trim() == "0");
            let name = path.file_name()?.to_str()?.to_owned();
            (!is_ghost).then_some(name)
        })
        .collect();
    names.sort();
    names
}

/// Symbolic links of a directory by the file that they lead to.
fn links(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries.take(ENTRIES_MAX).flatten() {
        if let Ok(real) = fs::canonicalize(entry.path()) {
            // Of two names for one port the first by alphabet, so that it is the same each time.
            let name = entry.path().display().to_string();
            let kept = found.entry(real).or_insert_with(|| name.clone());
            if name < *kept {
                *kept = name;
            }
        }
    }
    found
}

/// Maker and product of the USB adapter, or the driver.
fn description(terminal: &Path) -> String {
    let Ok(device) = fs::canonicalize(terminal.join("device")) else { return String::new() };
    for level in device.ancestors().take(USB_LEVELS_MAX) {
        let Some(product) = text(&level.join("product")) else { continue };
        return match text(&level.join("manufacturer")) {
            Some(maker) if !product.starts_with(&maker) => format!("{maker} {product}"),
            _ => product,
        };
    }
    let driver = fs::canonicalize(device.join("driver"));
    let driver = driver.ok().and_then(|driver| Some(driver.file_name()?.to_string_lossy().into_owned()));
    driver.map_or_else(|| "port of the board".to_owned(), |driver| format!("port of the board ({driver})"))
}

/// A small text file as one printable line.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text: String = text.chars().take(TEXT_BYTES_MAX).filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine with a USB adapter, a port of the board, one that is not there, and a virtual terminal.
    fn machine() -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { dev: folder.path().join("dev"), sys: folder.path().join("sys") };
        let usb = roots.sys.join("devices/usb1/1-2");
        for (name, device, driver) in
            [("ttyUSB0", usb.join("1-2:1.0/ttyUSB0"), "ftdi_sio"), ("ttyS0", roots.sys.join("devices/uart0"), "port")]
        {
            let terminal = roots.sys.join("class/tty").join(name);
            let driver_folder = roots.sys.join("drivers").join(driver);
            for path in [&terminal, &device, &driver_folder, &roots.dev] {
                fs::create_dir_all(path).unwrap();
            }
            symlink(&device, terminal.join("device")).unwrap();
            symlink(driver_folder, device.join("driver")).unwrap();
            fs::write(roots.dev.join(name), "").unwrap();
        }
        fs::write(usb.join("product"), "FT232R USB UART\n").unwrap();
        fs::write(usb.join("manufacturer"), "FTDI\n").unwrap();
        fs::write(roots.sys.join("class/tty/ttyS0/type"), "4\n").unwrap();
        let ghost = roots.sys.join("class/tty/ttyS1");
        fs::create_dir_all(&ghost).unwrap();
        symlink(roots.sys.join("devices/uart0"), ghost.join("device")).unwrap();
        fs::write(ghost.join("type"), "0\n").unwrap();
        fs::create_dir_all(roots.sys.join("class/tty/tty1")).unwrap();
        fs::create_dir_all(roots.sys.join("class/tty/console")).unwrap();
        fs::write(roots.sys.join("class/tty/console/active"), "tty0 ttyS0\n").unwrap();
        for (kind, name) in [("by-id", "usb-FTDI_FT232R_A5-if00-port0"), ("by-path", "pci-0-usb-0:2:1.0-port0")] {
            let links = roots.dev.join("serial").join(kind);
            fs::create_dir_all(&links).unwrap();
            symlink("../../ttyUSB0", links.join(name)).unwrap();
        }
        (folder, roots)
    }

    #[test]
    fn real_ports_are_found_with_their_stable_names_and_what_they_are() {
        let (_folder, roots) = machine();
        let ports = find(&roots, &[]);
        let names: Vec<_> = ports.iter().map(|port| port.device.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["ttyS0", "ttyUSB0"]);
        let [board, usb] = &ports[..] else { panic!("{ports:?}") };
        assert!(usb.path.ends_with("by-id/usb-FTDI_FT232R_A5-if00-port0") && usb.is_stable, "{usb:?}");
        assert!(usb.by_place.as_ref().unwrap().ends_with("by-path/pci-0-usb-0:2:1.0-port0"));
        assert_eq!(usb.description, "FTDI FT232R USB UART");
        assert!(!usb.is_console && board.is_console);
        assert_eq!((board.is_stable, &board.path), (false, &board.device));
        assert_eq!(board.description, "port of the board (port)");
    }

    #[test]
    fn a_port_that_a_running_source_reads_is_marked_whatever_it_is_called() {
        let (_folder, roots) = machine();
        let text = format!(
            "name = \"bus\"\ntype = \"modbus\"\nurl = \"rtu://{}?baud=9600\"\nunit = []\n",
            roots.dev.join("serial/by-id/usb-FTDI_FT232R_A5-if00-port0").display()
        );
        let running: SourceOptions = toml::from_str(&text).unwrap();
        let ports = find(&roots, &[running]);
        assert_eq!(ports.iter().map(|port| port.in_use.as_deref()).collect::<Vec<_>>(), [None, Some("bus")]);
    }

    #[test]
    fn a_machine_without_serial_ports_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find(&Roots { dev: folder.path().into(), sys: folder.path().join("nothing") }, &[]), []);
    }
}
