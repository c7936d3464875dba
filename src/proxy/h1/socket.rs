//! The few things that are done to a descriptor directly.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

/// Makes the coming close a reset (RST), so that the peer can't take what it got for the whole.
pub fn reset_on_close(descriptor: RawFd) {
    if descriptor < 0 {
        return;
    }
    #[allow(unsafe_code)]
    // SAFETY: the caller owns the stream that this descriptor belongs to, and keeps it open during the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    // A unix socket has no RST; the option is then without effect.
    let _ = SockRef::from(&borrowed).set_linger(Some(Duration::ZERO));
}
