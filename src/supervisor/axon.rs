//! Framing of PM2's sockets (axon, whose format is AMP): a byte with the version and the number of arguments, then each
//! argument with its length. Arguments begin with `s:` (text) or `j:` (JSON).

use std::io;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest frame that is read, in bytes.
const MAX_FRAME: usize = 64 << 20;

/// An argument of a frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Argument {
    /// Text.
    Text(String),
    /// JSON.
    Json(Value),
    /// Neither.
    Other,
}

/// Reads a frame.
pub(super) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<Argument>> {
    let count = stream.read_u8().await? & 0x0f;
    let mut arguments = Vec::new();
    for _ in 0..count {
        let length = stream.read_u32().await? as usize;
        if length > MAX_FRAME {
            let why = format!("a frame of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut bytes = Vec::new();
        (&mut *stream)
            .take(length as u64)
            .read_to_end(&mut bytes)
            .await?;
        if bytes.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        arguments.push(read_argument(&bytes));
    }
    Ok(arguments)
}

fn read_argument(bytes: &[u8]) -> Argument {
    match bytes.split_at_checked(2) {
        Some((b"s:", text)) => Argument::Text(String::from_utf8_lossy(text).into_owned()),
        Some((b"j:", json)) => {
            let json = serde_json::from_slice(json);
            json.map_or(Argument::Other, Argument::Json)
        }
        _ => Argument::Other,
    }
}

/// Writes a frame.
pub(super) async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    arguments: &[Argument],
) -> io::Result<()> {
    let mut frame = vec![0x10 | arguments.len() as u8];
    for argument in arguments {
        let bytes = match argument {
            Argument::Text(text) => [b"s:", text.as_bytes()].concat(),
            Argument::Json(json) => [b"j:", json.to_string().as_bytes()].concat(),
            Argument::Other => Vec::new(),
        };
        frame.extend((bytes.len() as u32).to_be_bytes());
        frame.extend(bytes);
    }
    stream.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_they_were_written_and_cut_ones_are_refused() {
        let arguments = vec![
            Argument::Text("process:event".into()),
            Argument::Json(serde_json::json!({ "event": "exit" })),
        ];
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &arguments).await.unwrap();
        assert_eq!(bytes[0], 0x12);
        assert_eq!(read_frame(&mut &bytes[..]).await.unwrap(), arguments);
        for length in 0..bytes.len() {
            assert!(read_frame(&mut &bytes[..length]).await.is_err(), "{length}");
        }
        let huge = [0x11, 0xff, 0xff, 0xff, 0xff];
        assert!(read_frame(&mut &huge[..]).await.is_err());
    }
}
