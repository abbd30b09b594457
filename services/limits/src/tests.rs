use crate::*;
use proptest::prelude::*;

fn limiter(change: impl FnOnce(&mut Settings)) -> (Limiter, Clock) {
    let mut settings = Settings::default();
    change(&mut settings);
    let clock = Clock::manual();
    (Limiter::with_clock(settings, clock.clone()), clock)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const S: Duration = Duration::from_secs(1);

#[test]
fn connections_at_once() {
    let (limiter, _) = limiter(|s| s.imap.connections_per_address = 3);
    let connect = |address: &str| limiter.connect(Protocol::Imap, ip(address));
    let mut held: Vec<Permit> = (0..3).map(|_| connect("192.0.2.1").unwrap()).collect();
    let refused = connect("192.0.2.1").err().unwrap();
    assert_eq!(refused.limit, Limit::Connections);
    assert!(refused.to_string().contains("too many connections at once"), "{refused}");
    // Another address, another protocol, the same address written as IPv6.
    held.push(connect("192.0.2.2").unwrap());
    held.push(limiter.connect(Protocol::Pop3, ip("192.0.2.1")).unwrap());
    assert!(connect("::ffff:192.0.2.1").is_err());
    // One /64 is one client.
    held.extend((1..=3).map(|n| connect(&format!("2001:db8::{n}")).unwrap()));
    assert!(connect("2001:db8::ffff").is_err());
    held.push(connect("2001:db8:0:1::1").unwrap());
    assert_eq!(limiter.connections(Protocol::Imap), 8);
    drop(held);
    assert_eq!(limiter.connections(Protocol::Imap), 0);
    assert!(limiter.0.open.lock().by_source.is_empty());
    connect("192.0.2.1").unwrap();
}

#[test]
fn the_total_holds_for_everybody() {
    let (limiter, _) = limiter(|s| s.smtp.connections_total = 2);
    let _one = limiter.connect(Protocol::Smtp, ip("127.0.0.1")).unwrap();
    let _two = limiter.connect(Protocol::Smtp, ip("192.0.2.1")).unwrap();
    let refused = limiter.connect(Protocol::Smtp, ip("127.0.0.1")).err().unwrap();
    assert_eq!(refused.limit, Limit::ConnectionsTotal);
}

#[test]
fn connections_a_minute() {
    let (limiter, clock) = limiter(|s| s.smtp.connections_per_minute = 60);
    let connect = || limiter.connect(Protocol::Smtp, ip("192.0.2.1")).map(drop);
    for _ in 0..60 {
        connect().unwrap();
    }
    let refused = connect().unwrap_err();
    assert_eq!(refused.limit, Limit::ConnectionRate);
    assert!(refused.retry_after <= S, "{refused:?}");
    clock.advance(S);
    connect().unwrap();
    connect().unwrap_err();
    // A refused connection is not an open one.
    assert_eq!(limiter.connections(Protocol::Smtp), 0);
    // The limit of one protocol is not that of another.
    for _ in 0..600 {
        drop(limiter.connect(Protocol::Imap, ip("192.0.2.1")).unwrap());
    }
}

#[test]
fn rates_by_address_and_account() {
    let (limiter, clock) = limiter(|s| {
        s.commands_per_minute = 600;
        s.recipients_per_hour = 100;
        s.messages_per_minute_account = 6;
        s.messages_per_minute_address = 12;
    });
    let here = ip("192.0.2.1");
    limiter.commands(here, 600).unwrap();
    assert_eq!(limiter.commands(here, 10).unwrap_err().retry_after, S);
    limiter.commands(ip("192.0.2.2"), 10).unwrap();
    clock.advance(S);
    limiter.commands(here, 10).unwrap();
    limiter.commands(here, 0).unwrap();

    limiter.recipients("Tim@School.example", here, 60).unwrap();
    let refused = limiter.recipients("tim@school.example", here, 60).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (Limit::Recipients, S * 12 * 60));
    limiter.recipients("tim@school.example", ip("198.51.100.1"), 40).unwrap();
    limiter.recipients("eve@school.example", here, 100).unwrap();
    // More than ever allowed at once.
    assert_eq!(limiter.recipients("bulk@school.example", here, 101).unwrap_err().retry_after, S * 3600);

    for _ in 0..6 {
        limiter.message(Some("tim"), here).unwrap();
    }
    assert_eq!(limiter.message(Some("tim"), here).unwrap_err().retry_after, S * 10);
    for _ in 0..12 {
        limiter.message(None, here).unwrap();
    }
    limiter.message(None, here).unwrap_err();
}

#[test]
fn exempt_networks_have_no_limits() {
    let (limiter, _) = limiter(|s| {
        s.messages_per_minute_address = 1;
        s.exempt = vec!["198.51.100.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    });
    for address in ["198.51.100.7", "2001:db8:7::1", "127.0.0.9", "::1", "::ffff:198.51.100.1"] {
        assert!(limiter.is_exempt(ip(address)), "{address}");
        limiter.message(None, ip(address)).unwrap();
        limiter.message(None, ip(address)).unwrap();
        for _ in 0..1000 {
            assert_eq!(limiter.guard(ip(address)).before("tim"), Ok(Duration::ZERO));
            limiter.guard(ip(address)).failed("tim");
        }
    }
    assert!(!limiter.is_exempt(ip("198.51.101.1")));
    let (limiter, _) = self::limiter(|s| s.exempt_loopback = false);
    assert!(!limiter.is_exempt(ip("127.0.0.1")));
}

#[test]
fn networks() {
    for (network, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("0.0.0.0/0", "203.0.113.1", "::1"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("fe80::/10", "fe90::1", "fec0::1"),
        ("::/0", "2001:db8::1", "192.0.2.1"),
    ] {
        let network: Network = network.parse().unwrap();
        assert!(network.contains(ip(inside)) && !network.contains(ip(outside)), "{network}");
        assert_eq!(network.to_string().parse(), Ok(network));
    }
    for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::/129", "10.0.0.0/-1"] {
        assert_eq!(wrong.parse::<Network>(), Err(NetworkError), "{wrong}");
    }
}

/// One wrong password; the delay or refusal it met.
fn guess(limiter: &Limiter, address: &str, user: &str) -> Result<Duration, Denied> {
    let guard = limiter.guard(ip(address));
    let delay = guard.before(user)?;
    guard.failed(user);
    Ok(delay)
}

fn sign_in(limiter: &Limiter, address: &str, user: &str) -> Duration {
    let guard = limiter.guard(ip(address));
    let delay = guard.before(user).unwrap();
    guard.passed(user);
    delay
}

#[test]
fn delays_grow_to_a_cap_and_decay() {
    let (limiter, clock) = limiter(|_| {});
    let delays: Vec<u64> = (0..12).map(|_| guess(&limiter, "192.0.2.1", "admin").unwrap().as_secs()).collect();
    assert_eq!(delays, [0, 0, 0, 0, 0, 1, 2, 4, 8, 15, 15, 15]);
    // Half an hour later three halvings are over: 1.5 of 12 failures are left.
    clock.advance(S * 1800);
    assert_eq!(guess(&limiter, "192.0.2.1", "admin"), Ok(Duration::ZERO));
}

#[test]
fn guessing_from_elsewhere_does_not_slow_the_owner() {
    let (limiter, clock) = limiter(|_| {});
    assert_eq!(sign_in(&limiter, "192.0.2.1", "admin"), Duration::ZERO);
    // A thousand machines guess all day.
    for n in 0..1000 {
        let _ = guess(&limiter, &format!("203.0.{}.{}", n / 250, n % 250), "admin");
        clock.advance(S);
    }
    assert_eq!(sign_in(&limiter, "192.0.2.1", "admin"), Duration::ZERO);
    // From a new address the owner waits, but is let in: no lock-out.
    assert_eq!(sign_in(&limiter, "198.51.100.1", "admin"), S * 15);
    assert_eq!(sign_in(&limiter, "198.51.100.1", "admin"), Duration::ZERO);
    // Who guesses behind the owner's own address is slowed.
    let delays: Vec<u64> = (0..8).map(|_| guess(&limiter, "192.0.2.1", "Admin").unwrap().as_secs()).collect();
    assert_eq!(delays, [0, 0, 0, 0, 0, 1, 2, 4]);
    // A month later the address is not known any more.
    clock.advance(S * 86_400 * 31);
    for n in 0..20 {
        let _ = guess(&limiter, &format!("203.0.113.{n}"), "admin");
    }
    assert_eq!(sign_in(&limiter, "192.0.2.1", "admin"), S * 15);
}

#[test]
fn parallel_guesses_do_not_share_one_free_try() {
    let (limiter, _) = limiter(|_| {});
    let guard = limiter.guard(ip("192.0.2.1"));
    let delays: Vec<u64> = (0..8).map(|_| guard.before("admin").unwrap().as_secs()).collect();
    assert_eq!(delays, [0, 0, 0, 0, 0, 1, 2, 4]);
    // A directory that cannot answer counts for nobody.
    for _ in 0..100 {
        assert_eq!(guard.before("tim"), Ok(Duration::ZERO));
        guard.undecided("tim");
    }
}

#[test]
fn an_address_that_guesses_through_many_accounts_is_refused_for_a_while() {
    let (limiter, clock) = limiter(|_| {});
    assert_eq!(sign_in(&limiter, "192.0.2.1", "teacher"), Duration::ZERO);
    let mut refused = None;
    for n in 0..10_000 {
        match guess(&limiter, "192.0.2.1", &format!("user{n}")) {
            Ok(delay) if n < 20 => assert_eq!(delay, Duration::ZERO, "{n}"),
            Ok(_) => {}
            Err(denied) => {
                refused = Some((n, denied));
                break;
            }
        }
    }
    let Some((100, Denied::TooMany { retry_after })) = refused else { panic!("{refused:?}") };
    // Behind the same address, the teacher works on.
    assert_eq!(sign_in(&limiter, "192.0.2.1", "teacher"), Duration::ZERO);
    clock.advance(retry_after + S);
    assert!(guess(&limiter, "192.0.2.1", "user0").is_ok());
    // However long it went on, a half-life later it is over.
    for n in 0..10_000 {
        let guard = limiter.guard(ip("192.0.2.1"));
        guard.failed(&format!("user{n}"));
    }
    clock.advance(S * 601);
    assert!(guess(&limiter, "192.0.2.1", "user0").is_ok());
}

#[test]
fn a_school_behind_one_address_works() {
    let (limiter, clock) = limiter(|_| {});
    let mut held = Vec::new();
    // A thousand people come to work within ten minutes, with four connections each; one in ten mistypes once.
    for person in 0..1000 {
        clock.advance(Duration::from_millis(600));
        let user = format!("person{person}");
        for _ in 0..4 {
            held.push(limiter.connect(Protocol::Imap, ip("192.0.2.1")).unwrap());
            limiter.commands(ip("192.0.2.1"), 20).unwrap();
        }
        if person % 50 == 0 {
            assert!(guess(&limiter, "192.0.2.1", &user).unwrap() <= S);
        }
        assert!(sign_in(&limiter, "192.0.2.1", &user) <= S, "{person}");
    }
}

#[test]
fn one_line_for_each_source_and_period() {
    let (limiter, clock) = limiter(|s| s.smtp.connections_per_address = 1);
    for n in 0..30 {
        let _ = guess(&limiter, "192.0.2.1", &format!("user{}", n % 3));
    }
    for _ in 0..4 {
        let _ = guess(&limiter, "192.0.2.2", "typist");
    }
    let _held = limiter.connect(Protocol::Smtp, ip("2001:db8::1")).unwrap();
    assert!(limiter.connect(Protocol::Smtp, ip("2001:db8::2")).is_err());
    assert!(limiter.sweep().is_empty(), "the period is not over");
    clock.advance(S * 600);
    let mut reports = limiter.sweep();
    reports.sort_by_key(|r| r.failed);
    assert_eq!(reports.len(), 2, "{reports:?}");
    let network = &reports[0];
    assert_eq!((network.source.unwrap().to_string().as_str(), network.connections_refused), ("2001:db8::/64", 1));
    let guesser = &reports[1];
    assert_eq!(guesser.source.unwrap().to_string(), "192.0.2.1");
    assert_eq!((guesser.failed, guesser.accounts, guesser.first_account.as_deref()), (30, 3, Some("user0")));
    clock.advance(S * 600);
    assert!(limiter.sweep().is_empty());
    // The next incident ends an old period by itself.
    for _ in 0..9 {
        let _ = guess(&limiter, "192.0.2.1", "x\r\nforged line");
    }
    clock.advance(S * 601);
    let _ = guess(&limiter, "192.0.2.9", "tim");
    let counted = limiter.0.reports.lock().sources();
    assert_eq!(counted, [Source::of(ip("192.0.2.9"))], "the guesser of the last period has been told");
}

#[test]
fn memory_is_bounded() {
    let (limiter, clock) = limiter(|s| s.remembered_max = 1000);
    for n in 0..20_000u32 {
        let address = IpAddr::from(n.to_be_bytes().map(|b| b | 1));
        let address = if n % 2 == 0 { address } else { ip(&format!("2001:db8:{:x}:{:x}::1", n >> 8, n & 255)) };
        let user = format!("user{n}");
        let guard = limiter.guard(address);
        let _ = guard.before(&user);
        if n % 3 == 0 {
            guard.passed(&user);
        } else {
            guard.failed(&user);
        }
        clock.advance(Duration::from_millis(1));
    }
    let sizes = limiter.0.sign_ins.lock().sizes();
    assert!(sizes.iter().all(|n| (1..=1000).contains(n)), "{sizes:?}");
}

proptest! {
    #[test]
    fn counts_of_connections_come_back_to_zero(steps in prop::collection::vec((0u8..4, any::<bool>()), 0..200)) {
        let (limiter, _) = limiter(|s| { s.imap.connections_per_address = 3; s.imap.connections_total = 7; });
        let mut held: Vec<(u8, Permit)> = Vec::new();
        for (who, connect) in steps {
            let mine = held.iter().filter(|(w, _)| *w == who).count();
            if connect {
                let result = limiter.connect(Protocol::Imap, ip(&format!("192.0.2.{who}")));
                prop_assert_eq!(result.is_ok(), mine < 3 && held.len() < 7);
                held.extend(result.ok().map(|p| (who, p)));
            } else if let Some(at) = held.iter().position(|(w, _)| *w == who) {
                held.remove(at);
            }
            prop_assert_eq!(limiter.connections(Protocol::Imap) as usize, held.len());
        }
        held.clear();
        prop_assert_eq!(limiter.connections(Protocol::Imap), 0);
    }

    #[test]
    fn no_guessing_locks_an_owner_out(guesses in prop::collection::vec((0u8..3, 0u64..400), 0..150)) {
        let (limiter, clock) = limiter(|_| {});
        for (from, wait) in guesses {
            let _ = guess(&limiter, &format!("203.0.113.{from}"), "admin");
            clock.advance(S * u32::try_from(wait).unwrap() / 10);
        }
        // From a fresh address, with the right password: at worst the longest delay.
        prop_assert!(sign_in(&limiter, "192.0.2.1", "admin") <= S * 15);
        prop_assert_eq!(sign_in(&limiter, "192.0.2.1", "admin"), Duration::ZERO);
    }
}

#[test]
fn new_limits_hold_at_once_and_keep_what_was_counted() {
    let (limiter, _) = limiter(|s| {
        s.messages_per_minute_address = 10;
        s.recipients_per_hour = 5;
    });
    let here = ip("192.0.2.1");
    for _ in 0..4 {
        limiter.message(None, here).unwrap();
        limiter.recipients("anna", here, 1).unwrap();
    }
    let held = limiter.connect(Protocol::Imap, here).unwrap();
    let mut settings = Settings { messages_per_minute_address: 2, recipients_per_hour: 5, ..Settings::default() };
    settings.imap.connections_per_address = 1;
    limiter.set_settings(settings.clone());
    assert_eq!(limiter.connect(Protocol::Imap, here).err().map(|r| r.limit), Some(Limit::Connections), "the open one counts");
    limiter.message(None, here).unwrap();
    limiter.message(None, here).unwrap();
    assert_eq!(limiter.message(None, here).map_err(|r| r.limit), Err(Limit::Messages), "the new quota holds");
    limiter.recipients("anna", here, 1).unwrap();
    assert_eq!(limiter.recipients("anna", here, 1).map_err(|r| r.limit), Err(Limit::Recipients), "four were counted before");
    settings.exempt = vec!["192.0.2.0/24".parse().unwrap()];
    limiter.set_settings(settings);
    limiter.message(None, here).unwrap();
    drop(held);
}

#[test]
fn a_source_has_four_lines_of_its_own_in_a_period_and_then_one() {
    let (limiter, clock) = limiter(|_| {});
    let note = |source: &str| limiter.report(Source::of(ip(source)), &Incident::SignInFailed { account: 1, user: "anna" });
    assert_eq!((0..7).map(|_| note("192.0.2.1")).collect::<Vec<_>>(), [true, true, true, true, false, false, false]);
    assert!(note("192.0.2.2"), "another source is told for itself");
    clock.advance(Duration::from_secs(Settings::default().report_period_s + 1));
    assert_eq!(limiter.sweep().iter().map(|r| r.failed).collect::<Vec<_>>(), [7]);
    assert!(note("192.0.2.1"), "a new period");
}
