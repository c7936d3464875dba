//! The socket between the two processes. Each frame is preceded by its length and the number of its descriptors.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::protocol::UpgradeFrame;
use crate::net::passing::{MOST_DESCRIPTORS, receive_with, send_with};

/// Longest frame in bytes: four times what the registry's state needs with the most backends.
const MAX_FRAME: usize = 128 << 20;
/// Bytes of the header: length and number of descriptors.
const HEADER_LENGTH: usize = 8;
/// Bytes of one read.
const READ_SIZE: usize = 64 << 10;

/// Reason why the channel can't be used any more.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The other process has closed the channel, or has ended.
    #[error("the other process has ended")]
    Closed,
    /// Data arrived that is no frame.
    #[error("what the other process said can't be read: {0}")]
    Malformed(String),
    /// The socket failed.
    #[error("the socket between the two processes failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Sends frames to the other process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChannelSender {
    socket: Arc<UnixStream>,
    /// Lock that keeps frames from being mixed.
    turn: Arc<Mutex<()>>,
}

/// Receives frames from the other process.
#[derive(Debug)]
pub struct ChannelReceiver {
    socket: Arc<UnixStream>,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

/// A received frame with its descriptors.
#[derive(Debug)]
pub struct ReceivedFrame {
    /// The frame.
    pub frame: UpgradeFrame,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Makes both directions of a channel from a socket.
///
/// # Errors
/// The socket can't be registered with the runtime.
pub fn open_channel(
    socket: std::os::unix::net::UnixStream,
) -> io::Result<(ChannelSender, ChannelReceiver)> {
    socket.set_nonblocking(true)?;
    let socket = Arc::new(UnixStream::from_std(socket)?);
    let outgoing = ChannelSender {
        socket: socket.clone(),
        turn: Arc::default(),
    };
    let incoming = ChannelReceiver {
        socket,
        bytes: Vec::new(),
        descriptors: VecDeque::new(),
    };
    Ok((outgoing, incoming))
}

impl ChannelSender {
    /// Sends a frame.
    ///
    /// # Errors
    /// The other process has ended.
    pub async fn send(&self, frame: &UpgradeFrame) -> Result<(), ChannelError> {
        self.send_with(frame, &[]).await
    }

    /// Sends a frame with descriptors. If there are more than [`MOST_DESCRIPTORS`], the first ones are sent in empty
    /// frames before it.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub async fn send_with(
        &self,
        frame: &UpgradeFrame,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let body = serde_json::to_vec(frame)
            .map_err(|error| ChannelError::Malformed(error.to_string()))?;
        let _turn = self.turn.lock().await;
        // Descriptors that don't fit are sent first; the receiver adds up all that have arrived.
        let all = descriptors.len();
        let mut rest = descriptors;
        while rest.len() > MOST_DESCRIPTORS {
            let (first, others) = rest.split_at(MOST_DESCRIPTORS);
            // A length of zero means an empty frame.
            self.write(&encode_header(0, 0), first).await?;
            rest = others;
        }
        let mut bytes = encode_header(body.len(), all).to_vec();
        bytes.extend_from_slice(&body);
        self.write(&bytes, rest).await
    }

    async fn write(
        &self,
        mut bytes: &[u8],
        mut descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        while !bytes.is_empty() {
            let sent = self
                .socket
                .async_io(Interest::WRITABLE, || {
                    send_with(&*self.socket, bytes, descriptors)
                })
                .await?;
            bytes = &bytes[sent..];
            descriptors = &[];
        }
        Ok(())
    }

    /// A copy of the socket's descriptor, to be passed on.
    ///
    /// # Errors
    /// The process can't open any more descriptors.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }
}

fn encode_header(length: usize, descriptors: usize) -> [u8; HEADER_LENGTH] {
    let mut bytes = [0; HEADER_LENGTH];
    // Both numbers are far below the limit of four bytes.
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    bytes[4..].copy_from_slice(&(descriptors as u32).to_be_bytes());
    bytes
}

impl ChannelReceiver {
    /// The receiving direction of the same socket. It continues where the previous receiver has stopped.
    pub fn of(outgoing: &ChannelSender) -> Self {
        Self {
            socket: outgoing.socket.clone(),
            bytes: Vec::new(),
            descriptors: VecDeque::new(),
        }
    }

    /// Receives the next frame. Cancel-safe.
    ///
    /// # Errors
    /// The channel can't be used any more.
    pub async fn receive(&mut self) -> Result<ReceivedFrame, ChannelError> {
        loop {
            if let Some(received) = self.take()? {
                return Ok(received);
            }
            let mut buffer = vec![0; READ_SIZE];
            let (socket, descriptors) = (self.socket.clone(), &mut self.descriptors);
            let got = socket
                .async_io(Interest::READABLE, || {
                    receive_with(&*socket, &mut buffer, descriptors)
                })
                .await?;
            if got == 0 {
                return Err(ChannelError::Closed);
            }
            self.bytes.extend_from_slice(&buffer[..got]);
        }
    }

    /// Takes the next frame out of the buffer, if it is complete.
    fn take(&mut self) -> Result<Option<ReceivedFrame>, ChannelError> {
        loop {
            let Some(header) = self.bytes.first_chunk::<HEADER_LENGTH>() else {
                return Ok(None);
            };
            let [a, b, c, d, e, f, g, h] = *header;
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let count = u32::from_be_bytes([e, f, g, h]) as usize;
            if length > MAX_FRAME {
                let why = format!("a frame of {length} bytes");
                return Err(ChannelError::Malformed(why));
            }
            if self.bytes.len() < HEADER_LENGTH + length {
                return Ok(None);
            }
            let body: Vec<u8> = self
                .bytes
                .drain(..HEADER_LENGTH + length)
                .skip(HEADER_LENGTH)
                .collect();
            if length == 0 {
                continue;
            }
            if self.descriptors.len() < count {
                let why = "descriptors are missing".to_owned();
                return Err(ChannelError::Malformed(why));
            }
            let descriptors = self.descriptors.drain(..count).collect();
            let frame = serde_json::from_slice(&body)
                .map_err(|error| ChannelError::Malformed(error.to_string()))?;
            return Ok(Some(ReceivedFrame { frame, descriptors }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream as StdStream;

    #[tokio::test]
    async fn long_frame_with_many_descriptors_arrives_whole() {
        let (here, there) = StdStream::pair().unwrap();
        let (outgoing, _) = open_channel(here).unwrap();
        let (_, mut incoming) = open_channel(there).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let many = vec![file.as_fd(); 2 * MOST_DESCRIPTORS + 3];
        let frame = UpgradeFrame::Refused {
            why: "x".repeat(3 << 20),
        };
        let sending = async {
            outgoing.send_with(&frame, &many).await.unwrap();
            outgoing.send(&UpgradeFrame::Ready {}).await.unwrap();
        };
        let receiving = async {
            let first = incoming.receive().await.unwrap();
            (first, incoming.receive().await.unwrap())
        };
        let ((), (first, second)) = tokio::join!(sending, receiving);
        assert_eq!(first.frame, frame);
        assert_eq!(first.descriptors.len(), many.len());
        assert_eq!(second.frame, UpgradeFrame::Ready {});
        drop(outgoing);
    }

    #[tokio::test]
    async fn end_of_the_other_process_and_malformed_frames_are_errors() {
        let (here, there) = StdStream::pair().unwrap();
        let (_, mut incoming) = open_channel(there).unwrap();
        drop(here);
        let ended = incoming.receive().await.unwrap_err();
        assert!(matches!(ended, ChannelError::Closed), "{ended}");

        for bytes in [
            &[0xff; 64][..],
            b"\0\0\0\x02\0\0\0\0{}",
            b"\0\0\0\x02\0\0\0\x01{}",
        ] {
            let (here, there) = StdStream::pair().unwrap();
            let (_, mut incoming) = open_channel(there).unwrap();
            send_with(&here, bytes, &[]).unwrap();
            let error = incoming.receive().await.unwrap_err();
            assert!(matches!(error, ChannelError::Malformed(_)), "{error}");
        }
    }
}
