//! W3C trace context (<https://www.w3.org/TR/trace-context/>): parsing and writing `traceparent`, checking
//! `tracestate`, and deciding which requests are recorded.

/// Flag of a trace that the caller may have recorded (section 3.2.2.5.1).
const SAMPLED: u8 = 1;

/// Flag of a trace whose ID is random (level 2, section 3.2.2.5.2): it is passed on unchanged.
const RANDOM: u8 = 2;

/// Length of a `traceparent` of version 00, in bytes. Those of later versions begin in the same way.
const LENGTH: usize = 55;

/// Most members of a `tracestate`.
const MOST_MEMBERS: usize = 32;

/// Longest `tracestate` that is passed on, in bytes. Section 3.3.1.5 requires at least 512.
pub const LONGEST_STATE: usize = 4096;

/// The contents of a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// ID of the trace. Never zero.
    pub trace: u128,
    /// ID of the caller's span. Never zero.
    pub span: u64,
    /// The known flags.
    pub flags: u8,
}

impl TraceParent {
    /// Whether the caller may have recorded it.
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Parses the value of the header field. `None`: it is malformed, and no part of it may be used.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fixed, more) = value.split_at_checked(LENGTH)?;
        let version = hex(&fixed[..2])?;
        let dashes = [2, 35, 52].iter().all(|at| fixed[*at] == b'-');
        // 255 is forbidden. Of a later version, the known part is used, if it ends where it should.
        let ends_well = more.is_empty() || (version > 0 && more[0] == b'-');
        if version == 0xff || !dashes || !ends_well {
            return None;
        }
        let trace = hex(&fixed[3..35])?;
        let span = u64::try_from(hex(&fixed[36..52])?).ok()?;
        let flags = hex(&fixed[53..])? as u8;
        (trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            flags: flags & (SAMPLED | RANDOM),
        })
    }

    /// Returns the value of the header field, in version 00.
    pub fn write(self) -> [u8; LENGTH] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut out[3..35], self.trace);
        write_hex(&mut out[36..52], u128::from(self.span));
        write_hex(&mut out[53..], u128::from(self.flags));
        out
    }
}

/// Returns the ID of a trace as text: 32 digits.
pub fn trace_id_text(trace: u128) -> [u8; 32] {
    let mut out = [0; 32];
    write_hex(&mut out, trace);
    out
}

/// Parses digits in lower case only (section 3.2.2).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

fn write_hex(out: &mut [u8], mut value: u128) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// Whether the values of `tracestate` fields, joined by commas, may be passed on (section 3.3.1).
pub fn is_state_valid(state: &[u8]) -> bool {
    if state.len() > LONGEST_STATE {
        return false;
    }
    let mut keys: [&[u8]; MOST_MEMBERS] = [&[]; MOST_MEMBERS];
    let mut count = 0;
    for member in state.split(|byte| *byte == b',') {
        // Empty members are allowed, and don't count.
        let member = trim_blanks(member);
        if member.is_empty() {
            continue;
        }
        let Some(at) = member.iter().position(|byte| *byte == b'=') else {
            return false;
        };
        let (key, value) = (&member[..at], &member[at + 1..]);
        if count == MOST_MEMBERS || !is_key(key) || !is_value(value) || keys[..count].contains(&key)
        {
            return false;
        }
        keys[count] = key;
        count += 1;
    }
    true
}

fn trim_blanks(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = text.iter().position(|byte| !is_blank(byte));
    let to = text.iter().rposition(|byte| !is_blank(byte));
    match (from, to) {
        (Some(from), Some(to)) => &text[from..=to],
        _ => &[],
    }
}

/// Whether it is a key, by both levels of the specification: a key may have a tenant before `@`.
fn is_key(key: &[u8]) -> bool {
    let is_rest = |byte: &u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@')
    };
    let begins_well = |first: &u8| first.is_ascii_lowercase() || first.is_ascii_digit();
    let tenants = key.iter().filter(|byte| **byte == b'@').count();
    key.len() <= 256
        && tenants <= 1
        && key.first().is_some_and(begins_well)
        && key.last() != Some(&b'@')
        && key.iter().all(is_rest)
}

fn is_value(value: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    matches!(value.len(), 1..=256) && value.iter().all(is_plain)
}

/// A sampling rate, from none to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleShare {
    /// Requests with random numbers below this are recorded.
    below: u64,
}

impl SampleShare {
    /// The decision uses the lowest 56 bits, which are the random part of a trace's ID (level 2, section 3.2.2.3): so
    /// all that decide by them decide the same.
    const END: u64 = 1 << 56;

    /// Creates the rate for a share from 0 to 1.
    pub fn new(share: f64) -> Self {
        Self {
            below: (share.clamp(0.0, 1.0) * Self::END as f64) as u64,
        }
    }

    /// Whether all requests are recorded.
    pub const fn is_all(self) -> bool {
        self.below == Self::END
    }

    /// Whether the request with this random number is recorded.
    pub const fn takes(self, random: u64) -> bool {
        (random & (Self::END - 1)) < self.below
    }
}

/// What happens to a request's trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceDecision {
    /// No context came and nothing is recorded: none is sent.
    Absent,
    /// The caller's context is passed on unchanged, and nothing is recorded.
    Pass(TraceParent),
    /// The context is malformed or not trusted, and nothing is recorded: it is removed.
    Strip,
    /// The request is recorded as part of the caller's trace.
    Join(TraceParent),
    /// The request is recorded, and begins a new trace.
    Begin,
}

/// Decides about a request's trace context. The caller decides which contexts are trusted: `parent` is `None` for the
/// others. `has_context`: whether the request came with a `traceparent`, whatever its value.
pub fn decide_trace(
    parent: Option<TraceParent>,
    has_context: bool,
    share: SampleShare,
    random: u64,
) -> TraceDecision {
    match parent {
        Some(parent) if parent.is_sampled() => TraceDecision::Join(parent),
        Some(parent) => TraceDecision::Pass(parent),
        None if share.takes(random) => TraceDecision::Begin,
        None if has_context => TraceDecision::Strip,
        None => TraceDecision::Absent,
    }
}

#[cfg(test)]
mod tests;
