//! `[[listener]]`.

use super::admin::{file_mode, group_name};
use super::{AcmeConfig, ListenerTls};
use crate::config::ListenAddress;
use crate::config::declare::section;
use crate::config::forms::{ListenAddressForm, custom};
use crate::config::listener::{print_redirect, read_redirect};
use crate::config::section_traits::ConfigSection as _;
use std::time::Duration;

section! {
    /// Where clients connect. At least one; `lameduck run --listen` replaces all of them.
    [[listener]]
    #[derive(Debug, Clone, PartialEq)]
    pub struct ListenerConfig {
        /// Where to listen: `IP:port`, `[v6]:port`, or `unix:/path` with the whole path. Port 0: any free one.
        #[no_default(needed)]
        address: ListenAddress = "0.0.0.0:8080", ListenAddressForm;
        /// Permissions of a unix socket: who may write to it may connect. `"0666"`: everybody on this machine.
        mode: u32 = "0660", file_mode();
        /// Group of a unix socket, such as that of the proxy in front. `""`: lameduck's own.
        group: Option<String> = "", group_name();
        /// `SO_REUSEPORT`: a second lameduck may listen on the same address and take over (on a unix socket, whoever
        /// starts last). A change needs a restart.
        #[needs(restart)]
        reuse_port: bool = false;
        /// HTTP/2. With TLS it is offered to clients that can (ALPN), and `true` by default; without TLS it is for
        /// clients that know already (prior knowledge).
        http2: bool = false;
        /// Each connection begins with a PROXY protocol header, version 1 or 2, that names the client. Only `trusted`
        /// of `[headers]` may send one, and nobody else is served here.
        proxy_protocol: bool = false;
        /// Answer every request with a redirect to HTTPS, on port 443 (`true`) or another: 301 for GET and HEAD, 308
        /// for other methods. Not with `tls`.
        ///
        /// `None`: requests are served.
        redirect_https: Option<u16> = false, custom("true, false or port", read_redirect, print_redirect).public();
        /// `Strict-Transport-Security` on every response, with this `max-age`, unless the app sends its own. Needs
        /// `tls`. `"0s"`: none.
        ///
        /// Zero: none.
        hsts: Duration = "0s";
    }
    sections {
        /// `[listener.tls]`; `None`: without TLS.
        tls: Option<ListenerTls>;
        /// `[listener.acme]`; `None`: no certificates are ordered. Where it is there, so is `tls`.
        acme: Option<AcmeConfig>;
    }
}

impl ListenerConfig {
    /// Creates a listener on this address, with defaults for everything else: HTTP/1 without TLS.
    pub fn on(address: impl Into<ListenAddress>) -> Self {
        ListenerConfig {
            address: address.into(),
            ..ListenerConfig::unwritten().clone()
        }
    }
}
