//! A fenced lock without a search: tokens tell the order of its grants.
//!
//! Where a holder may lose the lock without having released it, that order is all that there is to judge. Otherwise each
//! grant begins a *section*, which a release of its process ends. Which release that is, and which acquires of unknown
//! outcome have begun sections of their own, is found by a sweep that gives every acquire the earliest moment it can have
//! (a moment is an instant right after a place of the history). What the sweep finds is an order. What it does not find may
//! be there all the same, and is left to the search. That no order is there is claimed only for reasons that hold for
//! every one: tokens contradict time, a process has not enough releases for its grants, or too many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::super::{NEVER, Operation};
use super::lock::LockAction::{self, Acquire, AcquireRefused, Release, ReleaseRefused};

/// The verdict; `None`: only the search can tell.
pub(super) fn by_tokens(expires: bool, operations: &[Operation<LockAction>]) -> Option<bool> {
    let grants = grants(operations)?;
    if !are_in_order(&grants) {
        return Some(false);
    }
    if expires {
        return Some(true);
    }
    let mut clients = clients(operations, &grants);
    if clients.values().any(|client| client.lacks_releases(&grants) || client.lacks_acquires(&grants)) {
        return Some(false);
    }
    let sections = Sections::of(&clients, &grants)?;
    Sweep::new(&mut clients, operations).explain(&grants, sections).map(|()| true)
}

/// When an operation was asked and answered.
#[derive(Clone, Copy, Debug)]
struct Span {
    call: u32,
    end: u32,
}

impl Span {
    const fn of<A>(operation: &Operation<A>) -> Self {
        Self { call: operation.call, end: operation.end }
    }

    /// Of an operation whose outcome is unknown.
    const fn from(call: u32) -> Self {
        Self { call, end: NEVER }
    }
}

/// An acquire that is known to have been granted.
#[derive(Clone, Copy, Debug)]
struct Grant {
    process: u32,
    token: u32,
    span: Span,
    /// No order has it before this moment.
    earliest: u32,
    /// Every order has the next grant before this place; [`NEVER`]: there is none.
    next_before: u32,
}

/// The known grants, by token. `None` where one has no token.
fn grants(operations: &[Operation<LockAction>]) -> Option<Vec<Grant>> {
    let mut grants = Vec::new();
    for operation in operations.iter().filter(|operation| operation.is_known()) {
        if let Acquire { process, token } = operation.action {
            let span = Span::of(operation);
            grants.push(Grant { process, token: token?, span, earliest: 0, next_before: NEVER });
        }
    }
    grants.sort_unstable_by_key(|grant| (grant.token, grant.span.call));
    let (mut earliest, mut next_before) = (0, NEVER);
    for grant in &mut grants {
        earliest = earliest.max(grant.span.call);
        grant.earliest = earliest;
    }
    for grant in grants.iter_mut().rev() {
        grant.next_before = next_before;
        next_before = next_before.min(grant.span.end);
    }
    Some(grants)
}

/// Whether each token was given once, and none before a smaller one was asked for.
fn are_in_order(grants: &[Grant]) -> bool {
    grants.first().is_none_or(|grant| grant.token > 0)
        && grants.windows(2).all(|pair| pair[0].token < pair[1].token)
        && grants.iter().all(|grant| grant.earliest < grant.span.end)
}

/// What one process did.
#[derive(Clone, Debug, Default)]
struct Client {
    /// Its known grants, by number.
    grants: Vec<usize>,
    /// Its known releases, by call.
    releases: Vec<Span>,
    /// Its releases that were refused, by call.
    refusals: Vec<Span>,
    /// The calls of its acquires and releases of unknown outcome, and how many of them the sweep has used. They are alike, so
    /// they are used in order.
    perhaps_acquired: Vec<u32>,
    acquired: usize,
    perhaps_released: Vec<u32>,
    released: usize,
}

type Clients = BTreeMap<u32, Client>;

fn clients(operations: &[Operation<LockAction>], grants: &[Grant]) -> Clients {
    let mut clients = Clients::new();
    for operation in operations {
        let (Acquire { process, .. } | Release { process } | ReleaseRefused { process }) = operation.action
        else {
            continue;
        };
        let client = clients.entry(process).or_default();
        match operation.action {
            Acquire { .. } if !operation.is_known() => client.perhaps_acquired.push(operation.call),
            Release { .. } if !operation.is_known() => client.perhaps_released.push(operation.call),
            Release { .. } => client.releases.push(Span::of(operation)),
            ReleaseRefused { .. } if operation.is_known() => client.refusals.push(Span::of(operation)),
            _ => {}
        }
    }
    for (number, grant) in grants.iter().enumerate() {
        clients.entry(grant.process).or_default().grants.push(number);
    }
    clients
}

impl Client {
    /// Whether there is no release for each of its grants before the next grant of anybody. Whatever release can be, and ends
    /// first, is of the least use to later ones.
    fn lacks_releases(&self, grants: &[Grant]) -> bool {
        let mut releases: Vec<Span> = self.releases.clone();
        releases.extend(self.perhaps_released.iter().map(|&call| Span::from(call)));
        releases.sort_unstable_by_key(|release| release.call);
        let mut releases = releases.into_iter().peekable();
        let mut begun = BinaryHeap::new();
        let followed = |number: &&usize| grants[**number].next_before != NEVER;
        !self.grants.iter().filter(followed).all(|&number| {
            let Grant { earliest, next_before, .. } = grants[number];
            while let Some(release) = releases.next_if(|release| release.call < next_before) {
                begun.push(Reverse(release.end));
            }
            while begun.peek().is_some_and(|&Reverse(end)| end <= earliest) {
                begun.pop();
            }
            begun.pop().is_some()
        })
    }

    /// Whether there is no acquire for each of its known releases: a grant that nobody else's has to follow yet, or an
    /// unknown one. Claimed only where the releases follow each other.
    fn lacks_acquires(&self, grants: &[Grant]) -> bool {
        if !self.releases.windows(2).all(|pair| pair[0].end < pair[1].call) {
            return false;
        }
        let mut acquires: Vec<(u32, u32)> = Vec::new();
        acquires.extend(self.grants.iter().map(|&it| (grants[it].earliest, grants[it].next_before)));
        acquires.extend(self.perhaps_acquired.iter().map(|&call| (call, NEVER)));
        acquires.sort_unstable();
        let mut acquires = acquires.into_iter().peekable();
        let mut begun = BinaryHeap::new();
        !self.releases.iter().all(|release| {
            while let Some((_, before)) = acquires.next_if(|&(from, _)| from < release.end) {
                begun.push(Reverse(before));
            }
            while begun.peek().is_some_and(|&Reverse(before)| before <= release.call) {
                begun.pop();
            }
            begun.pop().is_some()
        })
    }

    /// When a section can begin: from moment `at` on, and not before anybody who was refused a release, which ended before the
    /// section's own was called, at `released`, had asked.
    fn not_yet(&self, at: u32, released: u32) -> u32 {
        let from = self.refusals.partition_point(|refusal| refusal.call <= at);
        let within = self.refusals[from..].iter().take_while(|refusal| refusal.call < released);
        within.filter(|refusal| refusal.end <= released).map(|refusal| refusal.call).max().unwrap_or(at)
    }

    /// The last moment of a section: before the next one, and before who was refused a release in it was told so.
    fn until(&self, since: u32, release: Span, next: u32) -> Option<u32> {
        let latest = next.min(release.end - 1);
        let from = self.refusals.partition_point(|refusal| refusal.call <= since);
        let within = self.refusals[from..].iter().take_while(|refusal| refusal.call < latest);
        let first = within.filter(|refusal| refusal.end <= latest).map(|refusal| refusal.end - 1).min();
        first.map_or(Some(latest), |first| (release.call <= first).then_some(first))
    }

    /// Whether its unknown operations can hold the lock, as [`Sweep::between`] has it.
    fn can_hold(&self, free: u32, refused: Span, next: u32) -> bool {
        let Some(&acquire) = self.perhaps_acquired.get(self.acquired) else { return false };
        let release = self.perhaps_released.get(self.released).copied().unwrap_or(NEVER);
        let since = self.not_yet(free.max(acquire), release.min(next));
        let release = release.max(since);
        since < refused.end
            && (next == NEVER || release <= next)
            && self.until(since, Span::from(release), next).is_some_and(|until| refused.call <= until)
    }
}

/// Which releases end which grants.
#[derive(Debug)]
struct Sections {
    /// By grant: its release; `None`: an unknown one, or none.
    releases: Vec<Option<Span>>,
    /// Releases whose acquires are unknown ones, with their processes: the one that ends last comes first.
    headless: Vec<(Span, u32)>,
}

impl Sections {
    /// `None` where a process asked for several things at once.
    fn of(clients: &Clients, grants: &[Grant]) -> Option<Self> {
        let mut sections = Self { releases: vec![None; grants.len()], headless: Vec::new() };
        for (&process, client) in clients {
            let mut changes: Vec<(Span, Option<usize>)> = Vec::new();
            changes.extend(client.grants.iter().map(|&number| (grants[number].span, Some(number))));
            changes.extend(client.releases.iter().map(|&release| (release, None)));
            changes.sort_unstable_by_key(|(span, _)| span.call);
            if !changes.windows(2).all(|pair| pair[0].0.end < pair[1].0.call) {
                return None;
            }
            let mut held: Option<usize> = None;
            for (span, grant) in changes {
                if grant.is_some() {
                    held = grant;
                    continue;
                }
                // Somebody else had it in between, so it was released and acquired meanwhile.
                match held.take().filter(|&number| span.call < grants[number].next_before) {
                    Some(number) => sections.releases[number] = Some(span),
                    None => sections.headless.push((span, process)),
                }
            }
        }
        sections.headless.sort_unstable_by_key(|(release, _)| Reverse(release.end));
        Some(sections)
    }

    /// By grant: from when on there is room for another grant after it, at the earliest; tokens that follow each other leave
    /// none.
    fn room(&self, grants: &[Grant]) -> Vec<u32> {
        let mut room = vec![0; grants.len()];
        for number in (0..grants.len()).rev() {
            let own = grants[number].span.call.max(self.releases[number].map_or(0, |release| release.call));
            let follows = grants.get(number + 1).filter(|next| next.token == grants[number].token + 1);
            room[number] = if follows.is_some() { own.max(room[number + 1]) } else { own };
        }
        room
    }
}

/// A section that has begun.
#[derive(Clone, Copy, Debug)]
struct Section {
    process: u32,
    /// The moment of its acquire.
    since: u32,
    /// Its release, if that is known.
    release: Option<Span>,
}

/// Places sections one after the other. Each method is `None` where it does not know how to go on.
#[derive(Debug)]
struct Sweep<'a> {
    clients: &'a mut Clients,
    /// Acquires that were refused, in the order of their calls, from the first one on that is not explained.
    refusals: Vec<Span>,
    explained: usize,
    held: Option<Section>,
    /// The last token.
    token: u32,
    /// The next known one.
    next_token: u32,
}

impl<'a> Sweep<'a> {
    fn new(clients: &'a mut Clients, operations: &[Operation<LockAction>]) -> Self {
        let is_refused = |it: &&Operation<_>| it.action == AcquireRefused && it.is_known();
        let refusals = operations.iter().filter(is_refused).map(Span::of).collect();
        Self { clients, refusals, explained: 0, held: None, token: 0, next_token: NEVER }
    }

    fn explain(mut self, grants: &[Grant], sections: Sections) -> Option<()> {
        let room = sections.room(grants);
        let Sections { releases, mut headless } = sections;
        for ((grant, release), room) in grants.iter().zip(releases).zip(room) {
            self.next_token = grant.token;
            while let Some((first, process)) =
                headless.pop_if(|it| self.comes_first(*it, grant, release, room))
            {
                self.perhaps(process, Some(first))?;
            }
            self.begin(grant.process, grant.span, release)?;
            self.token = (self.token < grant.token).then_some(grant.token)?;
        }
        self.next_token = NEVER;
        while let Some((release, process)) = headless.pop() {
            self.perhaps(process, Some(release))?;
        }
        let release = self.release();
        let is_late = self.held.is_some_and(|held| held.release.is_some()) && release.call >= release.end;
        if is_late { None } else { self.close(release, NEVER) }
    }

    /// Whether a release whose acquire is unknown comes before a grant: because it would be too late after it, or because it
    /// is in nobody's way, or because it explains who was refused. There is `room` for it only from then on.
    fn comes_first(
        &self,
        (first, process): (Span, u32),
        grant: &Grant,
        release: Option<Span>,
        room: u32,
    ) -> bool {
        let granted = self.release().call.max(grant.span.call);
        let released = release.map_or_else(|| self.next_release(grant.process), |release| release.call);
        if granted.max(released).max(room) >= first.end {
            return true;
        }
        let client = &self.clients[&process];
        let Some(&acquire) = client.perhaps_acquired.get(client.acquired) else { return false };
        let by = acquire.max(first.call);
        let fits = self.token + 1 < grant.token && by < grant.span.end;
        fits && (by <= granted || self.leaves_refusals(granted))
    }

    /// Whether somebody who was refused is not explained when the next section begins at moment `next`.
    fn leaves_refusals(&self, next: u32) -> bool {
        let until = match self.held {
            Some(held) => match self.clients[&held.process].until(held.since, self.release(), next) {
                Some(until) => Some(until),
                None => return false,
            },
            None => None,
        };
        self.unexplained(until, next).1.is_some()
    }

    /// When the unknown release was called that a section of the process could have after the one that has begun.
    fn next_release(&self, process: u32) -> u32 {
        let takes_one = |held: Section| held.process == process && held.release.is_none();
        let client = &self.clients[&process];
        let next = client.released + usize::from(self.held.is_some_and(takes_one));
        client.perhaps_released.get(next).copied().unwrap_or(NEVER)
    }

    /// The release of the section that has begun, if it is to end; from the moment on at which it can be.
    fn release(&self) -> Span {
        let Some(Section { process, since, release }) = self.held else {
            return Span { call: 0, end: NEVER };
        };
        let client = &self.clients[&process];
        let unknown = || client.perhaps_released.get(client.released).map(|&call| Span::from(call));
        let release = release.or_else(unknown).unwrap_or(Span::from(NEVER));
        Span { call: release.call.max(since), ..release }
    }

    /// An unknown acquire begins a section.
    fn perhaps(&mut self, process: u32, release: Option<Span>) -> Option<()> {
        self.token = (self.token + 1 < self.next_token).then_some(self.token + 1)?;
        let client = self.clients.get_mut(&process)?;
        let &call = client.perhaps_acquired.get(client.acquired)?;
        client.acquired += 1;
        self.begin(process, Span::from(call), release)
    }

    /// Ends the section before, and begins one.
    fn begin(&mut self, process: u32, acquire: Span, release: Option<Span>) -> Option<()> {
        let before = self.release();
        let released = release.map_or_else(|| self.next_release(process), |release| release.call);
        let since = self.clients[&process].not_yet(before.call.max(acquire.call), released);
        if before.call >= before.end || since >= acquire.end {
            return None;
        }
        self.close(before, since)?;
        self.held = Some(Section { process, since, release });
        Some(())
    }

    /// Ends the section that has begun at moment `next` at the latest, and finds whether all who were refused by then can
    /// have been.
    fn close(&mut self, release: Span, next: u32) -> Option<()> {
        let Some(held) = self.held else { return self.explain_refusals(None, next) };
        if held.release.is_none() {
            self.clients.get_mut(&held.process)?.released += 1;
        }
        let until = self.clients[&held.process].until(held.since, release, next)?;
        self.explain_refusals(Some(until), next)
    }

    /// Whether all acquires that were refused, and called by moment `next`, can have seen that somebody held it: the section
    /// that ends at moment `until`, the one that begins at `next`, or one of unknown operations in between.
    fn explain_refusals(&mut self, until: Option<u32>, next: u32) -> Option<()> {
        let (explained, refused) = self.unexplained(until, next);
        self.explained = explained;
        match refused {
            Some(refused) => self.between(until.unwrap_or(0), refused, next),
            None => Some(()),
        }
    }

    /// Of acquires that were refused while it was free: the last call and the first end. And who comes after them.
    fn unexplained(&self, until: Option<u32>, next: u32) -> (usize, Option<Span>) {
        let called = self.refusals[self.explained..].iter().take_while(|refusal| refusal.call <= next);
        let (mut count, mut all): (usize, Option<Span>) = (0, None);
        for refusal in called {
            count += 1;
            if until.is_none_or(|until| until < refusal.call) && refusal.end <= next {
                let end = all.map_or(NEVER, |all| all.end).min(refusal.end);
                all = Some(Span { call: refusal.call, end });
            }
        }
        (self.explained + count, all)
    }

    /// Unknown operations of somebody hold it after moment `free` and before `next`: from the first end of those refused until
    /// their last call.
    fn between(&mut self, free: u32, refused: Span, next: u32) -> Option<()> {
        self.token = (self.token + 1 < self.next_token).then_some(self.token + 1)?;
        let (_, client) = self.clients.iter_mut().find(|(_, client)| client.can_hold(free, refused, next))?;
        client.acquired += 1;
        client.released += 1;
        Some(())
    }
}
