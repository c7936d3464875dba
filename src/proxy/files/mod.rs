//! Files as answers: found below a root, described in a head, and sent piece by piece.
//!
//! Nothing here waits for a disk on a data thread. What the kernel has in memory is opened and read at once; for anything
//! else, [`disk`] has a bounded number of other threads. [`find`] looks for the file, [`head`] says which bytes of it are
//! sent and how, [`body`] sends them, and `encoding`
//! compresses them on the way.

pub mod body;
pub mod disk;
mod encoding;
pub mod find;
pub mod head;
