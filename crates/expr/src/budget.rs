//! A bound on the work of one evaluation.

/// Steps: one for each part of an expression evaluated, byte of text made and element looked at, and some for each turn of
/// a macro. Enough for any rule over an event of a megabyte, and used up in about a second.
const STEPS: usize = 1 << 26;

/// The work that an evaluation may still do.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget(STEPS)
    }

    /// # Errors
    /// When there is not as much left.
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), String> {
        match self.0.checked_sub(steps) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err("this takes too much work; macros within macros over large lists do".to_owned()),
        }
    }
}
