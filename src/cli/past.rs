//! The commands that look back: they ask, and print what comes as text or as one JSON object a line.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::args::PastArgs;
use super::environment::Environment;
use super::settings::Settings;
use super::terminal::{Page, Terminal};
use super::when::parse_when_now;
use crate::backup::bytes::escape;
use crate::backup::filter::Filter;
use crate::backup::when::When;
use crate::engine::error::EngineError;
use crate::engine::past;
use crate::json::past as json;

mod words;

/// What such a command came to: a sentence on bad arguments outside, why the store refused inside.
pub type Outcome = Result<Result<(), EngineError>, String>;

/// Runs one.
///
/// # Errors
/// A sentence on what is wrong with the arguments.
pub fn run(settings: &Settings, env: &Environment, terminal: &Terminal, args: &PastArgs) -> Outcome {
    let asking = Asking { settings, env, terminal };
    match args {
        PastArgs::Snapshots { path } => asking.snapshots(path.as_deref()),
        PastArgs::History { path } => asking.history(path),
        PastArgs::Find { glob } => asking.find(glob),
        PastArgs::Diff { from, to, path } => asking.diff(*from, to.as_deref(), path.as_deref()),
        PastArgs::Runs { last } => asking.runs(*last),
        PastArgs::Cat { path, at } => asking.cat(path, at.at),
    }
}

struct Asking<'a> {
    settings: &'a Settings,
    env: &'a Environment,
    terminal: &'a Terminal,
}

impl Asking<'_> {
    fn json(&self) -> bool {
        self.settings.voice.json
    }

    /// A word beside the result.
    fn remark(&self, line: &str) {
        if !self.json() && !self.settings.voice.quiet {
            self.terminal.say(line);
        }
    }

    fn snapshots(&self, path: Option<&Path>) -> Outcome {
        let path = path.map(|path| self.env.absolute(path)).transpose()?;
        let mut page = Page::default();
        let asked = past::snapshots(&self.settings.client, path.as_deref(), &mut |info| {
            page.line(&if self.json() { json::snapshot(&info) } else { words::snapshot(&info) });
        });
        drop(page);
        Ok(asked.and_then(|damaged| match damaged.as_slice() {
            [] => Ok(()),
            damaged => Err(EngineError::new(crate::engine::error::ErrorKind::Failed, damaged.join("; "))),
        }))
    }

    fn history(&self, path: &Path) -> Outcome {
        let path = self.env.absolute(path)?;
        let mut page = Page::default();
        Ok(past::history(&self.settings.client, &path, &mut |info| {
            page.line(&if self.json() { json::version(&info) } else { words::version(&info) });
        }))
    }

    fn find(&self, glob: &OsStr) -> Outcome {
        let pattern = pattern_of(glob, self.env)?;
        let mut page = Page::default();
        Ok(past::find(&self.settings.client, &pattern, &mut |info| {
            page.line(&if self.json() { json::found(&info) } else { words::found(&info) });
        }))
    }

    fn diff(&self, from: When, second: Option<&OsStr>, third: Option<&Path>) -> Outcome {
        let (to, path) = to_and_path(second, third)?;
        let path = path.map(|path| self.env.absolute(&path)).transpose()?;
        let mut page = Page::default();
        let mut compared = Vec::new();
        let mut between = |info: past::Between| {
            if self.json() {
                self.terminal.out(&json::between(&info));
            }
            compared.push(info);
        };
        let asked = past::diff(&self.settings.client, [from, to], path.as_deref(), &mut between, &mut |info| {
            page.line(&if self.json() { json::difference(&info) } else { words::difference(&info) });
        });
        drop(page);
        compared.iter().for_each(|info| self.remark(&words::between(info)));
        Ok(asked)
    }

    /// The newest come first and are shown last, where a person looks.
    fn runs(&self, last: u32) -> Outcome {
        let mut lines: Vec<Vec<String>> = Vec::new();
        let asked = past::runs(&self.settings.client, last, &mut |info| {
            lines.push(if self.json() { vec![json::run(&info)] } else { words::run(&info) });
        });
        let mut page = Page::default();
        lines.iter().rev().flatten().for_each(|line| page.line(line));
        Ok(asked)
    }

    fn cat(&self, path: &Path, when: When) -> Outcome {
        let path = self.env.absolute(path)?;
        let mut stdout = std::io::stdout().lock();
        let done = past::cat(&self.settings.client, &path, when, &mut stdout);
        // A reader that went away is no error; what else fails has been told while it was written.
        let _ = stdout.flush();
        Ok(done)
    }
}

/// The words after the first WHEN of `diff`: `[WHEN] [PATH]`.
fn to_and_path(second: Option<&OsStr>, third: Option<&Path>) -> Result<(When, Option<PathBuf>), String> {
    let Some(second) = second else { return Ok((When::Latest, None)) };
    let when = second.to_str().ok_or_else(|| escape(second.as_bytes())).and_then(parse_when_now);
    match (when, third) {
        (Ok(when), third) => Ok((when, third.map(Path::to_path_buf))),
        (Err(_), None) => Ok((When::Latest, Some(second.into()))),
        (Err(why), Some(_)) => Err(why),
    }
}

/// A pattern anchored at `/`: a name is looked for everywhere, so is the end of a path; `./x` begins where we are.
fn pattern_of(glob: &OsStr, env: &Environment) -> Result<Vec<u8>, String> {
    let bytes = glob.as_bytes();
    let inside = bytes.strip_suffix(b"/").unwrap_or(bytes);
    let pattern = if bytes.starts_with(b"./") || bytes.starts_with(b"../") {
        env.absolute(Path::new(&OsString::from(glob)))?.as_os_str().as_bytes().to_vec()
    } else if inside.contains(&b'/') && !bytes.starts_with(b"/") {
        [b"**/", bytes].concat()
    } else {
        bytes.to_vec()
    };
    let shown = escape(bytes);
    match pattern.first() {
        None => return Err("an empty GLOB finds nothing".to_owned()),
        Some(b'!' | b'#') => {
            return Err(format!("'{shown}' would find nothing; a name of such a kind is written '\\{shown}'"));
        }
        Some(_) => {}
    }
    Filter::new(&[pattern.as_slice().into()]).map_err(|e| e.to_string())?;
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_first_moment_comes_another_or_a_path() {
        let parse =
            |second: Option<&str>, third: Option<&str>| to_and_path(second.map(OsStr::new), third.map(Path::new));
        assert_eq!(parse(None, None), Ok((When::Latest, None)));
        assert_eq!(parse(Some("7"), None), Ok((When::Number(7), None)));
        assert_eq!(parse(Some("./7"), None), Ok((When::Latest, Some("./7".into()))));
        assert_eq!(parse(Some("7"), Some("docs")), Ok((When::Number(7), Some("docs".into()))));
        assert!(parse(Some("docs"), Some("more")).unwrap_err().contains("'docs' is not a moment"));
    }

    #[test]
    fn a_glob_is_a_name_or_a_path_or_the_end_of_one() {
        let env = Environment { cwd: Some("/work".into()), ..Environment::default() };
        let cases = [("*.c", "*.c"), ("/a/*.c", "/a/*.c"), ("b/*.c", "**/b/*.c"), ("./*.c", "/work/*.c"), ("b/", "b/")];
        for (glob, pattern) in cases {
            assert_eq!(pattern_of(OsStr::new(glob), &env), Ok(pattern.as_bytes().to_vec()), "{glob}");
        }
        for bad in ["", "!x", "#x", "a{b"] {
            assert!(pattern_of(OsStr::new(bad), &env).is_err(), "{bad}");
        }
    }
}
