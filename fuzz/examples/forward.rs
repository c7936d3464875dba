//! Prints what lameduck would forward for each input of a corpus, for `compare.py` to show it to other parsers.
//!
//! `forward requests FOLDER…` or `forward responses FOLDER…`: one JSON array a line, bytes in hexadecimal.

#[path = "../checks/mod.rs"]
#[allow(dead_code, reason = "the checks aren't run here")]
mod checks;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_default();
    for folder in arguments {
        for file in std::fs::read_dir(folder)? {
            let data = std::fs::read(file?.path())?;
            match kind.as_str() {
                "requests" => request(&data),
                "responses" => response(&data),
                _ => return Err("say requests or responses, then the folders".into()),
            }
        }
    }
    Ok(())
}

fn request(data: &[u8]) {
    let (wire, requests) = checks::requests::forward(data);
    if requests.is_empty() {
        return;
    }
    let requests: Vec<_> = requests
        .iter()
        .map(|[method, target, content]| {
            format!("[{}, {}, {}]", hex(method), hex(target), hex(content))
        })
        .collect();
    println!("[{}, [{}]]", hex(&wire), requests.join(", "));
}

fn response(data: &[u8]) {
    if let Some((wire, method, status, content)) = checks::responses::forward(data) {
        println!(
            "[{}, \"{method}\", {status}, {}]",
            hex(&wire),
            hex(&content)
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}
