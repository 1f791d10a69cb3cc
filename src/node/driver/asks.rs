//! What clients ask.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

use super::Driver;
use crate::id::NodeId;
use crate::net::{Agreement, Party};
use crate::node::clients::{Connection, is_immediate};
use crate::node::inbox::{Asker, Input};
use crate::node::network::Network;
use crate::protocol::Protocol;
use crate::raft::{Change, Role};
use crate::replica::Request;
use crate::replica::asks::{Answer, Ask, Error, MemberChange, MemberInfo, MemberStatus, Reply};
use crate::store::LeaseId;
use crate::time::Instant;

impl Driver {
    pub(super) fn take_ask(&mut self, now: Instant, asker: Asker, patience: Duration, ask: Ask) {
        let deadline = now + patience;
        if is_immediate(&ask) {
            let reply = self.answer_at_once(&asker, &ask);
            self.reply(asker, Ok(reply));
            return;
        }
        if self.work.closing.is_some() {
            self.reply(asker, Err(Error::Stopped("the member is closing".to_owned())));
            return;
        }
        match ask.into_request(deadline) {
            Ok(request) => self.request(now, asker, request),
            Err(Ask::Change(changes)) => self.find_members(now, asker, deadline, changes),
            Err(_) => self.reply(asker, Err(Error::Malformed)),
        }
    }

    fn request(&mut self, now: Instant, asker: Asker, request: Request) {
        let id = self.work.requests.add(asker);
        self.replica.request(now, id, request, &mut self.work.out);
    }

    fn answer_at_once(&self, asker: &Asker, ask: &Ask) -> Answer {
        match ask {
            Ask::Status => Answer::Status(self.member_status()),
            Ask::Members => Answer::Members {
                term: self.replica.raft().term(),
                leader: self.replica.raft().leader(),
                members: self.member_infos(),
            },
            Ask::Hold { lease, attachment } => {
                // Whoever asks inside this process goes with the member.
                if let Asker::Client(connection, _) = asker {
                    connection.hold(*lease, *attachment);
                }
                Answer::Done
            }
            _ => Answer::Done,
        }
    }

    pub(super) fn member_status(&self) -> MemberStatus {
        let raft = self.replica.raft();
        MemberStatus {
            cluster: raft.settings().cluster,
            id: self.replica.id(),
            name: self.config.name.clone(),
            role: raft.role(),
            term: raft.term(),
            leader: raft.leader(),
            last: raft.last().index,
            commit: raft.commit(),
            applied: self.replica.applied(),
            pending: self.replica.pending() as u64,
        }
    }

    pub(super) fn member_infos(&self) -> Vec<MemberInfo> {
        let own = self.network.own();
        let each = self.work.membership.members().into_iter();
        each.map(|id| {
            let known = if id == own.id { Some(own.clone()) } else { self.network.find(id) };
            let (name, address) = known.map_or_else(Default::default, |known| (known.name, known.address));
            MemberInfo { id, name, address, vote: self.work.membership.weight(id) }
        })
        .collect()
    }

    /// New members are asked for their ids, where they listen.
    fn find_members(&mut self, now: Instant, asker: Asker, deadline: Instant, changes: Vec<MemberChange>) {
        let raft = self.replica.raft();
        if raft.role() != Role::Leader {
            let error = Error::NotLeader { term: raft.term(), leader: raft.leader() };
            self.reply(asker, Err(error));
            return;
        }
        let (network, inbox) = (Rc::clone(&self.network), Arc::clone(&self.inbox));
        tokio::task::spawn_local(async move {
            let found = timeout(deadline.since(now), find_all(&network, changes)).await;
            let found = found.unwrap_or_else(|_| Err("the new member does not answer".to_owned()));
            inbox.push(Input::Change(asker, deadline, found));
        });
    }

    pub(super) fn take_change(
        &mut self,
        now: Instant,
        asker: Asker,
        deadline: Instant,
        changes: Result<Vec<Change>, String>,
    ) {
        match changes {
            Ok(changes) => self.request(now, asker, Request::Change { changes, deadline }),
            Err(why) => self.reply(asker, Err(Error::Refused(why))),
        }
    }

    /// A client has gone: nobody waits for what it asked, and what it held may end.
    pub(super) fn lose_client(
        &mut self,
        now: Instant,
        connection: &Arc<Connection>,
        leases: Vec<(LeaseId, u64)>,
    ) {
        let theirs =
            |asker: &Asker| matches!(asker, Asker::Client(whose, _) if Arc::ptr_eq(whose, connection));
        let asked = self.work.requests.of(theirs);
        if !asked.is_empty() {
            self.request(now, Asker::Nobody, Request::Abandon(asked));
        }
        for (lease, attachment) in leases {
            self.request(now, Asker::Nobody, Request::Detached { lease, attachment });
        }
    }

    /// Stops waiting for what this process asked.
    pub(super) fn reply_all(&mut self, reply: &Reply) {
        for asker in self.work.requests.drain() {
            self.reply(asker, reply.clone());
        }
    }
}

async fn find_all(network: &Rc<Network>, changes: Vec<MemberChange>) -> Result<Vec<Change>, String> {
    let mut found = Vec::with_capacity(changes.len());
    for change in changes {
        found.push(match change {
            MemberChange::Add { name, address } => Change::AddLearner(find(network, &name, &address).await?),
            MemberChange::Promote { id, weight } => Change::AddVoter(id, weight),
            MemberChange::Demote(id) => Change::Demote(id),
            MemberChange::Remove(id) => Change::Remove(id),
        });
    }
    Ok(found)
}

/// The id of the member that listens there, if it is the one that is meant.
async fn find(network: &Rc<Network>, name: &str, address: &str) -> Result<NodeId, String> {
    let (stream, Agreement { hello, .. }, socket) =
        network.introduce(address, Party::Peer).await.map_err(|error| format!("{address}: {error}"))?;
    drop(socket);
    drop(stream);
    if hello.name != name {
        return Err(format!("{address} is {:?} and not {name:?}", hello.name));
    }
    network.learn(hello.members.into_iter().filter(|known| known.id == hello.id));
    Ok(hello.id)
}
