//! A second and a third opinion: PDUs of ours read by two Python packages that know nothing of us (python-gsmmodem-new, smspdudecoder),
//! and PDUs of python-gsmmodem-new read by us. Contract: they agree on every field that they know. What they are known to do wrong is left
//! out: python-gsmmodem reads names and characters above U+FFFF wrongly, has a grave accent where the default alphabet has the section
//! sign, and loses the first septet behind a header that ends on a septet border; smspdudecoder counts characters where septets are meant,
//! so that an escape, or a header that looks like one, makes its text too long.
//! Failure class: the packages are not installed (said with the command that helps).

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use twinpost_gsm::{
    Address, Class, Coding, Deliver, Direction, ESCAPE, Framed, Options, Pdu, Reader, Reference, Status, StatusReport, Submit,
    TimeStamp, Validity, segment, septet,
};

const SEED: u64 = 0x5EED_0338;
const MESSAGES: usize = 400;

/// A small generator (splitmix64): the same messages every time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % most
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn number(&mut self) -> String {
        let digits = 3 + self.below(13);
        let plus = if self.coin() { "+" } else { "" };
        (0..digits).fold(plus.to_owned(), |number, _| number + &self.below(10).to_string())
    }

    /// In the default alphabet, or with Chinese in it; above U+FFFF only when asked for.
    fn text(&mut self, astral: bool) -> String {
        const PLAIN: &str = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 @£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ!\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
        const SHIFTED: &str = "^{}\\[~]|€";
        const OTHER: &str = "中文短信世界您好測試ЖяהⅣあ";
        let kind = self.below(4);
        let most = if self.coin() { 60 } else { 500 };
        let length = 1 + self.below(most);
        let pick = |random: &mut Self, from: &str| {
            let count = from.chars().count() as u64;
            from.chars().nth(random.below(count) as usize).expect("below the count")
        };
        (0..length)
            .map(|_| match (kind, self.below(8)) {
                (1, 0) => pick(self, SHIFTED),
                (2, _) => pick(self, OTHER),
                (3, 0) if astral => '😁',
                (3, 1) => pick(self, OTHER),
                _ => pick(self, PLAIN),
            })
            .collect()
    }
}

/// The answers of the Python script, one for each order.
fn ask(orders: &[Value]) -> Vec<Value> {
    // The target folder: `need` installs beside `tmp`.
    let target =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().map(|target| target.join("python")).expect("tmp has a parent");
    assert!(target.join("gsmmodem").is_dir(), "the Python packages are not in {}: run `hw-tests/need test`", target.display());
    let mut child = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/opinion.py"))
        .env("PYTHONPATH", &target)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is there: `hw-tests/need test` installs it");
    let lines: String = orders.iter().map(|order| format!("{order}\n")).collect();
    let mut stdin = child.stdin.take().expect("asked for");
    let feeder = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    let sent = feeder.join().expect("no panic in the feeder");
    assert!(output.status.success(), "seed {SEED:#x}: {}", String::from_utf8_lossy(&output.stderr));
    sent.expect("it reads all");
    let answers: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), orders.len());
    answers
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

/// Every field of `wanted` that an opinion mentions must be the same; `must` are the fields that it has to mention.
fn agrees(who: &str, said: &Value, wanted: &Value, must: &[&str], pdu: &str) {
    for field in must {
        assert!(said.get(field).is_some(), "seed {SEED:#x}: {who} says nothing of {field} in {pdu}: {said}");
    }
    let fields = said.as_object().expect("an object");
    for (field, value) in fields {
        if let Some(ours) = wanted.get(field) {
            assert_eq!(value, ours, "seed {SEED:#x}: {who} reads another {field} in {pdu}");
        }
    }
}

#[test]
fn others_read_what_we_write() {
    let mut random = Random(SEED);
    let mut orders = Vec::new();
    let mut wanted = Vec::new();
    let mut push = |framed: &Framed, mut says: Value| {
        let length = framed.pdu.encode().len();
        says["length"] = json!(length);
        says["centre"] = json!(framed.centre.as_ref().map(ToString::to_string));
        orders.push(json!({ "read": hex(&framed.encode()) }));
        wanted.push(says);
    };
    for _ in 0..MESSAGES {
        let astral = random.coin();
        let text = random.text(astral);
        let reference = if random.coin() { Reference::Eight } else { Reference::Sixteen };
        let segments = segment(&text, &Options { reference, ..Options::default() }).expect("under 255 parts");
        let tied = random.below(0x1_0000) as u16;
        let number = random.number();
        let to = Address::parse(&number).expect("a number");
        let centre = random.coin().then(|| Address::parse("+8613800100500").expect("a number"));
        let time = TimeStamp::from_unix(1_000_000_000 + random.below(1_000_000_000) as i64, random.below(113) as i8 - 48);
        for part in segments.parts(tied) {
            let shown_reference = if reference == Reference::Eight { tied & 0xFF } else { tied };
            let mut says = json!({ "number": number, "text": part.text });
            if segments.total() > 1 {
                says["part"] = json!([shown_reference, part.total, part.number]);
            }
            let septets = septet::unpack(part.data.octets(), 0, part.data.length().into());
            says["escape"] =
                json!(segments.dcs(None).coding() == Coding::Septets && septets.into_iter().any(|septet| septet == ESCAPE));
            says["border"] = json!(segments.dcs(None).coding() == Coding::Septets && part.data.header_octets() == 7);
            says["astral"] = json!(part.text.chars().any(|c| u32::from(c) > 0xFFFF));
            let pdu = if random.coin() {
                says["kind"] = json!("SMS-DELIVER");
                says["time"] = json!(time.unix_s());
                Pdu::Deliver(Deliver {
                    more: random.coin(),
                    forwarded: false,
                    report: random.coin(),
                    reply_path: false,
                    from: to.clone(),
                    pid: 0,
                    dcs: segments.dcs(None),
                    time,
                    data: part.data,
                })
            } else {
                let validity = match random.below(3) {
                    0 => Validity::Unset,
                    1 => Validity::at_least_s(random.below(5_000_000) as u32),
                    _ => Validity::Absolute(time),
                };
                let mr = random.below(256) as u8;
                let (report, reject_duplicates) = (random.coin(), random.coin());
                says["kind"] = json!("SMS-SUBMIT");
                says["reference"] = json!(mr);
                says["validity"] = json!(validity.seconds());
                says["until"] = json!(time.unix_s());
                says["report"] = json!(report);
                says["reject_duplicates"] = json!(reject_duplicates);
                let class = random.coin().then_some(Class::Flash);
                let submit = Submit::new(to.clone(), segments.dcs(class), part.data);
                Pdu::Submit(Submit { validity, report, reject_duplicates, reference: mr, ..submit })
            };
            push(&Framed { centre: centre.clone(), pdu }, says);
        }
        if random.coin() {
            let (mr, status) = (random.below(256) as u8, random.below(256) as u8);
            let discharge = TimeStamp::from_unix(1_700_000_000 + random.below(1_000_000) as i64, 32);
            let report = StatusReport {
                more: false,
                forwarded: false,
                about_command: false,
                reference: mr,
                to: to.clone(),
                time,
                discharge,
                status: Status(status),
                pid: None,
                dcs: None,
                data: None,
            };
            let says = json!({
                "kind": "SMS-STATUS-REPORT", "number": number, "reference": mr, "status": status,
                "time": time.unix_s(), "discharge": discharge.unix_s(),
            });
            push(&Framed { centre: centre.clone(), pdu: Pdu::StatusReport(report) }, says);
        }
    }
    let answers = ask(&orders);
    for ((order, wanted), mut answer) in orders.iter().zip(&wanted).zip(answers) {
        if let Some(text) = answer[0]["text"].as_str() {
            answer[0]["text"] = json!(text.replace('`', "§"));
        }
        let pdu = order["read"].as_str().expect("hex");
        let report = wanted["kind"] == "SMS-STATUS-REPORT";
        let mut for_gsmmodem = wanted.clone();
        if wanted["astral"] == json!(true) || wanted["border"] == json!(true) {
            for_gsmmodem["text"] = answer[0]["text"].clone();
        }
        let must: &[&str] =
            if report { &["number", "status", "time", "discharge", "length"] } else { &["number", "text", "kind", "length"] };
        agrees("python-gsmmodem", &answer[0], &for_gsmmodem, must, pdu);
        let must: &[&str] = if report { &[] } else { &["number", "text", "kind"] };
        let mut for_smspdudecoder = wanted.clone();
        if wanted["escape"] == json!(true) {
            for_smspdudecoder["text"] = answer[1]["text"].clone();
        }
        agrees("smspdudecoder", &answer[1], &for_smspdudecoder, must, pdu);
        if wanted.get("part").is_some() {
            assert!(answer[0].get("part").is_some() && answer[1].get("part").is_some(), "{pdu}");
        }
    }
    assert!(orders.len() > MESSAGES);
}

#[test]
fn we_read_what_others_write() {
    let mut random = Random(SEED ^ 1);
    let mut orders = Vec::new();
    for _ in 0..MESSAGES {
        let validity = match random.below(4) {
            0 => Value::Null,
            1 => json!(300 * (1 + random.below(144))),
            2 => json!(86_400 * (2 + random.below(29))),
            _ => json!(604_800 * (5 + random.below(59))),
        };
        orders.push(json!({
            "write": random.text(false), "to": random.number(), "reference": random.below(256), "validity": validity,
            "centre": if random.coin() { Value::Null } else { json!("+8613800100500") },
            "report": random.coin(), "reject_duplicates": random.coin(), "flash": random.coin(),
        }));
    }
    let answers = ask(&orders);
    for (order, pdus) in orders.iter().zip(&answers) {
        let mut reader = Reader::new();
        let mut text = String::new();
        let pdus = pdus.as_array().expect("a list");
        for (at, pdu) in pdus.iter().enumerate() {
            let pdu = pdu.as_str().expect("hex");
            let octets: Vec<u8> =
                (0..pdu.len() / 2).map(|at| u8::from_str_radix(&pdu[at * 2..at * 2 + 2], 16).expect("hex")).collect();
            let framed = Framed::decode(&octets, Direction::FromMobile).unwrap_or_else(|error| panic!("{pdu}: {error}"));
            assert_eq!(hex(&framed.encode()), pdu.to_uppercase(), "seed {SEED:#x}: the same octets again");
            assert_eq!(json!(framed.centre.map(|centre| centre.to_string())), order["centre"]);
            let Pdu::Submit(submit) = framed.pdu else { panic!("{pdu} is a SUBMIT") };
            assert_eq!(json!(submit.to.to_string()), order["to"]);
            assert_eq!(json!(submit.reference), order["reference"]);
            assert_eq!(json!(submit.report), order["report"]);
            assert_eq!(json!(submit.reject_duplicates), order["reject_duplicates"]);
            assert_eq!(json!(submit.validity.seconds()), order["validity"]);
            assert_eq!(json!(submit.dcs.class() == Some(Class::Flash)), order["flash"]);
            let part = submit.data.info().concatenation.map(|c| (usize::from(c.number), usize::from(c.total)));
            assert_eq!(part, (pdus.len() > 1).then_some((at + 1, pdus.len())));
            text.extend(reader.part(submit.dcs, &submit.data));
        }
        text.extend(reader.end());
        assert_eq!(json!(text), order["write"], "seed {SEED:#x}");
    }
}
