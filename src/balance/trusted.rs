//! Only backends that satisfy a policy.

use super::Slot;
use super::policy::cell;

/// What is known of each backend's trustworthiness. A backend without a verdict is refused: security fails closed.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    verdicts: Vec<Option<Verdict>>,
}

#[derive(Clone, Debug)]
enum Verdict {
    Trusted,
    Refused(String),
}

impl Trusted {
    /// Notes whether `slot` satisfies the policy, or why not.
    pub fn judge(&mut self, slot: Slot, refusal: Option<String>) {
        *cell(&mut self.verdicts, slot) = Some(refusal.map_or(Verdict::Trusted, Verdict::Refused));
    }

    pub(super) fn forget(&mut self, slot: Slot) {
        *cell(&mut self.verdicts, slot) = None;
    }

    pub(super) fn refusal(&self, slot: Slot) -> Option<&str> {
        match self.verdicts.get(slot as usize) {
            Some(Some(Verdict::Trusted)) => None,
            Some(Some(Verdict::Refused(reason))) => Some(reason),
            Some(None) | None => Some("it has no labels"),
        }
    }
}
