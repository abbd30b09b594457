use crate::client::{Client, choose};
use crate::*;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::sync::Mutex;
use std::time::Duration;
use twinpost_message::AccountId;

fn exporter(byte: u8) -> Bindings {
    Bindings { exporter: Some(vec![byte; 32]), server_end_point: None }
}

fn scram(plus: bool, bindings: Bindings, nonce: &str) -> Exchange {
    Exchange(State::Scram(Box::new(scram::Server::with_text_nonce(plus, bindings, nonce))))
}

fn rfc_secret() -> ScramSecret {
    ScramSecret::from_password("pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096)
}

// The messages of RFC 7677 section 3.
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

#[test]
fn rfc_7677_section_3_on_both_sides() {
    let mut server = scram(false, Bindings::NONE, SERVER_NONCE);
    assert_eq!(server.step(CLIENT_FIRST.as_bytes()), Step::NeedSecret { user: "user".into() });
    assert_eq!(server.secret(rfc_secret()), Step::Challenge(SERVER_FIRST.into()));
    let proven = Step::Proven { user: "user".into(), authzid: None, server_final: SERVER_FINAL.into() };
    assert_eq!(server.step(CLIENT_FINAL.as_bytes()), proven);
    assert_eq!(server.step(b""), Step::Failed(Failure::Over));

    let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
    let new =
        || Client::with_nonce(Mechanism::ScramSha256, "user".into(), Password::new("pencil"), Bindings::NONE, nonce.clone());
    let mut client = new();
    assert_eq!(client.initial().unwrap(), CLIENT_FIRST.as_bytes());
    assert_eq!(client.step(SERVER_FIRST.as_bytes()).unwrap(), CLIENT_FINAL.as_bytes());
    assert_eq!(client.step(SERVER_FINAL.as_bytes()).unwrap(), b"");
    client.finish(None).unwrap();
    // A server that does not know the password, one that says nothing, one that asks for a year of work.
    let mut client = new();
    client.initial();
    client.step(SERVER_FIRST.as_bytes()).unwrap();
    let forged = format!("v={}", BASE64.encode([1; 32]));
    assert_eq!(client.finish(Some(forged.as_bytes())), Err(Failure::ServerProof));
    let mut client = new();
    client.initial();
    client.step(SERVER_FIRST.as_bytes()).unwrap();
    assert_eq!(client.finish(None), Err(Failure::ServerProof));
    let mut client = new();
    client.initial();
    assert!(client.step(SERVER_FIRST.replace("4096", "4000000000").as_bytes()).is_err());
    let mut client = new();
    client.initial();
    assert!(client.step(SERVER_FIRST.replace("rOprN", "rOprX").as_bytes()).is_err());
}

#[test]
fn rfc_4616_section_4() {
    let step = |message: &[u8]| Exchange::start(Mechanism::Plain, Bindings::NONE).step(message);
    let check = |authzid: Option<&str>, user: &str, password: &str| Step::CheckPassword {
        authzid: authzid.map(str::to_owned),
        user: user.into(),
        password: Password::new(password),
    };
    assert_eq!(step(b"\0tim\0tanstaaftanstaaf"), check(None, "tim", "tanstaaftanstaaf"));
    assert_eq!(step(b"Ursel\0Kurt\0xipj3plmq"), check(Some("Ursel"), "Kurt", "xipj3plmq"));
    // RFC 4013 3: SASLprep
    assert_eq!(step("\0I\u{ad}X\0\u{2168}".as_bytes()), check(None, "IX", "IX"));
    for wrong in [&b""[..], b"tim", b"\0tim", b"\0tim\0", b"\0\0pw", b"a\0b\0c\0d", b"\0tim\0\xff", &[b'a'; 9000]] {
        assert!(matches!(step(wrong), Step::Failed(Failure::Syntax { .. })), "{wrong:?}");
    }
}

#[test]
fn login_asks_twice() {
    let mut exchange = Exchange::start(Mechanism::Login, Bindings::NONE);
    assert_eq!(exchange.first(), Step::Challenge(b"Username:".to_vec()));
    assert_eq!(exchange.step(b"tim"), Step::Challenge(b"Password:".to_vec()));
    let check = Step::CheckPassword { authzid: None, user: "tim".into(), password: Password::new("pw") };
    assert_eq!(exchange.step(b"pw"), check);
    assert!(!format!("{check:?}").contains("pw"), "passwords do not show in logs");
}

/// Both sides against each other; the last step of the server.
fn play(mut client: Client, mut server: Exchange, secret: &ScramSecret) -> Step {
    let mut step = server.step(&client.initial().unwrap());
    loop {
        step = match step {
            Step::NeedSecret { .. } => server.secret(secret.clone()),
            Step::Challenge(challenge) => match client.step(&challenge) {
                Ok(answer) => server.step(&answer),
                Err(failure) => return Step::Failed(failure),
            },
            Step::Proven { user, authzid, server_final } => {
                client.finish(Some(&server_final)).unwrap();
                return Step::Proven { user, authzid, server_final: vec![] };
            }
            end => return end,
        };
    }
}

fn client(mechanism: Mechanism, user: &str, password: &str, bindings: Bindings) -> Client {
    Client::new(mechanism, user.into(), Password::new(password), bindings)
}

#[test]
fn channel_binding() {
    use Mechanism::{ScramSha256, ScramSha256Plus};
    let secret = ScramSecret::generate("geheim");
    let result = |m, ours, theirs| play(client(m, "a,b=c", "geheim", ours), Exchange::start(m, theirs), &secret);
    let proven = Step::Proven { user: "a,b=c".into(), authzid: None, server_final: vec![] };
    assert_eq!(result(ScramSha256Plus, exporter(1), exporter(1)), proven);
    let end_point = Bindings { exporter: None, server_end_point: Some(vec![9; 32]) };
    let both = Bindings { exporter: Some(vec![1; 32]), ..end_point.clone() };
    assert_eq!(result(ScramSha256Plus, end_point, both.clone()), proven);
    assert_eq!(result(ScramSha256, Bindings::NONE, both), proven);
    assert_eq!(result(ScramSha256, exporter(1), Bindings::NONE), proven);
    // Somebody in the middle: another TLS session on the other side.
    assert!(matches!(result(ScramSha256Plus, exporter(1), exporter(2)), Step::Failed(Failure::Binding(_))));
    // Somebody took -PLUS out of the list.
    assert!(matches!(result(ScramSha256, exporter(1), exporter(1)), Step::Failed(Failure::Binding(_))));
    let plus = |message: &str| Exchange::start(ScramSha256Plus, exporter(1)).step(message.as_bytes());
    assert!(matches!(plus("n,,n=user,r=x"), Step::Failed(Failure::Binding(_))));
    assert!(matches!(plus("y,,n=user,r=x"), Step::Failed(Failure::Binding(_))));
    assert!(matches!(plus("p=tls-unique,,n=user,r=x"), Step::Failed(Failure::Binding(_))));
    let bare = Exchange::start(ScramSha256, exporter(1)).step(b"p=tls-exporter,,n=user,r=x");
    assert!(matches!(bare, Step::Failed(Failure::Binding(_))));
}

#[test]
fn wrong_passwords_and_unknown_users_look_alike() {
    let secret = ScramSecret::generate("right");
    let wrong = client(Mechanism::ScramSha256, "user", "wrong", Bindings::NONE);
    assert_eq!(play(wrong, Exchange::start(Mechanism::ScramSha256, Bindings::NONE), &secret), Step::Failed(Failure::Proof));
    let fake = ScramSecret::fake("nobody", b"key of the installation");
    assert_eq!(fake, ScramSecret::fake("nobody", b"key of the installation"));
    assert_ne!(fake.salt, ScramSecret::fake("somebody", b"key of the installation").salt);
    assert_eq!((fake.salt.len(), fake.iterations), (secret.salt.len(), secret.iterations));
    let right = client(Mechanism::ScramSha256, "nobody", "right", Bindings::NONE);
    assert_eq!(play(right, Exchange::start(Mechanism::ScramSha256, Bindings::NONE), &fake), Step::Failed(Failure::Proof));
}

#[test]
fn malformed_scram() {
    let first = |message: &str| Exchange::start(Mechanism::ScramSha256, Bindings::NONE).step(message.as_bytes());
    assert_eq!(first("n,a=boss,n=us=2Cer=3D,r=abc"), Step::NeedSecret { user: "us,er=".into() });
    for wrong in [
        "",
        "n",
        "n,,",
        "n,,r=x",
        "n,,n=,r=x",
        "n,,n=a=b,r=x",
        "n,,n=a=2,r=x",
        "n,,n=user",
        "n,,n=user,r=",
        "x,,n=user,r=x",
        "n,b=x,n=user,r=x",
        "n,,m=ext,n=user,r=x",
        "n,,n=user,r=x\u{7f}",
        "n,,n=u\0,r=x",
    ] {
        assert!(matches!(first(wrong), Step::Failed(Failure::Syntax { .. })), "{wrong}");
    }
    assert_eq!(first("n,,n=\u{7},r=x"), Step::Failed(Failure::Prohibited));
    for (from, to) in
        [("c=biws", "c=!!"), ("c=biws", "c=eSws"), ("r=rOpr", "r=rOpR"), (",p=", ",q="), ("dHzb", "dH"), ("dHzb", "dHzc")]
    {
        let mut server = scram(false, Bindings::NONE, SERVER_NONCE);
        server.step(CLIENT_FIRST.as_bytes());
        server.secret(rfc_secret());
        assert!(matches!(server.step(CLIENT_FINAL.replace(from, to).as_bytes()), Step::Failed(_)), "{from} {to}");
    }
    // The first message again, or an answer before the secret.
    let mut server = scram(false, Bindings::NONE, SERVER_NONCE);
    server.step(CLIENT_FIRST.as_bytes());
    assert_eq!(server.step(CLIENT_FINAL.as_bytes()), Step::Failed(Failure::Over));
}

#[test]
fn what_is_offered_and_chosen() {
    let names = |private, b: &Bindings| Mechanism::offered(private, b).map(Mechanism::name).collect::<Vec<_>>().join(" ");
    assert_eq!(names(false, &Bindings::NONE), "SCRAM-SHA-256");
    assert_eq!(names(true, &exporter(1)), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN");
    let choose = |list: &str, private| choose(list.split(' '), private, &Bindings::NONE);
    assert_eq!(choose("LOGIN plain CRAM-MD5", true), Some(Mechanism::Plain));
    assert_eq!(choose("LOGIN PLAIN", false), None);
    assert_eq!(choose("LOGIN PLAIN SCRAM-SHA-256-PLUS SCRAM-SHA-256", true), Some(Mechanism::ScramSha256));
}

proptest::proptest! {
    #[test]
    fn any_bytes(data in proptest::collection::vec(proptest::num::u8::ANY, 0..200), head in 0usize..4) {
        let mut all = [&b""[..], b"n,,n=", b"p=tls-exporter,,n=user,r=abc\nc=", b"r=nonce1,s=AAAA,i="][head].to_vec();
        all.extend(data);
        fuzz(&all);
    }
    #[test]
    fn any_name_and_password(user in "[^\0]{1,40}", password in "[^\0]{1,40}") {
        let secret = ScramSecret::from_password(&password, b"salt", 2);
        let server = Exchange::start(Mechanism::ScramSha256, Bindings::NONE);
        let client = client(Mechanism::ScramSha256, &user, &password, Bindings::NONE);
        match play(client, server, &secret) {
            Step::Proven { user: proven, .. } => proptest::prop_assert_eq!(proven, prepare_stored(&user)),
            // Names that SASLprep refuses or leaves empty.
            Step::Failed(failure) => proptest::prop_assert!(prepare(&user).is_err(), "{}", failure),
            other => proptest::prop_assert!(false, "{:?}", other),
        }
    }
}

// ---- the driver

struct Directory;

impl Accounts for Directory {
    async fn check_password(
        &self,
        user: &str,
        password: &Password,
        service: &str,
        _: std::net::IpAddr,
    ) -> Result<Identity, Denied> {
        match (user, password.reveal()) {
            ("tim", "tanstaaf") if service == "pop3" => Ok(tim()),
            ("tim", "tanstaaf") => Err(Denied::Service),
            _ => Err(Denied::Credentials),
        }
    }
    async fn scram_secret(&self, user: &str) -> Result<ScramSecret, Denied> {
        Ok(if user == "tim" { ScramSecret::from_password("tanstaaf", b"salt", 2) } else { ScramSecret::fake(user, b"k") })
    }
    async fn scram_done(&self, _: &str, _: &str, _: std::net::IpAddr) -> Result<Identity, Denied> {
        Ok(tim())
    }
}

fn tim() -> Identity {
    Identity { account: AccountId(7), address: "tim@school.example".into() }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Guard for Log {
    fn before(&self, user: &str) -> Result<Duration, Denied> {
        self.0.lock().unwrap().push(format!("before {user}"));
        if user == "late" { Err(Denied::TooMany { retry_after: Duration::from_secs(9) }) } else { Ok(Duration::ZERO) }
    }
    fn failed(&self, user: &str) {
        self.0.lock().unwrap().push(format!("failed {user}"));
    }
    fn passed(&self, user: &str) {
        self.0.lock().unwrap().push(format!("passed {user}"));
    }
    fn undecided(&self, user: &str) {
        self.0.lock().unwrap().push(format!("undecided {user}"));
    }
}

/// Answers challenges through a closure, in base64.
struct Script<F>(F);

impl<F: FnMut(Vec<u8>) -> Vec<u8> + Send> Channel for Script<F> {
    type Error = ();
    async fn challenge(&mut self, base64: &str) -> Result<Vec<u8>, ()> {
        Ok((self.0)(BASE64.decode(base64).unwrap()))
    }
}

fn attempt<'a>(mechanism: &'a str, initial: Option<&'a [u8]>, private: bool) -> Attempt<'a> {
    let peer = "192.0.2.1".parse().unwrap();
    Attempt { mechanism, initial, private, bindings: Bindings::NONE, service: "pop3", peer }
}

async fn drive(attempt: Attempt<'_>, answer: impl FnMut(Vec<u8>) -> Vec<u8> + Send) -> (Outcome, String) {
    let log = Log::default();
    let outcome = authenticate(&Directory, &log, attempt, &mut Script(answer)).await.unwrap();
    let log = log.0.into_inner().unwrap().join(", ");
    (outcome, log)
}

#[tokio::test]
async fn the_driver() {
    let none = |_| panic!("no challenge was expected");
    let b64 = |text: &[u8]| BASE64.encode(text).into_bytes();
    let good = b64(b"\0tim\0tanstaaf");
    assert_eq!(
        drive(attempt("plain", Some(&good), true), none).await,
        (Outcome::Accepted(tim()), "before tim, passed tim".into())
    );
    assert_eq!(drive(attempt("PLAIN", Some(&good), false), none).await.0, Outcome::Privacy);
    assert_eq!(drive(attempt("CRAM-MD5", None, true), none).await.0, Outcome::Mechanism);
    assert_eq!(drive(attempt("SCRAM-SHA-256-PLUS", None, true), none).await.0, Outcome::Mechanism);
    assert_eq!(drive(attempt("PLAIN", Some(b"?"), true), none).await.0, Outcome::Encoding);
    assert_eq!(drive(attempt("PLAIN", None, true), |_| b"*".to_vec()).await.0, Outcome::Cancelled);
    assert_eq!(drive(attempt("PLAIN", None, true), |_| b64(b"\0tim\0tanstaaf")).await.0, Outcome::Accepted(tim()));
    assert!(matches!(drive(attempt("PLAIN", Some(b"="), true), none).await.0, Outcome::Broken(_)));
    let denied = |user: &str, reason| Outcome::Denied { user: Some(user.into()), reason };
    let (outcome, log) = drive(attempt("PLAIN", Some(&b64(b"\0tim\0x")), true), none).await;
    assert_eq!((outcome, log.as_str()), (denied("tim", Denied::Credentials), "before tim, failed tim"));
    let (outcome, _) = drive(attempt("PLAIN", Some(&b64(b"boss\0tim\0tanstaaf")), true), none).await;
    assert_eq!(outcome, denied("tim", Denied::ActAs));
    let (outcome, _) = drive(attempt("PLAIN", Some(&b64(b"Tim@school.example\0tim\0tanstaaf")), true), none).await;
    assert_eq!(outcome, Outcome::Accepted(tim()));
    let (outcome, log) = drive(Attempt { service: "imap", ..attempt("PLAIN", Some(&good), true) }, none).await;
    assert_eq!((outcome, log.as_str()), (denied("tim", Denied::Service), "before tim, undecided tim"));
    let (outcome, _) = drive(attempt("PLAIN", Some(&b64(b"\0late\0x")), true), none).await;
    assert_eq!(outcome, denied("late", Denied::TooMany { retry_after: Duration::from_secs(9) }));
    let mut answers = ["tanstaaf", "tim"].map(|a| b64(a.as_bytes())).to_vec();
    let (outcome, _) = drive(attempt("LOGIN", None, true), move |_| answers.pop().unwrap()).await;
    assert_eq!(outcome, Outcome::Accepted(tim()));
}

#[tokio::test]
async fn the_driver_with_scram() {
    for (user, password, good) in [("tim", "tanstaaf", true), ("tim", "x", false), ("nobody", "tanstaaf", false)] {
        let mut client = client(Mechanism::ScramSha256, user, password, Bindings::NONE);
        let initial = BASE64.encode(client.initial().unwrap()).into_bytes();
        let answer = |challenge: Vec<u8>| BASE64.encode(client.step(&challenge).unwrap()).into_bytes();
        let (outcome, log) = drive(attempt("SCRAM-SHA-256", Some(&initial), false), answer).await;
        if good {
            assert_eq!((outcome, log), (Outcome::Accepted(tim()), "before tim, passed tim".to_owned()));
            client.finish(None).unwrap();
        } else {
            let denied = Outcome::Denied { user: Some(user.into()), reason: Denied::Credentials };
            assert_eq!((outcome, log), (denied, format!("before {user}, failed {user}")));
        }
    }
}
