//! The pages of sources and ways upstream that both share.

use super::draft::Side;
use crate::web::pages::Frame;
use askama::Template;
use serde::Deserialize;
use std::time::Duration;

/// How long a page without script waits for a try-out: a bit longer than one may take.
pub(in crate::web) const TRY_WAIT: Duration = Duration::from_secs(17);

/// The list.
#[derive(Template)]
#[template(path = "ways/list.html")]
pub(in crate::web) struct List {
    /// The frame.
    pub(in crate::web) frame: Frame,
    /// The lines.
    pub(in crate::web) lines: String,
    /// Which end.
    pub(in crate::web) side: Side,
}

/// One source, or one way upstream.
#[derive(Template)]
#[template(path = "ways/way.html")]
pub(in crate::web) struct Way {
    /// The frame.
    pub(in crate::web) frame: Frame,
    /// Which end.
    pub(in crate::web) side: Side,
    /// Its name.
    pub(in crate::web) name: String,
    /// How it is.
    pub(in crate::web) state: String,
    /// Its points, or its replays.
    pub(in crate::web) below: String,
    /// What a try-out has found.
    pub(in crate::web) found: String,
    /// The spans that can be sent once more, in hours.
    pub(in crate::web) spans: Vec<(i64, &'static str)>,
}

impl Way {
    fn own(&self) -> String {
        crate::web::pages::path(&format!("{}/", self.side.root()), &self.name)
    }
}

/// Whether it is really to go.
#[derive(Template)]
#[template(path = "ways/remove.html")]
pub(in crate::web) struct Remove {
    /// The frame.
    pub(in crate::web) frame: Frame,
    /// Its name.
    pub(in crate::web) name: String,
    /// The revision that one looked at.
    pub(in crate::web) base: String,
    /// Which end.
    pub(in crate::web) side: Side,
}

impl Remove {
    fn own(&self) -> String {
        crate::web::pages::path(&format!("{}/", self.side.root()), &self.name)
    }
}

/// The revision that one looked at when one chose to remove it.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct RemoveAsk {
    #[serde(default, rename = "_base")]
    pub(in crate::web) base: String,
}

/// Whether what is found can be taken over into a form.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct JobAsk {
    #[serde(default)]
    pub(in crate::web) form: String,
}
