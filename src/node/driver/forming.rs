//! How a cluster comes about, and how members come to know each other.

use super::Driver;
use crate::net::{Hello, Known, Refusal};
use crate::node::Failure;
use crate::node::inbox::Asker;
use crate::protocol::Protocol;
use crate::raft::{Membership, WEIGHT};
use crate::replica::Request;
use crate::time::Instant;

impl Driver {
    /// Dials whom the settings name, until the log says who belongs.
    pub(super) fn begin_forming(&mut self, now: Instant) {
        if self.work.membership.is_empty() {
            for (name, address) in self.config.peers.clone() {
                self.network.dial(&name, &address, None);
            }
            self.form(now);
        }
    }

    /// A peer has shown who it is.
    pub(super) fn meet(&mut self, now: Instant, hello: Hello) {
        self.learn(hello.members.clone());
        if self.work.membership.is_empty() {
            self.work.met.insert(hello.name.clone(), hello);
            self.form(now);
        }
    }

    pub(super) fn learn(&mut self, members: Vec<Known>) {
        if self.network.learn(members) {
            self.keep_card();
        }
    }

    /// The member whose name sorts first forms the cluster, once it knows all others, and none of them has one already.
    fn form(&mut self, now: Instant) {
        let first = self.config.peers.keys().next();
        let others = || self.config.peers.keys().filter(|name| **name != self.config.name);
        let all_met = others().all(|name| self.work.met.get(name).is_some_and(|hello| !hello.formed));
        if first.is_some_and(|first| *first != self.config.name) || !all_met {
            return;
        }
        let own = (self.replica.id(), self.config.observer);
        let met = others().filter_map(|name| self.work.met.get(name));
        let all: Vec<_> = std::iter::once(own).chain(met.map(|hello| (hello.id, hello.observes))).collect();
        let voters = all.iter().filter(|(_, observes)| !observes).map(|(id, _)| (*id, WEIGHT));
        let learners = all.iter().filter(|(_, observes)| *observes).map(|(id, _)| *id);
        let membership = Membership::new(voters, learners);
        if membership.voters().is_empty() {
            self.fail(Failure::Refused {
                complaint: "all members are observers: none could ever lead".to_owned(),
            });
            return;
        }
        tracing::info!(member = self.config.name, ?membership, "forms the cluster");
        for request in [Request::Bootstrap(membership), Request::Campaign] {
            let id = self.work.requests.add(Asker::Nobody);
            self.replica.request(now, id, request, &mut self.work.out);
        }
        self.settle(now);
    }

    /// A peer says why it does not want this member.
    pub(super) fn be_refused(&mut self, refusal: Refusal) {
        // Who has the log of the cluster waits and sees: the peer may know less.
        if let Refusal::NameTaken { name, id } = refusal
            && self.work.membership.is_empty()
        {
            let complaint = format!(
                "{name:?} is a member of the cluster already, with the id {id}, and {} has not its data: start it with its \
                 own data, or remove {name:?} from the cluster and add it again",
                self.folder.path().display()
            );
            self.fail(Failure::Refused { complaint });
        }
    }

    /// Writes down who the members are and where.
    pub(super) fn keep_card(&mut self) {
        let mut members = self.network.known();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        if self.card.members != members {
            self.card.members = members;
            if let Err(failure) = self.folder.write_card(&self.card, self.config.format_version) {
                self.fail(failure);
            }
        }
        self.show_members();
    }

    /// Others see who belongs, and who is there.
    pub(super) fn show_members(&self) {
        let (infos, connected) = (self.member_infos(), self.network.connected());
        self.shared.update(|status| (status.members, status.connected) = (infos, connected));
    }
}
