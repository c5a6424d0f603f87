//! Which hint helps, by what the lab shows.

use labctl_model::Expected;
use labctl_report::CheckReport;

/// A hint, and what must have come out otherwise than expected for it to fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    /// The index of a check of the step.
    pub check: Option<usize>,
    /// Source of a cell.
    pub from: Option<String>,
    /// Destination of a cell, as the check writes it.
    pub to: Option<String>,
    /// What the cell came out as.
    pub verdict: Option<Expected>,
    /// The hint, in Markdown.
    pub say: String,
}

impl Hint {
    /// Whether it fits whatever is wrong.
    pub fn is_general(&self) -> bool {
        let Hint { check, from, to, verdict, say: _ } = self;
        check.is_none() && from.is_none() && to.is_none() && verdict.is_none()
    }

    /// Whether something in the reports of the step's checks is wrong in the way that the hint is about.
    fn fits(&self, found: &[CheckReport]) -> bool {
        let about_cells = self.from.is_some() || self.to.is_some() || self.verdict.is_some();
        found.iter().enumerate().any(|(index, report)| {
            let here = self.check.is_none_or(|check| check == index) && !report.holds;
            here && match about_cells {
                false => true,
                true => report.found.cells().iter().any(|cell| {
                    !cell.holds
                        && self.from.as_ref().is_none_or(|from| *from == cell.from)
                        && self.to.as_ref().is_none_or(|to| *to == cell.to)
                        && self.verdict.is_none_or(|verdict| cell.observed.meets(verdict))
                }),
            }
        })
    }
}

/// The first hint that fits and was not given yet. If all that fit were given, the last of them. `None` if nothing is wrong.
pub fn choose(hints: &[Hint], found: &[CheckReport], given: &[usize]) -> Option<usize> {
    let fitting: Vec<usize> = (0..hints.len()).filter(|n| hints[*n].fits(found)).collect();
    fitting.iter().find(|n| !given.contains(n)).or(fitting.last()).copied()
}
