//! The socket for apps: limits each app to its own instances and to the pools that are open to apps. The paths are in
//! [`router`](super::router).

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::peer::AdminPeer;
use super::problem::{ProblemDocument, ProblemKind};
use super::{AdminDoor, AdminState};
use crate::registry::RegistryHandle;

impl AdminState {
    /// Refuses a pool that is not open to apps, if the request came through their socket.
    pub(super) fn check_pool(&self, pool: &str) -> Result<(), ProblemDocument> {
        let closed = self.door == AdminDoor::Apps
            && !self.apps_pools.is_empty()
            && !self.apps_pools.iter().any(|open| open == pool);
        match closed {
            true => Err(ProblemDocument::new(
                ProblemKind::NotYours,
                format!(
                    "The pool `{pool}` can't be entered through this socket: it is not in [admin] apps_pools. Add it \
                     there and restart lameduck, or use the admin socket."
                ),
            )),
            false => Ok(()),
        }
    }
}

/// Layer around the handlers, which checks the pool in the path's parameters.
pub(super) async fn guard(
    State(admin): State<AdminState>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let pools = params.iter().flatten();
    let mut pools = pools.filter(|(name, _)| *name == "pool");
    match pools.try_for_each(|(_, pool)| admin.check_pool(pool)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The registry, limited to what the caller may see and change.
pub(super) struct CallersRegistry(pub RegistryHandle);

impl FromRequestParts<AdminState> for CallersRegistry {
    type Rejection = ProblemDocument;

    async fn from_request_parts(
        parts: &mut Parts,
        admin: &AdminState,
    ) -> Result<Self, ProblemDocument> {
        if admin.door != AdminDoor::Apps {
            return Ok(Self(admin.registry.clone()));
        }
        match parts.extensions.get::<AdminPeer>() {
            Some(AdminPeer::Process { uid, .. }) => Ok(Self(admin.registry.for_owner(*uid))),
            // Without a user, the caller owns no instances.
            _ => Err(ProblemDocument::new(
                ProblemKind::NotYours,
                "The kernel does not say whose process this is. Use the admin socket.",
            )),
        }
    }
}
