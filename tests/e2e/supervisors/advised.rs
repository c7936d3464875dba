//! What `lameduck doctor` says to write instead, pasted into files that know nothing of lameduck: the real supervisors
//! start it, and restart every instance under load.

use lameduck::tools::doctor::{DoctorOptions, InputFile, examine};

use super::oxmgr::StandIn;
use super::processes::{Pm2, Supervisord};
use super::{Fleet, INSTANCES, journals};
use crate::harness::{exe, turn_alone, turn_beside_one};

/// The advice about a file's only process, line by line, without what is for people; nothing is known of lameduck's
/// configuration.
pub(super) fn advice(name: &str, text: &str) -> Vec<String> {
    let report = examined(name, text);
    let found = report
        .as_array()
        .unwrap()
        .iter()
        .find(|found| found["code"] == "uncoordinated");
    let help = found.unwrap_or_else(|| panic!("{report:#}"))["help"]
        .as_str()
        .unwrap();
    let lines = help.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// Fails if there is anything left to be said.
pub(super) fn clean(name: &str, text: &str) {
    let report = examined(name, text);
    assert_eq!(report, serde_json::json!([]), "{text}");
}

fn examined(name: &str, text: &str) -> serde_json::Value {
    let file = InputFile {
        name: name.into(),
        text: text.into(),
        ..InputFile::default()
    };
    examine(&[file], None, DoctorOptions::default()).reports[0].json()
}

/// The app with its journals, as a file would start it.
fn app(fleet: &Fleet) -> String {
    format!(
        "{} demo-app --journals {}",
        exe().display(),
        journals(&fleet.scratch).display()
    )
}

/// A shell's text with the launcher of this build.
fn with_launcher(text: &str) -> String {
    text.replace(
        "lameduck exec --pool",
        &format!("{} exec --pool", exe().display()),
    )
}

async fn pm2_restarts(title: &str, app: impl Fn(&Fleet) -> serde_json::Value) {
    let _turn = turn_beside_one().await;
    let Some(pm2) = Pm2::found(title) else {
        return;
    };
    let fleet = Fleet::start("").await;
    let mut file = serde_json::json!({ "apps": [app(&fleet)] });
    let name = "ecosystem.config.json";
    let lines = advice(name, &format!("{file:#}")).join("\n");
    let pasted: serde_json::Value =
        serde_json::from_str(&format!("{{ {} }}", lines.trim_end_matches(','))).unwrap();
    for (key, value) in pasted.as_object().unwrap() {
        file["apps"][0][key] = value.clone();
    }
    clean(name, &format!("{file:#}"));
    // Only the path is this machine's.
    let text = with_launcher(&format!("{file:#}"));
    let text = text.replace(
        "\"lameduck\"",
        &format!("{:?}", exe().display().to_string()),
    );
    pm2.survives(title, &fleet, (name, &text), &["restart"])
        .await;
}

#[lameduck_rig::test]
async fn pm2_with_pasted_advice_loses_nothing() {
    pm2_restarts("PM2, advice for a script", |fleet| {
        serde_json::json!({
            "name": "app",
            "script": exe(),
            "args": format!("demo-app --journals {}", journals(&fleet.scratch).display()),
            "instances": INSTANCES,
            "env": { "PORT": "3000" },
        })
    })
    .await;
}

#[lameduck_rig::test]
async fn pm2_with_pasted_advice_for_a_shell_s_line_loses_nothing() {
    pm2_restarts("PM2, advice for a shell's line", |fleet| {
        let log = fleet.scratch.path().join("app.log");
        let line = format!(
            "cd / && NODE_ENV=production {} 2>&1 | tee -a {}",
            app(fleet),
            log.display()
        );
        serde_json::json!({ "name": "app", "script": line, "instances": INSTANCES })
    })
    .await;
}

#[lameduck_rig::test]
async fn supervisord_with_pasted_advice_loses_nothing() {
    let _turn = turn_beside_one().await;
    let Some(supervisord) = Supervisord::found("supervisord_with_pasted_advice") else {
        return;
    };
    let fleet = Fleet::start("").await;
    let log = fleet.scratch.path().join("app.log");
    let section = format!(
        "[program:app]\ncommand=/bin/bash -c 'cd / && exec {} >> \"{}\" 2>&1'\n\
         process_name=%(program_name)s-%(process_num)d\nnumprocs={INSTANCES}\nstopwaitsecs=5\n",
        app(&fleet),
        log.display()
    );
    let mut lines: Vec<String> = section.lines().map(str::to_owned).collect();
    for setting in advice("app.conf", &section) {
        let key = format!("{}=", setting.split('=').next().unwrap());
        lines.retain(|line| !line.starts_with(&key));
        lines.push(setting);
    }
    let section = lines.join("\n") + "\n";
    clean("app.conf", &section);
    supervisord
        .survives("supervisord, advice", &fleet, &with_launcher(&section))
        .await;
}

/// Under the stand-in, as the real Oxmgr is not to be had from a registry.
#[lameduck_rig::test]
async fn oxmgr_s_stand_in_with_pasted_advice_loses_nothing() {
    let _turn = turn_alone().await;
    let fleet = Fleet::start("").await;
    let file = format!(
        "version = 1\n[[apps]]\nname = \"app\"\ncommand = \"{}\"\ninstances = {INSTANCES}\n\
         stop_signal = \"SIGTERM\"\nstop_timeout_secs = 10\n",
        app(&fleet)
    );
    let mut lines: Vec<String> = file.lines().map(str::to_owned).collect();
    for setting in advice("oxfile.toml", &file) {
        let key = format!("{} =", setting.split(" =").next().unwrap());
        lines.retain(|line| !line.starts_with(&key));
        lines.push(setting);
    }
    let file = lines.join("\n") + "\n";
    clean("oxfile.toml", &file);
    let mut daemon = StandIn::start_file(&fleet, &with_launcher(&file)).await;
    fleet
        .survives("Oxmgr's stand-in, advice", async || {
            for n in 0..INSTANCES {
                daemon.restart(n).await;
                daemon.reload(n).await;
            }
            fleet.ready(INSTANCES).await;
        })
        .await;
}
