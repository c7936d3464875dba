//! Zones and backups: who gets requests while somebody else can, and who stands by.

/// When a backend's turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendRank {
    /// First.
    Local,
    /// When none of the first can take a request: it is in another zone than the proxy.
    OtherZone,
    /// When none of all these is ready.
    Backup,
}

/// The eligible backends of a pool, by what they are for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTiers<T> {
    /// These get requests: of those that are ready, the ones of the first rank that there is.
    pub serving: Vec<T>,
    /// Those of other zones, which get what the ones above have no room for. Empty where they serve themselves.
    pub other_zones: Vec<T>,
    /// Backups, which get none as long as one of the others is there. Empty where they serve themselves.
    pub standing_by: Vec<T>,
}

impl<T> BackendTiers<T> {
    /// Each eligible backend, and its rank. The order stays.
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

    /// All pools of up to five backends: each of some rank, and ready or not.
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
                    // Nobody is lost, the order stays, and a pool with anything ready serves.
                    assert_eq!(tiers.serving, serving);
                    assert_eq!(tiers.other_zones, of(BackendRank::OtherZone));
                    assert_eq!(tiers.standing_by, of(BackendRank::Backup));
                }
            }
        }
    }
}
