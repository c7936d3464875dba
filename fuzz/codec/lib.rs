//! lameduck's codec alone, from the files of the product, under the same paths: what the fuzz targets check.
//!
//! The whole product has ten times the crates, and with coverage in each of them it takes too long to build. What reads
//! hostile bytes needs `httparse` and little else. `tests/codec.rs` runs the same checks against the product itself.
#![allow(
    missing_docs,
    dead_code,
    reason = "a part of the product, whose files say it"
)]

pub mod config {
    /// The part of `[headers]` that the codec reads.
    #[derive(Debug, Clone, PartialEq)]
    pub struct HeadersConfig {
        pub trusted: Vec<std::net::IpAddr>,
        pub x_forwarded: bool,
        pub forwarded: bool,
        pub via: bool,
        pub request_id: bool,
    }
}

#[path = "../../src/core"]
pub mod core {
    pub mod cookies;
    pub mod field_names;
    pub mod uri;
}

#[path = "../../src/net"]
pub mod net {
    pub mod proxy_protocol {
        pub mod read;
    }
}

#[path = "../../src/proxy"]
pub mod proxy {
    pub mod forward {
        pub mod changed_fields;
        pub mod headers;
        pub mod passes;
    }

    pub mod h1 {
        pub mod chunked;
        pub mod connection_options;
        pub mod error;
        pub mod fields;
        pub mod framing;
        pub mod head_fields;
        pub mod method;
        pub mod request;
        pub mod response;
        pub mod sections;
        pub mod span;
        pub mod target;
    }

    pub mod messages {
        pub mod grpc;
        pub mod websocket;
    }
}
