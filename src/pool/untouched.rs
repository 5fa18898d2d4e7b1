// SPDX-License-Identifier: Apache-2.0
//! Sizes for which a pool costs more than it saves: clients return such buffers without having
//! touched most of them.

use super::pooled::TrustDomain;
use std::collections::VecDeque;

/// Most entries. The oldest is forgotten for another one.
const MOST: usize = 32;

/// Trust domains and sizes in bytes of which the last new buffer came back untouched. Only new
/// buffers count: others have all their pages before a client gets them.
#[derive(Debug, Default)]
pub struct UntouchedSizes(VecDeque<(TrustDomain, u64)>);

impl UntouchedSizes {
    /// Records that a new buffer came back.
    pub fn came_back(&mut self, domain: &TrustDomain, bytes: u64, is_touched: bool) {
        match (self.place(domain, bytes), is_touched) {
            (Some(place), true) => drop(self.0.remove(place)),
            (None, false) => {
                if self.0.len() == MOST {
                    self.0.pop_front();
                }
                self.0.push_back((domain.clone(), bytes));
            }
            _ => {}
        }
    }

    /// Returns whether the last new buffer of this domain and size came back untouched.
    pub fn contains(&self, domain: &TrustDomain, bytes: u64) -> bool {
        self.place(domain, bytes).is_some()
    }

    fn place(&self, domain: &TrustDomain, bytes: u64) -> Option<usize> {
        self.0.iter().position(|(other, size)| *size == bytes && other == domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Uid;

    #[test]
    fn the_last_new_buffer_decides_and_the_oldest_size_is_forgotten() {
        let (mut sizes, [one, other]) =
            (UntouchedSizes::default(), [1, 2].map(|uid| TrustDomain::Uid(Uid(uid))));
        sizes.came_back(&one, 4096, false);
        assert!(sizes.contains(&one, 4096) && !sizes.contains(&one, 8192) && !sizes.contains(&other, 4096));
        sizes.came_back(&one, 4096, true);
        assert!(!sizes.contains(&one, 4096));
        let most = u64::try_from(MOST).expect("small");
        (0..=most).for_each(|size| sizes.came_back(&one, size, false));
        assert!(!sizes.contains(&one, 0) && sizes.contains(&one, 1) && sizes.contains(&one, most));
    }
}
