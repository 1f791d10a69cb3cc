//! Values of protocols that are written in Python: what they send, keep and answer, as bytes that nobody shares.
//!
//! `None`, `bool`, `int` of any size, `float` by its bits, `str`, `bytes`, `list`, `tuple`, `dict` in the order of
//! insertion, and frozen dataclasses. A value prints itself as Python would.

use bytes::Bytes;
use std::fmt::{self, Debug, Display};

use super::{Decode, Encode, Malformed, Reader, write_count, write_range};

/// How deep values may be nested. Decoding recurses, and a peer must not choose how far.
pub const DEPTH_MAX: usize = 64;

/// A value of a Python protocol.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(Integer),
    /// A float, by its bits: so NaN equals itself, and -0.0 is not 0.0.
    Float(u64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Bytes),
    /// `[…]`.
    List(Vec<Value>),
    /// `(…)`.
    Tuple(Vec<Value>),
    /// `{…}`, in the order of insertion.
    Dict(Vec<(Value, Value)>),
    /// A frozen dataclass.
    Record {
        /// The class's name.
        name: String,
        /// Its fields, in the order of their declaration.
        fields: Vec<(String, Value)>,
    },
}

/// A whole number of any size, in its one form: no leading zeros, and no negative zero.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Integer {
    negative: bool,
    /// Little-endian; the last byte is not 0.
    magnitude: Bytes,
}

impl Integer {
    /// The number of this sign and magnitude (little-endian).
    pub fn new(negative: bool, magnitude: impl Into<Bytes>) -> Self {
        let mut magnitude: Bytes = magnitude.into();
        let significant = magnitude.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        magnitude.truncate(significant);
        Self { negative: negative && !magnitude.is_empty(), magnitude }
    }

    /// Whether it is below 0.
    pub const fn is_negative(&self) -> bool {
        self.negative
    }

    /// Its distance from 0, little-endian, without leading zeros.
    pub const fn magnitude(&self) -> &Bytes {
        &self.magnitude
    }

    /// The same number, when it fits.
    pub fn to_i64(&self) -> Option<i64> {
        let mut bytes = [0; 16];
        bytes
            .get_mut(..self.magnitude.len())
            .filter(|room| room.len() <= 8)?
            .copy_from_slice(&self.magnitude);
        let magnitude = i128::from_le_bytes(bytes);
        i64::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }
}

impl From<i64> for Integer {
    fn from(number: i64) -> Self {
        Self::new(number < 0, number.unsigned_abs().to_le_bytes().to_vec())
    }
}

impl From<u64> for Integer {
    fn from(number: u64) -> Self {
        Self::new(false, number.to_le_bytes().to_vec())
    }
}

impl Value {
    /// A float.
    pub const fn float(number: f64) -> Self {
        Self::Float(number.to_bits())
    }

    /// A whole number.
    pub fn int(number: i64) -> Self {
        Self::Int(number.into())
    }

    /// How many levels it has: 1 for one that holds no other.
    pub fn depth(&self) -> usize {
        let deepest = match self {
            Self::List(items) | Self::Tuple(items) => items.iter().map(Self::depth).max(),
            Self::Dict(pairs) => pairs.iter().map(|(key, value)| key.depth().max(value.depth())).max(),
            Self::Record { fields, .. } => fields.iter().map(|(_, value)| value.depth()).max(),
            _ => None,
        };
        1 + deepest.unwrap_or(0)
    }
}

/// The tags. None is ever given to another kind.
mod tag {
    pub(super) const NONE: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const NEGATIVE: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const STR: u8 = 6;
    pub(super) const BYTES: u8 = 7;
    pub(super) const LIST: u8 = 8;
    pub(super) const TUPLE: u8 = 9;
    pub(super) const DICT: u8 = 10;
    pub(super) const RECORD: u8 = 11;
}

impl Encode for Value {
    /// One that is deeper than [`DEPTH_MAX`] is written, and refused by whoever reads it: ask [`Value::depth`] before.
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(tag::NONE),
            Self::Bool(truth) => out.push(if *truth { tag::TRUE } else { tag::FALSE }),
            Self::Int(number) => {
                out.push(if number.negative { tag::NEGATIVE } else { tag::INT });
                number.magnitude.encode(out);
            }
            Self::Float(bits) => {
                out.push(tag::FLOAT);
                bits.encode(out);
            }
            Self::Str(text) => {
                out.push(tag::STR);
                text.encode(out);
            }
            Self::Bytes(bytes) => {
                out.push(tag::BYTES);
                write_range(bytes, out);
            }
            Self::List(items) => {
                out.push(tag::LIST);
                items.encode(out);
            }
            Self::Tuple(items) => {
                out.push(tag::TUPLE);
                items.encode(out);
            }
            Self::Dict(pairs) => {
                out.push(tag::DICT);
                pairs.encode(out);
            }
            Self::Record { name, fields } => {
                out.push(tag::RECORD);
                name.encode(out);
                write_count(fields.len(), out);
                for (field, value) in fields {
                    field.encode(out);
                    value.encode(out);
                }
            }
        }
    }
}

impl Decode for Value {
    const SIZE_MIN: usize = 1;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        nested(input, DEPTH_MAX)
    }
}

/// A value of at most `depth` levels.
fn nested(input: &mut Reader, depth: usize) -> Result<Value, Malformed> {
    let Some(below) = depth.checked_sub(1) else { return Err(input.malformed("a value less deep")) };
    let pair = |input: &mut Reader| Ok((nested(input, below)?, nested(input, below)?));
    let field = |input: &mut Reader| Ok((String::decode(input)?, nested(input, below)?));
    match input.u8()? {
        tag::NONE => Ok(Value::None),
        tag::FALSE => Ok(Value::Bool(false)),
        tag::TRUE => Ok(Value::Bool(true)),
        tag::INT => integer(input, false).map(Value::Int),
        tag::NEGATIVE => integer(input, true).map(Value::Int),
        tag::FLOAT => input.u64().map(Value::Float),
        tag::STR => String::decode(input).map(Value::Str),
        tag::BYTES => input.range().map(Value::Bytes),
        tag::LIST => several(input, 1, |input| nested(input, below)).map(Value::List),
        tag::TUPLE => several(input, 1, |input| nested(input, below)).map(Value::Tuple),
        tag::DICT => several(input, 2, pair).map(Value::Dict),
        tag::RECORD => Ok(Value::Record { name: String::decode(input)?, fields: several(input, 5, field)? }),
        _ => Err(input.malformed("the tag of a value before this")),
    }
}

/// As many things as are counted first, each of at least `each` bytes.
fn several<T>(
    input: &mut Reader,
    each: usize,
    mut one: impl FnMut(&mut Reader) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = input.count(each)?;
    let mut things = Vec::with_capacity(count.min(input.remaining() / size_of::<T>()));
    for _ in 0..count {
        things.push(one(input)?);
    }
    Ok(things)
}

fn integer(input: &mut Reader, negative: bool) -> Result<Integer, Malformed> {
    let magnitude = input.range()?;
    let canonical = magnitude.last().map_or(!negative, |last| *last != 0);
    if canonical {
        Ok(Integer { negative, magnitude })
    } else {
        Err(input.malformed("a number without leading zeros before this"))
    }
}

impl Display for Integer {
    /// In decimal up to 16 bytes, then in hexadecimal, as Python reads it, too: decimal digits take quadratic time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative {
            f.write_str("-")?;
        }
        let mut bytes = [0; 16];
        if let Some(room) = bytes.get_mut(..self.magnitude.len()) {
            room.copy_from_slice(&self.magnitude);
            return Display::fmt(&u128::from_le_bytes(bytes), f);
        }
        f.write_str("0x")?;
        self.magnitude.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Debug for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(truth) => f.write_str(if *truth { "True" } else { "False" }),
            Self::Int(number) => Display::fmt(number, f),
            Self::Float(bits) => write_float(f64::from_bits(*bits), f),
            Self::Str(text) => write_text(text, f),
            Self::Bytes(bytes) => write!(f, "b'{}'", bytes.escape_ascii().to_string().replace("\\\"", "\"")),
            Self::List(items) => {
                f.write_str("[")?;
                separated(items, f, Display::fmt)?;
                f.write_str("]")
            }
            Self::Tuple(items) => {
                f.write_str("(")?;
                separated(items, f, Display::fmt)?;
                f.write_str(if items.len() == 1 { ",)" } else { ")" })
            }
            Self::Dict(pairs) => {
                f.write_str("{")?;
                separated(pairs, f, |(key, value), f| write!(f, "{key}: {value}"))?;
                f.write_str("}")
            }
            Self::Record { name, fields } => {
                write!(f, "{name}(")?;
                separated(fields, f, |(field, value), f| write!(f, "{field}={value}"))?;
                f.write_str(")")
            }
        }
    }
}

impl Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

fn separated<T>(
    things: &[T],
    f: &mut fmt::Formatter<'_>,
    mut one: impl FnMut(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (place, thing) in things.iter().enumerate() {
        if place > 0 {
            f.write_str(", ")?;
        }
        one(thing, f)?;
    }
    Ok(())
}

/// `nan`, `inf`, `1.0`, `1e+16`: the shortest digits that read back as the same float.
fn write_float(number: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if number.is_nan() {
        return f.write_str("nan");
    }
    if number.is_infinite() {
        return f.write_str(if number > 0.0 { "inf" } else { "-inf" });
    }
    let magnitude = number.abs();
    if number == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return write!(f, "{number:?}");
    }
    // Rust writes 1e-7 where Python writes 1e-07.
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    write!(f, "{digits}e{sign}{exponent:0>2}")
}

fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    write!(f, "{quote}")?;
    for character in text.chars() {
        match character {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            quoted if quoted == quote => write!(f, "\\{quoted}")?,
            control if control.is_control() => write!(f, "\\x{:02x}", u32::from(control))?,
            plain => write!(f, "{plain}")?,
        }
    }
    write!(f, "{quote}")
}
