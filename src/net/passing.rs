//! Sends and receives bytes together with descriptors over a unix socket (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors in one message: below the 253 that Linux allows.
pub const MOST_DESCRIPTORS: usize = 128;

/// Sends what the socket takes at once, with the descriptors attached to the first byte. Returns the number of bytes;
/// the caller sends the rest without descriptors.
///
/// # Errors
/// Those of sendmsg(2), or [`io::ErrorKind::InvalidInput`] for more than [`MOST_DESCRIPTORS`].
pub fn send_with(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, flags)?)
}

/// Receives what has arrived, and adds the descriptors that came with it to `descriptors`, with close-on-exec set.
/// Returns the number of bytes; 0: the other end has closed.
///
/// # Errors
/// Those of recvmsg(2), or [`io::ErrorKind::InvalidData`] if descriptors were lost because this process can't open any
/// more.
pub fn receive_with(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut impl Extend<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut beside, flags)?;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "descriptors were lost on the way: this process may not open more (`ulimit -n`)",
        ));
    }
    Ok(got.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_with_their_bytes_and_work() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        assert_eq!(send_with(&here, b"first", &[writer.as_fd()]).unwrap(), 5);
        drop(writer);
        assert_eq!(send_with(&here, b"second", &[]).unwrap(), 6);
        let mut came: Vec<OwnedFd> = Vec::new();
        let mut buffer = [0; 64];
        // A message with descriptors is not joined to the bytes that follow it.
        let got = receive_with(&there, &mut buffer, &mut came).unwrap();
        assert!(buffer[..got].starts_with(b"first"));
        assert_eq!(came.len(), 1);
        std::fs::File::from(came.remove(0))
            .write_all(b"here")
            .unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");
    }

    #[test]
    fn too_many_descriptors_are_refused_before_any_is_sent() {
        let (here, there) = UnixStream::pair().unwrap();
        let many = vec![here.as_fd(); MOST_DESCRIPTORS + 1];
        let error = send_with(&here, b"x", &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = receive_with(&there, &mut [0; 8], &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
