//! What objects do: the models that ship.

pub(super) mod counter;
mod grants;
pub(super) mod lock;
pub(super) mod queue;
pub(super) mod register;
pub(super) mod sequences;
pub(super) mod set;

use super::table::Table;
use super::{Operation, State};

/// Gives a number to each content of a state that is more than a number.
#[derive(Clone, Debug)]
struct Interned {
    contents: Vec<Box<[u32]>>,
    table: Table,
    bytes: usize,
}

impl Interned {
    /// Only the empty content is there, as 0.
    fn new() -> Self {
        let mut interned = Self { contents: Vec::new(), table: Table::new(), bytes: 0 };
        interned.number(&[]);
        interned
    }

    fn content(&self, state: State) -> &[u32] {
        &self.contents[state as usize]
    }

    fn number(&mut self, content: &[u32]) -> State {
        let hash = |content: &[u32]| {
            content.iter().fold(content.len() as u64, |hash, &item| {
                (hash ^ u64::from(item)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
            })
        };
        let contents = &mut self.contents;
        let code = hash(content);
        if let Some(number) = self.table.find(code, |number| *contents[number as usize] == *content) {
            return number;
        }
        let number = contents.len() as State;
        contents.push(content.into());
        self.bytes += size_of_val(content) + size_of::<Box<[u32]>>();
        self.table.insert(code, number, |number| hash(&contents[number as usize]));
        number
    }

    fn memory(&self) -> usize {
        self.bytes + self.table.memory()
    }
}

/// The earliest moment at which a fixed order can stand, operation by operation.
///
/// Where the order of some operations is known, placing each as early as it can stand leaves the most room for the
/// rest. What is placed is an instant between two places of the history: right after place `now`.
#[derive(Clone, Copy, Debug, Default)]
struct Earliest {
    now: u32,
}

impl Earliest {
    /// Places an operation next; whether it had not ended by then.
    fn place<A>(&mut self, operation: &Operation<A>) -> bool {
        self.now = self.now.max(operation.call);
        self.now < operation.end
    }

    /// Places what does not touch each other, such as reads of one state: each stands as soon as it can, and whatever comes next
    /// after all of them.
    fn place_beside<'a, A: 'a>(&mut self, alike: impl Iterator<Item = &'a Operation<A>>) -> bool {
        let since = *self;
        for operation in alike {
            let mut own = since;
            if !own.place(operation) {
                return false;
            }
            self.now = self.now.max(own.now);
        }
        true
    }
}
