//! A package's whole life in a Debian of its own, with systemd as process 1: installed, upgraded under load, removed.
//! `LAMEDUCK_PROVE=1`: with more upgrades.

use std::path::{Path, PathBuf};

use super::debian::Debian;
use super::load::Load;
use super::{build, package};

/// A program that installs packages. rpm runs outside its own distributions here, so that it looks for no other packages:
/// the scriptlets are run as there.
struct PackageManager {
    /// Kind of its packages, for deploy/packages/build and as the end of a file's name.
    kind: &'static str,
    install: &'static str,
    upgrade: &'static str,
    /// Compares each file with what the package says of it.
    verify: &'static str,
}

const DPKG: PackageManager = PackageManager {
    kind: "deb",
    install: "dpkg --install",
    upgrade: "dpkg --install --force-confdef --force-confold",
    verify: "dpkg --verify lameduck",
};

const RPM: PackageManager = PackageManager {
    kind: "rpm",
    install: "rpm --install --nodeps",
    upgrade: "rpm --upgrade --nodeps --replacepkgs",
    verify: "rpm --verify --nodeps lameduck",
};

impl PackageManager {
    /// The package of another version, made of the same binary.
    fn build_package(&self, dir: &Path, version: &str) -> PathBuf {
        build(dir, version, &[self.kind]);
        let mut entries = std::fs::read_dir(dir).unwrap();
        let found = entries.find_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?;
            (name.contains(version) && name.ends_with(self.kind)).then(|| path.clone())
        });
        found.unwrap()
    }
}

fn main_pid(debian: &Debian) -> String {
    debian.tell("systemctl show -P MainPID lameduck")
}

/// What holds of a service that was just started, whichever package brought it.
fn check_started(debian: &Debian, manager: &PackageManager) {
    debian.tell("systemctl is-enabled lameduck && systemctl is-active lameduck");
    assert!(debian.tell("lameduck status").contains("app"));
    debian.tell("lameduck check -c /etc/lameduck/lameduck.toml");
    assert_eq!(debian.tell(manager.verify), "");
    assert_eq!(
        debian.tell("stat -c %U /var/lib/lameduck /var/log/lameduck"),
        "lameduck\nlameduck\n"
    );
    let owner = debian.tell("stat -c %U /proc/$(systemctl show -P MainPID lameduck)");
    assert_eq!(owner.trim(), "lameduck");
    let user = debian.tell("getent passwd lameduck");
    assert!(user.trim().ends_with("/nologin"), "{user}");
}

/// Upgrades a running service under load, once to a release that refuses the configuration, and rotates its log. Returns
/// the last package.
fn upgrade_under_load(debian: &Debian, manager: &PackageManager) -> String {
    let upgrades = if lameduck_rig::setting::proving() {
        5
    } else {
        1
    };
    let dir = tempfile::tempdir().unwrap();
    let bring = |version: &str| debian.bring(&manager.build_package(dir.path(), version));
    let upgrade = |package: &str| debian.tell(&format!("{} {package}", manager.upgrade));

    // An app that registers itself, as another unit.
    debian.tell(
        "systemd-run --unit app --quiet lameduck exec --pool app --name app-1 -- lameduck demo-app",
    );
    // systemd-run returns when the launcher was started, not when it has registered the app.
    debian.wait_for("lameduck status app | grep -q app-1");
    debian.tell("lameduck resume app/app-1 --wait 30s");
    let load = Load::start(&debian.init);
    load.wait_for(50);

    // The administrator's own words stay.
    debian.tell("printf '\\n# mine\\n' >> /etc/lameduck/lameduck.toml");
    for n in 0..upgrades {
        let before = main_pid(debian);
        let said = upgrade(&bring(&format!("9.{n}.0")));
        assert!(!said.contains("has not taken over"), "{said}");
        assert_ne!(before, main_pid(debian), "{said}");
        load.wait_for(50);
        debian.tell("systemctl is-active lameduck && grep -q '# mine' /etc/lameduck/lameduck.toml");
    }

    // A release that refuses the configuration: the old one goes on, and the package is whole.
    debian.tell("echo 'nonsense = 1' >> /etc/lameduck/lameduck.toml");
    let last = bring("9.9.0");
    let before = main_pid(debian);
    let said = upgrade(&last);
    assert!(said.contains("the old one goes on"), "{said}");
    assert_eq!(before, main_pid(debian));
    load.wait_for(50);
    debian.tell("sed -i '/^nonsense/d' /etc/lameduck/lameduck.toml && systemctl reload lameduck");
    assert_ne!(before, main_pid(debian));
    load.wait_for(50);

    // The log is rotated while it is written.
    debian.tell("logrotate --force /etc/logrotate.d/lameduck");
    load.wait_for(50);
    // Lines are written when there are enough of them, or after a moment.
    debian.tell("test -s /var/log/lameduck/access.log.1");
    debian.wait_for("test -s /var/log/lameduck/access.log");

    let (answered, lost) = load.end();
    assert!(
        lost.is_empty(),
        "of {answered}: {} lost: {:?}",
        lost.len(),
        lost.first()
    );
    lameduck_rig::setting::say(&format!(
        "{} upgrades of the .{} under load: {answered} answered, 0 lost",
        upgrades + 1,
        manager.kind
    ));
    debian.tell("systemctl stop app");
    last
}

/// Turns the service off, upgrades, and finds it off; then turns it on again.
fn check_that_off_stays_off(debian: &Debian, manager: &PackageManager, package: &str) {
    debian.tell("systemctl disable --now lameduck");
    debian.tell(&format!("{} {package}", manager.upgrade));
    assert!(!debian.run("systemctl is-enabled lameduck").0);
    assert!(!debian.run("systemctl is-active lameduck").0);
    debian.tell("systemctl enable --now lameduck");
}

/// Everything of ours that is left, outside the places of packages, of the journal, and of what goes with the machine.
fn files_left(debian: &Debian) -> Vec<String> {
    let said = debian.tell(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /root -o -path /var/log/journal -o -path /run \\) -prune -o \
         -name '*lameduck*' -print",
    );
    let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[lameduck_rig::test]
fn deb_is_installed_upgraded_under_load_without_a_loss_removed_and_purged() {
    let (Some(first), Some(debian)) = (package(".deb"), Debian::boot()) else {
        return;
    };
    let said = debian.tell(&format!("{} {}", DPKG.install, debian.bring(&first)));
    assert!(!said.contains("rror"), "{said}");
    // On and started, for this host alone.
    check_started(&debian, &DPKG);
    let last = upgrade_under_load(&debian, &DPKG);
    check_that_off_stays_off(&debian, &DPKG, &last);

    debian.tell("dpkg --remove lameduck");
    assert!(!debian.run("systemctl is-active lameduck").0);
    debian.tell("test -e /etc/lameduck/lameduck.toml && test -d /var/lib/lameduck && getent passwd lameduck");
    debian.tell("dpkg --purge lameduck");
    assert_eq!(files_left(&debian), [""; 0]);
    assert!(!debian.run("getent passwd lameduck").0);
}

#[lameduck_rig::test]
fn rpm_is_installed_by_presets_upgraded_under_load_without_a_loss_and_removed() {
    let (Some(first), Some(debian)) = (package(".rpm"), Debian::boot()) else {
        return;
    };
    // Services are off by default, as Fedora's presets have it.
    debian.tell(
        "mkdir -p /etc/systemd/system-preset && \
         echo 'disable *' > /etc/systemd/system-preset/99-default-disable.preset",
    );
    let first = debian.bring(&first);
    let said = debian.tell(&format!("{} {first}", RPM.install));
    assert!(!said.contains("rror"), "{said}");
    assert!(!debian.run("systemctl is-enabled lameduck").0);
    assert!(!debian.run("systemctl is-active lameduck").0);
    debian.tell("systemctl enable --now lameduck");
    check_started(&debian, &RPM);
    let last = upgrade_under_load(&debian, &RPM);
    check_that_off_stays_off(&debian, &RPM, &last);

    debian.tell("rpm --erase lameduck");
    assert!(!debian.run("systemctl is-active lameduck").0);
    assert!(!debian.run("systemctl is-enabled lameduck").0);
    // What somebody changed, the state, the logs and their user.
    let left = [
        "/etc/lameduck",
        "/etc/lameduck/lameduck.toml.rpmsave",
        "/var/lib/lameduck",
        "/var/log/lameduck",
    ];
    assert_eq!(files_left(&debian), left);
    debian.tell("getent passwd lameduck && grep '# mine' /etc/lameduck/lameduck.toml.rpmsave");

    // A preset turns it on for the first installation; it is started by whoever wants it now.
    debian.tell("echo 'enable lameduck.service' > /etc/systemd/system-preset/50-shop.preset");
    debian.tell(&format!("{} {first}", RPM.install));
    debian.tell("systemctl is-enabled lameduck");
    assert!(!debian.run("systemctl is-active lameduck").0);
    debian.tell("systemctl start lameduck");
    check_started(&debian, &RPM);
}
