//! A profile as a timer: systemd runs `rbbackup run NAME`. What cannot be installed is told, with the line that cron would take.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::profile::{Every, Timer};
use crate::backup::bytes::escape;
use crate::engine::error::{EngineError, ErrorKind};
use crate::tree::{operator, own};

/// A unit is a few lines.
const UNIT_BYTES_MAX: u64 = 64 * 1024;

/// Where units go, and how systemd is spoken to.
pub(super) struct Units {
    dir: PathBuf,
    is_system: bool,
}

/// The two units' texts.
fn units(program: &Path, name: &str, timer: &Timer) -> Result<[(String, String); 2], EngineError> {
    let (hour, minute) = timer.time()?;
    let calendar = match timer.every {
        Every::Hourly => format!("*-*-* *:{minute:02}:00"),
        Every::Daily => format!("*-*-* {hour:02}:{minute:02}:00"),
        Every::Weekly => format!("Mon *-*-* {hour:02}:{minute:02}:00"),
    };
    // systemd reads % and \ as its own in a quoted word.
    let program =
        escape(program.as_os_str().as_encoded_bytes()).replace('\\', "\\\\").replace('%', "%%").replace('"', "\\\"");
    let service = format!(
        "[Unit]\nDescription=rbbackup: {name}\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nType=oneshot\nExecStart=\"{program}\" run {name}\n"
    );
    let timer = format!(
        "[Unit]\nDescription=rbbackup: {name}\n\n[Timer]\nOnCalendar={calendar}\nPersistent=true\nRandomizedDelaySec=60\n\n\
         [Install]\nWantedBy=timers.target\n"
    );
    Ok([(format!("rbbackup-{name}.service"), service), (format!("rbbackup-{name}.timer"), timer)])
}

/// The same for cron.
fn cron_line(program: &Path, name: &str, timer: &Timer) -> Result<String, EngineError> {
    let (hour, minute) = timer.time()?;
    let when = match timer.every {
        Every::Hourly => format!("{minute} * * * *"),
        Every::Daily => format!("{minute} {hour} * * *"),
        Every::Weekly => format!("{minute} {hour} * * 1"),
    };
    Ok(format!("{when} {} run {name}", escape(program.as_os_str().as_encoded_bytes())))
}

impl Units {
    /// A person's own; those of the system for root.
    pub(super) fn new(home_config: &Path) -> Self {
        let is_system = rustix::process::geteuid().is_root();
        let dir = if is_system { PathBuf::from("/etc/systemd/system") } else { home_config.join("systemd/user") };
        Self { dir, is_system }
    }

    fn systemctl(&self, words: &[&str]) -> Result<(), String> {
        let mut command = Command::new("systemctl");
        if !self.is_system {
            command.arg("--user");
        }
        let output = command.args(words).output().map_err(|e| format!("systemctl: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("systemctl {}: {}", words.join(" "), escape(said.trim().as_bytes())))
    }

    /// Installs a profile's timer.
    ///
    /// # Errors
    /// systemd is not there or does not want to; nothing is left behind.
    pub(super) fn install(&self, program: &Path, name: &str, timer: &Timer) -> Result<(), EngineError> {
        let write = || -> Result<(), String> {
            let units = units(program, name, timer).map_err(|e| e.message)?;
            let dir = operator::make_own(&self.dir, 0o755).map_err(|e| format!("'{}': {e}", self.dir.display()))?;
            for (file, text) in &units {
                own::write_file(&dir, file, text.as_bytes())
                    .map_err(|e| format!("'{}': {e}", dir.join(file).display()))?;
            }
            self.systemctl(&["daemon-reload"])?;
            self.systemctl(&["enable", "--now", &format!("rbbackup-{name}.timer")])
        };
        timer.time()?;
        let before = self.texts(name);
        write().map_err(|why| {
            // What worked before is to work on.
            match before {
                Some(before) => self.put_back(name, &before),
                None => drop(self.remove(name)),
            }
            let line = cron_line(program, name, timer).unwrap_or_default();
            let message = format!("the timer cannot be installed: {why}. cron does the same with this line: {line}");
            EngineError::new(ErrorKind::Failed, message)
        })
    }

    /// The texts of both units, as they are.
    fn texts(&self, name: &str) -> Option<[Vec<u8>; 2]> {
        let dir = operator::resolve(&self.dir).ok()?;
        let read = |ending: &str| own::read_file(&dir.join(format!("rbbackup-{name}.{ending}")), UNIT_BYTES_MAX).ok();
        Some([read("service")?, read("timer")?])
    }

    fn put_back(&self, name: &str, [service, timer]: &[Vec<u8>; 2]) {
        let Ok(dir) = operator::resolve(&self.dir) else { return };
        for (ending, text) in [("service", service), ("timer", timer)] {
            let _ = own::write_file(&dir, &format!("rbbackup-{name}.{ending}"), text);
        }
        let _ = self.systemctl(&["daemon-reload"]);
        let _ = self.systemctl(&["enable", "--now", &format!("rbbackup-{name}.timer")]);
    }

    /// Takes it away; fine if there is none.
    ///
    /// # Errors
    /// Its files cannot be removed.
    pub(super) fn remove(&self, name: &str) -> Result<(), EngineError> {
        let Ok(dir) = operator::resolve(&self.dir) else { return Ok(()) };
        let (service, timer) = (format!("rbbackup-{name}.service"), format!("rbbackup-{name}.timer"));
        if own::exists(&dir.join(&timer)).unwrap_or(false)
            && let Err(why) = self.systemctl(&["disable", "--now", &timer])
        {
            tracing::debug!("{why}");
        }
        if !own::exists(&dir.join(&timer)).unwrap_or(false) && !own::exists(&dir.join(&service)).unwrap_or(false) {
            return Ok(());
        }
        for file in [service, timer] {
            match own::remove(&dir.join(&file)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(EngineError::new(
                        ErrorKind::Failed,
                        format!("cannot remove '{}': {e}", dir.join(&file).display()),
                    ));
                }
                _ => {}
            }
        }
        let _ = self.systemctl(&["daemon-reload"]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_and_cron_are_told_the_same() {
        let told = |every| {
            let timer = Timer { every, at: "03:05".to_owned() };
            let [(_, service), (name, text)] = units(Path::new("/opt/a \"b%/rbbackup"), "docs", &timer).unwrap();
            assert!(service.contains("ExecStart=\"/opt/a \\\"b%%/rbbackup\" run docs\n"), "{service}");
            assert_eq!(name, "rbbackup-docs.timer");
            let calendar = text.lines().find_map(|line| line.strip_prefix("OnCalendar=")).unwrap().to_owned();
            (calendar, cron_line(Path::new("/bin/rbbackup"), "docs", &timer).unwrap())
        };
        let pair = |calendar: &str, cron: &str| (calendar.to_owned(), cron.to_owned());
        assert_eq!(told(Every::Hourly), pair("*-*-* *:05:00", "5 * * * * /bin/rbbackup run docs"));
        assert_eq!(told(Every::Daily), pair("*-*-* 03:05:00", "5 3 * * * /bin/rbbackup run docs"));
        assert_eq!(told(Every::Weekly), pair("Mon *-*-* 03:05:00", "5 3 * * 1 /bin/rbbackup run docs"));
    }
}
