//! Groups of this host, by name.

/// A group's number: given as such, or found in `/etc/group`. (Asking libc would need unsafe code; a group
/// from elsewhere can be given by number.) `None`: there is none of this name.
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
