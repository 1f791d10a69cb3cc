//! The end in order: leadership is handed over, what is written down becomes durable, and then the connections end.

use std::time::Duration;

use super::Driver;
use crate::id::RequestId;
use crate::node::Failure;
use crate::node::inbox::Asker;
use crate::protocol::Protocol;
use crate::raft::Role;
use crate::replica::Request;
use crate::replica::asks::Error;
use crate::time::Instant;

/// Where the end is.
#[derive(Debug)]
pub(super) enum Closing {
    /// Somebody else is to lead.
    HandingOver { request: RequestId, until: Instant },
    /// The journal is to become durable.
    Flushing { until: Instant },
    /// Nothing is left to do.
    Over,
}

const HAND_OVER_MAX: Duration = Duration::from_millis(800);
const FLUSH_MAX: Duration = Duration::from_millis(800);

impl Closing {
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// When it goes on in any case.
    pub(super) const fn next(&self) -> Instant {
        match self {
            Self::HandingOver { until, .. } | Self::Flushing { until } => *until,
            Self::Over => Instant::ZERO,
        }
    }
}

impl Driver {
    pub(super) fn begin_closing(&mut self, now: Instant) {
        if self.work.closing.is_some() {
            return;
        }
        let own = self.replica.id();
        let connected = self.network.connected();
        let leads = self.replica.raft().role() == Role::Leader;
        let heir = self.work.membership.voters().iter().map(|(id, _)| *id);
        let heir = heir
            .filter(|id| *id != own && connected.contains(id))
            .max_by_key(|id| self.replica.raft().matched(*id));
        self.work.closing = Some(match heir.filter(|_| leads) {
            Some(to) => {
                let request = self.work.requests.add(Asker::Nobody);
                self.replica.request(now, request, Request::Transfer { to }, &mut self.work.out);
                self.settle(now);
                Closing::HandingOver { request, until: now + HAND_OVER_MAX }
            }
            None => Closing::Flushing { until: now + FLUSH_MAX },
        });
    }

    /// When the disk is full, the end begins: what was kept back is for writing down what is under way, and for handing
    /// over.
    pub(super) fn mind_the_room(&mut self, now: Instant) {
        if self.work.closing.is_none() && self.folder.reserve().is_given_up() {
            tracing::error!(member = self.config.name, "the disk is full: handing over, then stopping");
            self.work.crowded = true;
            self.begin_closing(now);
        }
    }

    /// The replica has answered a request: perhaps that of the end.
    pub(super) fn closing_hears(&mut self, id: RequestId) {
        if let Some(Closing::HandingOver { request, until }) = &mut self.work.closing
            && *request == id
        {
            *until = Instant::ZERO;
        }
    }

    pub(super) fn go_on_closing(&mut self, now: Instant) {
        match self.work.closing {
            Some(Closing::HandingOver { until, .. }) if until <= now => {
                self.reply_all(&Err(Error::Unknown));
                self.work.closing = Some(Closing::Flushing { until: now + FLUSH_MAX });
                self.go_on_closing(now);
            }
            Some(Closing::Flushing { until })
                if self.wal.durable() == self.wal.appended() || until <= now =>
            {
                self.work.closing = Some(Closing::Over);
                if self.work.crowded {
                    self.fail(Failure::crowded(self.folder.path()));
                }
            }
            _ => {}
        }
    }
}
