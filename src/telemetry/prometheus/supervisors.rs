//! Metrics of supervisors that lameduck listens to: only for pools with `[pool.supervisor]`.

use super::families::FamilyBuilder;
use crate::core::supervisor_word::ProcessWord;
use crate::registry::supervised::SupervisorBoard;

pub(super) fn supervisors(board: &SupervisorBoard) -> [FamilyBuilder; 2] {
    let mut up = FamilyBuilder::gauge(
        "lameduck_supervisor_up",
        "1 while a pool's supervisor can be heard.",
    );
    let mut words = FamilyBuilder::counter(
        "lameduck_supervisor_words_total",
        "What supervisors said of processes, by word.",
    );
    for (pool, record) in board.records() {
        let labels = [("pool", pool.as_str()), ("supervisor", record.kind)];
        up.add(&labels, u64::from(record.listening));
        for (word, count) in ProcessWord::ALL.iter().zip(record.words) {
            words.add(&[labels[0], labels[1], ("word", word.as_str())], count);
        }
    }
    [up, words]
}
