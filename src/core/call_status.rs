//! Status of a gRPC call: the codes that all gRPC libraries share
//! (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).

/// The value of `grpc-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallStatus(pub u8);

/// Names, in the order of their codes.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl CallStatus {
    /// Returns its name. Clients treat an undefined code as UNKNOWN.
    pub fn as_str(self) -> &'static str {
        NAMES.get(usize::from(self.0)).unwrap_or(&NAMES[2])
    }

    /// Whether the call failed from the client's point of view.
    pub fn is_client_error(self) -> bool {
        self.0 != 0
    }

    /// Whether the call failed through the server's fault, according to OpenTelemetry's conventions for gRPC.
    pub fn is_server_error(self) -> bool {
        matches!(
            self.as_str(),
            "UNKNOWN"
                | "DEADLINE_EXCEEDED"
                | "UNIMPLEMENTED"
                | "INTERNAL"
                | "UNAVAILABLE"
                | "DATA_LOSS"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_names_and_undefined_ones_are_unknown() {
        for (code, name, is_servers) in [
            (0, "OK", false),
            (1, "CANCELLED", false),
            (4, "DEADLINE_EXCEEDED", true),
            (5, "NOT_FOUND", false),
            (12, "UNIMPLEMENTED", true),
            (14, "UNAVAILABLE", true),
            (16, "UNAUTHENTICATED", false),
            (17, "UNKNOWN", true),
            (255, "UNKNOWN", true),
        ] {
            let status = CallStatus(code);
            assert_eq!(
                (status.as_str(), status.is_server_error()),
                (name, is_servers)
            );
            assert_eq!(status.is_client_error(), code != 0);
        }
    }
}
