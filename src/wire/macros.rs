//! Encodings of structures and enumerations, field by field.

/// A structure: its fields one after the other.
macro_rules! structures {
    ($($name:ident { $($field:ident: $type:ty),* })*) => {$(
        impl $crate::wire::Encode for $name {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::wire::Encode::encode(&self.$field, out);)*
            }
        }

        impl $crate::wire::Decode for $name {
            const SIZE_MIN: usize = 0 $(+ <$type as $crate::wire::Decode>::SIZE_MIN)*;

            #[inline]
            fn decode(input: &mut $crate::wire::Reader) -> Result<Self, $crate::wire::Malformed> {
                $(let $field = $crate::wire::Decode::decode(input)?;)*
                Ok(Self { $($field),* })
            }
        }
    )*};
}

/// An enumeration: a tag, then the variant's fields. A tag is never given to another variant.
macro_rules! variants {
    ($name:ident { $($tag:literal => $variant:ident $(($($value:ident),+))? $({ $($field:ident),+ })?,)* }) => {
        impl $crate::wire::Encode for $name {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                match self {$(
                    Self::$variant $(($($value),+))? $({ $($field),+ })? => {
                        out.push($tag);
                        $($($crate::wire::Encode::encode($value, out);)+)?
                        $($($crate::wire::Encode::encode($field, out);)+)?
                    }
                )*}
            }
        }

        impl $crate::wire::Decode for $name {
            const SIZE_MIN: usize = 1;

            #[inline]
            fn decode(input: &mut $crate::wire::Reader) -> Result<Self, $crate::wire::Malformed> {
                match input.u8()? {
                    $($tag => {
                        $($(let $value = $crate::wire::Decode::decode(input)?;)+)?
                        $($(let $field = $crate::wire::Decode::decode(input)?;)+)?
                        Ok(Self::$variant $(($($value),+))? $({ $($field),+ })?)
                    })*
                    _ => Err(input.malformed(concat!("the tag of a ", stringify!($name), " before this"))),
                }
            }
        }
    };
}

pub(crate) use {structures, variants};
