//! Serves files: finds them below a root, writes the response head, and sends them piece by piece.
//!
//! Nothing here waits for a disk on a data thread. Files that the kernel has in memory are opened and read at once;
//! for all others, [`disk`] has a limited number of separate threads. [`find`] looks for the file, [`head`] decides
//! which bytes of it are sent and how, [`body`] sends them, and `encoding` compresses them on the way.

pub mod body;
pub mod disk;
mod encoding;
pub mod find;
pub mod head;
