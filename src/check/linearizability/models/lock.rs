//! A lock whose grants carry fencing tokens.

use super::super::{Model, Operation, State};
use super::{Interned, grants};

/// What is done to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockAction {
    /// The process holds it from now on.
    Acquire {
        /// Who.
        process: u32,
        /// The token that came with it; `None`: one that nobody heard.
        token: Option<u32>,
    },
    /// It was refused: somebody held it.
    AcquireRefused,
    /// The process does not hold it any more.
    Release {
        /// Who.
        process: u32,
    },
    /// It was refused: the process did not hold it.
    ReleaseRefused {
        /// Who.
        process: u32,
    },
}

use LockAction::{Acquire, AcquireRefused, Release, ReleaseRefused};

/// A lock, which begins free. Tokens grow with each grant; what a store that checks them relies on (Kleppmann 2016,
/// "How to do distributed locking").
#[derive(Clone, Debug)]
pub struct Lock {
    states: Interned,
    fenced: bool,
    expires: bool,
}

impl Lock {
    /// `fenced`: grants carry tokens, greater than 0. `expires`: a holder may lose it without having released it, so only
    /// the tokens are judged.
    pub fn new(fenced: bool, expires: bool) -> Self {
        Self { states: Interned::new(), fenced, expires }
    }

    /// The holder plus one (0: it is free) and the last token.
    fn state(&self, state: State) -> (u32, u32) {
        match *self.states.content(state) {
            [holder, token] => (holder, token),
            _ => (0, 0),
        }
    }

    fn number(&mut self, holder: u32, token: u32) -> State {
        if (holder, token) == (0, 0) { 0 } else { self.states.number(&[holder, token]) }
    }
}

impl Model for Lock {
    type Action = LockAction;

    fn initial(&mut self) -> State {
        0
    }

    fn step(&mut self, state: State, action: LockAction) -> Option<State> {
        let (holder, last) = self.state(state);
        match action {
            Acquire { process, token } => {
                // Of the tokens that nobody heard, the least leaves the most room for those after it.
                let token = token.unwrap_or(if self.fenced { last + 1 } else { 0 });
                let free = holder == 0 || self.expires;
                let holder = if self.expires { 0 } else { process + 1 };
                (free && (!self.fenced || token > last)).then(|| self.number(holder, token))
            }
            AcquireRefused => (holder != 0 || self.expires).then_some(state),
            Release { process } => (holder == process + 1 || self.expires).then(|| self.number(0, last)),
            ReleaseRefused { process } => (holder != process + 1 || self.expires).then_some(state),
        }
    }

    fn is_pure(&self, action: LockAction) -> bool {
        match action {
            Acquire { .. } => false,
            Release { .. } => self.expires,
            AcquireRefused | ReleaseRefused { .. } => true,
        }
    }

    fn forget(&self, action: LockAction) -> Option<LockAction> {
        match action {
            // Where only tokens are judged, one that nobody heard is nobody's reason.
            Acquire { .. } | Release { .. } if self.expires => None,
            Acquire { process, .. } => Some(Acquire { process, token: None }),
            Release { .. } => Some(action),
            AcquireRefused | ReleaseRefused { .. } => None,
        }
    }

    fn by_values(&self, operations: &[Operation<LockAction>]) -> Option<bool> {
        self.fenced.then(|| grants::by_tokens(self.expires, operations)).flatten()
    }

    fn memory(&self) -> usize {
        self.states.memory()
    }
}
