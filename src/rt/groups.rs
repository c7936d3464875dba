//! Groups of this host, by name.

/// Numeric id of a group, which is given as a number or found in `/etc/group`; `None`: there is no such group. (libc
/// would need unsafe code. A group from a directory service can be given by number.)
pub fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    find_group(&groups, name)
}

fn find_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\nwww-data:x:33:a,b\nbroken\n";
        assert_eq!(find_group(groups, "www-data"), Some(33));
        assert_eq!(find_group(groups, "broken"), None);
        assert_eq!(find_group(groups, "www"), None);
    }
}
