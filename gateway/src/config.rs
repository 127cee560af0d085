//! The configuration: one TOML file. The options of a source, sink, check or detector stand beside its code; this file
//! puts them together. [`load`] reads and checks it, [`reference`] explains it; both are driven by these types.

mod credentials;
pub mod desk;
pub mod edit;
mod examine;
pub mod file;
pub mod form;
pub mod history;
mod load;
mod meaning;
mod mend;
mod network;
pub mod on_trial;
mod problem;
mod redact;
mod reference;
mod reserved;
pub mod secrets;
mod shape;
pub mod sheet;
mod structure;
mod suggest;
pub mod template;
mod tree;

pub use examine::{Examined, examine};
pub use load::{FILE_BYTES_MAX, Loaded, load, parse, parse_with_secrets};
pub use network::Network;
pub use problem::{ConfigErrors, Problem, Problems};
pub use redact::{redacted_toml, restore};
pub use reference::reference;
pub use reserved::Reserved;

use crate::anomaly::AnomalyOptions;
use crate::buffer::{FamilyLimits, Limit, WhenFull};
use crate::checks::CheckOptions;
use crate::secret::SecretFile;
use crate::sinks::SinkOptions;
use crate::site::DeviceTags;
use crate::sources::SourceOptions;
use crate::units::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The gateway itself.
    pub gateway: GatewayOptions,
    /// The local page.
    #[serde(default)]
    pub web: WebOptions,
    /// The buffer on disk.
    #[serde(default)]
    pub buffer: BufferOptions,
    /// Devices and their tags; a device that is not listed has none.
    #[serde(default)]
    pub device: Vec<DeviceOptions>,
    /// Where readings come from.
    #[serde(default)]
    pub source: Vec<SourceOptions>,
    /// What is asked of readings.
    #[serde(default)]
    pub check: Vec<CheckOptions>,
    /// Which points are watched for what is unusual.
    #[serde(default)]
    pub anomaly: Vec<AnomalyOptions>,
    /// Where readings go.
    #[serde(default)]
    pub sink: Vec<SinkOptions>,
}

/// The gateway itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayOptions {
    /// Name of this gateway, unique upstream: letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// Folder for everything that must survive a restart.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
}

/// The local page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebOptions {
    /// Address and port to listen on; `127.0.0.1:8080` keeps the page to this machine. One port serves HTTPS and plain HTTP. Until
    /// someone has set up the gateway with its set-up token, nothing but the set-up can be reached.
    #[serde(default = "listen")]
    pub listen: String,
    /// Whether the page is encrypted on its way. Plain HTTP is always served on this machine itself, for a reverse proxy.
    #[serde(default)]
    pub https: HttpsMode,
    /// File with the certificate in PEM form, the gateway's own one first, then those that it is signed by: an absolute path, or the
    /// name of a systemd credential. A renewed file is taken in by itself. Without it the gateway makes a certificate of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<SecretFile>,
    /// File with the private key of `certificate_file` in PEM form, without a passphrase: an absolute path, or the name of a systemd
    /// credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<SecretFile>,
    /// How long a browser that has seen the page once takes it with HTTPS alone (HSTS, RFC 6797). Only with a certificate that
    /// browsers trust: for so long they let nobody pass a warning. Without it browsers are told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<HumanDuration>,
    /// Reverse proxies that are believed who asks (`X-Forwarded-For`) and whether it came encrypted to them (`X-Forwarded-Proto`):
    /// addresses such as `127.0.0.1`, or networks such as `10.0.0.0/24`. Without it everyone behind a proxy has its address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
}

/// Whether the page is encrypted on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpsMode {
    /// Always: who comes with plain HTTP from another machine is sent to HTTPS.
    #[default]
    Required,
    /// As the browser asks: plain HTTP is served as well. Passwords cross the network readable then.
    Offered,
    /// Never: plain HTTP only.
    Off,
}

/// The buffer on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BufferOptions {
    /// Longest time that an accepted reading waits for the disk, in milliseconds, if nobody would send it again: a poll, a line
    /// of text, MQTT with `QoS` 0.
    // Below, a synchronisation of an SD card takes longer than the interval; above, a source that cannot redeliver risks
    // more in a power cut than anyone expects.
    #[serde(default = "commit_interval_ms")]
    #[schemars(range(min = 10, max = 5_000))]
    pub commit_interval_ms: u64,
    /// Longest time that any reading waits for the disk, in milliseconds: while little comes in that a broker keeps until it is acknowledged,
    /// and to keep `daily_write_max`. A broker that waits for its acknowledgements gets them at once.
    /// At most 250 while a sink has `order = "live_first"`, unless `commit_interval_ms` is more.
    // Above, a broker's queue may overflow, and nobody wants to look at a page that is older.
    #[serde(default = "commit_interval_max_ms")]
    #[schemars(range(min = 10, max = 10_000))]
    pub commit_interval_max_ms: u64,
    /// What the gateway may write to the card a day, as measured; while it writes more, commits come less often, at most
    /// `commit_interval_max_ms` apart. Nothing is lost for it: if that is not enough, it is told.
    #[serde(default)]
    pub daily_write_max: Option<ByteSize>,
    /// Capacity of the card or disk that holds the buffer, to tell how long it lasts.
    #[serde(default)]
    pub card_capacity: Option<ByteSize>,
    /// How often all of the card can be written, as its maker says (terabytes written, divided by the capacity). The default is a third of what a
    /// card made for video is warranted for; ordinary cards promise nothing.
    #[serde(default = "card_write_cycles")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub card_write_cycles: u64,
    /// Most space that the buffer takes on disk, at least 64 MiB.
    #[serde(default = "disk_max")]
    pub disk_max: ByteSize,
    /// What happens when that is reached.
    #[serde(default)]
    pub when_full: WhenFull,
    /// Encryption of everything that the buffer stores; none without.
    #[serde(default)]
    pub encryption: Option<EncryptionOptions>,
    /// How long delivered readings are kept for charts and replay, as far as there is room.
    #[serde(default = "keep_delivered")]
    pub keep_delivered: HumanDuration,
    /// Space on the file system that stays free for other programs; without it 5 %, at least 16 MiB and at most 512 MiB.
    #[serde(default)]
    pub free_min: Option<ByteSize>,
    /// What alerts, dead letters, readings and raw payloads may take of it, each for itself.
    #[serde(default)]
    pub limits: LimitsOptions,
}

/// What each part of the buffer may take. Where room is short, raw payloads go first, then dead letters, then readings; alerts
/// and the records of gaps go last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsOptions {
    /// Alerts and the records of gaps.
    #[serde(default)]
    pub alerts: LimitOptions,
    /// Dead letters.
    #[serde(default)]
    pub dead_letters: LimitOptions,
    /// Readings.
    #[serde(default)]
    pub readings: LimitOptions,
    /// Raw payloads.
    #[serde(default)]
    pub raw: LimitOptions,
}

/// What one part of the buffer may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitOptions {
    /// Most space on disk, at least 8 MiB; without it an eighth of `buffer.disk_max` for alerts and for dead letters, and all of
    /// it for readings and raw payloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_max: Option<ByteSize>,
    /// What is older is dropped even if no sink has it, and told as a gap; without it nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max: Option<HumanDuration>,
    /// What happens when it is full; without it what `buffer.when_full` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
}

/// Encryption at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptionOptions {
    /// File with one key a line, 64 hexadecimal digits each (`openssl rand -hex 32`): an absolute path, or the name of a systemd
    /// credential. The first key writes, all of them read: to rotate, put a fresh key on top, restart, and keep the old ones as
    /// long as anything written under them is kept. Without its key the buffer cannot be read by anyone.
    pub key_file: SecretFile,
}

/// A device and its tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceOptions {
    /// Name of the device, as sources give it.
    pub id: String,
    /// What goes with every reading of it: site, zone, equipment.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Config {
    /// The tags of each device, for sinks and patterns.
    #[must_use]
    pub fn device_tags(&self) -> DeviceTags {
        DeviceTags(self.device.iter().map(|device| (device.id.clone(), device.tags.clone())).collect())
    }

    /// The names of the sources, in the order of the file: the position is the source's index everywhere.
    pub fn source_names(&self) -> impl Iterator<Item = &str> {
        self.source.iter().map(SourceOptions::name)
    }

    /// The names of the sinks, in the order of the file.
    pub fn sink_names(&self) -> impl Iterator<Item = &str> {
        self.sink.iter().map(SinkOptions::name)
    }
}

impl LimitOptions {
    fn limit(&self) -> Limit {
        Limit {
            disk_bytes_max: self.disk_max.map(|size| size.0),
            age_max_us: self.age_max.map(|age| i64::try_from(age.0.as_micros()).unwrap_or(i64::MAX)),
            when_full: self.when_full,
        }
    }
}

impl LimitsOptions {
    /// As the buffer takes them.
    #[must_use]
    pub fn limits(&self) -> FamilyLimits {
        FamilyLimits {
            alerts: self.alerts.limit(),
            dead_letters: self.dead_letters.limit(),
            readings: self.readings.limit(),
            raw: self.raw.limit(),
        }
    }

    /// Each with its key.
    #[must_use]
    pub fn each(&self) -> [(&'static str, &LimitOptions); 4] {
        let Self { alerts, dead_letters, readings, raw } = self;
        [("alerts", alerts), ("dead_letters", dead_letters), ("readings", readings), ("raw", raw)]
    }
}

impl Default for WebOptions {
    fn default() -> Self {
        Self {
            listen: listen(),
            https: HttpsMode::default(),
            certificate_file: None,
            key_file: None,
            hsts: None,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for BufferOptions {
    fn default() -> Self {
        Self {
            commit_interval_ms: commit_interval_ms(),
            commit_interval_max_ms: commit_interval_max_ms(),
            daily_write_max: None,
            card_capacity: None,
            card_write_cycles: card_write_cycles(),
            disk_max: disk_max(),
            when_full: WhenFull::default(),
            encryption: None,
            keep_delivered: keep_delivered(),
            free_min: None,
            limits: LimitsOptions::default(),
        }
    }
}

/// Where everything is that must survive a restart, unless the file says otherwise.
#[must_use]
pub fn default_data_dir() -> PathBuf {
    PathBuf::from("/var/lib/forebay")
}

fn listen() -> String {
    "0.0.0.0:8080".to_owned()
}

fn commit_interval_ms() -> u64 {
    200
}

fn commit_interval_max_ms() -> u64 {
    2_000
}

/// `SanDisk` promises 10 000 hours of video at 26 Mbit/s for its High Endurance card of 128 GB, which is 117 TB or some 900
/// times its capacity, written in large pieces. An ordinary card promises nothing: a third of it.
fn card_write_cycles() -> u64 {
    300
}

fn disk_max() -> ByteSize {
    ByteSize(2 << 30)
}

fn keep_delivered() -> HumanDuration {
    HumanDuration(std::time::Duration::from_secs(7 * 24 * 3_600))
}
