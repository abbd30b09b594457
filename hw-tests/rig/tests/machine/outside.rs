//! Mail to another site: by the name server and its mail exchanger, and from the queue after a takeover.

use crate::ground::{Ground, Outcome, Scenario, check, ms};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use twinpost_rig::client::line::Line;
use twinpost_rig::client::smtp::{Smtp, message_of};
use twinpost_rig::outside::{DOMAIN, Manner};
use twinpost_rig::pair::{PEOPLE, Pair, TAKEOVER};
use twinpost_rig::wait::{until, until_told};
use twinpost_rig::{Capability, Rig, Stand};

/// Messages that wait when the active loses its power.
const WAITING: usize = 5;

pub fn all() -> Vec<Scenario> {
    vec![Scenario {
        name: "mail_to_another_site_goes_out_and_its_queue_goes_on_after_a_takeover",
        needs: &[Capability::Outside, Capability::CutPower],
        long: false,
        run: out,
    }]
}

/// A person sends to another site; gives the Message-ID.
fn submit(pair: &Pair<Stand>, subject: &str) -> Result<String, Box<dyn std::error::Error>> {
    let (at, ben) = (pair.at(465), PEOPLE[0]);
    let password = pair.password(ben);
    let id = format!("out.{:x}@school.example", rand::random::<u64>());
    let text = message_of(ben, &id, subject, 4000);
    let reply = pair.as_client(|| -> std::io::Result<_> {
        let mut smtp = Smtp::greeted(Line::tls_unchecked(at, Duration::from_secs(10), Duration::from_secs(30))?)?;
        let signed = smtp.sign_in(ben, &password)?;
        if signed.code != 235 {
            return Ok(signed);
        }
        smtp.mail(ben, &[&format!("somebody@{DOMAIN}")], &text)
    })??;
    check(reply.code == 250, || format!("{reply:?}"))?;
    Ok(id)
}

/// How often the other site took each of these.
fn times(pair: &Pair<Stand>, ids: &[String]) -> Vec<usize> {
    let taken = pair.rig.outside().taken();
    ids.iter().map(|id| taken.iter().filter(|one| one.id == *id).count()).collect()
}

fn out(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    pair.rig.outside().behave(Manner::Takes);
    let begun = Instant::now();
    let first = submit(pair, "at once")?;
    let one = until(pair.rig.timeline(), "the message at the other site", Duration::from_secs(60), || {
        pair.rig.outside().taken().into_iter().find(|one| one.id == first)
    })?;
    let figure = json!({ "ms": ms(begun.elapsed()) });
    check(one.to == [format!("somebody@{DOMAIN}")] && one.from == PEOPLE[0], || format!("{one:?}"))?;

    // The other site asks for patience; what waits is the queue of the node that serves.
    pair.rig.outside().behave(Manner::Defers);
    let waiting = (0..WAITING).map(|_| submit(pair, "later")).collect::<Result<Vec<_>, _>>()?;
    until_told(pair.rig.timeline(), "all of them in the queue with the other site's answer", Duration::from_secs(90), || {
        let list = pair.rig.console(active).well("--json queue list").ok()?;
        (list.matches("4.3.2 not now").count() >= WAITING).then_some(())
    })?;
    pair.rig.power(active, false)?;
    let peer = twinpost_rig::other(active);
    pair.until_status(peer, "it serves", TAKEOVER, |status| status["active"] == peer && status["services"]["state"] == "up")?;
    pair.rig.outside().behave(Manner::Takes);
    pair.rig.console(peer).well("queue retry")?;
    until(pair.rig.timeline(), "all that waited at the other site", Duration::from_secs(120), || {
        times(pair, &waiting).iter().all(|times| *times > 0).then_some(())
    })?;
    until_told(pair.rig.timeline(), "an empty queue", Duration::from_secs(60), || {
        let list = pair.rig.console(peer).well("--json queue list").ok()?;
        (!list.contains(DOMAIN)).then_some(())
    })?;
    pair.rig.power(active, true)?;
    let (pair, _) = ground.pair()?;
    let seen: BTreeSet<usize> = times(pair, &waiting).into_iter().chain(times(pair, &[first])).collect();
    check(seen == BTreeSet::from([1]), || format!("each once: {:?}", times(pair, &waiting)))?;
    ground.figure("submission to another site's answer", figure);
    Ok(())
}
