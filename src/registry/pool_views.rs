//! Views of pools, made in pieces: with a hundred thousand backends, making the whole view takes a while, and probes,
//! drains and registrations must not wait for that.

use std::ops::Bound;

use tokio::sync::oneshot;

use super::command::RegistryCommand;
use super::endpoint::{BackendKey, await_census, begin_census};
use super::handle::{RegistryError, RegistryHandle};
use super::pool::PoolState;
use super::view::{BackendView, PoolView};
use super::writer::RegistryWriter;

/// Most backends that the registry's task adds to a view before it processes other messages.
const PIECE: usize = 512;

/// A query for a view.
#[derive(Debug)]
pub(super) enum ViewQuestion {
    /// All pools.
    All {
        reply: oneshot::Sender<Vec<ViewPiece>>,
    },
    /// One pool.
    One {
        name: String,
        owner: Option<u32>,
        reply: oneshot::Sender<Result<ViewPiece, RegistryError>>,
    },
    /// More backends of a pool: those after the given one, or the first.
    More {
        pool: String,
        after: Option<BackendKey>,
        owner: Option<u32>,
        reply: oneshot::Sender<Result<BackendsPiece, RegistryError>>,
    },
    /// The backends that a name refers to.
    Named {
        pool: String,
        name: String,
        owner: Option<u32>,
        reply: oneshot::Sender<Result<Vec<BackendView>, RegistryError>>,
    },
    /// The number of a pool's backends that take requests, and of all its backends.
    Counts {
        pool: String,
        reply: oneshot::Sender<Result<(usize, usize), RegistryError>>,
    },
}

/// A pool's view with some of its backends.
#[derive(Debug)]
pub(super) struct ViewPiece {
    view: PoolView,
    rest: RestOfPool,
}

/// Views of some backends of a pool.
#[derive(Debug)]
pub(super) struct BackendsPiece {
    backends: Vec<BackendView>,
    rest: RestOfPool,
}

/// The backends of a pool that the views so far lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestOfPool {
    Nothing,
    /// Those after this backend; `None`: all.
    Behind(Option<BackendKey>),
}

impl PoolState {
    /// Returns this owner's backends among the next `most` after the given one, or among the first `most`.
    fn piece(&self, after: Option<BackendKey>, owner: Option<u32>, most: usize) -> BackendsPiece {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut all = self.both_from(from).peekable();
        let mut last = after;
        let mut backends = Vec::new();
        for (member, backend) in all.by_ref().take(most) {
            last = Some(member.endpoint.key);
            if member.is_of(owner) {
                backends.push(member.view(backend));
            }
        }
        let rest = match all.peek() {
            Some(_) => RestOfPool::Behind(last),
            None => RestOfPool::Nothing,
        };
        BackendsPiece { backends, rest }
    }
}

impl RegistryWriter {
    pub(super) fn answer_view(&mut self, question: ViewQuestion) {
        match question {
            ViewQuestion::All { reply } => {
                let mut left = PIECE;
                let pools = self.pools.iter().filter(|pool| !pool.retired);
                let views = pools.map(|pool| {
                    let piece = self.first_piece(pool, None, left);
                    left = left.saturating_sub(piece.view.backends.len());
                    piece
                });
                let views = views.collect();
                self.reply(reply, views);
            }
            ViewQuestion::One { name, owner, reply } => {
                let index = self.index_for(&name, owner);
                let piece = index.map(|index| self.first_piece(&self.pools[index], owner, PIECE));
                self.reply(reply, piece);
            }
            ViewQuestion::More {
                pool,
                after,
                owner,
                reply,
            } => {
                let index = self.index_for(&pool, owner);
                let piece = index.map(|index| self.pools[index].piece(after, owner, PIECE));
                self.reply(reply, piece);
            }
            ViewQuestion::Named {
                pool,
                name,
                owner,
                reply,
            } => {
                let views = self.find_own(&pool, &name, owner).map(|(index, keys)| {
                    let state = &self.pools[index];
                    let both = |key| state.members.get(&key).zip(state.core.get(&key));
                    let both = keys.into_iter().filter_map(both);
                    both.map(|(member, backend)| member.view(backend)).collect()
                });
                self.reply(reply, views);
            }
            ViewQuestion::Counts { pool, reply } => {
                let counts = self.index_for(&pool, None).map(|index| {
                    let pool = &self.pools[index];
                    (pool.count_eligible(), pool.members.len())
                });
                self.reply(reply, counts);
            }
        }
    }

    fn first_piece(&self, pool: &PoolState, owner: Option<u32>, most: usize) -> ViewPiece {
        let BackendsPiece { backends, rest } = pool.piece(None, owner, most);
        let view = PoolView {
            backends,
            ..pool.view()
        };
        let view = match owner {
            None => self.with_shares(view),
            Some(_) => view,
        };
        ViewPiece { view, rest }
    }
}

impl RegistryHandle {
    /// Returns the views of all pools.
    ///
    /// # Errors
    /// The proxy is exiting, or the registry failed.
    pub async fn pools(&self) -> Result<Vec<PoolView>, RegistryError> {
        self.look_up_oldest(None).await;
        let pieces = self.ask_view(|reply| ViewQuestion::All { reply }).await?;
        let mut pools = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match self.whole(piece, None).await {
                Ok(mut pool) => {
                    self.add_figures(&mut pool);
                    pools.push(pool);
                }
                // The pool has been removed meanwhile.
                Err(RegistryError::UnknownPool { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pools)
    }

    /// Returns the view of one pool.
    ///
    /// # Errors
    /// [`RegistryError::UnknownPool`], also for a pool that this caller may not see; the errors of
    /// [`RegistryHandle::pools`].
    pub async fn pool(&self, name: &str) -> Result<PoolView, RegistryError> {
        self.look_up_oldest(Some(name)).await;
        let (name, owner) = (name.to_owned(), self.owner);
        let piece = self
            .ask_view(|reply| ViewQuestion::One { name, owner, reply })
            .await??;
        let mut pool = self.whole(piece, owner).await?;
        match owner {
            None => self.add_figures(&mut pool),
            Some(_) => pool.unsaved = self.trouble(),
        }
        Ok(pool)
    }

    /// Returns the number of a pool's backends that take requests, and of all its backends.
    ///
    /// # Errors
    /// As [`RegistryHandle::pool`].
    pub async fn count_backends(&self, pool: &str) -> Result<(usize, usize), RegistryError> {
        let pool = pool.to_owned();
        self.ask_view(|reply| ViewQuestion::Counts { pool, reply })
            .await?
    }

    /// Returns the backends that `name` refers to, from the oldest on: all of that name, or the one `NAME~2`.
    ///
    /// # Errors
    /// There is no such pool or backend, or this caller may not see it; the errors of [`RegistryHandle::pools`].
    pub async fn backends(
        &self,
        pool: &str,
        name: &str,
    ) -> Result<Vec<BackendView>, RegistryError> {
        self.look_up_oldest(Some(pool)).await;
        let (pool, name, owner) = (pool.to_owned(), name.to_owned(), self.owner);
        self.ask_view(|reply| ViewQuestion::Named {
            pool,
            name,
            owner,
            reply,
        })
        .await?
    }

    async fn ask_view<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> ViewQuestion,
    ) -> Result<T, RegistryError> {
        self.ask(|reply| RegistryCommand::View(question(reply)))
            .await
    }

    /// Completes a pool's view with the rest of its backends.
    async fn whole(&self, piece: ViewPiece, owner: Option<u32>) -> Result<PoolView, RegistryError> {
        let ViewPiece { mut view, mut rest } = piece;
        while let RestOfPool::Behind(after) = rest {
            let pool = view.name.clone();
            let more = self
                .ask_view(|reply| ViewQuestion::More {
                    pool,
                    after,
                    owner,
                    reply,
                })
                .await??;
            view.backends.extend(more.backends);
            rest = more.rest;
        }
        Ok(view)
    }

    /// Adds figures that can be read without asking the registry's task.
    fn add_figures(&self, pool: &mut PoolView) {
        pool.unsaved = self.trouble();
        pool.discovery = self.live.of_pool(&pool.name);
        pool.supervisor = self.supervisors.view(&pool.name);
    }

    /// Finds the oldest requests on backends that take no new ones, of one pool or of all.
    async fn look_up_oldest(&self, only: Option<&str>) {
        let asked = {
            let snapshot = self.snapshot.load();
            let pools =
                (snapshot.pools.iter()).filter(|pool| only.is_none_or(|name| *pool.name == *name));
            begin_census(pools.flat_map(|pool| pool.backends.iter()))
        };
        await_census(asked).await;
    }
}
