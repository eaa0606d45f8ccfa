//! The plans of a model: one for all of its outputs, and one for each choice of outputs that was asked for.

use std::sync::Arc;

use super::model::SessionModel;
use super::plan::BodyPlan;
use crate::error::Result;
use crate::runtime::fork::{Guarded, Held};
use crate::runtime::{RunOptions, input};

/// How many choices of outputs are kept; the one that was not used for the longest time goes first.
const MOST_CHOICES: usize = 16;

/// The plans of a model.
#[derive(Debug)]
pub(super) struct Plans {
    model: SessionModel,
    /// A model whose nodes contradict each other is reported when it is called.
    all: Result<Arc<BodyPlan>>,
    /// Numbers of outputs, and the plan for them; the most recently used last.
    choices: Guarded<Vec<(Vec<usize>, Arc<BodyPlan>)>>,
}

impl Plans {
    pub fn new(model: SessionModel) -> Plans {
        let every: Vec<usize> = (0..model.outputs().count()).collect();
        let all = model.body(&every).map(|body| Arc::new(BodyPlan::new(body)));
        Plans { model, all, choices: Guarded::default() }
    }

    /// The plan for the outputs that are chosen.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if they do not exist; what is wrong with the model.
    pub fn of(&self, options: &RunOptions) -> Result<Arc<BodyPlan>> {
        let all = || self.all.clone();
        let Some(chosen) = options.chosen_outputs() else { return all() };
        let names: Vec<&str> = self.model.outputs().collect();
        let chosen = input::choose(&names, chosen)?;
        if chosen.iter().copied().eq(0..names.len()) {
            return all();
        }
        let mut choices = self.lock();
        if let Some(position) = choices.iter().position(|(outputs, _)| *outputs == chosen) {
            choices[position..].rotate_left(1);
            return choices.last().map_or_else(all, |(_, plan)| Ok(Arc::clone(plan)));
        }
        let plan = Arc::new(BodyPlan::new(self.model.body(&chosen)?));
        choices.push((chosen, Arc::clone(&plan)));
        let unneeded = (choices.len() > MOST_CHOICES).then(|| choices.remove(0));
        drop(choices);
        // Freed when the lock is not held any more.
        drop(unneeded);
        Ok(plan)
    }

    /// All plans that there are.
    pub fn all(&self) -> Vec<Arc<BodyPlan>> {
        let choices = self.lock();
        self.all.iter().chain(choices.iter().map(|(_, plan)| plan)).cloned().collect()
    }

    fn lock(&self) -> Held<'_, Vec<(Vec<usize>, Arc<BodyPlan>)>> {
        self.choices.lock()
    }
}
