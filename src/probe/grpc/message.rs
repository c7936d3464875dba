//! The two messages of `grpc.health.v1` in Protocol Buffers' encoding, after gRPC's prefix of five bytes: whether it is
//! compressed, and its length.

/// Serving status in a `HealthCheckResponse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServingStatus {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
}

/// Tag of field 1 with type bytes.
const SERVICE: u8 = 1 << 3 | 2;
/// Tag of field 1 with type varint.
const STATUS: u64 = 1 << 3;

/// Encodes a `HealthCheckRequest` for this service.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE);
        write_number(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    // The configuration limits the length of the name.
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

/// Decodes a `HealthCheckResponse`; `None` if it is malformed.
pub(super) fn response(framed: &[u8]) -> Option<ServingStatus> {
    let (&compressed, rest) = framed.split_first()?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    if compressed != 0 || u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let (mut status, mut left) = (0, message);
    while !left.is_empty() {
        let tag = read_number(&mut left)?;
        match tag & 7 {
            0 => {
                let value = read_number(&mut left)?;
                if tag == STATUS {
                    status = value;
                }
            }
            1 => left = left.get(8..)?,
            2 => {
                let length = usize::try_from(read_number(&mut left)?).ok()?;
                left = left.get(length..)?;
            }
            5 => left = left.get(4..)?,
            _ => return None,
        }
    }
    Some(match status {
        1 => ServingStatus::Serving,
        2 => ServingStatus::NotServing,
        3 => ServingStatus::ServiceUnknown,
        _ => ServingStatus::Unknown,
    })
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a varint of up to ten bytes.
fn read_number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // `HealthCheckRequest(service=…).SerializeToString()` of grpcio-health-checking, after the prefix.
    #[test]
    fn requests_are_as_grpcio_writes_them() {
        assert_eq!(request(""), b"\0\0\0\0\0");
        assert_eq!(request("shop.Orders"), b"\0\0\0\0\x0d\x0a\x0bshop.Orders");
        let long = "x".repeat(200);
        assert_eq!(request(&long)[..8], *b"\0\0\0\0\xcb\x0a\xc8\x01");
    }

    #[test]
    fn responses_are_read_as_grpcio_writes_them() {
        assert_eq!(response(b"\0\0\0\0\0"), Some(ServingStatus::Unknown));
        assert_eq!(
            response(b"\0\0\0\0\x02\x08\x01"),
            Some(ServingStatus::Serving)
        );
        assert_eq!(
            response(b"\0\0\0\0\x02\x08\x02"),
            Some(ServingStatus::NotServing)
        );
        let unknown = Some(ServingStatus::ServiceUnknown);
        assert_eq!(response(b"\0\0\0\0\x02\x08\x03"), unknown);
        // A field of a later version is skipped.
        let later = b"\0\0\0\0\x06\x12\x02hi\x08\x01";
        assert_eq!(response(later), Some(ServingStatus::Serving));
    }

    #[test]
    fn malformed_response_is_none() {
        let broken: [&[u8]; 8] = [
            b"",
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x01\x08",
            b"\0\0\0\0\x03\x12\x7fx",
            b"\0\0\0\0\x02\x0b\x01",
            b"\0\0\0\0\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ];
        for bytes in broken {
            assert_eq!(response(bytes), None, "{bytes:?}");
        }
    }
}
