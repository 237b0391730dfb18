//! The commands that look back: they ask, and print what comes as text or as one JSON object a line.

use std::io::Write;
use std::path::Path;

use super::args::PastArgs;
use super::environment::Environment;
use super::settings::Settings;
use crate::backup::when::When;
use crate::engine::error::EngineError;
use crate::engine::past;

/// What such a command came to: a sentence on bad arguments outside, why the store refused inside.
pub type Outcome = Result<Result<(), EngineError>, String>;

/// Runs one.
///
/// # Errors
/// A sentence on what is wrong with the arguments.
pub fn run(settings: &Settings, env: &Environment, args: &PastArgs) -> Outcome {
    match args {
        PastArgs::Cat { path, at } => cat(settings, env, path, at.at),
    }
}

fn cat(settings: &Settings, env: &Environment, path: &Path, when: When) -> Outcome {
    let path = env.absolute(path)?;
    let mut stdout = std::io::stdout().lock();
    let done = past::cat(&settings.client, &path, when, &mut stdout);
    // A reader that went away is no error; what else fails has been told while it was written.
    let _ = stdout.flush();
    Ok(done)
}
