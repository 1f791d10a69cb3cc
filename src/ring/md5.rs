//! MD5 (Rivest, RFC 1321), for placement and for nothing that an adversary may touch.
//!
//! One digest is a chain of 64 dependent steps, which leaves most of a modern core idle. A batch runs
//! several keys abreast, a lane each, on arrays that the compiler turns into vector registers.

use super::Key;

/// The four words of a digest, first byte lowest.
pub type Digest = [u32; 4];

/// Keys that run abreast: two vector registers of eight, so that one chain fills the other's waiting time.
const LANES: usize = 16;

/// A message of up to 55 bytes fits into one block with its end mark and its length.
const SINGLE_BLOCK_MAX: usize = 55;

/// Below this many keys the lanes cost more than they bring.
const BATCH_MIN: usize = 4;

const START: Digest = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// ⌊2^32 · |sin(i + 1)|⌋
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The digest of one text.
pub fn digest(text: &[u8]) -> Digest {
    let mut state = START;
    let mut blocks = text.chunks_exact(64);
    for block in &mut blocks {
        state = one(state, &words(block.try_into().expect("a chunk of 64 bytes")));
    }
    let rest = blocks.remainder();
    let mut tail = [0u8; 128];
    tail[..rest.len()].copy_from_slice(rest);
    tail[rest.len()] = 0x80;
    let end = if rest.len() <= SINGLE_BLOCK_MAX { 64 } else { 128 };
    tail[end - 8..end].copy_from_slice(&(text.len() as u64 * 8).to_le_bytes());
    for block in tail[..end].chunks_exact(64) {
        state = one(state, &words(block.try_into().expect("a chunk of 64 bytes")));
    }
    state
}

/// The digest of each key. `out` is as long as `keys`.
pub fn digests(keys: &[Key<'_>], out: &mut [Digest]) {
    for (keys, out) in keys.chunks(LANES).zip(out.chunks_mut(LANES)) {
        if keys.len() < BATCH_MIN {
            for (&key, out) in keys.iter().zip(out) {
                *out = key.with_text(digest);
            }
        } else {
            abreast(keys, out);
        }
    }
}

/// A digest as the number that its 16 bytes spell, big-endian, in two halves.
#[inline]
pub fn halves([a, b, c, d]: Digest) -> (u64, u64) {
    let half = |high: u32, low: u32| (u64::from(high.swap_bytes()) << 32) | u64::from(low.swap_bytes());
    (half(a, b), half(c, d))
}

fn abreast(keys: &[Key<'_>], out: &mut [Digest]) {
    let mut message = [[0u32; LANES]; 16];
    for (lane, &key) in keys.iter().enumerate() {
        key.with_text(|text| {
            if text.len() <= SINGLE_BLOCK_MAX {
                let words = words(&padded(text));
                for (row, word) in message.iter_mut().zip(words) {
                    row[lane] = word;
                }
            }
        });
    }
    let state = compress(&message);
    for (lane, (&key, out)) in keys.iter().zip(out).enumerate() {
        *out = match key {
            Key::Text(text) if text.len() > SINGLE_BLOCK_MAX => digest(text),
            _ => std::array::from_fn(|word| state[word][lane]),
        };
    }
}

fn padded(text: &[u8]) -> [u8; 64] {
    let mut block = [0u8; 64];
    block[..text.len()].copy_from_slice(text);
    block[text.len()] = 0x80;
    block[56] = (text.len() * 8) as u8;
    block[57] = ((text.len() * 8) >> 8) as u8;
    block
}

#[inline]
fn words(block: &[u8; 64]) -> [u32; 16] {
    std::array::from_fn(|i| {
        u32::from_le_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]])
    })
}

fn one(state: Digest, words: &[u32; 16]) -> Digest {
    let message = words.map(|word| [word]);
    steps(state.map(|word| [word]), &message).map(|[word]| word)
}

fn compress(message: &[[u32; LANES]; 16]) -> [[u32; LANES]; 4] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has just said that it knows AVX2.
        return unsafe { compress_avx2(message) };
    }
    steps(START.map(|word| [word; LANES]), message)
}

/// The same steps, compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn compress_avx2(message: &[[u32; LANES]; 16]) -> [[u32; LANES]; 4] {
    steps(START.map(|word| [word; LANES]), message)
}

/// The 64 steps on `N` messages at once.
#[expect(clippy::inline_always, reason = "it must be compiled with the features of whoever calls it")]
#[inline(always)]
fn steps<const N: usize>(start: [[u32; N]; 4], message: &[[u32; N]; 16]) -> [[u32; N]; 4] {
    let [mut a, mut b, mut c, mut d] = start;
    for (round, rotations) in ROTATIONS.iter().enumerate() {
        for quarter in 0..4 {
            for (turn, &rotation) in rotations.iter().enumerate() {
                let step = round * 16 + quarter * 4 + turn;
                let word = match round {
                    0 => step,
                    1 => 5 * step + 1,
                    2 => 3 * step + 5,
                    _ => 7 * step,
                } % 16;
                let mut next = [0u32; N];
                for lane in 0..N {
                    let (b, c, d) = (b[lane], c[lane], d[lane]);
                    let chosen = match round {
                        0 => d ^ (b & (c ^ d)),
                        1 => c ^ (d & (b ^ c)),
                        2 => b ^ c ^ d,
                        _ => c ^ (b | !d),
                    };
                    next[lane] = a[lane]
                        .wrapping_add(chosen)
                        .wrapping_add(message[word][lane])
                        .wrapping_add(SINES[step])
                        .rotate_left(rotation)
                        .wrapping_add(b);
                }
                (a, b, c, d) = (d, next, b, c);
            }
        }
    }
    let add =
        |state: [u32; N], start: [u32; N]| std::array::from_fn(|lane| state[lane].wrapping_add(start[lane]));
    [add(a, start[0]), add(b, start[1]), add(c, start[2]), add(d, start[3])]
}
