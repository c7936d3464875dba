//! docs/doctor.md has every check.

use lameduck::tools::doctor::checks;

#[test]
fn every_check_is_documented() {
    let text = std::fs::read_to_string("docs/doctor.md").unwrap();
    let headings: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let codes: Vec<_> = checks::ALL.iter().map(|check| check.code).collect();
    assert_eq!(headings, codes);
    for section in text.split("\n### ").skip(1) {
        assert!(section.contains("Instead:"), "{section}");
    }
}
