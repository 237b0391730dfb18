//! The daemon: parse, call the command line's code, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    rbbackup::cli::daemon::main(std::env::args_os()).into()
}
