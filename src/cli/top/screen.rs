//! Selections of the user: pane, backend, filter and order. Pure.

use super::counts::PoolBackend;
use super::picture::{BackendRow, PoolBlock, TopPicture};

/// A pane of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopPane {
    /// Pools and their backends.
    Backends,
    /// Drains in progress.
    Drains,
    /// The last restarts.
    Restarts,
    /// Routes with several pools.
    Splits,
    /// Certificates.
    Certificates,
}

impl TopPane {
    /// All panes in the order of Tab.
    pub(super) const ALL: [Self; 5] = [
        Self::Backends,
        Self::Drains,
        Self::Restarts,
        Self::Splits,
        Self::Certificates,
    ];

    /// Title of the pane.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Backends => "Backends",
            Self::Drains => "Drains",
            Self::Restarts => "Restarts",
            Self::Splits => "Splits",
            Self::Certificates => "Certificates",
        }
    }

    /// Number of its lines.
    pub(super) fn len(self, picture: &TopPicture) -> usize {
        match self {
            Self::Backends => picture.pools.iter().map(|pool| pool.backends.len()).sum(),
            Self::Drains => picture.drains.len(),
            Self::Restarts => picture.restarts.len(),
            Self::Splits => picture.splits.len(),
            Self::Certificates => picture.certificates.len(),
        }
    }
}

/// Order of backends within their pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendOrder {
    /// By name.
    Name,
    /// Backends that take no requests first.
    State,
    /// The most in flight first.
    InFlight,
    /// The most requests per second first.
    Rate,
    /// The most errors per second first.
    Errors,
}

impl BackendOrder {
    /// Name of the order.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::InFlight => "in flight",
            Self::Rate => "requests/s",
            Self::Errors => "errors/s",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::State,
            Self::State => Self::InFlight,
            Self::InFlight => Self::Rate,
            Self::Rate => Self::Errors,
            Self::Errors => Self::Name,
        }
    }

    fn sort(self, rows: &mut [&BackendRow]) {
        let rate = |row: &BackendRow| row.rates.map_or(0.0, |rates| rates.answers);
        let errors = |row: &BackendRow| row.rates.map_or(0.0, |rates| rates.errors);
        match self {
            Self::Name => {}
            Self::State => rows.sort_by_key(|row| urgency(&row.state)),
            Self::InFlight => rows.sort_by_key(|row| {
                let kinds = row.in_flight;
                std::cmp::Reverse(kinds.request + kinds.stream + kinds.upgrade)
            }),
            Self::Rate => rows.sort_by(|a, b| rate(b).total_cmp(&rate(a))),
            Self::Errors => rows.sort_by(|a, b| errors(b).total_cmp(&errors(a))),
        }
    }
}

/// Rank of a state; the most urgent state is first.
fn urgency(state: &str) -> u8 {
    match state {
        "down" => 0,
        "ejected" => 1,
        "draining" => 2,
        "drained" => 3,
        "starting" => 4,
        "ready" => 6,
        _ => 5,
    }
}

/// A change of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendChange {
    /// Drain it.
    Drain,
    /// Lift operators' drains.
    Resume,
}

/// A change that waits for confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AskedChange {
    /// The change.
    pub change: BackendChange,
    /// The backend.
    pub backend: PoolBackend,
    /// Indexes of the proxies that know the backend.
    pub proxies: Vec<usize>,
}

/// A line in the pane of backends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum BackendLine<'a> {
    /// Heading of a pool.
    Pool(&'a PoolBlock),
    /// A backend of the pool.
    Backend(&'a BackendRow),
}

/// Selections of the user.
#[derive(Debug, Clone)]
pub(super) struct TopScreen {
    /// Pane that has the keyboard's focus.
    pub pane: TopPane,
    /// Selected backend, and index of the proxy whose row it is.
    pub selected: Option<(PoolBackend, usize)>,
    /// Number of lines that each pane is scrolled by, in the order of [`TopPane::ALL`].
    pub scrolled: [usize; 5],
    /// Filter: only backends are shown whose pool, name, state or address contains it.
    pub filter: String,
    /// Whether the filter is being typed.
    pub is_typing: bool,
    /// Order of backends.
    pub order: BackendOrder,
    /// Whether the display is frozen.
    pub is_frozen: bool,
    /// Whether the list of keys is shown.
    pub is_help_open: bool,
    /// Change that waits for confirmation.
    pub asked: Option<AskedChange>,
    /// Result of the last change.
    pub message: Option<String>,
}

impl TopScreen {
    /// Selections at the start, with the filter of the command line.
    pub(super) fn new(filter: Option<String>) -> Self {
        Self {
            pane: TopPane::Backends,
            selected: None,
            scrolled: [0; 5],
            filter: filter.unwrap_or_default(),
            is_typing: false,
            order: BackendOrder::Name,
            is_frozen: false,
            is_help_open: false,
            asked: None,
            message: None,
        }
    }

    /// Lines of the pane of backends, filtered and sorted. A pool without a match is left out.
    pub(super) fn lines<'a>(&self, picture: &'a TopPicture) -> Vec<BackendLine<'a>> {
        let mut lines = Vec::new();
        let filter = self.filter.to_lowercase();
        for pool in &picture.pools {
            let whole = pool.name.to_lowercase().contains(&filter);
            let matches = |row: &&BackendRow| {
                let has = |text: &str| text.to_lowercase().contains(&filter);
                whole || has(&row.name) || has(&row.state) || has(&row.address)
            };
            let mut rows: Vec<_> = pool.backends.iter().filter(matches).collect();
            if rows.is_empty() && !whole {
                continue;
            }
            self.order.sort(&mut rows);
            lines.push(BackendLine::Pool(pool));
            lines.extend(rows.into_iter().map(BackendLine::Backend));
        }
        lines
    }

    /// Index of the selected backend's line; the first backend's if it is not among these lines.
    pub(super) fn selected_line(&self, lines: &[BackendLine<'_>]) -> Option<usize> {
        let is_selected = |line: &BackendLine<'_>| match (line, &self.selected) {
            (BackendLine::Backend(row), Some((key, proxy))) => {
                row.key == *key && row.proxy == *proxy
            }
            _ => false,
        };
        let first = |line: &BackendLine<'_>| matches!(line, BackendLine::Backend(_));
        let found = lines.iter().position(is_selected);
        found.or_else(|| lines.iter().position(first))
    }

    /// Moves the selection, or scrolls, by this many lines.
    pub(super) fn move_by(&mut self, by: isize, picture: &TopPicture) {
        if self.pane != TopPane::Backends {
            let last = self.pane.len(picture).saturating_sub(1);
            let at = &mut self.scrolled[self.pane as usize];
            *at = at.saturating_add_signed(by).min(last);
            return;
        }
        let lines = self.lines(picture);
        let Some(at) = self.selected_line(&lines) else {
            return;
        };
        let rows: Vec<_> = (0..lines.len())
            .filter(|n| matches!(lines[*n], BackendLine::Backend(_)))
            .collect();
        let now = rows.iter().position(|n| *n == at).unwrap_or(0);
        let then = now.saturating_add_signed(by).min(rows.len() - 1);
        if let BackendLine::Backend(row) = lines[rows[then]] {
            self.selected = Some((row.key.clone(), row.proxy));
        }
    }

    /// Selects the next pane, or the previous one.
    pub(super) fn turn_pane(&mut self, back: bool) {
        let all = TopPane::ALL;
        let at = all.iter().position(|pane| *pane == self.pane).unwrap_or(0);
        let next = match back {
            true => at + all.len() - 1,
            false => at + 1,
        };
        self.pane = all[next % all.len()];
    }

    /// Selects the next order.
    pub(super) fn turn_order(&mut self) {
        self.order = self.order.next();
    }

    /// Asks for confirmation of a change of the selected backend, at all proxies that know it.
    pub(super) fn ask(&mut self, change: BackendChange, picture: &TopPicture) {
        let lines = self.lines(picture);
        let line = self.selected_line(&lines).map(|at| lines[at]);
        let Some(BackendLine::Backend(row)) = line else {
            return;
        };
        let rows = picture.pools.iter().flat_map(|pool| &pool.backends);
        let same = rows.filter(|other| other.key == row.key);
        self.asked = Some(AskedChange {
            change,
            backend: row.key.clone(),
            proxies: same.map(|row| row.proxy).collect(),
        });
    }
}
