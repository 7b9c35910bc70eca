// SPDX-License-Identifier: Apache-2.0
//! When a comparison that extends itself looks at its figures.

/// Looks that a comparison may take.
pub const LOOKS_MAX: u32 = 8;

/// Blocks at the first look: with fewer, no order of signs is rare enough to be called a difference
/// where eight looks and seven metrics share a chance of one in a hundred.
const FIRST: usize = 16;

/// Numbers of blocks at which to look, ascending and ending with `blocks_max`: each look has half as
/// many blocks more as the one before, because the interval shrinks with their root only.
pub fn looks(blocks_max: usize) -> Vec<usize> {
    let mut at = Vec::new();
    let mut next = FIRST;
    while next < blocks_max && at.len() + 1 < LOOKS_MAX as usize {
        at.push(next);
        next += next / 2;
    }
    at.push(blocks_max);
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_ascend_to_the_last_block_and_are_few() {
        assert_eq!(looks(100), [16, 24, 36, 54, 81, 100]);
        assert_eq!(looks(5), [5]);
        for blocks in 1..2000 {
            let at = looks(blocks);
            assert!(at.len() <= LOOKS_MAX as usize && at.is_sorted() && at.last() == Some(&blocks));
        }
    }
}
