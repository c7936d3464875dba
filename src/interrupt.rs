//! interrupt.
