"""Sends mail in many charsets and broken forms, or searches for its words.

Arguments: send | search, address, ports of smtp and imaps, CA file, user, password."""
import base64
import imaplib
import smtplib
import ssl
import sys

what, address, smtp, imaps, ca, user, password = sys.argv[1:8]


def encoded(text, charset):
    return "=?%s?B?%s?=" % (charset, base64.b64encode(text.encode(charset)).decode())


def message(subject, content_type, encoding, body):
    head = "From: sender@elsewhere.example\r\nTo: %s\r\nSubject: " % user
    if isinstance(subject, str):
        subject = subject.encode("ascii")
    head = head.encode() + subject + b"\r\nMIME-Version: 1.0\r\n"
    if content_type:
        head += ("Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n" % (content_type, encoding)).encode()
    return head + b"\r\n" + body + b"\r\n"


def lines(raw):
    return base64.encodebytes(raw).replace(b"\n", b"\r\n").strip()


# name, message, a word of two characters in the subject, a word in the body
MAILS = [
    ("gbk", message(encoded("关于期末考试", "gbk"), "text/plain; charset=gbk", "8bit", "请家长们准时参加会议".encode("gbk")), "考试", "家长"),
    ("gb2312 label, gbk text", message("=?gb2312?B?%s?=" % base64.b64encode("朱镕基访问".encode("gbk")).decode(), "text/plain; charset=gb2312", "base64",
                                       lines("镕字不在其中".encode("gbk"))), "访问", "其中"),
    ("gb18030", message(encoded("食堂菜单", "gb18030"), "text/plain; charset=GB18030", "base64", lines("今天有红烧牛肉和㐀字".encode("gb18030"))), "菜单", "牛肉"),
    ("big5", message(encoded("臺北旅遊", "big5"), "text/plain; charset=big5", "quoted-printable",
                     "".join("=%02X" % b for b in "天氣很好適合爬山".encode("big5")).encode()), "旅遊", "爬山"),
    ("iso-2022-jp", message(encoded("東京会議", "iso-2022-jp"), "text/plain; charset=iso-2022-jp", "7bit", "明日の天気予報です".encode("iso-2022-jp")), "会議", "予報"),
    ("utf-8 over two encoded words", message(encoded("春季运", "utf-8") + "\r\n " + encoded("动会", "utf-8"), "text/plain; charset=utf-8", "base64",
                                             lines("操场集合".encode())), "运动", "集合"),
    ("html in gbk", message(encoded("通知书", "gbk"), "text/html; charset=gbk", "base64",
                            lines("<html><body><p>录取<b>名单</b>公布</p></body></html>".encode("gbk"))), "通知", "名单"),
    ("raw gbk in the header, no MIME", message("校车时间".encode("gbk"), None, None, "校车时间调整".encode("gbk")), None, None),
    ("raw utf-8 in the header", message("图书馆开放".encode(), "text/plain; charset=utf-8", "8bit", "借书证办理".encode()), "开放", "办理"),
    ("broken base64", message(encoded("残缺邮件", "utf-8"), "text/plain; charset=utf-8", "base64", lines("前半部分完整".encode()) + b"\r\n!!!broken==="), "残缺", "完整"),
    ("no end of the multipart", message(encoded("没有结尾", "utf-8"), 'multipart/mixed; boundary="b"', "7bit",
                                        b"--b\r\nContent-Type: text/plain; charset=gbk\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + "分页测试".encode("gbk")), "结尾", "分页"),
    ("unknown charset", message("plainword subject", "text/plain; charset=x-nobody-knows", "8bit", b"asciiword in it"), "plainword", "asciiword"),
]

if what == "send":
    server = smtplib.SMTP(address, int(smtp))
    for name, mail, _, _ in MAILS:
        # sendmail would mend line ends; these bytes go as they are.
        server.ehlo_or_helo_if_needed()
        assert server.mail("sender@elsewhere.example", ["BODY=8BITMIME"])[0] == 250, name
        assert server.rcpt(user)[0] == 250, name
        code, text = server.data(mail)
        assert code == 250, (name, code, text)
    server.quit()
    print("sent:", ", ".join(name for name, *_ in MAILS))
    sys.exit()

box = imaplib.IMAP4_SSL(address, int(imaps), ssl_context=ssl.create_default_context(cafile=ca))
box.login(user, password)
status, count = box.select("INBOX", readonly=True)
assert count == [str(len(MAILS)).encode()], count


def search(key, word):
    box.literal = word.encode()
    status, found = box.uid("SEARCH", "CHARSET", "UTF-8", key)
    assert status == "OK", (status, found)
    return found[0].decode().split()


wrong = []
for n, (name, _, subject, body) in enumerate(MAILS, 1):
    for key, word in (("SUBJECT", subject), ("BODY", body), ("TEXT", subject), ("TEXT", body)):
        if word and search(key, word) != [str(n)]:
            wrong.append("%s: %s %s gives %s instead of %d" % (name, key, word, search(key, word), n))
    if body and search("SUBJECT", body):
        wrong.append("%s: SUBJECT %s finds a word of the body" % (name, body))
    status, data = box.fetch(str(n), "(ENVELOPE BODYSTRUCTURE BODY.PEEK[1])")
    assert status == "OK", name
for word in ("没有这个", "词语"):
    assert search("TEXT", word) == [], word
assert not wrong, "\n".join(wrong)
print("found every word in subject, body and text of", len(MAILS), "messages")
box.logout()
