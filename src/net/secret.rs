//! The cluster's secret, and how it is proved without being told.

use ring::hmac;
use std::fmt;

/// What members and clients of a cluster share and nobody else knows.
#[derive(Clone)]
pub struct Secret(hmac::Key);

/// How long a proof is.
pub(super) const PROOF: usize = 32;

impl Secret {
    /// Of these bytes, of which there should be at least 16.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// What only who knows the secret can say about what was said so far, in this part.
    pub(super) fn prove(&self, part: &str, transcript: &[&[u8]]) -> [u8; PROOF] {
        let mut context = hmac::Context::with_key(&self.0);
        update(part, transcript, |bytes| context.update(bytes));
        let mut proof = [0; PROOF];
        proof.copy_from_slice(context.sign().as_ref());
        proof
    }

    /// Whether the other side knows it. Takes as long whatever the proof is.
    pub(super) fn verify(&self, part: &str, transcript: &[&[u8]], proof: &[u8]) -> bool {
        let mut said = Vec::new();
        update(part, transcript, |bytes| said.extend_from_slice(bytes));
        hmac::verify(&self.0, &said, proof).is_ok()
    }
}

/// Lengths go with the pieces, so that nobody can move a border between two of them.
fn update(part: &str, transcript: &[&[u8]], mut take: impl FnMut(&[u8])) {
    for piece in std::iter::once(part.as_bytes()).chain(transcript.iter().copied()) {
        take(&(piece.len() as u64).to_le_bytes());
        take(piece);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_secret_its_part_and_its_words_alone() {
        let secret = Secret::new(b"a secret of ours, long enough");
        let words: &[&[u8]] = &[b"ab", b"c"];
        let proof = secret.prove("dials", words);
        assert!(secret.verify("dials", words, &proof));
        assert!(!secret.verify("accepts", words, &proof), "a proof cannot be sent back");
        assert!(!secret.verify("dials", &[b"a", b"bc"], &proof), "a border has moved");
        assert!(!secret.verify("dials", words, &proof[..31]));
        assert!(!Secret::new(b"another one").verify("dials", words, &proof));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
