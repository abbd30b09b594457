//! AUTHENTICATE SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, RFC 9266) to their end, with and without SASL-IR.

use crate::bench::{Bench, settings};
use crate::client::Client;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use twinpost_sasl::client::Client as Scram;
use twinpost_sasl::{Bindings, Mechanism, Password};

/// Signs in as far as it goes: the tagged answer. The server's proof must be right when it says yes.
async fn sign_in(client: &mut Client, mut scram: Scram, mechanism: &str, with_initial: bool) -> String {
    let initial = with_initial.then(|| BASE64.encode(scram.initial().unwrap()));
    let command = match &initial {
        Some(text) => format!("s AUTHENTICATE {mechanism} {text}\r\n"),
        None => format!("s AUTHENTICATE {mechanism}\r\n"),
    };
    client.send(command).await;
    loop {
        let line = client.text().await;
        let Some(challenge) = line.strip_prefix("+ ") else {
            let answer = line.strip_prefix("s ").unwrap_or_else(|| panic!("{line}")).to_owned();
            if answer.starts_with("OK") {
                scram.finish(None).expect("the server proved that it knows the password");
            }
            return answer;
        };
        let answer = scram.step(&BASE64.decode(challenge).unwrap()).unwrap();
        client.send(format!("{}\r\n", BASE64.encode(answer))).await;
    }
}

fn scram(mechanism: Mechanism, user: &str, password: &str, bindings: Bindings) -> Scram {
    Scram::new(mechanism, user.to_owned(), Password::new(password), bindings)
}

fn far() -> (tempfile::TempDir, Bench) {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::far(settings(), dir.path());
    (dir, bench)
}

#[tokio::test]
async fn without_tls_and_without_a_password_on_the_wire() {
    let (_dir, bench) = far();
    for with_initial in [true, false] {
        let mut client = Client::new(bench.open());
        assert!(client.text().await.contains(" AUTH=SCRAM-SHA-256]"));
        let way = scram(Mechanism::ScramSha256, "eve@x.example", "secret", Bindings::NONE);
        let answer = sign_in(&mut client, way, "scram-sha-256", with_initial).await;
        assert!(answer.starts_with("OK [CAPABILITY IMAP4rev2 ") && answer.ends_with("] Signed in"), "{answer}");
        client.ok("SELECT INBOX").await;
        let (_, again) = client.run("AUTHENTICATE SCRAM-SHA-256").await;
        assert!(again.starts_with("BAD"), "{again}");
    }
}

#[tokio::test]
async fn bound_to_the_tls_connection() {
    let (_dir, bench) = far();
    for with_initial in [true, false] {
        let (wire, bindings) = bench.open_tls().await;
        assert_eq!(bindings.exporter.as_ref().map(Vec::len), Some(32));
        let mut client = Client::new(wire);
        let way = scram(Mechanism::ScramSha256Plus, "eve@x.example", "secret", bindings);
        let answer = sign_in(&mut client, way, "SCRAM-SHA-256-PLUS", with_initial).await;
        assert!(answer.starts_with("OK"), "{answer}");
        client.ok("LIST \"\" *").await;
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_look_alike() {
    let (_dir, bench) = far();
    let mut client = Client::new(bench.open());
    client.text().await;
    let mut answers = Vec::new();
    for (user, password) in [("eve@x.example", "wrong"), ("nobody@x.example", "secret")] {
        answers.push(
            sign_in(&mut client, scram(Mechanism::ScramSha256, user, password, Bindings::NONE), "SCRAM-SHA-256", true).await,
        );
    }
    assert_eq!(answers, ["NO [AUTHENTICATIONFAILED] Wrong name or password"; 2]);
    // The connection lives, and the right password is taken.
    let answer =
        sign_in(&mut client, scram(Mechanism::ScramSha256, "eve@x.example", "secret", Bindings::NONE), "SCRAM-SHA-256", true)
            .await;
    assert!(answer.starts_with("OK"), "{answer}");
}

#[tokio::test]
async fn somebody_in_the_middle_is_noticed() {
    let (_dir, bench) = far();
    let (wire, bindings) = bench.open_tls().await;
    let (_, of_another) = bench.open_tls().await;
    assert_ne!(bindings, of_another, "each connection has its own binding");
    let mut client = Client::new(wire);
    // The client's TLS ends elsewhere.
    let answer = sign_in(
        &mut client,
        scram(Mechanism::ScramSha256Plus, "eve@x.example", "secret", of_another),
        "SCRAM-SHA-256-PLUS",
        true,
    )
    .await;
    assert!(answer.starts_with("NO [AUTHENTICATIONFAILED]"), "{answer}");
    // RFC 5802 6: the client could bind and was told that the server cannot.
    let answer =
        sign_in(&mut client, scram(Mechanism::ScramSha256, "eve@x.example", "secret", bindings), "SCRAM-SHA-256", true).await;
    assert!(answer.starts_with("NO [AUTHENTICATIONFAILED]"), "{answer}");
    // Without anything to bind to the mechanism is not there.
    let mut plain = Client::new(bench.open());
    plain.text().await;
    assert_eq!(plain.run("AUTHENTICATE SCRAM-SHA-256-PLUS").await.1, "NO This mechanism is not offered here");
}

#[tokio::test]
async fn a_client_may_change_its_mind() {
    let (_dir, bench) = far();
    let mut client = Client::new(bench.open());
    client.text().await;
    // RFC 9051 6.2.2: at each challenge.
    client.send("c AUTHENTICATE SCRAM-SHA-256\r\n*\r\n").await;
    assert_eq!(client.text().await, "+ ");
    assert_eq!(client.text().await, "c BAD Cancelled");
    let mut way = scram(Mechanism::ScramSha256, "eve@x.example", "secret", Bindings::NONE);
    let initial = BASE64.encode(way.initial().unwrap());
    client.send(format!("d AUTHENTICATE SCRAM-SHA-256 {initial}\r\n")).await;
    assert!(client.text().await.starts_with("+ "));
    client.send("*\r\n").await;
    assert_eq!(client.text().await, "d BAD Cancelled");
    for wrong in ["!", "=", "bm90IHNjcmFt"] {
        client.send(format!("e AUTHENTICATE SCRAM-SHA-256 {wrong}\r\n")).await;
        let answer = client.answer("e ").await.1;
        assert!(answer.starts_with("BAD") || answer.starts_with("NO [AUTHENTICATIONFAILED]"), "{wrong}: {answer}");
    }
    let answer =
        sign_in(&mut client, scram(Mechanism::ScramSha256, "eve@x.example", "secret", Bindings::NONE), "SCRAM-SHA-256", false)
            .await;
    assert!(answer.starts_with("OK"), "{answer}");
}
