//! Catalogue of all checks, with their reasons. docs/doctor.md has a section for each, which a test compares.
//!
//! Each constant has the name of its code: to find the code of `behind-shell`, look for `check::BEHIND_SHELL`.

/// A check: the code in `error[code]`, and why it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoctorCheck {
    /// Its name in messages and in docs/doctor.md.
    pub code: &'static str,
    /// Why it matters, with the source.
    pub why: &'static str,
}

macro_rules! checks {
    ($($name:ident = $code:literal: $why:literal;)*) => {
        $(pub(super) const $name: DoctorCheck = DoctorCheck { code: $code, why: $why };)*
        /// All checks, in the order of the documentation.
        pub const ALL: &[DoctorCheck] = &[$($name),*];

        /// Names of the constants, in the same order.
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

/// Code of a finding that a file can't be read; it says nothing about requests.
pub const BROKEN_CODE: &str = "broken-file";

checks! {
    BROKEN_FILE = "broken-file": "what can't be read can't be judged";
    KILL_TIMEOUT = "kill-timeout": "when the time is up, the supervisor sends SIGKILL, and what is in flight is lost";
    SIGTERM_CAP = "sigterm-cap": "Oxmgr waits min(stop_timeout_secs, 15 s) after SIGTERM, whatever is written; other signals get all of it";
    GRACE_PERIOD = "grace-period": "one clock runs from the deletion on for preStop, drain and stop together; at its end the kubelet sends SIGKILL";
    UNCOORDINATED = "uncoordinated": "the app gets its signal while requests are on their way to it: nothing drains it first";
    GROUP_KILL = "group-kill": "the signal reaches the app at the same instant as the launcher, before anything is drained";
    STOP_SIGNAL = "stop-signal": "the launcher drains on TERM, INT and QUIT; other signals are passed on at once, and KILL can't be caught";
    BEHIND_SHELL = "behind-shell": "the supervisor's signal goes to the shell, which doesn't pass it on";
    APP_WRAPPER = "app-wrapper": "a signal to the app goes to what starts it, which may not pass it on, or may be gone before the app is";
    PM2_CLUSTER = "pm2-cluster": "in cluster mode all workers share one port: no single one can be drained or probed";
    SHUTDOWN_MESSAGE = "shutdown-message": "the message goes over IPC straight to the app, past the drain, and the launcher gets no signal";
    WAIT_READY = "wait-ready": "without it the supervisor calls the app online as soon as it has a process, and goes on to the next one";
    LISTEN_TIMEOUT = "listen-timeout": "when it is over PM2 takes the app for ready, whether or not it is";
    TYPE_NOTIFY = "type-notify": "`systemctl restart` returns as soon as there is a process; the launcher says READY=1 when the app passes its health checks";
    EXEC_STOP_DASH = "exec-stop-dash": "without `-`, a drain that ran out of time, or a proxy that is away, makes the unit end as failed (systemd.service(5))";
    DESCRIPTOR_STORE = "descriptor-store": "systemd can keep copies of the listening sockets: then clients wait for the next process instead of being refused (FDSTORE in sd_notify(3))";
    DRAIN_NO_WAIT = "drain-no-wait": "the hook returns at once, and the signal follows while requests are in flight";
    NEVER_REOPENED = "never-reopened": "a drain lasts until somebody lifts it: the new process would get no requests";
    HEALTH_URL = "health-url": "an app that drains answers 503 there, and the supervisor would kill it in mid-drain";
    SAME_PORT = "same-port": "the instances have the same environment, so all but one fail to listen";
    KEEP_ALIVE = "keep-alive": "whoever closes an idle connection first must be the proxy: a request that meets the app's close is lost unless it can be sent again";
    SHORT_DRAIN = "short-drain": "the shorter of the two deadlines counts: what the pool would still let finish is cut";
    SESSION_CUT = "session-cut": "with `on_drain = \"finish\"`, whoever has a session goes on to the process while its drain lasts: what SIGKILL ends, these sessions lose";
    UNKNOWN_POOL = "unknown-pool": "the proxy refuses a pool that its configuration doesn't have, so nothing is drained";
    ADMIN_SOCKET = "admin-socket": "the proxy doesn't listen there, so nothing is drained";
    SIDECAR_NOT_NATIVE = "sidecar-not-native": "an ordinary container gets its SIGTERM together with the app's, and may be gone while the app still has requests (KEP-753)";
    SIDECAR_PRESTOP = "sidecar-prestop": "preStop hooks of all containers start at once: this one runs beside the app's stop, not before it";
    STARTUP_DEADLOCK = "startup-deadlock": "the app's container starts only after the sidecar's startupProbe has passed, and this one waits for the app";
    LIVENESS_READY = "liveness-ready": "it answers 503 while the proxy is lame or waits for its first probes, and the kubelet would restart it";
    LOOPBACK_ADMIN = "loopback-admin": "the kubelet calls the pod's address from outside, where a loopback door doesn't open";
    LAME_DUCK = "lame-duck": "Services take seconds to forget a pod; requests that still come find the only backend drained";
    NOT_READY_ADDRESSES = "not-ready-addresses": "the Service goes on sending requests to pods that are terminating";
    DISCOVERY_RIGHTS = "discovery-rights": "without `list` and `watch` on EndpointSlices the API server answers 403, and the pool has no backends";
    COMPOSE_PRE_STOP = "compose-pre-stop": "`docker compose up` recreates containers without running pre_stop";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_of_each_check_is_called_as_its_code() {
        for (check, name) in ALL.iter().zip(NAMES) {
            assert_eq!(check.code.replace('-', "_").to_uppercase(), *name);
        }
    }
}
