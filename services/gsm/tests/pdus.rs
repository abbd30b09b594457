//! Published PDUs: what other people's test suites say that they mean (facts; the source stands at each group). Contract: each is read to
//! what its source says, and, where its writer kept to the standard, written again to the same octets.

use std::fmt::Write as _;

use twinpost_gsm::{
    Address, Coding, Deliver, Direction, Framed, Joiner, Options, Part, Pdu, Pushed, Reader, Submit, Validity, segment,
};

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hex in the vector")).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut out, octet| {
        write!(out, "{octet:02X}").expect("a string takes all");
        out
    })
}

/// One line that says what a PDU means; what is not there, or zero, is not said.
fn meaning(framed: &Framed) -> String {
    let mut out = String::new();
    let mut say = |word: &str, value: String| {
        if !value.is_empty() {
            let gap = if out.is_empty() { "" } else { " " };
            write!(out, "{gap}{word}{value}").expect("a string takes all");
        }
    };
    say("centre=", framed.centre.as_ref().map(Address::to_string).unwrap_or_default());
    let number = |number: u8| if number == 0 { String::new() } else { number.to_string() };
    let flag = |set: bool, word: &str| if set { word.to_owned() } else { String::new() };
    match &framed.pdu {
        Pdu::Deliver(pdu) => {
            say("", "deliver".into());
            say("from=", pdu.from.to_string());
            say("", flag(pdu.more, "more"));
            say("", flag(pdu.report, "report"));
            say("", flag(pdu.reply_path, "reply-path"));
            say("pid=", number(pdu.pid));
            say("time=", pdu.time.to_string());
        }
        Pdu::Submit(pdu) => {
            say("", "submit".into());
            say("reference=", number(pdu.reference));
            say("to=", pdu.to.to_string());
            say("", flag(pdu.reject_duplicates, "reject-duplicates"));
            say("", flag(pdu.report, "report"));
            say("", flag(pdu.reply_path, "reply-path"));
            say("pid=", number(pdu.pid));
            say("valid=", pdu.validity.seconds().map(|s| s.to_string()).unwrap_or_default());
            if let Validity::Absolute(until) = pdu.validity {
                say("until=", until.to_string());
            }
        }
        Pdu::StatusReport(pdu) => {
            say("", "status-report".into());
            say("reference=", number(pdu.reference));
            say("to=", pdu.to.to_string());
            say("", flag(pdu.more, "more"));
            say("time=", pdu.time.to_string());
            say("discharge=", pdu.discharge.to_string());
            say("status=", pdu.status.0.to_string());
        }
        Pdu::SubmitReport(pdu) => {
            say("", "submit-report".into());
            say("cause=", pdu.cause.map(|cause| cause.to_string()).unwrap_or_default());
            say("time=", pdu.time.to_string());
        }
        Pdu::DeliverReport(pdu) => {
            say("", "deliver-report".into());
            say("cause=", pdu.cause.map(|cause| cause.to_string()).unwrap_or_default());
        }
        Pdu::Command(pdu) => {
            say("", "command".into());
            say("reference=", number(pdu.reference));
            say("command=", pdu.command.to_string());
            say("message=", pdu.message.to_string());
            say("to=", pdu.to.to_string());
        }
    }
    if let Some((data, dcs)) = framed.pdu.user_data() {
        say("dcs=", number(dcs.0));
        let info = data.info();
        say("part=", info.concatenation.map(|c| format!("{}/{}/{}", c.reference, c.number, c.total)).unwrap_or_default());
        say("ports=", info.ports.map(|ports| format!("{}<-{}", ports.destination, ports.source)).unwrap_or_default());
        match dcs.coding() {
            Coding::Octets => say("octets=", hex(data.payload())),
            _ => say("text=", data.text(dcs).to_string()),
        }
    }
    out
}

const IN: Direction = Direction::ToMobile;
const OUT: Direction = Direction::FromMobile;

/// Read and written again to the same octets.
#[test]
fn both_ways() {
    let vectors: &[(Direction, &str, &str)] = &[
        // oFono, unit/test-sms.c: simple_deliver, alnum_sender, unicode_deliver's neighbours, simple_submit, simple_mwi
        (
            IN,
            "07911326040000F0040B911346610089F60000208062917314480CC8F71D14969741F977FD07",
            "centre=+31624000000 deliver from=+31641600986 time=2002-08-26 19:37:41 -01:00 text=How are you?",
        ),
        (
            IN,
            "0791447758100650040DD0F334FC1CA6970100008080312170224008D4F29CDE0EA7D9",
            "centre=+447785016005 deliver from=sipgate time=2008-08-13 12:07:22 +01:00 text=Testmail",
        ),
        (OUT, "0011000B916407281553F80000AA0AE8329BFD4697D9EC37", "submit to=+46708251358 valid=345600 text=hellohello"),
        (
            IN,
            "07913366002020F8040B913366600600F100C83180706174148000",
            "centre=+33660002028 deliver from=+33660660001 time=2013-08-07 16:47:41 +02:00 dcs=200",
        ),
        (
            OUT,
            "079153485002020911000C915348870420140000A71154747A0E4ACF41F4F29C9E769F4121",
            "centre=+358405202090 submit to=+358478400241 valid=86400 text=This is testing !",
        ),
        // oFono, unit/test-sms.c: ems_udh_test_1 (formatting elements are skipped)
        (
            OUT,
            "0041000B915121551532F40000631A0A031906200A032104100A032705040A032E05080A043807002B8ACD29A85D9ECFC3E7F21C340EBB41E3B79B1\
             E4EBB41697A989D1EB340E2379BCC02B1C3F27399059AB7C36C3628EC2683C66FF65B5E2683E8653C1D",
            "submit to=+15125551234 text=EMS messages can contain italic, bold, large, small and colored text",
        ),
        // oFono, unit/test-sms.c: WAP push of an MMS, ports 2948 <- 9200
        (
            IN,
            "0791947122725014440185F039F501801140311480720605040B8423F00106246170706C69636174696F6E2F766E642E7761702E6D6D732D6D657373616\
             76500AF84B4868C82984F67514B4B42008D9089088045726F74696B00965069\
             6E2D557073008A808E0240008805810303F48083687474703A2F2F65707\
             3332E64652F4F2F5A39495A4F00",
            "centre=+491722270541 deliver from=0 pid=57 time=2010-08-11 04:13:41 +02:00 dcs=245 ports=2948<-9200 octets=\
             0106246170706C69636174696F6E2F766E642E7761702E6D6D732D6D65737361676500AF84B4868C82984F67514B4B42008D908908804572\
             6F74696B009650696E2D557073008A808E0240008805810303F48083687474703A2F2F657073332E64652F4F2F5A39495A4F00",
        ),
        // python-gsmmodem, test_pdu.py, test_encodeSmsSubmit
        (OUT, "0001000B917228001011F100000CC8329BFD065DDF72363904", "submit to=+27820001111 text=Hello World!"),
        (
            OUT,
            "07914400000000F01100099121436587F90008F40A4E16754C60A8597DFF01",
            "centre=+44000000000 submit to=+123456789 valid=31449600 dcs=8 text=世界您好！",
        ),
        (
            OUT,
            "04A12143F5310D0AA110624521430000A91BD4F29C0E6A97E7F3F0B9AC03B1DFE3301BE4AEB7C565F91C",
            "centre=12345 submit reference=13 to=0126541234 report valid=259200 text=Test message: local numbers",
        ),
        (
            OUT,
            "0019000B917228001011F100003170013193008017D474BB3CA787DB70903DCC4E93D3F43C885E9ED301",
            "submit to=+27820001111 until=2013-07-10 13:39:00 +02:00 text=Timestamp validity test",
        ),
        // python-gsmmodem, test_pdu.py, test_decode
        (
            IN,
            "06917228195339040B917228214365F700003130805120618005D4F29C2E03",
            "centre=+2782913593 deliver from=+27821234567 time=2013-03-08 15:02:16 +02:00 text=Test2",
        ),
        (
            IN,
            "07915892000000F0040B915892214365F700007040213252242331493A283D0795C3F33C88FE06C9CB6132885EC6D341EDF27C1E3E97E7207B3A0C0A\
             5241E377BB1D7693E72E",
            "centre=+85290000000 deliver from=+85291234567 time=2007-04-12 23:25:42 +08:00 \
             text=It is easy to read text messages via AT commands.",
        ),
        (
            IN,
            "06917228195339040B917228214365F70000313062315352800A800D8A5E98D337A910",
            "centre=+2782913593 deliver from=+27821234567 time=2013-03-26 13:35:25 +02:00 text=@{tést}!",
        ),
        (
            OUT,
            "07911326040000F0310D0B911326880736F40000A90FF7FBDD454E87CDE1B0DB357EB701",
            "centre=+31624000000 submit reference=13 to=+31628870634 report valid=259200 text=www.diafaan.com",
        ),
        (
            IN,
            "0591721891F1400781721881F800003160526104848059050003C30101916536FB1DCABEEB2074D85E064941B19CAB060319A5C522289C96D3D3ED\
             32286C0FA7D96131BBEC024941B19CAB0603DDD36C36A88C87A7E565D0DB0D82C55EB0DB4B068BCD5C20",
            "centre=+2781191 deliver from=2781188 more time=2013-06-25 16:40:48 +02:00 part=195/1/1 \
             text=Hello!You have R 19.50 FREE airtime available. R 19.50 will expire on 01/07/2013. ",
        ),
        (
            OUT,
            "07914346466554F601000B914316565811F9000806304253F68449",
            "centre=+34646456456 submit to=+34616585119 dcs=8 text=あ叶葉",
        ),
        (
            OUT,
            "0591721891F101000B917228214365F700040C48656C6C6F20776F726C6421",
            "centre=+2781191 submit to=+27821234567 dcs=4 octets=48656C6C6F20776F726C6421",
        ),
        // oFono, unit/test-sms.c, test_sr_assembly, with an empty service centre field before them
        (
            IN,
            "0006040D91945152991136F00160124130340A0160124130940A00",
            "status-report reference=4 to=+4915259911630 time=2010-06-21 14:03:43 -05:00 discharge=2010-06-21 14:03:49 -05:00 status=0",
        ),
        (
            IN,
            "0006050D91945152991136F00160124130640A0160124130450A00",
            "status-report reference=5 to=+4915259911630 time=2010-06-21 14:03:46 -05:00 discharge=2010-06-21 14:03:54 -05:00 status=0",
        ),
        (
            IN,
            "000606098121436587F9019012413064A0019012413045A000",
            "status-report reference=6 to=123456789 time=2010-09-21 14:03:46 +02:30 discharge=2010-09-21 14:03:54 +02:30 status=0",
        ),
    ];
    for (direction, pdu, wanted) in vectors {
        let octets = octets(pdu);
        let framed = Framed::decode(&octets, *direction).unwrap_or_else(|error| panic!("{pdu}: {error}"));
        assert_eq!(meaning(&framed), *wanted, "{pdu}");
        assert_eq!(hex(&framed.encode()), hex(&octets), "{wanted}");
    }
}

/// Written by careless senders: read, and written again as the standard wants it.
#[test]
fn one_way() {
    let vectors: &[(Direction, &str, &str)] = &[
        // python-gsmmodem, test_pdu.py, test_decode: an octet behind the report; a length that is too great; a broken number from a ZTE modem
        (
            IN,
            "0006D60B911326880736F4111011719551401110117195714000",
            "status-report reference=214 to=+31628870634 time=2011-01-11 17:59:15 +01:00 discharge=2011-01-11 17:59:17 +01:00 status=0",
        ),
        (
            OUT,
            "0041010C910661345542F60008A0050003000301306F3044",
            "submit reference=1 to=+601643552 46 dcs=8 part=0/1/3 text=はい",
        ),
        (
            IN,
            "0297F1061C0F910B487228297020F5317062419272803170624192138000",
            "centre=+1 status-report reference=28 to=+#08427829207025 time=2013-07-26 14:29:27 +02:00 discharge=2013-07-26 14:29:31 +02:00 status=0",
        ),
    ];
    for (direction, pdu, wanted) in vectors {
        let framed = Framed::decode(&octets(pdu), *direction).unwrap_or_else(|error| panic!("{pdu}: {error}"));
        assert_eq!(meaning(&framed), wanted.replace("3552 46", "355246"), "{pdu}");
        let again = Framed::decode(&framed.encode(), *direction).expect("what was written is read");
        assert_eq!(again, framed);
    }
}

fn submit_parts(text: &str, options: &Options, reference: u16, change: impl Fn(&mut Submit)) -> Vec<String> {
    let segments = segment(text, options).expect("short enough");
    let to = Address::parse("+15125551234").expect("a number");
    let pdus = segments.parts(reference).map(|Part { data, .. }| {
        let mut submit = Submit::new(to.clone(), segments.dcs(None), data);
        change(&mut submit);
        hex(&Framed { centre: None, pdu: Pdu::Submit(submit) }.encode())
    });
    pdus.collect()
}

/// python-gsmmodem, test_pdu.py, test_encodeSmsSubmit_concatenated: a long text in three parts, octet by octet.
#[test]
fn three_parts() {
    let text = "Lorem ipsum dolor sit amet, consectetur adipisicing elit, sed do eiusmod tempor incididunt ut labore et dolore magna \
                aliqua.Ut enim ad minim veniam, quinostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat.Duis \
                aute irure dolor in reprehenderit in voluptate velit esse cillum doloe eu fugiat nulla pariatur.Excepteur sint \
                occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum";
    let wanted = [
        "0045000B915121551532F40000A0050003000301986F79B90D4AC3E7F53688FC66BFE5A0799A0E0AB7CB741668FC76CFCB637A995E9783C2E4343C3D4F8FD3\
         EE33A8CC4ED359A079990C22BF41E5747DDE7E9341F4721BFE9683D2EE719A9C26D7DD74509D0E6287C56F791954A683C86FF65B5E06B5C36777181466\
         A7E3F5B0AB4A0795DDE936284C06B5D3EE741B642FBBD3E1360B14AFA7DD",
        "0045000B915121551532F40000A0050003000302DE73BABC4E0695F165F9384D0FD3D36F37A8CE6687DBE337881D16BFE5E939C89D9EA741753A28CC4EC7EB\
         6938A88C0795C3A0F1BBDD7E93DFA0F1DB3D2FC7EB61BA8B584FCF41E13ABD0C4ACBEBF23288FC66BFE5A0B41B242FC3E56574D94D2ECBD37450DA0DB2\
         BFD975383D4C2F83EC65769A0E2ACFE765D038CD66D7DB20F29BFD2E83CA",
        "0045000B915121551532F400008C050003000303EA2073FD9C0ED341EE3A9B1D06C1C3F274985E97BB8AF871194E2FD7E5A079DA4D07BDC7E370791CA683C6\
         75789A1CA687E920F7DB0D82CBDF6972D94D6781E675371D947683C675363C0C8AD7D3A0B7D99C1EA7C32072795E96D7DD7450FBCD66A7E9A0B03BDD06\
         A5C9A0F29C0E6287C56F79BD0D",
    ];
    assert_eq!(submit_parts(text, &Options::default(), 0, |submit| submit.reject_duplicates = true), wanted);
}

/// oFono, unit/test-sms.c, assembly_pdu1 to 3: a Russian text in three parts. Joined in every order, and cut again to the same user data.
#[test]
fn three_parts_in_any_order() {
    let pdus = [
        "038121F340048155550119906041001222048C0500031E0301041804420430043A002C00200410043B0435043A04410430043D04340440002000\
         200441043B044304480430043B00200437043000200434043204350440044C044E0020002004380020002004320441043500200431043E043B04\
         4C044804350020043F0440043504380441043F043E043B043D044F043B0441044F002000200433043D0435",
        "038121F340048155550119906041001222048C0500031E03020432043E043C002E000A041D0430043A043E043D04350446002C0020043D043500\
         200432002004410438043B04300445002004340430043B043504350020044204350440043F04350442044C002C0020043E043D00200441044204\
         400435043C043804420435043B044C043D043E002004320431043504360430043B002004320020043A043E",
        "038121F340048155550119906041001222044A0500031E0303043C043D043004420443002C0020043F043E043704300431044B0432000A043404\
         3004360435002C002004470442043E002000200431044B043B0020043D04300433002E",
    ];
    let text = "Итак, Александр  слушал за дверью  и  все больше преисполнялся  гневом.\nНаконец, не в силах далее т\
                ерпеть, он стремительно вбежал в комнату, позабыв\nдаже, что  был наг.";
    let parts = pdus.map(|pdu| match Framed::decode(&octets(pdu), IN) {
        Ok(Framed { pdu: Pdu::Deliver(deliver), .. }) => deliver,
        other => panic!("{other:?}"),
    });
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut joiner = Joiner::<Deliver, 2, 8>::new();
        let mut complete = None;
        for at in order {
            let part = &parts[at];
            let concatenation = part.data.info().concatenation.expect("a part");
            assert_eq!((concatenation.reference, concatenation.total, part.from.value()), (30, 3, "5555"));
            match joiner.push(&part.from, concatenation, 0, part.clone(), |lost| panic!("{lost:?}")) {
                Pushed::Complete(token) => complete = Some(token),
                Pushed::Waiting { .. } => assert!(complete.is_none()),
                Pushed::Duplicate(_) => panic!("no part came twice"),
            }
        }
        let mut reader = Reader::new();
        let mut read = String::new();
        for part in joiner.take(complete.expect("all three came")) {
            read.extend(reader.part(part.dcs, &part.data));
        }
        read.extend(reader.end());
        assert_eq!(read, text);
    }
    let segments = segment(text, &Options::default()).expect("three parts");
    let again: Vec<_> = segments.parts(30).map(|part| part.data).collect();
    assert_eq!(again, parts.map(|part| part.data));
}
