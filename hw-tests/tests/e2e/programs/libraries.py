"""A tour of smtplib, imaplib and poplib.

Arguments: address, CA file, user, password, ports of smtp, submission, submissions, imap, imaps, pop3, pop3s."""
import email.message
import email.policy
import imaplib
import poplib
import smtplib
import ssl
import sys
import time

address, ca, user, password = sys.argv[1:5]
smtp, submission, submissions, imap, imaps, pop3, pop3s = map(int, sys.argv[5:12])
tls = ssl.create_default_context(cafile=ca)


def letter(subject, body="A letter.\n"):
    mail = email.message.EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = user, user, subject
    mail.set_content(body)
    return mail


# smtplib ---------------------------------------------------------------------
with smtplib.SMTP(address, submission) as server:
    server.starttls(context=tls)
    server.login(user, password)
    assert server.send_message(letter("by 587")) == {}
    try:
        server.sendmail(user, ["nobody@school.example"], b"Subject: x\r\n\r\nx\r\n")
        raise AssertionError("an unknown recipient was taken")
    except smtplib.SMTPRecipientsRefused as refused:
        assert refused.recipients["nobody@school.example"][0] == 550, refused
    refused = server.sendmail(user, [user, "nobody@school.example"], letter("by two").as_bytes(policy=email.policy.SMTP))
    assert list(refused) == ["nobody@school.example"], refused
    assert server.verify(user)[0] in (250, 252) and server.noop()[0] == 250
with smtplib.SMTP_SSL(address, submissions, context=tls) as server:
    for mechanism in ("auth_plain", "auth_login"):
        server.ehlo()
        server.user, server.password = user, password
        code, _ = server.auth(mechanism[5:].upper(), getattr(server, mechanism))
        assert code == 235
        assert server.send_message(letter("by 465 with " + mechanism)) == {}
        server.quit()
        server.connect(address, submissions)
    try:
        server.login(user, "wrong")
        raise AssertionError("a wrong password was taken")
    except smtplib.SMTPAuthenticationError as refused:
        assert refused.smtp_code == 535, refused
print("smtplib: done")

# imaplib ---------------------------------------------------------------------
box = imaplib.IMAP4_SSL(address, imaps, ssl_context=tls)
try:
    box.login(user, "wrong")
    raise AssertionError("a wrong password was taken")
except imaplib.IMAP4.error as refused:
    assert "AUTHENTICATIONFAILED" in str(refused), refused


def ok(answer):
    status, data = answer
    assert status == "OK", answer
    return data


box.authenticate("PLAIN", lambda _: ("\0%s\0%s" % (user, password)).encode())
assert "IMAP4REV1" in box.capabilities and "IDLE" in [c.upper() for c in ok(box.capability())[0].decode().split()]
ok(box.noop())
assert ok(box.select())[0] == b"4"
ok(box.check())
ok(box.create("Tour"))
ok(box.create("Tour/Below"))
ok(box.subscribe("Tour"))
assert any(b"Tour" in line for line in ok(box.lsub()))
ok(box.unsubscribe("Tour"))
assert any(b"Tour/Below" in line for line in ok(box.list()))
stamp = time.time() - 86400 * 3
ok(box.append("Tour", r"(\Seen $Important)", imaplib.Time2Internaldate(stamp), letter("appended", "needle\n").as_bytes().replace(b"\n", b"\r\n")))
assert ok(box.status("Tour", "(MESSAGES UNSEEN UIDNEXT UIDVALIDITY)"))[0].replace(b'"', b"").startswith(b"Tour (MESSAGES 1 UNSEEN 0")
ok(box.select("Tour"))
answer = ok(box.fetch("1", "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"))[0]
assert rb"\Seen" in answer and b"$Important" in answer, answer
assert abs(time.mktime(imaplib.Internaldate2tuple(answer)) - stamp) < 2, answer
assert ok(box.search(None, "BODY", "needle"))[0] == b"1"
assert ok(box.search(None, "FROM", "nobody-there"))[0] == b""
assert ok(box.sort("(SUBJECT)", "UTF-8", "ALL"))[0] == b"1"
assert ok(box.thread("REFERENCES", "UTF-8", "ALL"))[0] == b"(1)"
ok(box.store("1", "+FLAGS", r"(\Flagged)"))
assert rb"\Flagged" in ok(box.fetch("1", "(FLAGS)"))[0]
ok(box.copy("1", "Tour/Below"))
ok(box.uid("MOVE", "1", "Tour/Below"))
assert ok(box.select("Tour/Below"))[0] == b"2"
ok(box.store("1:2", "+FLAGS", r"(\Deleted)"))
assert len(ok(box.expunge())) == 2
assert ok(box.select("Tour/Below"))[0] == b"0"
ok(box.close())
ok(box.rename("Tour", "Journey"))
ok(box.select("Journey/Below"))
ok(box.unselect())
ok(box.delete("Journey/Below"))
ok(box.delete("Journey"))
assert box.select("Journey")[0] == "NO"
ok(box.enable("CONDSTORE"))
ok(box.getquotaroot("INBOX"))
ok(box.namespace())
assert box.logout()[0] == "BYE"
plain = imaplib.IMAP4(address, imap)
plain.starttls(tls)
plain.login(user, password)
assert ok(plain.select("INBOX", readonly=True))[0] == b"4"
assert plain.store("1", "+FLAGS", r"(\Seen)")[0] == "NO", "a read-only mailbox was changed"
plain.logout()
print("imaplib: done")

# poplib ----------------------------------------------------------------------
drop = poplib.POP3_SSL(address, pop3s, context=tls)
assert {"TOP", "UIDL", "PIPELINING"} <= set(drop.capa())
drop.user(user)
drop.pass_(password)
second = poplib.POP3(address, pop3)
second.stls(tls)
second.user(user)
try:
    second.pass_(password)
    raise AssertionError("two sessions hold one maildrop")
except poplib.error_proto as refused:
    assert b"IN-USE" in refused.args[0], refused
second.close()
assert drop.stat()[0] == 4
uids = [line.split()[1] for line in drop.uidl()[1]]
assert len(set(uids)) == 4 and drop.uidl(2).split()[-1] == uids[1]
top = drop.top(1, 0)[1]
assert b"Subject: by 587" in top and b"A letter." not in top, top
assert b"A letter." in drop.top(1, 1)[1]
drop.dele(1)
drop.dele(2)
drop.rset()
drop.dele(3)
assert drop.stat()[0] == 3
drop.noop()
drop.quit()
drop = poplib.POP3(address, pop3)
drop.stls(tls)
drop.user(user)
drop.pass_(password)
left = [line.split()[1] for line in drop.uidl()[1]]
assert left == [uids[0], uids[1], uids[3]], (left, uids)
drop.quit()
print("poplib: done")
