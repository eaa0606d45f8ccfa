//! The ways to run an [`Executable`]: inputs by position or name, outputs that are allocated or given, options. What
//! they have in common, the run itself, is left to `executable`.

use super::executable::Executable;
use super::input::{self, AsInput};
use super::output::{self, OutputBuffer};
use super::run_options::RunOptions;
use super::trace::{Interruptible, Unobserved};
use super::view::TensorView;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::tensor::Tensor;

impl Executable {
    /// Computes the outputs for inputs given in order or with their names: tensors, `ndarray` arrays or views, or
    /// [`TensorView`]s where element types differ. See [`Input`](super::Input).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if inputs do not fit, [`ErrorKind::Usage`] if there are none of their names,
    /// [`ErrorKind::Index`] if an index computed at run time is outside its tensor, [`ErrorKind::Limit`] if there is
    /// not enough memory.
    pub fn run<T: AsInput>(&self, inputs: &[T]) -> Result<Vec<Tensor>> {
        let inputs = self.views(inputs)?;
        let mut outputs = self.allocate_outputs()?;
        self.run_into(&inputs, &mut outputs)?;
        Ok(outputs)
    }

    /// As [`Executable::run`], for chosen outputs, with a deadline, or so that it can be cancelled.
    ///
    /// # Errors
    /// As [`Executable::run`]; [`ErrorKind::Usage`] if outputs are chosen that do not exist, [`ErrorKind::Cancelled`]
    /// and [`ErrorKind::DeadlineExceeded`] if the options end the call.
    pub fn run_with<T: AsInput>(&self, inputs: &[T], options: &RunOptions) -> Result<Vec<Tensor>> {
        let chosen = self.chosen(options)?;
        let inputs = self.views(inputs)?;
        let mut outputs = self.allocate_outputs()?;
        self.run_all_into(&inputs, &mut outputs, options)?;
        Ok(match chosen {
            Some(chosen) => chosen.into_iter().map(|number| outputs[number].clone()).collect(),
            None => outputs,
        })
    }

    /// Computes the outputs into existing tensors, arrays or slices (see [`OutputBuffer`]) and allocates nothing,
    /// except where an output's storage is shared with another tensor, or when more runs are going on at once than
    /// did lately.
    ///
    /// # Errors
    /// As [`Executable::run`]; [`ErrorKind::Shape`] if a buffer does not fit its output. After an error the outputs
    /// hold unspecified values.
    pub fn run_into<B: OutputBuffer>(&self, inputs: &[TensorView<'_>], outputs: &mut [B]) -> Result<()> {
        self.run_and_observe(inputs, outputs, &Unobserved)
    }

    /// As [`Executable::run_into`], with options as in [`Executable::run_with`]. If outputs are chosen, there is a
    /// buffer for each of them, in their order.
    ///
    /// # Errors
    /// As [`Executable::run_into`] and [`Executable::run_with`].
    pub fn run_into_with<B: OutputBuffer>(
        &self,
        inputs: &[TensorView<'_>],
        outputs: &mut [B],
        options: &RunOptions,
    ) -> Result<()> {
        let Some(chosen) = self.chosen(options)? else {
            return self.run_all_into(inputs, outputs, options);
        };
        output::count(chosen.iter().map(|number| self.outputs()[*number].name.as_str()), outputs.len())?;
        // Somewhere the others have to be written, too.
        let mut others = self.allocate_outputs()?;
        let mut all: Vec<&mut dyn OutputBuffer> =
            others.iter_mut().map(|tensor| tensor as &mut dyn OutputBuffer).collect();
        for (number, buffer) in chosen.into_iter().zip(outputs) {
            all[number] = buffer;
        }
        self.run_all_into(inputs, &mut all, options)
    }

    /// As [`Executable::run_into_with`], for all outputs, whatever the options choose.
    ///
    /// # Errors
    /// As [`Executable::run_into_with`].
    pub(crate) fn run_all_into<B: OutputBuffer>(
        &self,
        inputs: &[TensorView<'_>],
        outputs: &mut [B],
        options: &RunOptions,
    ) -> Result<()> {
        match options.may_end() {
            true => self.run_and_observe(inputs, outputs, &Interruptible(options)),
            false => self.run_and_observe(inputs, outputs, &Unobserved),
        }
    }

    /// The inputs in the model's order.
    fn views<'a, T: AsInput>(&self, inputs: &'a [T]) -> Result<Vec<TensorView<'a>>> {
        let mut views = Vec::with_capacity(inputs.len());
        let mut names = Vec::new();
        for (number, input) in inputs.iter().map(T::as_input).enumerate() {
            if let Some(name) = input.name {
                names.resize(number, None);
                names.push(Some(name));
            }
            views.push(input.value.into_view()?);
        }
        if names.is_empty() {
            return Ok(views);
        }
        names.resize(views.len(), None);
        let known: Vec<&str> = self.inputs().iter().map(|spec| spec.name.as_str()).collect();
        let places = input::arrange(&known, names.into_iter(), |_| false)?;
        Ok(places.into_iter().flatten().map(|number| views[number].clone()).collect())
    }

    /// The numbers of the outputs that the options choose.
    fn chosen(&self, options: &RunOptions) -> Result<Option<Vec<usize>>> {
        let Some(chosen) = options.chosen_outputs() else { return Ok(None) };
        let known: Vec<&str> = self.outputs().iter().map(|spec| spec.name.as_str()).collect();
        input::choose(&known, chosen).map(Some)
    }
}
