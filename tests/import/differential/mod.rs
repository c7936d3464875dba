//! nginx and what `lameduck import nginx` makes of its configuration, side by side: the same backends, the same files, the
//! same requests, from a seed that is printed. Every difference was announced by the import, or is one of the few of
//! principle (`compare.rs`).
//!
//! `LAMEDUCK_PROVE=1`: 2,000 requests for each site, else 80; and those that its comments name ([`requests::asked`]).
//! `LAMEDUCK_SEED`: the seed. `LAMEDUCK_SITE`: one site alone. `LAMEDUCK_SITES`: a directory of others.

mod backend;
mod compare;
mod place;
mod requests;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lameduck_rig::peers::Kind;
use lameduck_rig::setting;

use compare::{Differences, Pair, compare};
use place::PlacedSite;
use requests::RequestMaker;

const FRONTS: &str = "tests/import/fronts";

/// An answer as it came.
#[derive(Debug, Clone, Default)]
pub struct RawAnswer {
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl RawAnswer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Sends one request and reads to the end.
pub fn ask(address: SocketAddr, request: &[u8], is_head: bool) -> Result<RawAnswer, String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(fail)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .map_err(fail)?;
    // An answer can come before the whole body is taken.
    let _ = stream.write_all(request);
    // Until the answer is whole: who has not read all of a body lingers for seconds before it closes.
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if bytes.is_empty() => return Err(error.to_string()),
            Err(_) => break,
        }
        if is_whole(&bytes, is_head) {
            break;
        }
    }
    read_answer(&bytes, is_head)
}

fn is_whole(bytes: &[u8], is_head: bool) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = (
        String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase(),
        &bytes[end + 4..],
    );
    if head.starts_with("http/1.1 1") {
        return is_whole(body, is_head);
    }
    let is_empty = ["204", "304"]
        .iter()
        .any(|code| head.get(9..12) == Some(*code));
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    match length {
        _ if is_head || is_empty => true,
        Some(length) => body.len() >= length,
        None => head.contains("transfer-encoding: chunked") && body.ends_with(b"0\r\n\r\n"),
    }
}

fn read_answer(bytes: &[u8], is_head: bool) -> Result<RawAnswer, String> {
    let mut rest = bytes;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(rest) {
            Ok(httparse::Status::Complete(length)) => length,
            other => return Err(format!("{other:?} of {} bytes", bytes.len())),
        };
        let status = head.code.unwrap_or(0);
        rest = &rest[length..];
        if status < 200 {
            continue;
        }
        let fields: Vec<_> = head
            .headers
            .iter()
            .map(|field| {
                (
                    field.name.to_ascii_lowercase(),
                    String::from_utf8_lossy(field.value).into_owned(),
                )
            })
            .collect();
        let is_chunked = fields
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = match (is_head, is_chunked) {
            (true, _) => Vec::new(),
            (false, true) => dechunk(rest),
            (false, false) => rest.to_vec(),
        };
        return Ok(RawAnswer {
            status,
            fields,
            body,
        });
    }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]).into_owned();
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else {
            break;
        };
        if size == 0 {
            break;
        }
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    body
}

fn fronts() -> Vec<PathBuf> {
    let wanted = std::env::var("LAMEDUCK_SITE").ok();
    let mut found = Vec::new();
    let dir = std::env::var_os("LAMEDUCK_SITES").unwrap_or_else(|| FRONTS.into());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|end| end == "conf")
            && wanted.as_ref().is_none_or(|wanted| *wanted == name)
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn sixty_sites_are_there_and_twenty_are_long() {
    let others = ["LAMEDUCK_SITE", "LAMEDUCK_SITES"];
    if others.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let lines = |path: &PathBuf| std::fs::read_to_string(path).unwrap().lines().count();
    let fronts = fronts();
    assert!(fronts.len() >= 60, "{}", fronts.len());
    let long = fronts.iter().filter(|path| lines(path) > 100).count();
    assert!(long >= 20, "{long}");
}

/// Sites that still differ in something, and in what. Who mends it takes the site off: the test says so.
const UNCLEAN: &[(&str, &str)] = &[];

#[test]
fn imported_sites_answer_as_nginx_does_but_for_what_was_announced() {
    let Some(nginx) = Kind::Nginx.binary() else {
        setting::skip("import", "nginx in target/peers-venv (tests/setup.sh)");
        return;
    };
    let seed = std::env::var("LAMEDUCK_SEED").ok();
    let seed: u64 = seed.and_then(|seed| seed.parse().ok()).unwrap_or(14);
    let count = if setting::proving() { 2_000 } else { 80 };
    let fronts = fronts();
    // Two at a time: each has two proxies and its backends.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    let closed = std::sync::atomic::AtomicUsize::new(0);
    let excuses = std::sync::Mutex::new(Differences::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(path) =
                    fronts.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let said = compare_site(&nginx, path, seed, count, (&closed, &excuses));
                    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                    let known = UNCLEAN.iter().find(|(known, _)| *known == name);
                    match (said, known) {
                        (Ok(()), None) => {}
                        (Err(said), None) => failures.lock().unwrap().push(said),
                        (Err(_), Some((_, why))) => println!("{name} differs still: {why}"),
                        (Ok(()), Some(_)) => {
                            let said = format!("== {name} is clean: take it off UNCLEAN");
                            failures.lock().unwrap().push(said);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let (closed, all) = (closed.into_inner(), fronts.len() * count);
    println!(
        "{all} requests to {} sites, {closed} of them to places that are closed; {}",
        fronts.len(),
        excuses.into_inner().unwrap().excuses()
    );
    assert!(
        failures.is_empty(),
        "seed {seed}, {} of {} sites differ:\n{}",
        failures.len(),
        fronts.len(),
        failures.join("\n")
    );
    // A place that is closed says nothing of what its answers would have been.
    assert!(
        closed * 10 < all || fronts.len() == 1 || std::env::var_os("LAMEDUCK_SITES").is_some(),
        "{closed} of {all} requests went to closed places"
    );
}

fn compare_site(
    nginx: &Path,
    path: &Path,
    seed: u64,
    count: usize,
    (closed, excuses): (
        &std::sync::atomic::AtomicUsize,
        &std::sync::Mutex<Differences>,
    ),
) -> Result<(), String> {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let fail = |why: String| format!("== {name}: {why}");
    let site = PlacedSite::start(nginx, path).map_err(fail)?;
    let mut maker = RequestMaker::new(&site, seed);
    let mut differences = Differences::default();
    let text = std::fs::read_to_string(path).unwrap();
    let asked = requests::asked(&text, site.doors.len());
    for request in (0..count).map(|_| maker.make()).chain(asked) {
        let bytes = |address: SocketAddr| request.bytes(address);
        let is_head = request.method == "HEAD";
        let (there, here) = site.doors[request.door];
        let theirs = ask(there, &bytes(there), is_head);
        let ours = ask(here, &bytes(here), is_head);
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => {
                let is_closed = ours.status == 503 && theirs.status != 503;
                closed.fetch_add(usize::from(is_closed), std::sync::atomic::Ordering::Relaxed);
                compare(&site, &request, &theirs, &ours, &mut differences);
            }
            (Err(_), Err(_)) => {}
            (Ok(theirs), Err(why)) => differences.note(
                &Pair::new(&site, &request, &theirs, &RawAnswer::default()),
                "answer",
                &format!("{}", theirs.status),
                &why,
            ),
            // 444, and nothing that lameduck does.
            (Err(why), Ok(ours)) => {
                let none = RawAnswer::default();
                let pair = Pair::new(&site, &request, &none, &ours);
                differences.note(&pair, "answer", &why, &format!("{}", ours.status))
            }
        }
    }
    let verdict = differences.verdict();
    excuses.lock().unwrap().add_excuses(differences);
    verdict.map_err(|said| fail(format!("{said}\nlog of lameduck:\n{}", site.log())))
}
