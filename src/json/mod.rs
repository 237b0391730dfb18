//! L4, objects for programs: the lines of `--json`, and what the console's API is made of. The keys are an interface: they
//! are added to, never changed.
//!
//! `type` is `progress`, `error` or `summary`; `ls --json` prints `entry`, `status --json` prints `status`, those that look back print
//! `snapshot`, `version`, `found`, `between` and `difference`, `run` ([`past`]), and a dry run
//! with `-v` prints `plan`; `rbbackupd prune` prints `verdict`, `verify` prints `damage` and `verify`, `receive` prints
//! `connection` and `file` too, `stats` prints `stats`. A name that is not UTF-8 comes escaped (`\xNN`), and exactly as hex digits in
//! `path_hex`.

mod entry;
pub mod past;
mod run;
mod status;

pub use self::entry::{Listed, entry};
pub use self::run::{Whose, error, gathering, plan, progress, restore_summary, summary};
pub use self::status::{StatusDestination, status};

use serde::Serialize;

use crate::backup::bytes::{escape, is_unseen};

/// Text for a JSON string: exact when it is UTF-8 (JSON does its own escaping).
pub fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| escape(bytes), str::to_owned)
}

/// The bytes as hex digits, if they are not UTF-8.
pub fn hex_of_odd(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// One object as one line that a terminal shows as it is.
pub fn line<T: Serialize>(object: &T) -> String {
    // Strings, numbers and nulls only: nothing that serde_json could refuse.
    let line = serde_json::to_string(object).unwrap_or_default();
    if !line.contains(is_unseen) {
        return line;
    }
    // JSON leaves what is beyond C0 as it is; a terminal does not.
    let mut units = [0; 2];
    let mut code = |c: char| c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    line.chars().map(|c| if is_unseen(c) { code(c) } else { c.to_string() }).collect()
}
