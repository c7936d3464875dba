//! Checks of hooks that drain before the signal, and whether the proxy that they call exists.

use std::path::Path;

use super::super::checks as check;
use super::super::command_line::base;
use super::super::coordination::with_silence;
use super::super::model::{CommandForm, FindingPlace, StopHook, SupervisedProcess, Supervisor};
use super::super::shell;
use super::{Help, ProcessJudge};
use crate::config::Severity;

/// Default path of the admin socket.
pub(super) const DEFAULT_SOCKET: &str = "/run/lameduck/lameduck.sock";

impl ProcessJudge<'_> {
    pub(super) fn hooks(&mut self) {
        let process = self.process;
        for hook in &process.hooks {
            self.hook(hook);
        }
    }

    /// Checks one hook; all findings about it are answered by one line.
    fn hook(&mut self, hook: &StopHook) {
        let process = self.process;
        let before = self.pending.len();
        let mut words = hook.words.clone();
        let drains = ["drain", "deregister"].contains(&hook.call.verb.as_str());
        if hook.fails {
            let what = format!("a failing hook makes `{}` fail", process.name);
            self.add(
                Severity::Warning,
                check::EXEC_STOP_DASH,
                &hook.place,
                what,
                Help::Text(String::new()),
            );
        }
        if drains && hook.call.no_wait {
            words.retain(|word| word != "--no-wait");
            let what = format!("the drain of `{}` doesn't wait", process.name);
            self.add(
                Severity::Error,
                check::DRAIN_NO_WAIT,
                &hook.place,
                what,
                Help::Text(String::new()),
            );
        }
        if !hook.reopened && process.launch().is_none() {
            words.extend(["--until".into(), "restarted".into()]);
            let after = match process.supervisor {
                Supervisor::Systemd => "restart",
                _ => "reload",
            };
            let what = format!(
                "nothing lifts the drain of `{}` after its {after}",
                process.name
            );
            self.add(
                Severity::Error,
                check::NEVER_REOPENED,
                &hook.place,
                what,
                Help::Text(String::new()),
            );
        }
        if process.sidecar
            && hook.call.verb == "drain"
            && hook.call.lame_duck.is_zero()
            && process.slept.is_zero()
        {
            self.fix.until_silence = true;
            words.extend(["--lame-duck".into(), "auto".into()]);
            let what = format!(
                "`{}` is drained the moment its pod is deleted",
                process.name
            );
            self.add(
                Severity::Warning,
                check::LAME_DUCK,
                &hook.place,
                what,
                Help::Text(String::new()),
            );
        }
        let (pool, admin) = (hook.call.pool.as_deref(), hook.call.admin.as_deref());
        let known = self.pending.len();
        self.reached(pool, admin, &hook.place, &Help::Text(String::new()));
        for (_, check, ..) in &self.pending[known..] {
            if *check == check::UNKNOWN_POOL {
                let right = self.fix.pool.clone().unwrap_or_default();
                let target = pool.unwrap_or_default();
                for word in &mut words {
                    if word == target || word.starts_with(&format!("{target}/")) {
                        *word = word.replacen(target, &right, 1);
                    }
                }
            } else if let Some(socket) = self.fix.admin.clone() {
                match words.iter().position(|word| word == "--admin") {
                    Some(at) if at + 1 < words.len() => words[at + 1] = socket,
                    _ => {
                        words.retain(|word| !word.starts_with("--admin="));
                        words.extend(["--admin".into(), socket]);
                    }
                }
            }
        }
        let line = with_silence(hook_line(process, hook, &words), &self.fix, self.proxy);
        for (.., help) in &mut self.pending[before..] {
            *help = Help::Text(line.clone());
        }
    }

    /// Checks whether the proxy that is called exists and has the pool.
    pub(super) fn reached(
        &mut self,
        pool: Option<&str>,
        admin: Option<&str>,
        place: &FindingPlace,
        help: &Help,
    ) {
        let process = self.process;
        let Some(config) = self.proxy.config() else {
            return;
        };
        let help = || match help {
            Help::Command => Help::Command,
            _ => Help::Text(String::new()),
        };
        // Templates such as `%i` or `${POOL}` can't be checked.
        let literal = |text: &str| !text.contains(['%', '$', '{']);
        if let Some(name) = pool
            && literal(name)
            && self.proxy.pool(name).is_none()
        {
            let pools = self.proxy.pools();
            let known: Vec<_> = pools
                .iter()
                .map(|pool| format!("`{}`", pool.name))
                .collect();
            let what = format!(
                "`{}` names the pool `{name}`, which lameduck's configuration doesn't have: it has {}",
                process.name,
                known.join(", ")
            );
            self.fix.pool = pools.first().map(|pool| pool.name.clone());
            self.add(Severity::Error, check::UNKNOWN_POOL, place, what, help());
        }
        let default = Path::new(DEFAULT_SOCKET);
        let bound = config.admin.socket.as_deref().unwrap_or(default);
        if admin.is_some_and(|admin| !literal(admin) || admin.starts_with("http")) {
            return;
        }
        let asked = admin.map_or(default, |admin| {
            Path::new(admin.trim_start_matches("unix:"))
        });
        let set_elsewhere =
            admin.is_none() && process.env.iter().any(|(key, _)| key == "LAMEDUCK_ADMIN");
        let by_default = config.admin.socket.is_none() && asked.ends_with("lameduck.sock");
        // Apps and their launchers may have a second socket.
        let is_apps_door = config.admin.apps_socket.as_deref() == Some(asked);
        if asked != bound && !is_apps_door && !set_elsewhere && !by_default {
            // Containers may see one directory under two names, and variables may be set elsewhere.
            let mounted = matches!(
                process.supervisor,
                Supervisor::Kubernetes | Supervisor::Compose
            );
            let severity = match admin.is_none() || mounted {
                true => Severity::Warning,
                false => Severity::Error,
            };
            let what = format!(
                "`{}` asks {}, and lameduck's configuration has {}",
                process.name,
                asked.display(),
                bound.display()
            );
            self.fix.admin = Some(bound.display().to_string());
            self.add(severity, check::ADMIN_SOCKET, place, what, help());
        }
    }
}

/// Formats a hook in the syntax of its file.
fn hook_line(process: &SupervisedProcess, hook: &StopHook, words: &[String]) -> String {
    let StopHook { key, .. } = hook;
    match process.form {
        CommandForm::Unit { .. } => {
            let quoted: Vec<_> = words
                .iter()
                .map(|word| match word.contains([' ', '"', '\'']) {
                    true => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
                    false => word.clone(),
                })
                .collect();
            format!("{key}=-{}", quoted.join(" "))
        }
        CommandForm::Container { .. } => {
            let list: Vec<_> = words
                .iter()
                .map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
                .collect();
            // In `sh -c "…"` with further words behind it, the new words have to be within the text.
            match words.iter().any(|word| base(word) == "lameduck") {
                true => format!("{key}: [{}]", list.join(", ")),
                false => {
                    let shells = hook.words.len();
                    let text = [&words[..shells.min(words.len())], &[]].concat();
                    let more = shell::join(&words[shells.min(words.len())..]);
                    let mut text = text;
                    if let Some(last) = text.last_mut().filter(|_| !more.is_empty()) {
                        *last = format!("{last} {more}");
                    }
                    let list: Vec<_> = text
                        .iter()
                        .map(|word| {
                            format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
                        })
                        .collect();
                    format!("{key}: [{}]", list.join(", "))
                }
            }
        }
        _ => process.setting(key, &shell::join(words)),
    }
}
