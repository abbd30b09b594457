use super::*;
use serde_json::json;

/// Everything in here that begins with `s3cr` or is in [`ALSO`] must not leave the machine.
const DOCUMENT: &str = r#"
# the PIN of the SIM card is s3cretInAComment? no: comments stay, they are the administrator's words
version = 1
hostname = "mail.school.example"
[tls]
key = "/state/node/tls.key"
[passwords]
min_password = 12
[queue.smart_host]
user = "relay"
password_file = "/state/node/relay.password"
password = "s3cret-one with blanks"
[sms.rules]
pin = "4711"
pins = { "boss@school.example" = "9922", "school.example" = "9933" }
outside_without_pin = false
[[pair.power]]
url = "redfish:https://root:s3cr3tBmc@10.0.0.9/redfish"
token = "s3crtoken"
[alarms]
to = ["+8613912345678", "13800138000"]
"#;

#[test]
fn documents() {
    let clean = document(DOCUMENT);
    for gone in ["s3cret-one", "4711", "9922", "9933", "s3cr3tBmc", "s3crtoken", "+8613912345678", "13800138000"] {
        assert!(!clean.contains(gone), "{gone} in\n{clean}");
    }
    for kept in [
        "mail.school.example",
        "/state/node/tls.key",
        "min_password = 12",
        "/state/node/relay.password",
        "outside_without_pin = false",
        "boss@school.example",
        "138******00",
        "10.0.0.9/redfish",
    ] {
        assert!(clean.contains(kept), "{kept} in\n{clean}");
    }
    assert!(clean.parse::<DocumentMut>().is_ok(), "{clean}");
    // A document with a fault is text.
    let clean = document("password = \"s3cret\"\n= broken\ntoken: s3crtoken\n");
    assert!(!clean.contains("s3cr") && clean.contains("= broken"), "{clean}");
}

#[test]
fn lines_of_logs() {
    for (line, clean) in [
        ("plain words 10.9.0.1:25 at 2026-11-22T10:00:00Z", "plain words 10.9.0.1:25 at 2026-11-22T10:00:00Z"),
        ("login user=ann password=hunter2 ok", "login user=ann password=[removed] ok"),
        (r#"{"user":"ann","password":"hunter \"2\" x","n":1}"#, r#"{"user":"ann","password":"[removed]","n":1}"#),
        ("Authorization: Basic YW5uOmh1bnRlcjI=", "Authorization: [removed]"),
        ("C: AUTH PLAIN AGFubgBodW50ZXIy", "C: AUTH PLAIN [removed]"),
        ("the auth failed for ann", "the auth failed for ann"),
        ("GET https://ann:hunter2@host/x?a=1", "GET https://ann:[removed]@host/x?a=1"),
        ("ann:$6$salt$J5xXyyzz0123 end", "ann:[removed] end"),
        ("hash=$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", "hash=[removed]"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "jwt [removed]"),
        ("to 13800138000@mail2sms.example", "to 138******00@mail2sms.example"),
        ("to 13800138000.4711@mail2sms.example", "to 138******00.[removed]@mail2sms.example"),
        ("to +8613800138000, +441632960961", "to +861********00, +441*******61"),
        ("0086 13900139000", "0086 139******00"),
        ("sequence 1790000000 at 1790000000123 us 1790000000123456", "sequence 1790000000 at 1790000000123 us 1790000000123456"),
        (
            "root 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "root 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
        ("frame key aGVsbG8gd29ybGQgdGhpcyBpcyBhIGtleSBvZiAzMiBi", "frame key [removed]"),
        ("key=/state/tls.key", "key=/state/tls.key"),
        ("token=", "token="),
        ("pins={\"boss\": \"s3cr\", \"x\": [1, 2]} next", "pins=[removed] next"),
        ("tokens: [a, b", "tokens: [removed]"),
        ("password=[removed] kept", "password=[removed] kept"),
        ("x-1.13800138000 y13800138000 138001380001", "x-1.13800138000 y13800138000 138001380001"),
    ] {
        assert_eq!(text(line), clean);
    }
    let pem = "a\n-----BEGIN PRIVATE KEY-----\ns3cr\ns3cr\n-----END PRIVATE KEY-----\nb -----BEGIN EC PRIVATE KEY-----s3cr-----END EC PRIVATE KEY-----\nc\n-----BEGIN CERTIFICATE-----\nkept\n";
    let clean = text(pem);
    assert!(!clean.contains("s3cr") && clean.contains("b [removed]\nc\n") && clean.contains("kept"), "{clean}");
}

#[test]
fn json_values() {
    let mut value = json!({
        "node": "a",
        "secret": {"deep": ["s3cr", 12]},
        "keys": {"current": "s3cr"},
        "pin": 4711,
        "tls": {"key": "/state/key.pem"},
        "said": ["call 13800138000", "password=s3cr"],
        "uptime": 13800138000u64,
    });
    json(&mut value);
    let told = value.to_string();
    assert!(!told.contains("s3cr") && !told.contains("4711") && told.contains("/state/key.pem"), "{told}");
    assert_eq!(value["node"], "a");
    assert_eq!(value["uptime"], 13_800_138_000_u64, "a number is no telephone number");
}

#[test]
fn journals() {
    let mut source = b"__CURSOR=s=1\n_PID=13800138000\nMESSAGE=password=s3cr to 13800138000\n\n".to_vec();
    source.extend(b"_PID=2\nMESSAGE\n");
    let text = "two\nlines token=s3cr".as_bytes();
    source.extend((text.len() as u64).to_le_bytes());
    source.extend(text);
    source.extend(b"\nPASSWORD=s3cr\n\nMESSAGE=cut s3cr off");
    let clean = journal(&source);
    let told = String::from_utf8_lossy(&clean);
    assert!(!told.contains("s3cr") && told.contains("_PID=13800138000\n") && told.contains("138******00"), "{told}");
    assert!(!told.contains("cut"), "{told}");
    // What comes out is an export again, and clean text stays as it is.
    assert_eq!(journal(&clean), clean);
    let length = "two\nlines token=[removed]".len() as u64;
    assert!(clean.windows(8).any(|w| w == length.to_le_bytes()));
}

proptest::proptest! {
    #[test]
    fn any_bytes(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        fuzz(&data);
    }

    #[test]
    fn nearly_secrets(line in "(password|pin|key|://|AUTH PLAIN |[0-9+.@]{1,14}|[=:\"' \\\\$,-]|-----BEGIN PRIVATE|\\PC){0,12}") {
        fuzz(line.as_bytes());
    }

    /// A password behind each way of writing one never stays.
    #[test]
    fn a_password_never_stays(secret in "[A-Za-z0-9]{6,20}Z9", way in 0..7usize, noise in "[a-z ]{0,10}") {
        let line = match way {
            0 => format!("{noise} password={secret} {noise}"),
            1 => format!("{noise} \"token\": \"{secret}\", {noise}"),
            2 => format!("{noise} https://user:{secret}@host/ {noise}"),
            3 => format!("{noise} api-key: {secret}"),
            4 => format!("{noise} AUTH LOGIN {secret} {noise}"),
            5 => format!("{noise} client_secret='{secret}' {noise}"),
            _ => format!("-----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY-----\n{noise}"),
        };
        let clean = text(&line);
        proptest::prop_assert!(!clean.contains(&secret), "{}", clean);
    }
}
