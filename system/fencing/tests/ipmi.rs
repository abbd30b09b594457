//! A real BMC simulator (`ipmi_sim` of the Debian package openipmi) asked by the real ipmitool, and programs that only pretend to be one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use twinpost_fencing::{Error, Ipmi, IpmiPassword, IpmiSettings, Power, PowerOff, PowerSwitch as _, Times};

fn times(limit_ms: u64) -> Times {
    let ms = Duration::from_millis;
    Times { step: ms(limit_ms.min(10_000)), limit: ms(limit_ms), poll: ms(20), settle: ms(20) }
}

fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    // Written under another name first: a file that is open for writing cannot be run.
    let new = dir.join(format!("{name}.new"));
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(new, &path).unwrap();
    path
}

fn secret(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

struct Bmc {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Bmc {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Bmc {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = dir.path().display();
        // ipmi_sim runs this for every `get power` and `set power 0|1`; a file `stuck` makes a relay that does not move.
        script(
            dir.path(),
            "chassis",
            &format!(
                "#!/bin/sh\nshift\nwhile [ $# -gt 0 ]; do\ncase \"$1 $2\" in\n\
                 'get power') echo \"power:$(cat {at}/power)\"; shift 2;;\n\
                 'set power') echo \"$3\" >> {at}/orders; [ -e {at}/stuck ] || echo \"$3\" > {at}/power; shift 3;;\n\
                 *) exit 1;;\nesac\ndone\n"
            ),
        );
        std::fs::write(dir.path().join("power"), "1\n").unwrap();
        let auths = "none md2 md5 straight";
        let lan = format!(
            "name \"bench\"\nset_working_mc 0x20\nstartlan 1\n addr 127.0.0.1 {port}\n priv_limit admin\n\
             allowed_auths_callback {auths}\n allowed_auths_user {auths}\n allowed_auths_operator {auths}\n allowed_auths_admin {auths}\n\
             guid a123456789abcdefa123456789abcdef\nendlan\nchassis_control \"{at}/chassis 0x20\"\n\
             user 2 true \"fence\" \"open-sesame\" operator 10 {auths}\n"
        );
        let emulator = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n";
        std::fs::write(dir.path().join("lan.conf"), lan).unwrap();
        std::fs::write(dir.path().join("emulator"), emulator).unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let mut command = Command::new("ipmi_sim");
        command.arg("-n").arg("-c").arg(dir.path().join("lan.conf")).arg("-f").arg(dir.path().join("emulator"));
        command.arg("-s").arg(dir.path().join("state"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let bmc = Self { child: child.expect("openipmi is installed"), port, dir };
        let switch = bmc.switch("fence", "open-sesame", 10_000);
        let up = async { while switch.read().await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(30), up).await.expect("ipmi_sim answers");
        bmc
    }

    fn settings(&self, user: &str, password: &str, limit_ms: u64) -> IpmiSettings {
        let file = secret(self.dir.path(), &format!("password of {user}"), &format!("{password}\n"));
        let settings = IpmiSettings::new("127.0.0.1", user, IpmiPassword::File(file));
        // The simulator knows suite 3; asking it for its suites takes 3 s.
        IpmiSettings { port: self.port, cipher: Some(3), times: times(limit_ms), ..settings }
    }

    fn switch(&self, user: &str, password: &str, limit_ms: u64) -> Ipmi {
        Ipmi::new(self.settings(user, password, limit_ms))
    }

    fn power(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("power")).unwrap().trim().to_owned()
    }
}

#[tokio::test]
async fn a_bmc_switches_and_is_read_back() {
    let bmc = Bmc::start().await;
    let switch = bmc.switch("fence", "open-sesame", 20_000);
    assert_eq!(switch.read().await.unwrap(), Power::On);
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff);
    assert_eq!(bmc.power(), "0");
    assert_eq!(switch.off().await.unwrap(), PowerOff::ReadBackOff, "off already");
    switch.on().await.unwrap();
    assert_eq!(bmc.power(), "1");
    // The password in the child's environment instead.
    let text = IpmiPassword::Text("open-sesame".to_owned());
    let other = Ipmi::new(IpmiSettings { password: text, ..bmc.settings("fence", "open-sesame", 20_000) });
    assert_eq!(other.off().await.unwrap(), PowerOff::ReadBackOff);
    switch.on().await.unwrap();

    // It says "ok" and the power stays on.
    std::fs::write(bmc.dir.path().join("stuck"), "").unwrap();
    assert_eq!(switch_for(&bmc, 2500).off().await.unwrap(), PowerOff::Unread);
    assert_eq!(bmc.power(), "1");
    std::fs::remove_file(bmc.dir.path().join("stuck")).unwrap();

    // Too small a privilege: reading is allowed, switching is not.
    let small = Ipmi::new(IpmiSettings { level: "USER".to_owned(), ..bmc.settings("fence", "open-sesame", 20_000) });
    assert_eq!(small.read().await.unwrap(), Power::On);
    let refused = small.off().await.unwrap_err();
    assert!(matches!(&refused, Error::Login { why, .. } if why.contains("Insufficient privilege")), "{refused}");
    // Wrong password, unknown user.
    for (user, password) in [("fence", "wrong"), ("nobody", "open-sesame")] {
        let refused = bmc.switch(user, password, 20_000).off().await.unwrap_err();
        assert!(matches!(refused, Error::Login { .. }), "{user}: {refused}");
    }
    assert_eq!(bmc.power(), "1");
}

fn switch_for(bmc: &Bmc, limit_ms: u64) -> Ipmi {
    bmc.switch("fence", "open-sesame", limit_ms)
}

#[tokio::test]
async fn a_bmc_that_is_not_there_or_gone_proves_nothing() {
    let mut bmc = Bmc::start().await;
    let switch = switch_for(&bmc, 20_000);
    bmc.child.kill().unwrap();
    bmc.child.wait().unwrap();
    // ipmitool tries for some seconds; the step's limit is shorter here.
    let quick = Ipmi::new(IpmiSettings { times: times(400), ..bmc.settings("fence", "open-sesame", 400) });
    assert!(matches!(quick.off().await, Err(Error::TimedOut { .. })));
    let gone = switch.read().await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. } | Error::TimedOut { .. }), "{gone}");
}

#[tokio::test]
async fn programs_that_pretend_prove_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = secret(dir.path(), "password", "x\n");
    let switch = |program: PathBuf, limit_ms| {
        let settings = IpmiSettings::new("192.0.2.7", "fence", IpmiPassword::File(file.clone()));
        Ipmi::new(IpmiSettings { program, times: times(limit_ms), ..settings })
    };
    let power = |name: &str, status: &str| {
        let ok = "echo 'Chassis Power Control: Down/Off'";
        script(
            dir.path(),
            name,
            &format!("#!/bin/sh\nfor last; do :; done\n[ $last = status ] || {{ {ok}; exit 0; }}\n{status}\n"),
        )
    };
    // Garbage, and words that only look like off; comes back on by itself.
    let count = dir.path().join("count").display().to_string();
    let flaps = format!(
        "echo x >> {count}; [ $(($(wc -l < {count}) % 2)) = 1 ] && echo 'Chassis Power is off' || echo 'Chassis Power is on'"
    );
    let cases = [
        ("garbage", "head -c 20000 /dev/urandom"),
        ("empty", "true"),
        ("both", "echo 'Chassis Power is on'; echo 'Chassis Power is off'"),
        ("offline", "echo 'Chassis Power is offline'"),
        ("flaps", &flaps),
    ];
    let all = cases.map(|(name, status)| {
        let switch = switch(power(name, status), 3000);
        tokio::spawn(async move { (name, switch.off().await, switch.read().await) })
    });
    for case in all {
        let (name, off, read) = case.await.unwrap();
        assert_eq!(off.unwrap(), PowerOff::Unread, "{name}");
        assert!(name == "flaps" || matches!(read, Err(Error::Garbage { .. })), "{name}: {read:?}");
    }
    let strange = script(dir.path(), "strange", "#!/bin/sh\necho 'Chassis Power Control: Soft'\n");
    assert!(matches!(switch(strange, 10_000).off().await, Err(Error::Garbage { .. })));
    // Refused with its words, hangs, is not there.
    let no = script(dir.path(), "no", "#!/bin/sh\necho 'Set Chassis Power Control to Down/Off failed: Node busy' >&2\nexit 1\n");
    let refused = switch(no, 10_000).off().await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { why, .. } if why.contains("Node busy")), "{refused}");
    let hangs = script(dir.path(), "hangs", "#!/bin/sh\nexec sleep 600\n");
    let begin = Instant::now();
    assert!(matches!(switch(hangs, 200).off().await, Err(Error::TimedOut { .. })));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(matches!(switch(dir.path().join("none"), 5000).off().await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn a_password_that_others_can_read_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = secret(dir.path(), "password", "x\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    for path in [file, dir.path().join("none")] {
        let switch = Ipmi::new(IpmiSettings::new("192.0.2.7", "fence", IpmiPassword::File(path)));
        assert!(matches!(switch.off().await, Err(Error::File { .. })));
    }
}
