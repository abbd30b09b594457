//! A mail to the SMS domain leaves by the modem on the node's own serial port, and a telephone reads it.

use crate::ground::{Ground, Outcome, Scenario, check};
use std::time::Duration;
use twinpost_rig::client::line::Line;
use twinpost_rig::client::smtp::Smtp;
use twinpost_rig::pair::{PEOPLE, SMS_DOMAIN};
use twinpost_rig::wait::until;
use twinpost_rig::{Cable, Capability, Fault, Rig};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "a_mail_becomes_a_text_on_a_telephone", needs: &[Capability::Phones], long: false, run: text },
        Scenario {
            name: "a_modem_that_is_absent_stops_no_mail_and_its_texts_wait",
            needs: &[Capability::Phones, Capability::CutModem],
            long: false,
            run: absent,
        },
        Scenario {
            name: "a_modem_that_hangs_is_restarted_and_its_text_goes_once",
            needs: &[Capability::Phones, Capability::HangModem],
            long: true,
            run: hung,
        },
    ]
}

/// A person writes to a telephone.
fn write(ground: &mut Ground, number: &str, body: &str) -> Outcome {
    let (pair, _) = ground.pair()?;
    let (at, ben) = (pair.at(465), PEOPLE[0]);
    let password = pair.password(ben);
    let to = format!("{number}@{SMS_DOMAIN}");
    let id = format!("sms.{:x}@school.example", rand::random::<u64>());
    let head = format!(
        "From: {ben}\r\nTo: {to}\r\nSubject: \r\nMessage-ID: <{id}>\r\nDate: Mon, 02 Nov 2026 08:00:00 +0800\r\n\r\n{body}\r\n"
    );
    let reply = pair.as_client(|| -> std::io::Result<_> {
        let mut smtp = Smtp::greeted(Line::tls_unchecked(at, Duration::from_secs(10), Duration::from_secs(30))?)?;
        let signed = smtp.sign_in(ben, &password)?;
        if signed.code != 235 {
            return Ok(signed);
        }
        smtp.mail(ben, &[&to], head.as_bytes())
    })??;
    check(reply.code == 250, || format!("{reply:?}"))
}

fn arrives(ground: &mut Ground, number: &str, body: &str) -> Outcome {
    let (pair, _) = ground.pair()?;
    until(pair.rig.timeline(), "the text on the telephone", Duration::from_secs(60), || {
        let phones = pair.rig.phones().ok()?;
        phones.into_iter().find(|(to, text)| to.ends_with(number) && text.contains(body))
    })?;
    Ok(())
}

fn text(ground: &mut Ground) -> Outcome {
    let body = format!("lunch is at {:04}", rand::random_range(0..10_000));
    write(ground, "13800138001", &body)?;
    arrives(ground, "13800138001", &body)
}

fn hung(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    pair.rig.hang_modem(active)?;
    let body = format!("after a while, {:06}", rand::random_range(0..1_000_000));
    write(ground, "13800138003", &body)?;
    let (pair, _) = ground.pair()?;
    let id = format!("hung.{:x}@elsewhere.example", rand::random::<u64>());
    pair.send(PEOPLE[2], &id, "mail goes on")?;
    // The ladder: attention, restart. Each step is given its time.
    until(pair.rig.timeline(), "the text on the telephone", Duration::from_secs(240), || {
        pair.rig.phones().ok()?.into_iter().find(|(_, text)| text.contains(&body))
    })?;
    // A text behind it has gone too: nothing of the first one is still on its way.
    let last = format!("and then, {:06}", rand::random_range(0..1_000_000));
    write(ground, "13800138004", &last)?;
    arrives(ground, "13800138004", &last)?;
    let (pair, _) = ground.pair()?;
    let times = pair.rig.phones()?.iter().filter(|(_, text)| text.contains(&body)).count();
    check(times == 1, || format!("the text arrived {times} times"))
}

fn absent(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    pair.rig.cable(active, Cable::Modem, Fault::Pulled)?;
    let body = format!("later, {:04}", rand::random_range(0..10_000));
    write(ground, "13800138002", &body)?;
    let (pair, _) = ground.pair()?;
    let id = format!("nomodem.{:x}@elsewhere.example", rand::random::<u64>());
    pair.send(PEOPLE[1], &id, "mail goes on")?;
    pair.rig.cable(active, Cable::Modem, Fault::None)?;
    arrives(ground, "13800138002", &body)
}
