//! Weighted draws in constant time.

use crate::random::{scale, unit};

/// An alias table: each column holds one outcome and the alias that fills up the rest of it.
///
/// A. J. Walker (1977), "An efficient method for generating discrete random variables with general
/// distributions", built in linear time as in M. D. Vose (1991).
#[derive(Clone, Debug, Default)]
pub struct Alias {
    columns: Vec<(f64, u32)>,
}

impl Alias {
    /// The table of `weights`, which are finite and positive.
    pub fn new(weights: &[f64]) -> Self {
        let count = weights.len() as f64;
        let total: f64 = weights.iter().sum();
        let mut height: Vec<f64> = weights.iter().map(|weight| weight * count / total).collect();
        let mut columns: Vec<(f64, u32)> = (0..weights.len()).map(|column| (1.0, column as u32)).collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&column| height[column] < 1.0);
        while let (Some(short), Some(&tall)) = (low.pop(), high.last()) {
            columns[short] = (height[short], tall as u32);
            height[tall] -= 1.0 - height[short];
            if height[tall] < 1.0 {
                high.pop();
                low.push(tall);
            }
        }
        // What is left over differs from 1 by rounding only, and keeps its whole column.
        Self { columns }
    }

    /// The outcome of two random words.
    #[inline]
    pub fn draw(&self, column: u64, height: u64) -> Option<usize> {
        let column = scale(column, self.columns.len() as u64) as usize;
        let &(limit, alias) = self.columns.get(column)?;
        Some(if unit(height) < limit { column } else { alias as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::Alias;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_columns_hold_exactly_the_weights(weights in prop::collection::vec(0.001f64..1000.0, 1..40)) {
            let table = Alias::new(&weights);
            let mut mass = vec![0.0; weights.len()];
            for (column, &(limit, alias)) in table.columns.iter().enumerate() {
                mass[column] += limit;
                mass[alias as usize] += 1.0 - limit;
            }
            let total: f64 = weights.iter().sum();
            for (mass, weight) in mass.iter().zip(&weights) {
                prop_assert!((mass / weights.len() as f64 - weight / total).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn an_empty_table_draws_nothing() {
        assert_eq!(Alias::new(&[]).draw(1, 2), None);
    }
}
