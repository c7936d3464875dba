//! Backups: who gets requests while somebody else is ready, and who stands by.

/// The eligible backends of a pool, by what they are for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTiers<T> {
    /// These get requests.
    pub serving: Vec<T>,
    /// Backups, which get none as long as one of the others is there. Empty where they serve themselves.
    pub standing_by: Vec<T>,
}

impl<T> BackendTiers<T> {
    /// Each eligible backend, and whether it is a backup. The order stays.
    pub fn new(eligible: impl IntoIterator<Item = (T, bool)>) -> Self {
        let (mut serving, mut standing_by) = (Vec::new(), Vec::new());
        for (backend, is_backup) in eligible {
            match is_backup {
                true => standing_by.push(backend),
                false => serving.push(backend),
            }
        }
        if serving.is_empty() {
            serving = std::mem::take(&mut standing_by);
        }
        Self {
            serving,
            standing_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pools of up to six backends: each is a backup or not, and ready or not.
    #[test]
    fn a_backup_serves_if_and_only_if_no_other_backend_is_ready() {
        for count in 0..=6 {
            for kinds in 0..1_u32 << count {
                for states in 0..1_u32 << count {
                    let is = |bits: u32, index: &u32| bits & (1 << index) != 0;
                    let ready: Vec<u32> = (0..count).filter(|index| is(states, index)).collect();
                    let eligible = ready.iter().map(|index| (*index, is(kinds, index)));
                    let tiers = BackendTiers::new(eligible);
                    let others = ready.iter().any(|index| !is(kinds, index));
                    for index in &ready {
                        let serves = !is(kinds, index) || !others;
                        assert_eq!(tiers.serving.contains(index), serves);
                        assert_eq!(tiers.standing_by.contains(index), !serves);
                    }
                    // Nobody is lost, and a pool with anything ready serves.
                    assert_eq!(tiers.serving.len() + tiers.standing_by.len(), ready.len());
                    assert_eq!(tiers.serving.is_empty(), ready.is_empty());
                    assert!(tiers.serving.is_sorted() && tiers.standing_by.is_sorted());
                }
            }
        }
    }
}
