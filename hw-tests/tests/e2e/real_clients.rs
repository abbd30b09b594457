//! Real programs as clients: swaks, curl, mbsync, mutt, and Python's smtplib, imaplib and poplib.

use crate::node::Node;
use crate::programs::{python, run};
use std::path::Path;
use std::process::Command;

const BEN: &str = "ben@school.example";
const ANNA: &str = "anna@school.example";

#[test]
fn swaks_signs_in_on_every_port_by_every_mechanism() {
    let node = Node::start();
    let password = node.password(BEN);
    let mut wanted = 0;
    for (service, tls) in [("smtp", "--tls"), ("submission", "--tls"), ("submissions", "--tls-on-connect")] {
        for mechanism in ["PLAIN", "LOGIN"] {
            let ended = run(
                Command::new("swaks")
                    .args(["--server", &node.at(service).to_string(), tls, "--auth", mechanism, "--auth-user", BEN])
                    .args(["--auth-password", &password, "--from", BEN, "--to", ANNA, "--ehlo", "client.example"])
                    .args(["--tls-verify", "--tls-ca-path", node.ca().to_str().unwrap()]),
                b"",
            );
            if service == "smtp" {
                println!("{service} {mechanism}: exit {}", ended.code);
                // People sign in on the ports for people; port 25 is for servers.
                assert!(ended.code == 28 && ended.err.contains("did not advertise authentication"), "{ended:?}");
                continue;
            }
            let said = ended.well();
            assert!(said.contains("235 2.7.0") && said.contains("250 2."), "{said}");
            println!("{service} {mechanism}: taken");
            wanted += 1;
        }
    }
    let wrong = run(
        Command::new("swaks")
            .args(["--server", &node.at("submissions").to_string(), "--tls-on-connect", "--auth", "PLAIN", "--auth-user", BEN])
            .args(["--auth-password", "wrong", "--from", BEN, "--to", ANNA]),
        b"",
    );
    assert!(wrong.code != 0 && wrong.out.contains("535 5.7.8"), "{wrong:?}");
    println!("port 25 with STARTTLS, as servers come");
    run(
        Command::new("swaks")
            .args([
                "--server",
                &node.at("smtp").to_string(),
                "--tls",
                "--tls-verify",
                "--tls-ca-path",
                node.ca().to_str().unwrap(),
            ])
            .args(["--from", "a@elsewhere.example", "--to", ANNA]),
        b"",
    )
    .well();
    println!("LMTP: an answer for each recipient");
    let lmtp = run(
        Command::new("swaks")
            .args(["--server", &node.at("lmtp").to_string(), "--protocol", "LMTP", "--to", &format!("{ANNA},{BEN}")])
            .args(["--from", "a@elsewhere.example"]),
        b"",
    );
    lmtp.well();
    let anna = node.imap(ANNA).count("INBOX");
    assert_eq!(anna, wanted + 2);
}

#[test]
fn curl_sends_appends_and_reads() {
    let node = Node::start();
    let (ca, login) = (node.ca(), format!("{BEN}:{}", node.password(BEN)));
    let curl = |arguments: &[&str], input: &str| {
        run(
            Command::new("curl").args(["--silent", "--show-error", "--cacert"]).arg(&ca).args(["-u", &login]).args(arguments),
            input.as_bytes(),
        )
    };
    let text = format!("From: {BEN}\r\nTo: {ANNA}\r\nSubject: by curl\r\n\r\nA letter by curl.\r\n");
    println!("upload by SMTP: STARTTLS, then TLS");
    for url in [format!("smtp://{}", node.at("submission")), format!("smtps://{}", node.at("submissions"))] {
        curl(&["--ssl-reqd", "--mail-from", BEN, "--mail-rcpt", ANNA, "-T", "-", &url], &text).well();
    }
    assert_eq!(node.imap(ANNA).count("INBOX"), 2);
    println!("IMAP APPEND, LIST, SEARCH, FETCH");
    let imaps = format!("imaps://{}", node.at("imaps"));
    let file = node.dir().join("letter.eml");
    std::fs::write(&file, &text).unwrap();
    curl(&["-T", file.to_str().unwrap(), &format!("{imaps}/INBOX")], "").well();
    assert!(curl(&[&imaps], "").well().contains("INBOX"));
    assert!(curl(&[&format!("{imaps}/INBOX?SUBJECT%20curl")], "").well().contains("SEARCH 1"));
    assert_eq!(curl(&[&format!("{imaps}/INBOX;UID=1")], "").well(), text);
    let starttls = format!("imap://{}", node.at("imap"));
    assert_eq!(curl(&["--ssl-reqd", &format!("{starttls}/INBOX;UID=1")], "").well(), text);
    println!("POP3: list and message, STLS and TLS; SCRAM where curl can");
    for url in [format!("pop3s://{}", node.at("pop3s")), format!("pop3://{}", node.at("pop3"))] {
        assert!(curl(&["--ssl-reqd", &url], "").well().starts_with("1 "));
        assert_eq!(curl(&["--ssl-reqd", &format!("{url}/1")], "").well(), text);
    }
    let wrong =
        run(Command::new("curl").args(["--silent", "--cacert"]).arg(&ca).args(["-u", &format!("{BEN}:wrong"), &imaps]), b"");
    assert_eq!(wrong.code, 67, "login denied: {wrong:?}");
}

/// File names below a folder of a maildir, by flags: name of the message file, and its flag letters.
fn flags_of(maildir: &Path, subject: &str) -> Option<String> {
    for part in ["cur", "new"] {
        for entry in std::fs::read_dir(maildir.join(part)).ok()?.flatten() {
            if String::from_utf8_lossy(&std::fs::read(entry.path()).ok()?).contains(&format!("Subject: {subject}\n")) {
                let name = entry.file_name().to_string_lossy().into_owned();
                return Some(name.split_once(":2,").map_or(String::new(), |(_, flags)| flags.to_owned()));
            }
        }
    }
    None
}

#[test]
fn mbsync_keeps_both_sides_the_same() {
    let node = Node::start();
    let dir = node.dir().join("mbsync");
    std::fs::create_dir_all(dir.join("mail")).unwrap();
    let rc = dir.join("mbsyncrc");
    std::fs::write(
        &rc,
        format!(
            "IMAPAccount school\nHost {}\nPort {}\nUser {BEN}\nPass \"{}\"\nSSLType IMAPS\nCertificateFile {}\n\n\
             IMAPStore far\nAccount school\n\nMaildirStore near\nPath {m}/\nInbox {m}/INBOX\nSubFolders Verbatim\n\n\
             Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nRemove Both\nExpunge Both\nSyncState *\n",
            node.ip(),
            node.port("imaps"),
            node.password(BEN),
            node.dir().join("a/tls/server.pem").display(),
            m = dir.join("mail").display()
        ),
    )
    .unwrap();
    let sync = || {
        let ended = run(Command::new("mbsync").arg("-c").arg(&rc).arg("-a").env("HOME", &dir), b"");
        assert_eq!(ended.code, 0, "{ended:?}");
    };
    let mut imap = node.imap(BEN);
    imap.ok("CREATE Work");
    imap.ok("CREATE Work/2026");
    imap.ok("CREATE &U4NO9lk5-");
    for (mailbox, subject) in
        [("INBOX", "one"), ("INBOX", "two"), ("Work", "three"), ("Work/2026", "four"), ("&U4NO9lk5-", "five")]
    {
        imap.append(mailbox, format!("From: a@b.example\r\nSubject: {subject}\r\n\r\ntext of {subject}\r\n").as_bytes())
            .unwrap()
            .ok();
    }
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1 +FLAGS (\\Seen \\Flagged)");
    println!("first sync: all folders come with their mail and flags");
    sync();
    let near = |folder: &str| dir.join("mail").join(folder);
    assert_eq!(flags_of(&near("INBOX"), "one").as_deref(), Some("FS"));
    assert_eq!(flags_of(&near("INBOX"), "two").as_deref(), Some(""));
    for (folder, subject) in [("Work", "three"), ("Work/2026", "four"), ("&U4NO9lk5-", "five")] {
        assert!(flags_of(&near(folder), subject).is_some(), "{subject} in {folder}");
    }
    println!("changes on both sides: flags, new mail, deletion, a new folder");
    imap.ok("STORE 2 +FLAGS (\\Answered)");
    imap.ok("SELECT Work");
    imap.ok("STORE 1 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    std::fs::write(near("Work").join("cur/1700000000.1.here:2,S"), "From: c@d.example\nSubject: six\n\ntext of six\n").unwrap();
    let old = std::fs::read_dir(near("Work/2026").join("new"))
        .unwrap()
        .chain(std::fs::read_dir(near("Work/2026").join("cur")).unwrap());
    for entry in old.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let base = name.split(":2,").next().unwrap().to_owned();
        std::fs::rename(entry.path(), near("Work/2026").join("cur").join(format!("{base}:2,T"))).unwrap();
    }
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(near("Local").join(part)).unwrap();
    }
    std::fs::write(near("Local").join("cur/1700000001.1.here:2,F"), "From: c@d.example\nSubject: seven\n\ntext of seven\n")
        .unwrap();
    sync();
    assert_eq!(flags_of(&near("INBOX"), "two").as_deref(), Some("R"));
    assert_eq!(flags_of(&near("Work"), "three"), None, "deleted there, gone here");
    imap.ok("SELECT Work");
    let work = imap.ok("FETCH 1:* (FLAGS BODY.PEEK[])").concat();
    assert!(work.contains("Subject: six") && work.contains("\\Seen"), "{work}");
    assert_eq!(imap.count("Work/2026"), 0, "deleted here, gone there");
    imap.ok("SELECT Local");
    let local = imap.ok("FETCH 1:* (FLAGS BODY.PEEK[])").concat();
    assert!(local.contains("Subject: seven") && local.contains("\\Flagged"), "{local}");
    println!("a third sync finds nothing to do");
    let before = node.json(&["status"])["log_position"].clone();
    sync();
    assert_eq!(node.json(&["status"])["log_position"], before);
}

#[test]
fn mutt_sends_and_reads() {
    let node = Node::start();
    let dir = node.dir().join("mutt");
    std::fs::create_dir_all(&dir).unwrap();
    let rc = dir.join("muttrc");
    let (user, password) = (BEN.replace('@', "%40"), node.password(BEN));
    std::fs::write(
        &rc,
        format!(
            "set from=\"{BEN}\"\nset realname=\"Ben\"\nset use_from=yes\nset envelope_from=yes\nset copy=no\n\
             set ssl_ca_certificates_file=\"{ca}\"\nset certificate_file=\"{ca}\"\nset ssl_starttls=yes\n\
             set smtp_authenticators=\"scram-sha-256\"\nset imap_authenticators=\"scram-sha-256\"\nset ssl_force_tls=yes\n\
             set smtp_url=\"smtps://{user}@{smtp}\"\nset smtp_pass=\"{password}\"\nset imap_user=\"{BEN}\"\nset imap_pass=\"{password}\"\n\
             set folder=\"imaps://{imap}/\"\nset spoolfile=\"+INBOX\"\nset header_cache=\"\"\nset wait_key=no\nset send_charset=\"utf-8\"\nset charset=\"utf-8\"\n",
            ca = node.ca().display(),
            smtp = node.at("submissions"),
            imap = node.at("imaps"),
        ),
    )
    .unwrap();
    // Without the two lines of authenticators this mutt takes SCRAM-SHA-256-PLUS, for which it has no channel binding of
    // TLS 1.3, and gives up.
    println!("mutt sends in batch mode, signed in by SCRAM-SHA-256");
    let sent = run(
        Command::new("mutt")
            .arg("-F")
            .arg(&rc)
            .args(["-s", "由 mutt 寄出", "--", BEN])
            .env("HOME", &dir)
            .env("LC_ALL", "C.UTF-8"),
        "body by mutt\n".as_bytes(),
    );
    assert_eq!(sent.code, 0, "{sent:?}");
    let mut imap = node.imap(BEN);
    assert_eq!(imap.count("INBOX"), 1);
    println!("mutt opens the mailbox, pipes the message to a file, marks it and leaves");
    let out = dir.join("message.txt");
    let keys =
        format!("set pipe_decode=yes; push \"<pipe-message>cat > {}<enter><flag-message><sync-mailbox><exit>\"", out.display());
    let command = format!("mutt -F '{}' -e '{keys}' -f 'imaps://{}/INBOX'", rc.display(), node.at("imaps"));
    let read = run(
        Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("HOME", &dir)
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8"),
        b"",
    );
    let text = std::fs::read_to_string(&out).unwrap_or_else(|e| panic!("mutt wrote no message: {e}\n{read:?}"));
    assert!(text.contains("body by mutt") && text.contains("由 mutt 寄出"), "{text}");
    imap.ok("EXAMINE INBOX");
    let flags = imap.ok("FETCH 1 (FLAGS)").concat();
    assert!(flags.contains("\\Flagged"), "{flags}");
}

#[test]
fn pythons_libraries_go_through_their_commands() {
    let node = Node::start();
    let (ip, ca, password) = (node.ip().to_string(), node.ca(), node.password(BEN));
    let ports: Vec<String> =
        ["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"].map(|s| node.port(s).to_string()).into();
    let mut words = vec![ip.as_str(), ca.to_str().unwrap(), BEN, password.as_str()];
    words.extend(ports.iter().map(String::as_str));
    println!("{}", python("libraries.py", &words).well());
}
