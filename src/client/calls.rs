//! Commands and queries: stamped, asked, asked again.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::keeper::Keeper;
use super::stamps::Stamps;
use super::transport::{Connection, Heard, Transport};
use super::{Failure, now};
use crate::replica::asks::{self, Ask, Error, Reply};
use crate::replica::{Consistency, SessionId, SessionStamp};
use crate::store::{self, Command, Query};
use crate::time::Instant;
use crate::wire::{Decode, Encode};

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For how long its leases are believed in when its connection has ended, and there is no other yet. `None`: as long
    /// as its own clock allows. Should be what the members' [`grace`](crate::replica::Settings::grace) is. Default 30 ms.
    pub grace: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace: Some(Duration::from_millis(30)) }
    }
}

/// A client of a cluster. Clones are the same client.
#[derive(Clone)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) settings: Settings,
    sessions: Mutex<Sessions>,
    pub(super) keeper: Keeper,
    closed: AtomicBool,
}

/// What becomes of a command or query.
pub(super) type Done<T> = Box<dyn FnOnce(Result<T, Failure>) + Send>;

#[derive(Default)]
struct Sessions {
    current: Current,
    /// Those in which something still waits, though another one took their place.
    retired: BTreeMap<SessionId, Stamps>,
}

#[derive(Default)]
enum Current {
    #[default]
    None,
    /// Asked for; these commands wait for it.
    Opening(VecDeque<Waiting>),
    /// Somebody sends what has waited; what comes now goes after it.
    Sending(Stamps, VecDeque<Waiting>),
    Open(Stamps),
}

impl Sessions {
    /// The session in use is over. Returns what has waited to be sent in it.
    fn leave(&mut self) -> VecDeque<Waiting> {
        let (over, queue) = match std::mem::take(&mut self.current) {
            Current::Open(stamps) => (stamps, VecDeque::new()),
            Current::Sending(stamps, queue) => (stamps, queue),
            other => {
                self.current = other;
                return VecDeque::new();
            }
        };
        self.retired.insert(over.session(), over);
        queue
    }
}

/// A command on its way.
struct Waiting {
    command: Bytes,
    deadline: Instant,
    tries: u32,
    /// Whoever was asked before lost sight of it: it may have happened, and nothing but its result says that it has not.
    uncertain: bool,
    done: Done<store::Answer>,
}

/// A session is left when its latest command is so far ahead of the first that waits: one lock that is waited for long
/// must not make the members keep the results of all that comes after it.
const SPAN_MAX: usize = 4096;

/// How long one asking for a session waits. Those who wait for it may have less time than who asked.
const OPENING: Duration = Duration::from_secs(1);

/// How often a command is asked whose outcome a member does not know.
const TRIES_MAX: u32 = 16;

/// How long what says goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

impl Client {
    /// A client that speaks through `transport`.
    pub fn new(transport: Arc<dyn Transport>, settings: Settings) -> Self {
        let inner = Arc::new(Inner {
            transport,
            settings,
            sessions: Mutex::default(),
            keeper: Keeper::default(),
            closed: AtomicBool::new(false),
        });
        let heard: Weak<dyn Heard> = Arc::<Inner>::downgrade(&inner);
        inner.transport.listen(heard);
        Self { inner }
    }

    /// Executes a command.
    pub fn command(
        &self,
        command: &Command,
        patience: Duration,
        done: impl FnOnce(Result<store::Answer, Failure>) + Send + 'static,
    ) {
        self.inner.command(command, now() + patience, Box::new(done));
    }

    /// Asks the store. A lease of the leader may stand in for a quorum, if the cluster has such leases.
    pub fn query(
        &self,
        query: &Query,
        patience: Duration,
        done: impl FnOnce(Result<store::Answer, Failure>) + Send + 'static,
    ) {
        self.inner.query(query, Consistency::Lease, now() + patience, Box::new(done));
    }

    /// Asks a member about itself or its cluster.
    pub fn ask(
        &self,
        ask: Ask,
        patience: Duration,
        done: impl FnOnce(Result<asks::Answer, Failure>) + Send + 'static,
    ) {
        self.inner.transport.submit(
            patience,
            ask,
            Box::new(|reply: Reply| done(reply.map_err(Failure::from))),
        );
    }

    /// Says goodbye: gives back what it holds, ends its sessions, and stops. `done` is called when that is over, at
    /// latest after two seconds.
    pub fn close(&self, done: impl FnOnce() + Send + 'static) {
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            done();
            return;
        }
        let farewell =
            Arc::new(Farewell { inner: Arc::clone(&self.inner), done: Mutex::new(Some(Box::new(done))) });
        self.inner.keeper.close(&self.inner, &farewell);
        self.inner.end_sessions(&farewell);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

/// Ends a client when the last of those who hold it is done.
pub(super) struct Farewell {
    inner: Arc<Inner>,
    done: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.inner.transport.close();
        let done = self.done.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = done {
            done();
        }
    }
}

/// Takes a lock. A panic under it has been reported already; what it guards is whole after each step.
pub(super) fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn command(self: &Arc<Self>, command: &Command, deadline: Instant, done: Done<store::Answer>) {
        if self.is_closed() {
            done(Err(Failure::Stopped("the client is closed".to_owned())));
            return;
        }
        self.send(Waiting { command: command.to_bytes(), deadline, tries: 0, uncertain: false, done });
    }

    pub(super) fn query(
        self: &Arc<Self>,
        query: &Query,
        consistency: Consistency,
        deadline: Instant,
        done: Done<store::Answer>,
    ) {
        if self.is_closed() {
            done(Err(Failure::Stopped("the client is closed".to_owned())));
            return;
        }
        if consistency == Consistency::Lease
            && !matches!(query, Query::Watch(_))
            && let Some(answer) = self.transport.read(query)
        {
            done(answer.refusal().map_or(Ok(answer), |refusal| Err(Failure::Refused(refusal))));
            return;
        }
        let ask = Ask::Query { query: query.to_bytes(), consistency };
        let respond = move |reply: Reply| match reply {
            Ok(asks::Answer::Queried(answer)) => done(read(answer)),
            Ok(_) => done(Err(Failure::Internal("a query was answered as something else"))),
            // A question that nobody answered has changed nothing.
            Err(Error::Unknown) => done(Err(Error::TimedOut.into())),
            Err(error) => done(Err(error.into())),
        };
        self.transport.submit(deadline - now(), ask, Box::new(respond));
    }

    fn send(self: &Arc<Self>, waiting: Waiting) {
        let mut sessions = locked(&self.sessions);
        match &mut sessions.current {
            Current::Open(stamps) if stamps.span() < SPAN_MAX => {
                let stamp = stamps.next();
                drop(sessions);
                self.send_stamped(stamp, waiting);
            }
            Current::Opening(queue) | Current::Sending(_, queue) => queue.push_back(waiting),
            Current::Open(_) | Current::None => self.open_another(sessions, VecDeque::from([waiting])),
        }
    }

    /// Sends what has waited for a session, in the order in which it came.
    fn send_queued(self: &Arc<Self>) {
        loop {
            let mut sessions = locked(&self.sessions);
            let Current::Sending(stamps, queue) = &mut sessions.current else { return };
            if stamps.span() >= SPAN_MAX && !queue.is_empty() {
                let rest = std::mem::take(queue);
                self.open_another(sessions, rest);
                return;
            }
            let Some(waiting) = queue.pop_front() else {
                if let Current::Sending(stamps, _) = std::mem::take(&mut sessions.current) {
                    sessions.current = Current::Open(stamps);
                }
                return;
            };
            let stamp = stamps.next();
            drop(sessions);
            self.send_stamped(stamp, waiting);
        }
    }

    /// A session for these, of which there is one at least. The one in use is left to those of its commands that wait.
    fn open_another(self: &Arc<Self>, mut sessions: MutexGuard<'_, Sessions>, queue: VecDeque<Waiting>) {
        let patience =
            queue.iter().map(|waiting| waiting.deadline).max().map_or(OPENING, |last| last - now());
        sessions.leave();
        sessions.current = Current::Opening(queue);
        drop(sessions);
        self.open_session(patience);
    }

    fn open_session(self: &Arc<Self>, patience: Duration) {
        let inner = Arc::clone(self);
        let respond = move |reply: Reply| inner.session_answered(reply);
        self.transport.submit(patience.min(OPENING), Ask::OpenSession, Box::new(respond));
    }

    fn session_answered(self: &Arc<Self>, reply: Reply) {
        let mut sessions = locked(&self.sessions);
        let Current::Opening(all) = std::mem::take(&mut sessions.current) else { return };
        let error = match reply {
            Ok(asks::Answer::Session(session)) => {
                sessions.current = Current::Sending(Stamps::new(session), all);
                drop(sessions);
                self.send_queued();
                return;
            }
            Ok(_) => Failure::Internal("the opening of a session was answered as something else"),
            // Nothing of what waits was sent, whatever became of the session.
            Err(Error::Unknown | Error::TimedOut) => Error::TimedOut.into(),
            Err(error) => error.into(),
        };
        let time = now();
        let again = matches!(error, Failure::Unavailable(_)) && !self.is_closed();
        let (patient, failed): (VecDeque<_>, VecDeque<_>) =
            all.into_iter().partition(|waiting| again && waiting.deadline > time);
        let first = patient.iter().map(|waiting| waiting.deadline - time).min();
        if first.is_some() {
            sessions.current = Current::Opening(patient);
        }
        drop(sessions);
        for waiting in failed {
            (waiting.done)(Err(error.clone()));
        }
        if let Some(first) = first {
            self.open_session(first);
        }
    }

    fn send_stamped(self: &Arc<Self>, stamp: SessionStamp, waiting: Waiting) {
        let ask = Ask::Command { stamp: Some(stamp), command: waiting.command.clone() };
        let patience = waiting.deadline - now();
        let inner = Arc::clone(self);
        let respond = move |reply: Reply| inner.command_answered(stamp, waiting, reply);
        self.transport.submit(patience, ask, Box::new(respond));
    }

    fn command_answered(self: &Arc<Self>, stamp: SessionStamp, mut waiting: Waiting, reply: Reply) {
        waiting.tries += 1;
        if reply == Err(Error::Unknown)
            && waiting.tries < TRIES_MAX
            && waiting.deadline > now()
            && !self.is_closed()
        {
            // Its session knows whether it was applied.
            waiting.uncertain = true;
            self.send_stamped(stamp, waiting);
            return;
        }
        let expired = reply == Err(Error::SessionExpired);
        self.settle(stamp, expired);
        let answer = match reply {
            Ok(asks::Answer::Result { result, .. }) => read(result),
            Ok(_) => Err(Failure::Internal("a command was answered as something else")),
            Err(_) if waiting.uncertain => Err(Failure::Unknown),
            // It was not applied: under another session it may be.
            Err(Error::SessionExpired) if waiting.tries < TRIES_MAX => {
                self.send(waiting);
                return;
            }
            Err(error) => Err(error.into()),
        };
        (waiting.done)(answer);
    }

    fn settle(self: &Arc<Self>, stamp: SessionStamp, expired: bool) {
        let mut sessions = locked(&self.sessions);
        let mut queue = VecDeque::new();
        match &mut sessions.current {
            Current::Open(stamps) | Current::Sending(stamps, _) if stamps.session() == stamp.session => {
                stamps.settle(stamp.sequence);
                if expired {
                    queue = sessions.leave();
                }
            }
            _ => {
                if let Some(stamps) = sessions.retired.get_mut(&stamp.session) {
                    stamps.settle(stamp.sequence);
                }
            }
        }
        let over = sessions.retired.get(&stamp.session).is_some_and(Stamps::is_settled);
        if over {
            sessions.retired.remove(&stamp.session);
        }
        if queue.is_empty() {
            drop(sessions);
        } else {
            self.open_another(sessions, queue);
        }
        if over {
            self.transport.submit(GOODBYE, Ask::CloseSession(stamp.session), Box::new(|_| {}));
        }
    }

    fn end_sessions(self: &Arc<Self>, farewell: &Arc<Farewell>) {
        let mut sessions = locked(&self.sessions);
        let mut open: Vec<SessionId> = std::mem::take(&mut sessions.retired).into_keys().collect();
        let mut failed = VecDeque::new();
        match std::mem::take(&mut sessions.current) {
            Current::Open(stamps) => open.push(stamps.session()),
            Current::Sending(stamps, queue) => {
                open.push(stamps.session());
                failed = queue;
            }
            Current::Opening(queue) => failed = queue,
            Current::None => {}
        }
        drop(sessions);
        for waiting in failed {
            (waiting.done)(Err(Failure::Stopped("the client is closed".to_owned())));
        }
        for session in open {
            let farewell = Arc::clone(farewell);
            let respond = move |_| drop(farewell);
            self.transport.submit(GOODBYE, Ask::CloseSession(session), Box::new(respond));
        }
    }
}

impl Heard for Inner {
    fn up(&self, connection: Connection) {
        self.keeper.up(connection);
    }

    fn down(&self) {
        self.keeper.down(self.settings.grace);
    }
}

/// An answer of the store, from its bytes.
fn read(answer: Bytes) -> Result<store::Answer, Failure> {
    let answer = store::Answer::from_bytes(answer, store::VERSION);
    let answer = answer.map_err(|_| Failure::Internal("an answer of the store cannot be read"))?;
    answer.refusal().map_or(Ok(answer), |refusal| Err(Failure::Refused(refusal)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Connection, Responder};
    use crate::store::Put;
    use std::sync::Weak;
    use std::sync::mpsc;

    /// A member that answers commands as it was told to.
    struct Script(Mutex<VecDeque<Error>>);

    impl Transport for Script {
        fn submit(&self, _patience: Duration, ask: Ask, respond: Responder) {
            respond(match ask {
                Ask::OpenSession => Ok(asks::Answer::Session(7)),
                Ask::Command { .. } => Err(locked(&self.0).pop_front().expect("asked as often as that")),
                _ => Ok(asks::Answer::Done),
            });
        }

        fn connection(&self) -> Option<Connection> {
            None
        }

        fn listen(&self, _heard: Weak<dyn Heard>) {}

        fn close(&self) {}
    }

    fn put(answers: impl IntoIterator<Item = Error>) -> Failure {
        let script = Arc::new(Script(Mutex::new(answers.into_iter().collect())));
        let client = Client::new(script, Settings::default());
        let (sender, receiver) = mpsc::channel();
        let put = Command::Put(Put::new(Bytes::from_static(b"x"), Bytes::new()));
        client.command(&put, Duration::from_secs(10), move |answer| drop(sender.send(answer)));
        receiver.recv_timeout(Duration::from_secs(10)).expect("an answer").expect_err("no result")
    }

    /// A member that answers when it is told to.
    #[derive(Default)]
    struct Slow {
        openings: Mutex<VecDeque<Responder>>,
        commands: Mutex<Vec<(SessionStamp, Bytes)>>,
    }

    impl Transport for Slow {
        fn submit(&self, _patience: Duration, ask: Ask, respond: Responder) {
            match ask {
                Ask::OpenSession => locked(&self.openings).push_back(respond),
                Ask::Command { stamp: Some(stamp), command } => locked(&self.commands).push((stamp, command)),
                _ => {}
            }
        }

        fn connection(&self) -> Option<Connection> {
            None
        }

        fn listen(&self, _heard: Weak<dyn Heard>) {}

        fn close(&self) {}
    }

    #[test]
    fn what_waits_for_a_session_takes_as_many_as_it_needs_and_keeps_its_order() {
        const COMMANDS: usize = 10_000;
        let member = Arc::new(Slow::default());
        let client = Client::new(member.clone(), Settings::default());
        let command = |n: usize| Command::Put(Put::new(Bytes::from(n.to_string()), Bytes::new()));
        for n in 0..COMMANDS {
            client.command(&command(n), Duration::from_secs(10), |_| {});
        }
        for session in 1..=3 {
            let opening = locked(&member.openings).pop_front().expect("one is asked for");
            opening(Ok(asks::Answer::Session(session)));
        }
        assert!(locked(&member.openings).is_empty());
        let asked = locked(&member.commands).clone();
        let expected: Vec<_> = (0..COMMANDS).map(|n| command(n).to_bytes()).collect();
        assert_eq!(asked.iter().map(|(_, command)| command.clone()).collect::<Vec<_>>(), expected);
        for session in 1..=3 {
            let stamps = asked.iter().filter(|(stamp, _)| stamp.session == session).count();
            assert_eq!(stamps, SPAN_MAX.min(COMMANDS - (session as usize - 1) * SPAN_MAX));
        }
    }

    #[test]
    fn what_may_have_happened_before_is_not_called_refused() {
        let stopped = || Error::Stopped("the member has ended".to_owned());
        assert_eq!(put([stopped()]), Failure::Stopped("the member has ended".to_owned()));
        assert_eq!(put([Error::Unknown, stopped()]), Failure::Unknown);
        assert_eq!(put([Error::Unknown, Error::TimedOut]), Failure::Unknown);
        assert_eq!(put([Error::Unknown, Error::SessionExpired]), Failure::Unknown);
        assert_eq!(
            put([Error::SessionExpired, stopped()]),
            Failure::Stopped("the member has ended".to_owned())
        );
    }
}
