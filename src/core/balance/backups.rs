//! Zones and backups: which backends get requests, and which stand by.

/// Rank of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendRank {
    /// In the proxy's zone: gets requests first.
    Local,
    /// In another zone than the proxy: gets requests that no local backend can take.
    OtherZone,
    /// Gets requests while no other backend is ready.
    Backup,
}

/// The eligible backends of a pool, grouped by their present role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTiers<T> {
    /// Backends that get requests: the ready ones of the best rank.
    pub serving: Vec<T>,
    /// Backends of other zones, for requests that the serving ones have no room for. Empty if they serve themselves.
    pub other_zones: Vec<T>,
    /// Backups, which get no requests as long as another backend is ready. Empty if they serve themselves.
    pub standing_by: Vec<T>,
}

impl<T> BackendTiers<T> {
    /// Groups eligible backends by rank. Their order stays.
    pub fn new(eligible: impl IntoIterator<Item = (T, BackendRank)>) -> Self {
        let (mut serving, mut other_zones, mut standing_by) = (Vec::new(), Vec::new(), Vec::new());
        for (backend, rank) in eligible {
            match rank {
                BackendRank::Local => serving.push(backend),
                BackendRank::OtherZone => other_zones.push(backend),
                BackendRank::Backup => standing_by.push(backend),
            }
        }
        if serving.is_empty() {
            serving = std::mem::take(&mut other_zones);
        }
        if serving.is_empty() {
            serving = std::mem::take(&mut standing_by);
        }
        Self {
            serving,
            other_zones,
            standing_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANKS: [BackendRank; 3] = [
        BackendRank::Local,
        BackendRank::OtherZone,
        BackendRank::Backup,
    ];

    /// Tries all pools of up to five backends, each of any rank, and ready or not.
    #[test]
    fn backend_serves_if_and_only_if_no_other_of_a_better_rank_is_ready() {
        for count in 0..=5_u32 {
            for kinds in 0..3_usize.pow(count) {
                let rank = |index: u32| RANKS[kinds / 3_usize.pow(index) % 3];
                for states in 0..1_u32 << count {
                    let ready: Vec<u32> = (0..count)
                        .filter(|index| states & (1 << index) != 0)
                        .collect();
                    let eligible = ready.iter().map(|index| (*index, rank(*index)));
                    let tiers = BackendTiers::new(eligible);
                    let best = ready.iter().map(|index| rank(*index)).min();
                    let of = |wanted: BackendRank| -> Vec<u32> {
                        let is = |index: &&u32| rank(**index) == wanted && best != Some(wanted);
                        ready.iter().filter(is).copied().collect()
                    };
                    let first = |index: &&u32| best == Some(rank(**index));
                    let serving: Vec<u32> = ready.iter().filter(first).copied().collect();
                    // No backend is lost, the order stays, and a pool with a ready backend serves.
                    assert_eq!(tiers.serving, serving);
                    assert_eq!(tiers.other_zones, of(BackendRank::OtherZone));
                    assert_eq!(tiers.standing_by, of(BackendRank::Backup));
                }
            }
        }
    }
}
