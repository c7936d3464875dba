//! The grammar of conditions.

use super::*;

#[test]
fn conditions_are_read_and_written_in_one_form() {
    for (text, written) in [
        ("5xx>1%", "5xx>1%"),
        (" 5XX > 0.5 % ", "5xx>0.5%"),
        ("4xx>12.345%", "4xx>12.345%"),
        ("failed>99.999%", "failed>99.999%"),
        ("p99>500ms", "p99>500ms"),
        ("p50>1.5s", "p50>1500ms"),
        ("p95>0.25ms", "p95>0.25ms"),
        ("p99>2x", "p99>2x"),
        ("5xx>1.5x", "5xx>1.5x"),
    ] {
        let condition = AbortCondition::parse(text).unwrap();
        assert_eq!(condition.to_string(), written, "{text}");
        assert_eq!(AbortCondition::parse(written), Ok(condition), "{text}");
    }
    let read = AbortCondition::parse("p99>2x").unwrap();
    let meant = (PlanMetric::Latency(990), ConditionLimit::Factor(2000));
    assert_eq!((read.metric, read.limit), meant);
}

#[test]
fn text_that_is_no_condition_is_refused_with_its_place_and_what_may_stand_there() {
    for (text, at, says) in [
        ("", 0, "5xx, 4xx, failed, p50"),
        ("6xx>1%", 0, "5xx, 4xx, failed, p50"),
        ("5xx<1%", 3, "a > has to stand here"),
        ("5xx", 3, "a > has to stand here"),
        ("5xx>=1%", 4, "without the ="),
        ("5xx>", 4, "a number"),
        ("5xx>%", 4, "a number"),
        ("5xx>1.%", 4, "a number"),
        ("5xx>1.2.3%", 4, "a number"),
        ("5xx>-1%", 4, "a number"),
        ("5xx>1", 5, "a share ends with %"),
        ("5xx>1ms", 5, "a share ends with %"),
        ("5xx>0%", 4, "more than 0 %"),
        ("5xx>100%", 4, "less than 100 %"),
        ("5xx>0.5x", 4, "1 or more"),
        ("5xx>1001x", 4, "1000 or less"),
        ("p99>5%", 5, "ms or s"),
        ("p99>500", 7, "ms or s"),
        ("p99>0ms", 4, "more than 0"),
        ("p99>121s", 4, "at most 120s"),
        ("p99>999999999s", 4, "at most 120s"),
        ("5xx>1% p99>2x", 7, "one of its own"),
        ("5xx>1%\n", 6, "one of its own"),
        ("π>1%", 0, "5xx, 4xx"),
    ] {
        let error = AbortCondition::parse(text).unwrap_err().to_string();
        let caret = error.lines().last().unwrap();
        assert_eq!(caret.len(), 4 + at + 1, "{text:?}:\n{error}");
        assert!(
            caret.ends_with('^') && error.contains(says),
            "{text:?}:\n{error}"
        );
    }
    assert!(AbortCondition::parse(&"5".repeat(70)).is_err());
}

/// For any text: no panic, and a condition that was parsed is written so that it is parsed in the same way.
#[test]
fn random_conditions_are_read_or_refused() {
    const PIECES: [&str; 18] = [
        "5xx",
        "4xx",
        "p99",
        "failed",
        ">",
        "<",
        "=",
        "1",
        "0.5",
        ".",
        "%",
        "x",
        "ms",
        "s",
        " ",
        "é",
        "999999999",
        "\0",
    ];
    for seed in seeds() {
        let mut dice = Dice(seed);
        for _ in 0..50 {
            let count = dice.below(7);
            let text: String = (0..count)
                .map(|_| PIECES[dice.below(18) as usize])
                .collect();
            match AbortCondition::parse(&text) {
                Ok(read) => {
                    let written = read.to_string();
                    assert_eq!(
                        AbortCondition::parse(&written),
                        Ok(read),
                        "seed {seed}: {text:?}"
                    );
                }
                Err(error) => assert!(error.to_string().contains('^'), "seed {seed}: {text:?}"),
            }
        }
    }
}
