//! What is made of the definition of the arguments: completions and the manual page.

use super::stdout;

const SUBCOMMANDS: [&str; 9] = ["bench", "info", "run", "check", "report", "ir", "machine", "zoo", "export"];

#[test]
fn completions_and_the_manual_know_every_subcommand_and_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]);
        for word in SUBCOMMANDS.iter().chain(&["disable-pass", "iterations"]) {
            assert!(script.contains(word), "no {word} for {shell}");
        }
    }
    let page = stdout(&["man"]);
    assert!(page.starts_with(".ie") || page.starts_with(".TH"), "{page}");
    for word in SUBCOMMANDS.iter().chain(&["disable\\-pass", "iterations", "Exit codes"]) {
        assert!(page.contains(word), "no {word} in\n{page}");
    }
}

#[test]
fn what_is_no_terminal_sees_no_progress() {
    for quiet in
        [&["check", "rnn_cell"][..], &["check", "rnn_cell", "--quiet"], &["--quiet", "check", "rnn_cell"]]
    {
        let output = super::command(quiet).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{quiet:?}: {output:?}");
    }
}
