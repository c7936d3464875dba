//! `config/lameduck.toml`, the example with every key: missing keys are added from the declarations.
//!
//! Existing entries are left unchanged, since an example may be worded differently from the reference.

use super::schema::{KeySchema, SECTIONS};

/// Width of its comments.
const WIDTH: usize = 100;

/// Returns the example with each missing section and key added at its place, commented out, below its description.
pub fn complete(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut end = lines.len();
    for section in &SECTIONS[1..] {
        let begin = header_of(&lines, section.header).unwrap_or_else(|| {
            let mut new = comment(section.doc);
            // Without an empty line, the key above would seem to belong to this comment.
            if lines[..end].last().is_some_and(|line| !line.is_empty()) {
                new.insert(0, String::new());
            }
            new.extend([format!("# {}", section.header), String::new()]);
            let begin = end + new.len() - 1;
            lines.splice(end..end, new);
            begin
        });
        let mut place = begin;
        for key in section.keys {
            let start = format!("{} = ", key.name);
            let mut own = begin..end_of(&lines, begin);
            place = match own.find(|line| bare(&lines[*line]).starts_with(&start)) {
                Some(line) => line + 1,
                None => {
                    let new = entry(key);
                    let after = place + new.len();
                    lines.splice(place..place, new);
                    after
                }
            };
        }
        end = end_of(&lines, begin);
    }
    lines.join("\n") + "\n"
}

/// Returns a line without its comment mark.
fn bare(line: &str) -> &str {
    line.strip_prefix("# ").unwrap_or(line)
}

/// Returns the index of the line below a section's header.
fn header_of(lines: &[String], header: &str) -> Option<usize> {
    let line = lines.iter().position(|line| bare(line) == header)?;
    Some(line + 1)
}

/// Returns the end of the section that begins at this line: above the comment of the next one.
fn end_of(lines: &[String], begin: usize) -> usize {
    let is_header = |line: &String| SECTIONS[1..].iter().any(|next| next.header == bare(line));
    let next = lines[begin..].iter().position(is_header);
    let Some(next) = next.map(|next| begin + next) else {
        return lines.len();
    };
    let above = lines[begin..next].iter().rev();
    next - above.take_while(|line| line.starts_with('#')).count()
}

/// Returns the lines of a key, with its description.
fn entry(key: &KeySchema) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(comment(key.doc));
    lines.push(format!("# {} = {}", key.name, key.example));
    lines
}

/// Formats text of the reference as a comment.
fn comment(doc: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::from("#");
    for word in doc.replace('`', "").split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, String::from("#")));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config/lameduck.toml");

    #[test]
    fn missing_key_is_added_below_the_one_before_it() {
        let entry = "# How long an unused connection is kept. Shorter where the app's Keep-Alive says so; stay below the\n\
                     # app's own (5 s in Node.js).\n# idle_timeout = \"4s\"\n\n";
        assert!(EXAMPLE.contains(entry));
        assert_eq!(complete(&EXAMPLE.replace(entry, "")), EXAMPLE);
    }

    #[test]
    fn missing_section_is_added_with_its_keys_between_its_neighbours() {
        let entry = "# A gentle start.\n[pool.slow_start]\n\n\
                     # How long a backend that became ready takes to reach its full share. \"0s\": at once.\n\
                     # window = \"0s\"\n\n";
        assert!(EXAMPLE.contains(entry));
        let again = entry.replace("\n[pool", "\n# [pool");
        assert_eq!(
            complete(&EXAMPLE.replace(entry, "")),
            EXAMPLE.replace(entry, &again)
        );
    }
}
