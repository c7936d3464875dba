//! Files that change, or end, while they are served.

use super::{ask, rig, rig_with};
use lameduck_rig::backend::backends;
use lameduck_rig::proxy::Rig;
use std::os::unix::fs::symlink;

/// As a release is put in place: by another link, at once; and a file by another one, while it is sent.
#[lameduck_rig::test]
async fn replaced_root_and_file_are_served_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let (backends, port) = backends(1).await;
    for release in ["one", "two"] {
        let place = dir.path().join(release);
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("index.html"), release).unwrap();
        std::fs::write(place.join(release), release).unwrap();
    }
    let current = dir.path().join("current");
    symlink("one", &current).unwrap();
    let tables = format!(
        "[[route]]\nfiles = {{ root = {current:?} }}\n[[route]]\nhost = \"app.test\"\npool = \"app\"\n"
    );
    let next = dir.path().join("next");
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1",
        backends[0].address
    );
    let rig = Rig::start(dir, "", &tables, &pool, backends).await;
    let mut client = rig.client().await;
    assert_eq!(ask(&mut client, "GET /one", &[]).await.text(), "one");
    assert_eq!(ask(&mut client, "GET /two", &[]).await.status(), 404);
    symlink("two", &next).unwrap();
    std::fs::rename(&next, &current).unwrap();
    // What is in the new release only is found at once, and then all of it.
    assert_eq!(ask(&mut client, "GET /two", &[]).await.text(), "two");
    assert_eq!(ask(&mut client, "GET /", &[]).await.text(), "two");
    assert_eq!(ask(&mut client, "GET /one", &[]).await.status(), 404);
}

/// A file that was served a moment ago is opened without a second look; what has taken its place is seen all the same.
#[lameduck_rig::test]
async fn what_takes_the_place_of_a_served_file_is_seen_at_once() {
    let (rig, root) = rig("").await;
    let mut client = rig.client().await;
    let path = root.join("hello.txt");
    let mut status = async || {
        let answer = ask(&mut client, "GET /hello.txt", &[]).await;
        (answer.status(), answer.text().len())
    };
    assert_eq!(status().await, (200, 11));
    assert_eq!(status().await, (200, 11));
    std::fs::write(&path, "longer than before").unwrap();
    assert_eq!(status().await, (200, 18));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status().await.0, 404);
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert_eq!(status().await.0, 404);
    std::fs::remove_file(&path).unwrap();
    symlink("../secret.txt", &path).unwrap();
    assert_eq!(status().await.0, 404);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(status().await.0, 301);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "again").unwrap();
    assert_eq!(status().await, (200, 5));
}

/// Sent by the kernel itself, copied, or read from the disk first: by what the kernel has in memory of each piece.
#[lameduck_rig::test]
async fn large_file_arrives_whole_whatever_of_it_is_in_memory() {
    // Not where other tests have theirs: a file system in memory would drop nothing.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let size = 3_000_000_u32;
    let content: Vec<u8> = (0..size).map(|n| (n / 251 % 241) as u8).collect();
    let path = dir.path().join("big.bin");
    std::fs::write(&path, &content).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    let (rig, root) = rig("").await;
    std::fs::hard_link(&path, root.join("large.bin"))
        .or_else(|_| std::fs::copy(&path, root.join("large.bin")).map(|_| ()))
        .unwrap();
    let mut client = rig.client().await;
    let mut check = async |line: &str, range: std::ops::Range<usize>, fields: &[&str]| {
        let answer = ask(&mut client, line, fields).await;
        assert!(answer.body == content[range], "{line}: {}", answer.head);
    };
    let all = 0..content.len();
    let most = (size as usize - 70_000)..size as usize;
    for dropped in [0..0, 0..size, 100_000..1_000_000, 2_900_000..size] {
        let length = std::num::NonZeroU64::new(u64::from(dropped.end - dropped.start));
        if length.is_some() {
            let advice = rustix::fs::Advice::DontNeed;
            rustix::fs::fadvise(&file, u64::from(dropped.start), length, advice).unwrap();
        }
        check("GET /large.bin", all.clone(), &[]).await;
        check("GET /large.bin", most.clone(), &["Range: bytes=-70000"]).await;
    }
}

#[lameduck_rig::test]
async fn client_that_takes_nothing_of_a_file_is_cut() {
    let (rig, _root) = rig_with("", "body_timeout = \"300ms\"\n").await;
    let mut client = rig.ask("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let line = rig.was_limited("body_timeout", 1, 200).await;
    assert_eq!(line["route"], "site", "{line}");
    let (rest, ended) = client.rest().await;
    assert!(rest.len() < 3_000_000, "{} {ended:?}", rest.len());
}

/// A file that becomes shorter while it is sent can't be finished, and the client must be able to tell.
#[lameduck_rig::test]
async fn file_cut_short_while_it_is_sent_ends_in_a_reset() {
    let (rig, root) = rig("").await;
    let mut client = rig.ask("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    let file = std::fs::File::options()
        .write(true)
        .open(root.join("big.bin"))
        .unwrap();
    file.set_len(1000).unwrap();
    let (rest, _) = client.rest().await;
    let line = &rig.access_log(1).await[0];
    if rest.len() < 3_000_000 {
        assert_eq!(line["end"], "truncated", "{line}");
    }
}
