// SPDX-License-Identifier: Apache-2.0
//! What is told while a cluster comes up: that takes most of a minute.

use std::fmt;
use std::sync::Arc;

/// Somebody who is told, a line at a time.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

impl Progress {
    /// Tells `listener`, from any thread.
    pub fn new(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// One line.
    pub(super) fn say(&self, line: &str) {
        (self.0)(line);
    }

    /// Services that an API server was told of, in steps of a hundred.
    pub(super) fn services(&self, cluster: &str, done: usize, total: usize) {
        const STEP: usize = 100;
        if done == total && total >= STEP || done > 0 && done.is_multiple_of(STEP) {
            self.say(&format!("{cluster}: {done} of {total} Services told"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn many_services_are_told_of_in_steps_and_few_not_at_all() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let progress = Progress::new(move |line| kept.lock().unwrap().push(line.to_owned()));
        (0..=250).for_each(|done| progress.services("c", done, 250));
        (0..=5).for_each(|done| progress.services("c", done, 5));
        assert_eq!(
            *lines.lock().unwrap(),
            [
                "c: 100 of 250 Services told",
                "c: 200 of 250 Services told",
                "c: 250 of 250 Services told"
            ]
        );
    }
}
