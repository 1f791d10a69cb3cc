//! What tasks call: a small table that the pool and its workers share, so that a function is sent once.

use std::sync::Arc;

use super::arena::Keep;
use super::message::FUNCTIONS;

/// A place in the table. Places are used again; a version tells the old tenant from the new.
#[derive(Debug, Default)]
struct Entry {
    version: u32,
    users: u64,
    definition: Option<Arc<[u8]>>,
    /// What it names in the arena.
    kept: Vec<Keep>,
}

/// The pool's side.
#[derive(Debug, Default)]
pub struct Functions {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Definitions that nobody uses any more, if somebody wants to know of them.
    freed: Option<Vec<Arc<[u8]>>>,
}

impl Functions {
    /// Takes in a definition with what it names in the arena, with one user; nothing when too many live.
    pub fn define(&mut self, definition: &[u8], kept: Vec<Keep>) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if (self.entries.len() as u32) < FUNCTIONS => {
                self.entries.push(Entry::default());
                self.entries.len() as u32 - 1
            }
            None => return None,
        };
        let entry = &mut self.entries[place as usize];
        entry.version += 1;
        entry.users = 1;
        entry.definition = Some(definition.into());
        entry.kept = kept;
        Some(place)
    }

    /// From now on, definitions that nobody uses any more are kept for [`Functions::freed`].
    pub fn remember_freed(&mut self) {
        self.freed = Some(Vec::new());
    }

    /// Definitions that nobody uses any more, since this was asked last.
    pub fn freed(&mut self) -> Vec<Arc<[u8]>> {
        self.freed.as_mut().map_or_else(Vec::new, std::mem::take)
    }

    /// One more user.
    pub fn share(&mut self, place: u32) {
        self.entries[place as usize].users += 1;
    }

    /// One user less; the last one frees the place.
    pub fn release(&mut self, place: u32) {
        let entry = &mut self.entries[place as usize];
        entry.users -= 1;
        if entry.users == 0 {
            let definition = entry.definition.take();
            entry.kept.clear();
            self.free.push(place);
            if let Some(freed) = &mut self.freed {
                freed.extend(definition);
            }
        }
    }

    fn current(&self, place: u32) -> Option<(u32, &Arc<[u8]>)> {
        let entry = self.entries.get(place as usize)?;
        Some((entry.version, entry.definition.as_ref()?))
    }
}

/// What one worker knows of the table.
#[derive(Debug, Default)]
pub struct Known {
    versions: Vec<u32>,
    /// What was told lately, and where in the ring: what is taken back there was never told.
    told: Vec<(u64, u32)>,
}

impl Known {
    /// The definition that the worker must be told before it can be called by this place.
    pub fn missing<'a>(&self, functions: &'a Functions, place: u32) -> Option<&'a Arc<[u8]>> {
        let (version, definition) = functions.current(place)?;
        (self.versions.get(place as usize) != Some(&version)).then_some(definition)
    }

    /// It was told at this position of the ring, which is read up to `head`.
    pub fn tell(&mut self, functions: &Functions, place: u32, position: u64, head: u64) {
        let Some((version, _)) = functions.current(place) else { return };
        let place = place as usize;
        if self.versions.len() <= place {
            self.versions.resize(place + 1, 0);
        }
        self.versions[place] = version;
        if self.told.len() > 64 {
            self.told.retain(|(told, _)| *told >= head); // what was read is never taken back
        }
        self.told.push((position, place as u32));
    }

    /// The ring was set back to this position.
    pub fn untell(&mut self, position: u64) {
        while let Some((_, place)) = self.told.pop_if(|(told, _)| *told >= position) {
            self.versions[place as usize] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_told_once_until_its_place_changes_hands() {
        let (mut functions, mut known) = (Functions::default(), Known::default());
        let place = functions.define(b"f", Vec::new()).expect("room");
        assert_eq!(known.missing(&functions, place).map(|bytes| bytes.to_vec()), Some(b"f".to_vec()));
        known.tell(&functions, place, 0, 0);
        assert!(known.missing(&functions, place).is_none());
        functions.release(place);
        assert_eq!(functions.define(b"g", Vec::new()), Some(place));
        assert_eq!(known.missing(&functions, place).map(|bytes| bytes.to_vec()), Some(b"g".to_vec()));
    }

    #[test]
    fn a_definition_without_users_is_handed_back_once() {
        let mut functions = Functions::default();
        functions.remember_freed();
        let place = functions.define(b"f", Vec::new()).expect("room");
        functions.share(place);
        functions.release(place);
        assert!(functions.freed().is_empty());
        functions.release(place);
        assert_eq!(functions.freed().iter().map(|freed| freed.to_vec()).collect::<Vec<_>>(), [b"f".to_vec()]);
        assert!(functions.freed().is_empty());
    }

    #[test]
    fn what_is_taken_back_was_never_told() {
        let (mut functions, mut known) = (Functions::default(), Known::default());
        let (f, g) = (
            functions.define(b"f", Vec::new()).expect("room"),
            functions.define(b"g", Vec::new()).expect("room"),
        );
        known.tell(&functions, f, 100, 0);
        known.tell(&functions, g, 200, 0);
        known.untell(150);
        assert!(known.missing(&functions, f).is_none());
        assert!(known.missing(&functions, g).is_some());
    }
}
