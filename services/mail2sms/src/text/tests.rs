//! Mails as the mailers of the field write them.

use super::*;

/// A message of header lines and a body, both with CRLF.
fn mail(text: &str) -> Vec<u8> {
    text.trim_start().replace('\n', "\r\n").into_bytes()
}

fn said(mail: &[u8]) -> String {
    of_mail(mail, &Parsed::parse(mail), &Text::default())
}

/// The header and a body in some other charset.
fn with_bytes(header: &str, body: &[u8]) -> Vec<u8> {
    let mut whole = mail(header);
    whole.extend_from_slice(b"\r\n");
    whole.extend_from_slice(body);
    whole
}

fn gbk(text: &str) -> Vec<u8> {
    encoding_rs::GBK.encode(text).0.into_owned()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32| char::from(DIGITS[(n & 63) as usize]);
    let group = |g: &[u8]| {
        let n = g.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - g.len()));
        let all: String = [n >> 18, n >> 12, n >> 6, n].map(digit).iter().take(g.len() + 1).collect();
        format!("{all:=<4}")
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn outlook_html_in_gbk_with_the_mail_that_it_answers() {
    let html = "<html xmlns:o=\"urn:schemas-microsoft-com:office:office\"><head><meta charset=\"gb2312\"><style><!-- p.MsoNormal {margin:0cm} --></style></head>\r\n\
        <body lang=ZH-CN><div class=WordSection1><p class=MsoNormal>各位家长：<o:p></o:p></p><p class=MsoNormal>明天上午<b>8:30</b>开家长会，&nbsp;请准时参加。</p>\
        <p class=MsoNormal><o:p>&nbsp;</o:p></p><div style='border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm'>\
        <p class=MsoNormal><b>发件人<span lang=EN-US>:</span></b> 李四 &lt;li@school.example&gt; <br><b>发送时间<span lang=EN-US>:</span></b> 2026年11月16日 15:00<br>\
        <b>收件人<span lang=EN-US>:</span></b> 张三<br><b>主题<span lang=EN-US>:</span></b> 通知</p></div><p class=MsoNormal>旧内容</p></div></body></html>";
    let header = "From: z@school.example\nSubject: =?gb2312?B?u9i4tDrNqNaq?=\nMIME-Version: 1.0\nContent-Type: text/html; charset=\"gb2312\"\nContent-Transfer-Encoding: 8bit\n";
    assert_eq!(said(&with_bytes(header, &gbk(html))), "各位家长：\n明天上午8:30开家长会， 请准时参加。");
}

#[test]
fn gmail_with_quote_in_both_parts() {
    let text = mail(
        "From: A <a@x.example>
Subject: Re: trip
Content-Type: multipart/alternative; boundary=\"000b\"

--000b
Content-Type: text/plain; charset=\"UTF-8\"

Bus leaves at 7, don't be late.

On Mon, Nov 16, 2026 at 3:00 PM Ben Teacher <ben@school.example>
wrote:

> When does the bus leave?
>
--000b
Content-Type: text/html; charset=\"UTF-8\"

<div dir=\"ltr\">Bus leaves at 7, don&#39;t be late.</div><br><div class=\"gmail_quote\"><div dir=\"ltr\" class=\"gmail_attr\">On Mon...</div><blockquote>When?</blockquote></div>
--000b--
",
    );
    assert_eq!(said(&text), "Bus leaves at 7, don't be late.");
    // The same without its plain part.
    let text = String::from_utf8(text).unwrap().replacen("text/plain", "text/x-none", 1);
    assert_eq!(said(text.as_bytes()), "Bus leaves at 7, don't be late.");
}

#[test]
fn qq_mail_html() {
    let html = "<div><meta http-equiv=\"Content-Type\" content=\"text/html; charset=GB18030\"><div>收到，谢谢！</div><div><br></div>\
        <div style=\"font-size: 12px;font-family: Arial Narrow;padding:2px 0 2px 0;\">------------------&nbsp;原始邮件&nbsp;------------------</div>\
        <div style=\"font-size: 12px;background:#efefef;padding:8px;\"><div><b>发件人:</b>&nbsp;\"张三\"&lt;z@qq.example&gt;;</div><div><b>发送时间:</b>&nbsp;2026年11月16日</div></div><div>旧</div></div>";
    let body = base64(&gbk(html));
    let text =
        mail(&format!("Subject: x\nContent-Type: text/html; charset=\"GB18030\"\nContent-Transfer-Encoding: base64\n\n{body}\n"));
    assert_eq!(said(&text), "收到，谢谢！");
}

#[test]
fn netease_163_html_and_plain() {
    let html = "<div style=\"line-height:1.7;font-size:14px\"><div>下午放学前交作业</div><p><br></p><div id=\"isReplyContent\">在 2026-11-16 15:00:00，\"张三\" &lt;z@163.example&gt; 写道：<br><blockquote id=\"isReplyContent\">什么时候？</blockquote></div></div>";
    let text = mail(&format!("Subject: x\nContent-Type: text/html; charset=UTF-8\n\n{html}\n"));
    assert_eq!(said(&text), "下午放学前交作业");
    let plain = "下午放学前交作业\n\n\n\n\n\n\n在 2026-11-16 15:00:00，\"张三\" <z@163.example> 写道：\n\n什么时候？\n";
    assert_eq!(said(&mail(&format!("Subject: x\nContent-Type: text/plain; charset=UTF-8\n\n{plain}"))), "下午放学前交作业");
    let boxed =
        "好的\n\n| |\n张三\n|\n|\n邮箱：z@163.example\n|\n\n签名由 网易邮箱大师 定制\n\n在2026年11月16日 15:00，李四 写道：\n旧";
    assert_eq!(said(&mail(&format!("Subject: x\nContent-Type: text/plain; charset=UTF-8\n\n{boxed}"))), "好的");
}

#[test]
fn iphone_with_signature_pictures_and_quote() {
    let text = mail(
        "Subject: x
Content-Type: multipart/mixed; boundary=Apple-Mail-1

--Apple-Mail-1
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

=E8=AF=B7=E7=9C=8B=E5=9B=BE

--Apple-Mail-1
Content-Type: image/jpeg; name=a.jpg
Content-Disposition: inline; filename=a.jpg
Content-Transfer-Encoding: base64

/9j/
--Apple-Mail-1
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

=E4=BB=A5=E4=B8=8A

=E5=8F=91=E8=87=AA=E6=88=91=E7=9A=84 iPhone

> =E5=9C=A8 2026=E5=B9=B411=E6=9C=8816=E6=97=A5=EF=BC=8C=E4=B8=8B=E5=8D=883:00=EF=BC=8C=E5=BC=A0=E4=B8=89 <z@x.example> =E5=86=99=E9=81=93=EF=BC=9A
> old
--Apple-Mail-1--
",
    );
    assert_eq!(said(&text), "请看图\n以上");
}

/// Plain texts of the field with what should be left of them.
#[test]
fn plain_answers_of_many_mailers() {
    for (from, body, own) in [
        (
            "Outlook for iOS",
            "好的，明天见\n\n获取 Outlook for iOS<https://aka.ms/o0ukef>\n________________________________\n发件人: 张三 <z@x.example>\n发送时间: Monday, November 16, 2026 3:00:00 PM\n收件人: 李四 <l@x.example>\n主题: 通知\n\n旧\n",
            "好的，明天见",
        ),
        (
            "QQ on a telephone",
            "收到\n\n\n\n发自我的iPhone\n\n\n------------------ Original ------------------\nFrom: 张三 <z@x.example>\nDate: Mon,Nov 16,2026 3:00 PM\nTo: l <l@x.example>\nSubject: Re: x\n\n旧\n",
            "收到",
        ),
        ("Thunderbird", "Yes, at eight.\n\nOn 16/11/2026 15:00, Anna wrote:\n> When?\n>> So?\n\n-- \nBen\n", "Yes, at eight."),
        ("Thunderbird, German", "Ja.\n\nAm 16.11.26 um 15:00 schrieb Anna:\n> Wann?\n", "Ja."),
        ("Yahoo", "Ok\n\n    On Monday, November 16, 2026 at 03:00:00 PM GMT+8, Anna <a@x.example> wrote:  \n \n When?\n", "Ok"),
        ("Gmail in Chinese", "可以\n\n张三 <z@x.example> 于2026年11月16日周一 15:00写道：\n\n> 行吗？\n>\n", "可以"),
        (
            "NetEase",
            "可以\n---- 回复的原邮件 ----\n| 发件人 | 张三<z@163.example> |\n| 日期 | 2026年11月16日 15:00 |\n旧\n",
            "可以",
        ),
        (
            "Foxmail",
            "可以\n\n\nz@x.example\n \n发件人： 张三\n发送时间： 2026-11-16 15:00\n收件人： 李四\n主题： 通知\n旧\n",
            "可以\nz@x.example",
        ),
        (
            "Feishu",
            "可以\n发件人： \"张三\"<z@x.example>\n时间： 2026年11月16日\n主题： 通知\n收件人： \"李四\"<l@x.example>\n旧\n",
            "可以",
        ),
        ("Huawei", "好\n来自 华为手机\n", "好"),
        ("Samsung", "ok\n\nSent from my Galaxy\n", "ok"),
        (
            "Outlook, English",
            "Fine.\n\nFrom: Anna <a@x.example>\nSent: Monday, 16 November 2026 15:00\nTo: Ben <b@x.example>\nCc: C\nSubject: RE: x\n\nold\n",
            "Fine.",
        ),
        (
            "Apple Mail below the quote",
            "> On 16 Nov 2026, at 15:00, Anna <a@x.example> wrote:\n> \n> When?\n\nAt eight.\n",
            "At eight.",
        ),
        (
            "somebody who quotes nothing",
            "From: the office\nwe are closed on Friday.\nTo: all\n",
            "From: the office\nwe are closed on Friday.\nTo: all",
        ),
    ] {
        let text = mail(&format!("Subject: x\nContent-Type: text/plain; charset=utf-8\n\n{body}"));
        assert_eq!(said(&text), own, "{from}");
    }
}

#[test]
fn a_text_file_is_no_text() {
    let text = mail(
        "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nsee file\n--b\nContent-Type: text/plain; name=list.txt\nContent-Disposition: inline; filename=list.txt\n\nmany lines\n--b--\n",
    );
    assert_eq!(said(&text), "see file");
}

#[test]
fn flowed_text_with_signature() {
    let text = mail(
        "Subject: x\nContent-Type: text/plain; charset=utf-8; format=flowed\n\nThis line was broken \nfor the way only.\nThis one not.\n\n-- \nAnna\nSchool\n",
    );
    assert_eq!(said(&text), "This line was broken for the way only.\nThis one not.");
    let text = mail("Subject: x\nContent-Type: text/plain; charset=utf-8; format=flowed; delsp=yes\n\n明天 \n开会\n");
    assert_eq!(said(&text), "明天开会");
}

#[test]
fn other_charsets_and_wrong_ones() {
    let big5 = encoding_rs::BIG5.encode("明天放假，請轉告同學。").0.into_owned();
    let header = "Subject: x\nContent-Type: text/plain; charset=Big5\nContent-Transfer-Encoding: 8bit\n";
    assert_eq!(said(&with_bytes(header, &big5)), "明天放假，請轉告同學。");
    // Base64 of UTF-8 that says it is ASCII, and of GBK that says it is UTF-8.
    for (charset, bytes) in [("us-ascii", "明天放假".as_bytes().to_vec()), ("utf-8", gbk("明天放假"))] {
        let body = base64(&bytes);
        let text = mail(&format!(
            "Subject: x\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: base64\n\n{body}\n"
        ));
        assert_eq!(said(&text), "明天放假", "{charset}");
    }
}

#[test]
fn a_message_that_is_passed_on_stays() {
    let text = mail(
        "Subject: Fwd: news\n\nplease read\n\n---------- Forwarded message ---------\nFrom: A <a@x.example>\nDate: Mon, Nov 16, 2026\nSubject: news\nTo: B <b@x.example>\n\nNo school on Friday.\n\nThe head\n",
    );
    assert_eq!(said(&text), "please read\nNo school on Friday.\nThe head");
    let outlook = mail(
        "Subject: 转发: 通知\nContent-Type: text/plain; charset=utf-8\n\n\n________________________________\n发件人: A\n发送时间: B\n收件人: C\n主题: 通知\n\n周五放假\n",
    );
    assert_eq!(said(&outlook), "周五放假");
}

#[test]
fn only_a_quote_or_a_picture_is_no_text() {
    let settings = Text { subject: SubjectLine::Never, ..Text::default() };
    for text in [
        "Subject: Re: x\n\nOn Mon, Nov 16, 2026 A <a@x.example> wrote:\n> old\n",
        "Subject: x\n\n-- \nAnna\n",
        "Subject: x\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA\n",
        "Subject: x\nContent-Type: text/html\n\n<img src=\"cid:1\">\n",
        "Subject: x\nContent-Type: text/html\n\n<div class=\"gmail_quote\">On Mon, Nov 16, 2026 A &lt;a@x.example&gt; wrote:<blockquote>old</blockquote></div>\n",
    ] {
        let text = mail(text);
        assert_eq!(of_mail(&text, &Parsed::parse(&text), &settings), "", "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn subject_and_last_line_as_set() {
    let text = mail("From: =?utf-8?B?5byg5LiJ?= <z@school.example>\nSubject: Re: Trip\n\nAt eight.\n");
    let parsed = Parsed::parse(&text);
    let with = |subject, footer: Option<&str>| {
        of_mail(&text, &parsed, &Text { subject, footer: footer.map(str::to_owned), ..Text::default() })
    };
    assert_eq!(with(SubjectLine::Always, None), "Trip\nAt eight.");
    assert_eq!(with(SubjectLine::IfNoText, Some("-- {name} {address}")), "At eight.\n-- 张三 z@school.example");
    let empty = mail("From: z@school.example\nSubject: Re: No school today\n\n\n");
    assert_eq!(said(&empty), "No school today");
    let footer = Text { footer: Some("{name}".to_owned()), subject: SubjectLine::Never, ..Text::default() };
    assert_eq!(of_mail(&empty, &Parsed::parse(&empty), &footer), "");
}

proptest::proptest! {
    #[test]
    fn any_bytes(data: Vec<u8>) { fuzz(&data); }
    #[test]
    fn any_mail(text in "(Subject: |Content-Type: (text/plain|text/html|multipart/mixed; boundary=b)|; format=flowed|Content-Transfer-Encoding: base64|--b(--)?|\r?\n|<div class=gmail_quote>|> |-- |On 2026 a@b wrote:|\\PC){0,60}") {
        fuzz(text.as_bytes());
    }
}
