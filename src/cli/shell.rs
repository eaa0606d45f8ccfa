//! `nestjit completions` and `nestjit man`: what shells and manuals want to know, made of the definition of the arguments.

use clap::CommandFactory;
use nestjit::{Error, Result};

use super::Outcome;
use super::args::{Cli, CompletionsArgs};

/// A script that completes the command's arguments in a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nestjit", &mut script);
    text(script)
}

/// The manual page: the command, then each subcommand.
pub(crate) fn man() -> Result<Outcome> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    let failed = |e: std::io::Error| Error::internal(format!("the manual page: {e}"));
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(failed)?;
    for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let man = clap_mangen::Man::new(subcommand.clone());
        man.render_name_section(&mut page).map_err(failed)?;
        man.render_synopsis_section(&mut page).map_err(failed)?;
        man.render_options_section(&mut page).map_err(failed)?;
    }
    text(page)
}

fn text(bytes: Vec<u8>) -> Result<Outcome> {
    Ok(String::from_utf8(bytes).map_err(|e| Error::internal(e.to_string()))?.into())
}
