//! What the harness asks of a core, and the limits that each is given.

/// Milliseconds of a tick. Elections time out after 10 to 20 of them, a leader is heard at each.
pub const TICK_MILLIS: u64 = 10;
/// Ticks of an election time-out.
pub const ELECTION_TICKS: u32 = 10;
/// Bytes of entries in one message.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// Appends on the way to one member.
pub const MESSAGES_IN_FLIGHT: usize = 256;
/// Entries kept behind the applied one when a log is compacted.
pub const TAIL: u64 = 1024;

/// One member of a core under test: pre-vote and check-quorum are on, each command is one entry, what it promises
/// is in its own memory before, and nothing is kept from one member's life to another's.
pub trait Contestant {
    /// What members say to each other.
    type Message;

    /// A member of a cluster of `members`, all known to it.
    fn new(id: u64, members: &[u64]) -> Self;
    /// A tick of the clock has passed.
    fn tick(&mut self);
    /// Replicate this; the slice is the caller's buffer.
    fn propose(&mut self, command: &[u8]);
    /// A message has come.
    fn receive(&mut self, from: u64, message: Self::Message);
    /// Does all that there is to do: stores, sends (to `send`), applies (to `applied`).
    fn work(&mut self, send: &mut Vec<(u64, Self::Message)>, applied: &mut Applied);
    /// Forgets the log up to [`TAIL`] entries before the last applied one.
    fn compact(&mut self);
    /// Hands leadership over.
    fn transfer(&mut self, to: u64);
    /// Whether it leads.
    fn leads(&self) -> bool;
    /// The last entry that it has applied, of any kind.
    fn applied_index(&self) -> u64;

    /// Appends a message's wire form.
    fn encode(message: &Self::Message, buffer: &mut Vec<u8>);
    /// Reads a message back.
    fn decode(bytes: &[u8]) -> Self::Message;
}

/// The state machine of a member: counts commands, and insists that they come whole, once and in order.
#[derive(Default)]
pub struct Applied {
    /// How many.
    pub commands: u64,
}

impl Applied {
    /// Takes one command, which begins with its number.
    #[inline]
    pub fn apply(&mut self, command: &[u8]) {
        let number = command.first_chunk().map(|number| u64::from_le_bytes(*number));
        assert_eq!(number, Some(self.commands), "a command was lost, repeated or reordered");
        self.commands += 1;
    }
}
